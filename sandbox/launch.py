"""Starting and ending the process behind a guest, whatever stands around it."""

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

LENGTH = struct.Struct("!H")  # as in `sandbox.guest.zygote`, which only a guest imports
CLOSING_SECONDS = 5.0  # for the root process to end by itself once the judge has hung up; it takes milliseconds

# -I and -S: no environment, no current folder, no site-packages, no .pth files. -B: nothing to write to.
NOTHING: Mapping[str, str] = {}
_BOOT = "import sys, runpy; sys.path.append(sys.argv[1]); runpy.run_module('guest')"


def python_executable() -> Path:
    """The interpreter itself, not the virtual environment's link to it."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def launch(
    command: Sequence[str | Path],
    library: str,
    configuration: Mapping[str, Any],
    log: IO[bytes],
    folder: Path | None = None,
) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start `command`, which ends in an interpreter, as a root process that imports from `library`.

    Returns the judge's end of the control connection, and the process.
    """
    judge_end, guest_end = socket.socketpair()
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
    send_request(judge_end, configuration)
    return judge_end, process


def send_request(control: socket.socket, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send the root process a request, and descriptors for a session. Raises `OSError`."""
    raw = json.dumps(request).encode()
    socket.send_fds(control, [LENGTH.pack(len(raw)) + raw], list(descriptors))


def hang_up(control: socket.socket, process: subprocess.Popen[bytes], *, at_once: bool) -> None:
    """Close the control connection, at which the root process takes everything along, and see that it has.

    `at_once`: before it has opened a session there is nothing to take along, and no need to wait for its imports.
    """
    control.close()
    if at_once:
        process.kill()
    try:
        process.wait(CLOSING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
