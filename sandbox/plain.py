"""The backend without a wall: a process like any other, on any system that can fork."""

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from sandbox import memory, packages
from sandbox.guest_client import Guest
from sandbox.launch import hang_up, launch, python_executable
from sandbox.limits import Limits


class PlainProcess:
    """A `Sandbox` that is none."""

    sandboxed = False

    def __init__(self, limits: Limits) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="noisemark-guest-"))
        library = self._folder / "lib"
        for name, path in packages.importable().items():
            place = library / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
        workplace = self._folder / "tmp"
        workplace.mkdir()
        self._memory_bytes = limits.memory_bytes
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `discard`)
        configuration = {
            "own_namespaces": False,
            "uid": None,
            "memory_bytes": limits.memory_bytes,
            "processes": None,  # the kernel would count every process of this user
            "file_bytes": limits.file_bytes,
            "open_files": limits.open_files,
            "tmp_bytes": limits.tmp_bytes,
            "tmp_files": limits.tmp_files,
            "folder": str(self._folder),
        }
        self.control, self.process = launch([python_executable()], str(library), configuration, self.log, workplace)

    def memory_kills(self) -> int:
        """Nothing counts them here."""
        return 0

    @property
    def watch(self) -> Callable[[], None] | None:
        """Watch the processes from outside."""
        return partial(memory.check, self.process.pid, self._memory_bytes)

    def discard(self, *, at_once: bool) -> None:
        """End it and remove its folder."""
        hang_up(self.control, self.process, at_once=at_once)
        self.log.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class NoSandbox:
    """Runs student code with the rights of whoever runs the judge."""

    name = "none"
    isolation = "no sandbox: student code ran with the rights of this user"
    sandboxed = False

    def start(self, limits: Limits) -> Guest:
        """Start a guest."""
        return Guest(lambda: PlainProcess(limits), limits)
