"""Files that the command reads and writes on a user's word."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from cli.console import warn
from cli.errors import UnusableInput
from grading.archive import MAX_ENTRIES, bundle
from grading.file_names import is_hidden, listing, sort_out


def read_work(path: Path) -> tuple[str, bytes]:
    """Name and content of what is handed in: a file, or a zip of the code in a folder. Raises `UnusableInput`.

    A folder is read like a zip of it.
    """
    try:
        if not path.is_dir():
            return path.name, path.read_bytes()
        taken, left_out = sort_out(_files_in(path))
        if len(taken) > MAX_ENTRIES:
            raise UnusableInput(
                f"{path} holds {len(taken)} .py and .ipynb files; {MAX_ENTRIES} are allowed. "
                "Name the file or the folder that holds your answers."
            )
        files = [(name, (path / name).read_bytes()) for name in taken]
    except OSError as error:
        raise UnusableInput(f"{path} cannot be read: {error.strerror}.") from error
    if not files:
        raise UnusableInput(f"{path} holds no .py and no .ipynb files. Name the file that you want graded.")
    if left_out:
        warn(f"Left out of {path}, where only .py and .ipynb files are read: {listing(left_out, taken)}.")
    if len(files) == 1:
        return PurePosixPath(files[0][0]).name, files[0][1]
    return f"{path.resolve().name}.zip", bundle(files)


def _files_in(folder: Path) -> Iterator[str]:
    """Names of all files below a folder, but for what is in hidden folders: there may be a great many."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(files):
            yield (Path(place) / name).relative_to(folder).as_posix()


def require_writable(path: Path) -> None:
    """Raises `UnusableInput` where a file could not be written later."""
    if path.is_dir():
        raise UnusableInput(f"{path} is a directory; name a file.")
    if not path.parent.is_dir():
        raise UnusableInput(f"There is no directory {path.parent} to write {path.name} to.")


def require_reports_writable(*paths: Path | None) -> None:
    """Raises `UnusableInput` where reports could not be written later, or would replace each other or a hand-in."""
    named = [path for path in paths if path is not None]
    for path in named:
        require_writable(path)
        if path.exists() and path.suffix in (".py", ".ipynb", ".zip"):
            raise UnusableInput(f"{path.name} holds work that the report would replace; name another file.")
    if len({path.resolve() for path in named}) < len(named):
        raise UnusableInput("Both reports would go to one file; name two.")


def write(path: Path, content: str | bytes) -> None:
    """Raises `UnusableInput`."""
    try:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise UnusableInput(f"{path} cannot be written: {error.strerror}.") from error
