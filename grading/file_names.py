"""Names of files as students send them: which are safe, which belong to code, and how the others are listed."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from grading.outcomes import BadInput

SOURCE_SUFFIXES = (".py", ".ipynb")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")

MAX_NAME_BYTES = 255  # of a file or a folder: what file systems allow
MAX_PATH_BYTES = 1024  # of a file with its folders: what macOS allows; Linux allows more

MAX_FOLDERS = 30  # levels that are told apart, so that endless paths take no time; an environment's deepest file has 15

# What systems put beside files unasked. Nobody handed it in, so nobody is told of it.
_OF_SYSTEMS = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r"})
# Code that lies in one of these was written by others, or made from what is handed in anyway
_FOREIGN_FOLDERS = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})
# A virtual environment may be called anything, or lie around the code itself: it is known by these, and consists of
_ENVIRONMENT_MARKS = frozenset({"pyvenv.cfg", "conda-meta"})
_ENVIRONMENT_FOLDERS = frozenset(
    {"bin", "lib", "lib64", "scripts", "include", "share", "etc", "dlls", "library", "tools", "pkgs", "envs"}
)

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn")  # Unicode categories


def check_name(name: str) -> None:
    """Refuse names that could leave a folder, or that do not look like what they are. Raises `BadInput`."""
    if not name.strip():
        raise BadInput("A file without a name was handed in. Give it one that ends in .py, .ipynb or .zip.")
    check_stays(name)
    if any(unicodedata.category(c) in _INVISIBLE for c in name):
        raise BadInput(f"The name {shown(name)} holds invisible characters. Rename it, with letters and digits.")
    if any(len(part.encode()) > MAX_NAME_BYTES for part in name.split("/")):
        raise BadInput(f"The name {shown(name)} is longer than {MAX_NAME_BYTES} bytes. Give it a shorter one.")
    if len(name.encode()) > MAX_PATH_BYTES:
        raise BadInput(
            f"The name {shown(name)} is longer than {MAX_PATH_BYTES} bytes with its folders. Zip the innermost folder."
        )


def check_stays(name: str) -> None:
    """Refuse a name that leads out of the folder that it is relative to. Raises `BadInput`."""
    if name.startswith(("/", "~/")) or name[1:2] == ":" or "\\" in name or ".." in name.split("/"):
        raise BadInput(f"The name {shown(name)} points outside the hand-in. Zip the folder itself, with plain names.")


def shown(name: str) -> str:
    """A name as it may stand in a message."""
    text = ascii(name) if not name.isprintable() or any(c in _BIDI for c in name) else f"`{name}`"
    return text if len(text) <= 120 else text[:117] + "..."


def suffix_of(name: str) -> str:
    """The ending of a file's name, in small letters: `.py`."""
    return PurePosixPath(name).suffix.lower()


def is_hidden(name: str) -> bool:
    """Whether it is of a kind that systems and tools leave behind unseen, so that nobody handed it in."""
    return any(part.startswith(".") or part in _OF_SYSTEMS for part in name.split("/"))


def sort_out(names: Iterable[str], wanted: Sequence[str] = SOURCE_SUFFIXES) -> tuple[list[str], list[str]]:
    """Names of files, with their folders, as those to be taken and those to be left out.

    Taken is what has one of the `wanted` suffixes and is neither hidden nor part of installed software. What systems
    put there unasked is in neither list.
    """
    split = {name: name.split("/") for name in names}
    environments = {
        tuple(parts[: parts.index(mark)]) for parts in split.values() for mark in _ENVIRONMENT_MARKS if mark in parts
    }
    taken: list[str] = []
    left_out: list[str] = []
    for name, parts in split.items():
        if any(part in _OF_SYSTEMS for part in parts) or parts[-1].startswith("._"):
            continue
        is_code = suffix_of(name) in wanted and not is_hidden(name) and not _is_installed(parts, environments)
        (taken if is_code else left_out).append(name)
    return taken, left_out


def _is_installed(parts: Sequence[str], environments: set[tuple[str, ...]]) -> bool:
    """Whether a file, by the parts of its path, is somebody else's software or a compiled copy."""
    return not _FOREIGN_FOLDERS.isdisjoint(parts) or any(
        tuple(parts[:depth]) in environments and parts[depth].lower() in _ENVIRONMENT_FOLDERS
        for depth in range(min(len(parts) - 1, MAX_FOLDERS))
    )


def in_reading_order(names: Iterable[str]) -> list[str]:
    """The order in which files are read: modules before notebooks, which use them, and both by name.

    It is the same however the files arrived: side by side, in a folder, or in a zip.
    """
    return sorted(names, key=lambda name: (suffix_of(name) == ".ipynb", name))


def listing(left_out: Sequence[str], taken: Sequence[str], at_most: int = 5) -> str:
    """What was left out, for a notice: a folder from which nothing was taken stands for all that is in it."""
    kept = {"/".join(parts[:depth]) for parts in (name.split("/") for name in taken) for depth in range(1, len(parts))}
    groups: dict[str, list[str]] = defaultdict(list)
    for name in left_out:
        groups[_outermost_outside(name.split("/"), kept)].append(name)
    words = [
        shown(names[0]) if len(names) == 1 else f"{shown(group)} ({len(names)} files)"
        for group, names in groups.items()
    ]
    more = f" and {len(words) - at_most} more" if len(words) > at_most else ""
    return ", ".join(words[:at_most]) + more


def _outermost_outside(parts: Sequence[str], kept: set[str]) -> str:
    """The first folder on the way to a file that is none of those `kept`; else the file itself."""
    for depth in range(1, min(len(parts), MAX_FOLDERS)):
        folder = "/".join(parts[:depth])
        if folder not in kept:
            return f"{folder}/"
    return "/".join(parts)
