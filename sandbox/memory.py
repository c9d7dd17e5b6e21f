"""Who watches a guest's memory: the kernel, by a control group, or where there is none the judge, from outside."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class MemoryAccount:
    """Where to learn that a guest has run out of memory."""

    events: str | None = None  # the file of its control group in which the kernel counts those it killed for it
    ask_root: bool = False  # whether its root process can read that file, and the judge cannot
    watched_pid: int | None = None  # where nothing limits the guest as a whole: the root of its processes
    limit_bytes: int = 0  # of that one

    @property
    def watch(self) -> Callable[[], None] | None:
        """Raises `MemoryError` where the guest takes more than its limit; None where the kernel watches."""
        return None if self.watched_pid is None else partial(check, self.watched_pid, self.limit_bytes)


def count_kills(events: str) -> int:
    """The count in a memory.oom_control (version 1) or memory.events (version 2) of control groups."""
    found = re.search(r"^oom_kill (\d+)$", events, re.MULTILINE)
    return int(found[1]) if found else 0


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:  # it has just ended, or this is not Linux
        pass
    return found


def _sum(file: Path, names: tuple[str, ...], otherwise: int = 0) -> int:
    """Bytes in the lines of a file of /proc that begin with one of `names`; `otherwise` where it cannot be read."""
    try:
        lines = file.read_text().splitlines()
    except OSError:  # it has just ended, or is not ours
        return otherwise
    return sum(int(line.split()[1]) * 1024 for line in lines if line.partition(":")[0] in names)


def _tree(root: int) -> list[Path]:
    """The folders in /proc of a process and all its descendants."""
    waiting, found = [root], []
    while waiting:
        pid = waiting.pop()
        found.append(Path(f"/proc/{pid}"))
        waiting += _children(pid)
    return found


def check(root: int, limit: int) -> None:
    """Raise `MemoryError` where a process and its descendants take more than `limit` bytes, files apart."""
    folders = _tree(root)
    # Counts what forks share for each of them, but takes microseconds
    at_most = {folder: _sum(folder / "status", ("RssAnon", "RssShmem")) for folder in folders}
    if sum(at_most.values()) > limit:
        # The kernel tells this of other users' processes to root alone
        shared_out = [_sum(f / "smaps_rollup", ("Pss_Anon", "Pss_Shmem"), most) for f, most in at_most.items()]
        if sum(shared_out) > limit:
            raise MemoryError
