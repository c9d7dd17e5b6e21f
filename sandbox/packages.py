"""What of this installation a guest may import: torch, einops, numpy and what these need; nothing else.

scikit-learn, say, carries the very digits that a student's network is to draw.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOTS = ("torch", "einops", "numpy")
GUEST = Path(__file__).parent / "guest"


def closure(names: tuple[str, ...]) -> Iterator[Distribution]:
    """Distributions as installed here, and what they need."""
    seen: set[str] = set()
    done: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        extras = frozenset(wanted.extras)
        if (name, extras) in done:
            continue
        done.add((name, extras))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            if name in ROOTS:
                raise
            continue  # an optional part that this machine does without
        if name not in seen:
            seen.add(name)
            yield found
        for needed in map(Requirement, found.requires or ()):
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append(needed)


def _installed(found: Distribution) -> set[str]:
    """What a distribution put into site-packages: names of folders, of single modules and of their compiled files.

    Read from its RECORD line by line: `Distribution.files` takes a second for the files of torch.
    """
    names = set()
    for line in (found.read_text("RECORD") or "").splitlines():
        path = line.partition(",")[0]
        top, _, rest = path.partition("/")
        # Compiled files of single modules share one folder with those of every other distribution
        names.add(path if top == "__pycache__" else top)
        if top in ("..", "") or (not rest and top.endswith(".pth")):
            names.discard(top)  # scripts, and code that would run at start
    return names


def distributions() -> list[Distribution]:
    """What guests may import, as installed here."""
    return list(closure(ROOTS))


@cache
def importable() -> dict[str, Path]:
    """Place below the guest's library folder -> what stands there; whole folders where a package is one."""
    entries: dict[str, Path] = {"guest": GUEST}
    for found in distributions():
        for name in sorted(_installed(found)):
            path = Path(str(found.locate_file(name)))
            if path.exists():
                entries[name] = path
    return entries
