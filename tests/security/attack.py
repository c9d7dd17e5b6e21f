"""What an attack is, what it reaches for, and what came of it."""

import ast
import contextlib
import ctypes
import errno
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import guests
import torch

from reference.pack import load_pack
from sandbox.faults import Ending, GuestFault, SandboxError
from sandbox.guest_client import Guest
from sandbox.limits import MIB, Deadline

SUCCEEDED = "succeeded"
NOTHING = "nothing"  # the attack ran to its end and found nothing

# What a program meets where a place does not exist, may not be entered, or is read-only
ABSENT = ("ENOENT", "EACCES")
NOT_WRITABLE = ("ENOENT", "EACCES", "EROFS", "EPERM")
# What it meets where a system call is refused; which one is the backend's choice
REFUSED = ("EPERM", "ENOSYS")
# What a control meets on a kernel that was built without the thing attacked: nothing is shown then, either way
NOT_IN_THIS_KERNEL = ("ENOSYS", "EOPNOTSUPP", "EAFNOSUPPORT", "ENODEV", "EIO", "crashed")

# Limits that attacks on resources run into, and such that they do not
STRICT: dict[str, int] = {
    "memory_bytes": 900 * MIB,  # a warm torch takes 300
    "processes": 32,
    "output_bytes": 10_000,
    "reply_bytes": 1 * MIB,
    "tmp_bytes": 8 * MIB,
    "tmp_files": 500,
    "file_bytes": 4 * MIB,
    "open_files": 64,
}
GENEROUS: dict[str, int] = {
    "memory_bytes": 3000 * MIB,
    "processes": 400,  # the next one begins while the kernel still clears away a hundred of the last
    "output_bytes": 1 * MIB,
    "reply_bytes": 64 * MIB,
    "tmp_bytes": 64 * MIB,
    "tmp_files": 5000,
    "file_bytes": 64 * MIB,
    "open_files": 1000,
}
NEXT = Deadline(cpu_seconds=10, wall_seconds=10)  # for the session after an attack, which takes milliseconds
PATIENCE = 60  # seconds for a control in a bare process: far beyond what any takes


@dataclass(frozen=True)
class NoSandbox:
    """The same program under the backend that has no wall.

    `root`: it takes root there, too, so that other users see nothing.
    """

    root: bool = False


@dataclass(frozen=True)
class BareProcess:
    """The same program as many graders run it: a child that inherits environment and descriptors."""


@dataclass(frozen=True)
class LimitsOff:
    """The same program behind the same wall, with limits that it does not reach."""


Control = NoSandbox | BareProcess | LimitsOff | str  # a text: there is none, and why


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A student's program with a function `attack(stage)`.

    It has succeeded where it returns True, a text with the stage's secret in it, or a tensor that the judge takes; and
    wherever it has done damage (`Stage.damage`).
    """

    row: int  # of threats.md
    name: str
    source: str
    stopped: tuple[str, ...]  # what may come of it: an errno, the name of an exception, an ending, NOTHING
    control: Control
    deadline: Deadline = guests.LONG
    limits: Mapping[str, int] = field(default_factory=lambda: STRICT)  # others where STRICT would stop it too early
    own_guest: bool = False  # needs a guest that was started after the stage was set
    # Why it does no harm where it succeeds in a kernel of the guest's own; None: it must be stopped there, too
    own_kernel: str | None = None

    def __str__(self) -> str:
        return f"{self.row} {self.name}"


class Stage:
    """What attacks reach for on this machine: one secret, in many places, all of which this user may read."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(8)
        self.folder = Path(tempfile.mkdtemp(prefix="noisemark-stage-"))
        self.folder.chmod(0o777)  # only the wall is to stand in the way
        self.file = self.folder / "secret"
        self.file.write_text(self.secret)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.named, self.abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self.named.bind(str(self.folder / "socket"))
        self.abstract.bind(f"\0noisemark-{self.secret[:4]}")
        for listener in (self.named, self.abstract):
            listener.listen()
        (self.folder / "socket").chmod(0o777)
        for server in (self.tcp, self.udp, self.named, self.abstract):
            server.setblocking(False)
        # Inherited by whoever does not close what it does not need
        self.descriptors = [os.open(self.file, os.O_RDONLY), os.open(self.folder, os.O_RDONLY)]
        for descriptor in self.descriptors:
            os.set_inheritable(descriptor, True)
        self.environment = {"NOISEMARK_TOKEN": self.secret}
        self.neighbour = subprocess.Popen(
            ["/bin/sh", "-c", "read line", f"neighbour-{self.secret}"], stdin=subprocess.PIPE, env=self.environment
        )
        self.key = int(self.secret[:6], 16) + 1
        self._segment = self._share_memory()

    def _share_memory(self) -> int:
        libc = ctypes.CDLL(None)
        libc.shmat.restype = ctypes.c_void_p
        segment = int(libc.shmget(self.key, 4096, 0o1666))  # IPC_CREAT
        address = libc.shmat(segment, None, 0)
        ctypes.memmove(address, self.secret.encode(), len(self.secret))
        libc.shmdt(ctypes.c_void_p(address))
        return segment

    def values(self) -> dict[str, Any]:
        """What an attack is told; the secret is not among it."""
        return {
            "folder": str(self.folder),
            "file": str(self.file),
            "tcp": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "socket": str(self.folder / "socket"),
            "abstract": f"noisemark-{self.secret[:4]}",
            "pid": self.neighbour.pid,
            "host": socket.gethostname(),
            "key": self.key,
            "solution": str(load_pack("ddpm").solution),
        }

    def damage(self) -> list[str]:
        """What has been done to it from outside."""
        found = []
        for name, server in (("TCP", self.tcp), ("a Unix socket", self.named), ("an abstract socket", self.abstract)):
            with contextlib.suppress(BlockingIOError):
                server.accept()[0].close()
                found.append(f"reached {name}")
        with contextlib.suppress(BlockingIOError):
            self.udp.recv(100)
            found.append("reached UDP")
        if self.neighbour.poll() is not None:
            found.append("killed a process")
        if (self.folder / "written").exists() or self.file.read_text() != self.secret:
            found.append("wrote a file")
        return found

    def close(self) -> None:
        for server in (self.tcp, self.udp, self.named, self.abstract):
            server.close()
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.neighbour.kill()
        self.neighbour.communicate()
        ctypes.CDLL(None).shmctl(self._segment, 0, None)  # IPC_RMID
        shutil.rmtree(self.folder)


