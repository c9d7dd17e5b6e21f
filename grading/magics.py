"""What only IPython understands, in cells and in what nbconvert made of them, put as Python.

Everything keeps its lines, so that numbers in messages hold.
"""

import ast
import re
import shlex
import warnings
from collections.abc import Container
from dataclasses import dataclass

from grading.splitting import statement_starts

_KEEPS_BODY = frozenset({"time", "capture", "prun", "python", "python3"})  # they run the cell as Python
_WRITES_FILE = frozenset({"writefile", "file"})
_HELP = re.compile(r"\?{1,2}[\w.*%]+\s*$|[\w.*%\[\]]+\?{1,2}\s*$")
_TIMED = re.compile(r"%time\s+(?=\S)")
# What IPython takes for a magic without its percent sign
_AUTOMAGIC = re.compile(
    r"(?:pip3?|conda)\s+(?:install|uninstall|list|show)\b|(?:cd|ls|mkdir|rm|cp|mv|cat)\s+[\w./~-][^=(]*$"
)
_SHELL_ASSIGNMENT = re.compile(r"[\w, ]+=\s*(?:!|%\w)")
_RUN = re.compile(r"%run\s+(?:-i\s+)?(['\"]?)(?:\./)?(?P<module>[A-Za-z_]\w*)(?:\.py|\.ipynb)?\1\s*$")


@dataclass(frozen=True, kw_only=True)
class WrittenFile:
    """A file that a cell writes."""

    path: str  # as typed
    appends: bool
    first_line: int  # of its text, within the cell, from 1
    text: str


def written_file(cell: str) -> WrittenFile | None:
    """The file that a cell writes by `%%writefile`; None where it writes none."""
    lines = cell.split("\n")
    first = _first_line(lines)
    name, rest = _cell_magic(lines[first])
    if name not in _WRITES_FILE:
        return None
    try:
        words = shlex.split(rest)
    except ValueError:  # a quote that does not close
        return None
    paths = [word for word in words if not word.startswith("-")]
    if len(paths) != 1:
        return None
    return WrittenFile(
        path=paths[0],
        appends=bool({"-a", "--append"} & set(words)),
        first_line=first + 2,
        text="\n".join(lines[first + 1 :]),
    )


def without_magics(source: str, modules: Container[str] = ()) -> str:
    """The cell as Python: what IPython would run otherwise is dropped, line for line.

    `%time x = f()` keeps its statement and `%%time` its cell; `%%bash` and the like drop the whole cell. `%run a.py`
    takes everything from `a`, where that is among the `modules` that were handed in.
    """
    lines = source.split("\n")
    first = _first_line(lines)
    if lines[first].startswith("%%"):
        if _cell_magic(lines[first])[0] not in _KEEPS_BODY:
            return "\n" * (len(lines) - 1)
        lines[first] = ""
        first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip(" \t"))]
    if indent:  # IPython takes a cell's common indentation away
        lines = [line.removeprefix(indent) for line in lines]
    starts = set(statement_starts(lines))
    continued = False
    for i, line in enumerate(lines):
        if continued or i in starts:
            cleaned = "" if continued else _clean_line(line, modules)
            dropped = continued or cleaned.strip() == "pass" != line.strip()
            continued = dropped and line.rstrip().endswith("\\")
            lines[i] = cleaned
    return "\n".join(lines)


def _first_line(lines: list[str]) -> int:
    """Index of the line that decides what the cell is: comments before it do not count."""
    return next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), 0)


def _cell_magic(line: str) -> tuple[str, str]:
    """Name and arguments of a cell magic; both empty where the line is none."""
    match = re.match(r"%%(\w+)[ \t]*(.*)", line)
    return (match[1], match[2]) if match else ("", "")


def _clean_line(line: str, modules: Container[str]) -> str:
    text = line.lstrip()
    indent = line[: len(line) - len(text)]
    if _TIMED.match(text):
        return indent + _TIMED.sub("", text, count=1)
    if not indent and (run := _RUN.match(text)) and run["module"] in modules:
        return f"from {run['module']} import *"
    if text.startswith(("%", "!", "?")) or any(magic.match(text) for magic in (_HELP, _SHELL_ASSIGNMENT, _AUTOMAGIC)):
        return indent + "pass"
    return line


# --- what nbconvert makes of them -------------------------------------------------------------------------------

_LITERAL = r"""(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""
_CALL = re.compile(  # possessive, so that a long line without an end takes no longer
    r"(?P<before>[ \t]*+(?:[\w, ]+=[ \t]*+)?)get_ipython\(\)\.(?P<method>\w+)"
    rf"\([ \t]*+(?P<arguments>{_LITERAL}(?:[ \t]*+,[ \t]*+{_LITERAL})*+)[ \t]*+(?:,[ \t]*+)?\)[ \t]*+;?[ \t]*+(?:#.*)?$"
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some lines of a module, or a cell that stands in it as a string."""

    line: int  # of its first line in the module, from 1
    text: str
    is_cell: bool = False


def undo_export(source: str) -> list[Part]:
    """A module in which nbconvert has turned magics into calls of `get_ipython()`, with magics again.

    A cell that it made one string of becomes a part of its own.
    """
    if "get_ipython()" not in source:
        return [Part(line=1, text=source)]
    lines = source.split("\n")
    parts: list[Part] = []
    begin = 0
    for start in statement_starts(lines):
        call = _CALL.match(lines[start])
        if call is None:
            continue
        try:
            arguments = [_text_of(literal) for literal in re.findall(_LITERAL, call["arguments"])]
        except (SyntaxError, ValueError):  # an escape that means nothing
            continue
        magic = _magic(call["method"], arguments)
        if magic is None:
            continue
        if not magic.startswith("%%"):
            lines[start] = call["before"] + magic
        elif call["before"]:  # inside a block, which a cell cannot be
            lines[start] = call["before"][: -len(call["before"].lstrip()) or None] + "pass"
        else:
            parts.append(Part(line=begin + 1, text="\n".join(lines[begin:start]) + "\n"))
            parts.append(Part(line=start + 1, text=magic, is_cell=True))
            begin = start + 1
    parts.append(Part(line=begin + 1, text="\n".join(lines[begin:])))
    return [part for part in parts if part.text.strip()] or [Part(line=1, text="")]


def _magic(method: str, arguments: list[str]) -> str | None:
    """What a call of `get_ipython()` was written as; None where it is no such call."""
    if method == "run_cell_magic" and len(arguments) == 3:
        return f"%%{arguments[0]} {_one_line(arguments[1])}\n{arguments[2]}"
    if method in ("run_line_magic", "magic") and len(arguments) <= 2:
        return "%" + _one_line(" ".join(arguments))
    if method in ("system", "getoutput") and len(arguments) == 1:
        return "!" + _one_line(arguments[0])
    return None


def _text_of(literal: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd escapes: the student's business
        return str(ast.literal_eval(literal))


def _one_line(text: str) -> str:
    """Without line ends, which would move everything below, and without a backslash that continues the line."""
    return " ".join(text.split()).rstrip("\\")
