"""Control groups: the memory and the processes of a whole guest, limited and counted by the kernel (cgroups(7))."""

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox.limits import Limits

_PREFIX = "noisemark-"
_NAME = re.compile(rf"{_PREFIX}(\d+)-\d+")
_REMOVAL_SECONDS = 2.0  # the kernel lets go of a group a moment after its last process


@dataclass(frozen=True)
class Hierarchy:
    """Where groups can be made for one controller."""

    folder: Path  # the group of this process
    version: int  # 1 or 2


def _mounts() -> dict[str, Hierarchy]:
    """Controller -> the group of this process that governs it."""
    own: dict[str, str] = {}  # controllers of version 1, "" for version 2 -> path of this process's group
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    found: dict[str, Hierarchy] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        root, place = fields[3], fields[4]
        kind, _, options = fields[fields.index("-") + 1 :]
        names = options.split(",") if kind == "cgroup" else [""] if kind == "cgroup2" else []
        for name in names:
            if name in own:
                below = os.path.relpath(own[name], root)
                folder = Path(place) / below if not below.startswith("..") else Path(place)
                if name:
                    found[name] = Hierarchy(folder, 1)
                else:
                    enabled = Path(folder, "cgroup.subtree_control")
                    if enabled.exists():
                        found |= {c: Hierarchy(folder, 2) for c in enabled.read_text().split() if c not in found}
    return found


def writable() -> dict[str, Hierarchy]:
    """The controllers among memory and pids under which this process may make groups."""
    try:
        mounts = _mounts()
    except OSError:
        return {}
    found: dict[str, Hierarchy] = {}
    for name in ("memory", "pids"):
        if name not in mounts:
            continue
        trial = mounts[name].folder / f"{_PREFIX}{os.getpid()}-0"
        with suppress(OSError):
            trial.mkdir()
            trial.rmdir()
            found[name] = mounts[name]
    return found


class ControlGroup:
    """The groups of one guest, one for each controller that can be had."""

    _count = 0

    def __init__(self, limits: Limits) -> None:
        ControlGroup._count += 1
        name = f"{_PREFIX}{os.getpid()}-{ControlGroup._count}"
        hierarchies = writable()
        self._folders: list[Path] = []
        self.memory_events: Path | None = None  # None: the kernel does not limit its memory as a whole
        for hierarchy in hierarchies.values():
            _sweep(hierarchy.folder)
            folder = hierarchy.folder / name
            if folder not in self._folders:
                folder.mkdir()
                self._folders.append(folder)
        if memory := hierarchies.get("memory"):
            folder = memory.folder / name
            if memory.version == 1:
                _write(folder / "memory.limit_in_bytes", limits.memory_bytes)
                with suppress(OSError):  # kernels may go without swap accounting
                    _write(folder / "memory.memsw.limit_in_bytes", limits.memory_bytes)
                self.memory_events = folder / "memory.oom_control"
            else:
                _write(folder / "memory.max", limits.memory_bytes)
                with suppress(OSError):
                    _write(folder / "memory.swap.max", 0)
                self.memory_events = folder / "memory.events"
        if pids := hierarchies.get("pids"):
            _write(pids.folder / name / "pids.max", limits.processes)

    def prefix(self, command: list[str]) -> list[str]:
        """`command`, run by a shell that has entered the groups: no descendant can be outside them."""
        if not self._folders:
            return command
        script = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit 1; shift; done; shift; exec "$@"'
        entries = [str(folder / "cgroup.procs") for folder in self._folders]
        return ["/bin/sh", "-c", script, "sh", *entries, "--", *command]

    def remove(self) -> None:
        """Remove the groups, once their processes are gone."""
        until = time.monotonic() + _REMOVAL_SECONDS
        for folder in self._folders:
            while folder.exists() and time.monotonic() < until:
                try:
                    folder.rmdir()
                except OSError:
                    time.sleep(0.005)


def _write(file: Path, value: int) -> None:
    file.write_text(str(value))


def _sweep(folder: Path) -> None:
    """Remove what judges left behind that were killed themselves."""
    for old in folder.glob(f"{_PREFIX}*"):
        if (match := _NAME.fullmatch(old.name)) and not Path("/proc", match[1]).exists():
            with suppress(OSError):
                old.rmdir()
