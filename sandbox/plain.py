"""The backend without a wall: a process like any other, on any system that can fork."""

import shutil
import sys
import tempfile
from pathlib import Path

from sandbox import packages
from sandbox.backend import Backend
from sandbox.launch import Sandbox, end_root_process, python_executable, start_root_process
from sandbox.limits import Limits
from sandbox.memory import MemoryAccount


class NoSandbox(Backend):
    """Runs student code with the rights of whoever runs the judge."""

    name = "none"
    isolation = "no sandbox: student code ran with the rights of this user"
    sandboxed = False

    def launch(self, limits: Limits) -> Sandbox:
        """Start a process like any other."""
        folder = Path(tempfile.mkdtemp(prefix="noisemark-guest-"))
        library = folder / "lib"
        for name, path in packages.importable().items():
            place = library / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
        workplace = folder / "tmp"
        workplace.mkdir()
        configuration = {
            "own_namespaces": False,
            "own_mounts": False,
            "own_user_namespace": False,
            "filter": False,
            "linux_limits": sys.platform == "linux",
            "uid": None,
            "memory_bytes": limits.memory_bytes,
            **limits.of_sessions(),
            "processes": None,  # the kernel would count every process of this user
            "folder": str(folder),
        }
        process, control, log = start_root_process([python_executable()], str(library), configuration, workplace)

        def end(at_once: bool) -> None:
            end_root_process(process, at_once=at_once)
            shutil.rmtree(folder, ignore_errors=True)

        account = MemoryAccount(watched_pid=process.pid, limit_bytes=limits.memory_bytes)
        return Sandbox(control=control, log=log, memory=account, end=end)
