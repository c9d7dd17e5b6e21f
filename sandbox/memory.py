"""How much memory a process tree takes: for where no control group limits it."""

from pathlib import Path


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:  # it has just ended, or this is not Linux
        pass
    return found


def _sum(file: Path, names: tuple[str, ...]) -> int:
    """Bytes in the lines of a file of /proc that begin with one of `names`; 0 where it cannot be read."""
    try:
        lines = file.read_text().splitlines()
    except OSError:  # it has just ended, or is not ours
        return 0
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
    at_most = sum(_sum(folder / "status", ("RssAnon", "RssShmem")) for folder in folders)
    if at_most > limit:
        shared_out = sum(_sum(folder / "smaps_rollup", ("Pss_Anon", "Pss_Shmem")) for folder in folders)
        if shared_out > limit:
            raise MemoryError