@contextmanager
def stage() -> Iterator[Stage]:
    """A stage that is gone afterwards."""
    made = Stage()
    try:
        yield made
    finally:
        made.close()


def _word(value: Any, made: Stage) -> str:
    """What an attack that returned `value` has come to."""
    if value is True or torch.is_tensor(value) or (isinstance(value, str) and made.secret in value):
        return SUCCEEDED
    return f"returned {value!r}" if value else NOTHING


def _fault(exception: str | None, message: str) -> str:
    """An errno where the exception has one, else its name."""
    number = re.match(r"\[Errno (\d+)\]", message)
    return errno.errorcode.get(int(number[1]), number[0]) if number else str(exception)


def _outcome(call: Callable[[], Any], made: Stage) -> str:
    try:
        word = _word(call(), made)
    except GuestFault as fault:
        raised = fault.ending is Ending.RAISED
        word = _fault(fault.exception, fault.message) if raised else str(fault.ending)
    return f"{SUCCEEDED}: {', '.join(damage)}" if (damage := made.damage()) else word


def run(attack: Attack, guest: Guest, made: Stage, deadline: Deadline | None = None) -> str:
    """What came of it: SUCCEEDED, or a word as in `Attack.stopped`."""

    def call() -> Any:
        with guests.loaded(guest, attack.source, deadline or attack.deadline) as session:
            return session.call("attack", made.values())

    return _outcome(call, made)


def run_and_go_on(attack: Attack, guest: Guest, made: Stage) -> str:
    """The same, and whether the guest goes on as if nothing had been."""
    found = run(attack, guest, made)
    guest._restarts = 0  # a grading has three; here each attack has them
    try:
        with guests.loaded(guest, "def double(x): return 2 * x", NEXT) as session:
            usable = session.call("double", 21) == 42
    except (GuestFault, SandboxError) as error:
        return f"{SUCCEEDED}: the next session did not work ({error})"
    return found if usable else f"{SUCCEEDED}: the next session answers wrongly"


_BARE = """
import json, sys
try: print(repr((attack(json.loads(sys.argv[1])), None)))
except BaseException as error: print(repr((None, (type(error).__name__, str(error)))))
"""


def run_bare(attack: Attack, made: Stage) -> str:
    """The same in a process that inherits all that it can."""

    def call() -> Any:
        program = textwrap.dedent(attack.source) + _BARE
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(made.values())],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
            close_fds=False,
            env=made.environment,
            cwd=made.folder,
        )
        value, raised = ast.literal_eval(done.stdout.splitlines()[-1])
        if raised is not None:
            raise GuestFault(Ending.RAISED, raised[1], exception=raised[0])
        return value

    return _outcome(call, made)


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether it holds within so many seconds: enough for the kernel to end processes on a busy machine."""
    until = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < until:
        time.sleep(0.01)
    return held
