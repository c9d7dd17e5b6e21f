"""Files that the command reads and writes on a user's word."""

from pathlib import Path

from cli.console import warn
from cli.errors import UnusableInput


def read_modules(path: Path) -> list[tuple[str, bytes]]:
    """Names and contents of what is handed in: a file, or the `.py` files of a directory. Raises `UnusableInput`."""
    try:
        if not path.is_dir():
            return [(path.name, path.read_bytes())]
        files = [(file.name, file.read_bytes()) for file in sorted(path.glob("*.py")) if file.is_file()]
        nested = sorted({file.relative_to(path).parts[0] for file in path.glob("*/**/*.py") if _is_shown(file, path)})
    except OSError as error:
        raise UnusableInput(f"{path} cannot be read: {error.strerror}.") from error
    if not files:
        raise UnusableInput(f"{path} holds no .py files. Name the file that you want graded.")
    if nested:
        warn(f"Left out: the folders {', '.join(nested)} in {path}. Only the .py files directly in it are graded.")
    return files


def _is_shown(file: Path, folder: Path) -> bool:
    """Whether a person would say that the file is there: not in .git, .venv, __pycache__ and the like."""
    return not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts[:-1])


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
