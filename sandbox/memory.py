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


def _own_bytes(pid: int) -> int:
    """Bytes of a process that it shares with no file: anonymous memory and shared memory."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    sizes = {line.partition(":")[0]: line.split() for line in status.splitlines()}
    return sum(int(sizes[name][1]) * 1024 for name in ("RssAnon", "RssShmem") if name in sizes)


def tree_bytes(root: int) -> int:
    """Memory of `root` and all its descendants; what forks share is counted for each of them."""
    waiting, total = [root], 0
    while waiting:
        pid = waiting.pop()
        total += _own_bytes(pid)
        waiting += _children(pid)
    return total


def check(root: int, limit: int) -> None:
    """Raise `MemoryError` where a tree of processes takes more than `limit` bytes."""
    if tree_bytes(root) > limit:
        raise MemoryError
