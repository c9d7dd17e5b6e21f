"""A started sandbox, its root process, and the lines that the judge exchanges with it."""

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sandbox.memory import MemoryAccount, count_kills

LENGTH = struct.Struct("!H")  # as in `sandbox.guest.zygote`, which only a guest imports
CLOSING_SECONDS = 5.0  # for the root process to end by itself once the judge has hung up; it takes milliseconds
CONTROL_SECONDS = 30.0  # the root process answers within milliseconds; past this something of ours hangs
LOG_BYTES = 4000  # of the root process's complaints that go into a message: a traceback

# -I and -S: no environment, no current folder, no site-packages, no .pth files. -B: nothing to write to.
NOTHING: Mapping[str, str] = {}
_BOOT = "import sys, runpy; sys.path.append(sys.argv[1]); runpy.run_module('guest')"


def python_executable() -> Path:
    """The interpreter itself, not the virtual environment's link to it."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A started sandbox, whatever the backend."""

    control: socket.socket  # to the root process
    log: IO[bytes]  # what the root process, which runs none of the student's code, wrote to its standard error
    memory: MemoryAccount
    # Ends every process of it and removes what it left; it may be dead already. The argument: at once, which is for
    # before it has said that it is ready, when there is nothing to take along.
    end: Callable[[bool], None]
    # Once it has died as a whole: whether for want of memory. Of a guest that only loses processes, `memory` knows
    died_of_memory: Callable[[], bool] = lambda: False

    def complaints(self) -> str:
        """What the root process has said, capped."""
        return os.pread(self.log.fileno(), LOG_BYTES, 0).decode(errors="replace").strip()

    def memory_kills(self) -> int:
        """How many of its processes have been killed for want of memory so far."""
        if self.memory.events is not None:
            return count_kills(Path(self.memory.events).read_text())
        if not self.memory.ask_root:
            return 0
        try:
            send_request(self.control, {"op": "memory_kills"})
            return int(receive_answer(self.control, CONTROL_SECONDS)["memory_kills"])
        except OSError:
            return 0  # it has died, which the next session finds out

    def discard(self, *, at_once: bool) -> None:
        """End it, and let go of it."""
        self.control.close()
        self.end(at_once)
        self.log.close()


def start_root_process(
    command: Sequence[str | Path], library: str, configuration: Mapping[str, Any], folder: Path | None = None
) -> tuple[subprocess.Popen[bytes], socket.socket, IO[bytes]]:
    """Start `command`, which ends in an interpreter, in `folder`; it imports from `library`.

    Returns the process, the judge's end of the control connection, and its log.
    """
    log = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `Sandbox.discard`)
    control, guest_end = socket.socketpair()
    with guest_end:
        process = subprocess.Popen(
            [*map(str, command), "-I", "-S", "-B", "-c", _BOOT, library],
            stdin=guest_end.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=NOTHING,
            cwd=folder,
            start_new_session=True,
        )
    send_request(control, configuration)
    return process, control, log


def end_root_process(process: subprocess.Popen[bytes], *, at_once: bool) -> None:
    """Once the judge has hung up, at which it takes everything along: see that it has."""
    if at_once:
        process.kill()
    try:
        process.wait(CLOSING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def send_request(control: socket.socket, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send the root process a request, and descriptors for a session. Raises `OSError`."""
    raw = json.dumps(request).encode()
    socket.send_fds(control, [LENGTH.pack(len(raw)) + raw], list(descriptors))


def receive_answer(control: socket.socket, seconds: float) -> dict[str, Any]:
    """The root process's next line. It is ours and trusted: student code cannot write to it.

    Raises `TimeoutError`, and `ConnectionError` where it has ended.
    """
    line = b""
    control.settimeout(seconds)
    while not line.endswith(b"\n"):
        part = control.recv(4096)
        if not part:
            raise ConnectionResetError("it ended")
        line += part
    answer: dict[str, Any] = json.loads(line)
    return answer


def receive_end(control: socket.socket, seconds: float) -> bool:
    """Whether the root process ends within so many seconds. What it still says is lost."""
    control.settimeout(seconds)
    try:
        while control.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:  # it left something unread
        pass
    return True
