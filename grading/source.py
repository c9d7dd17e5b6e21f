"""Source text on its way to a syntax tree: magics taken out, broken pieces set apart, the parser kept in bounds."""

import ast
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grading import parser_child
from grading.outcomes import BadInput, InfrastructureFault

_CHILD = Path(parser_child.__file__)
# The child stops itself after 5 s of processor time; the rest is for a machine that is busy with other things.
_CHILD_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A file, a notebook's cell, or what a broken one of these was split into."""

    label: str  # "blocks.py", or "ddpm.ipynb, cell 7": what tracebacks show as the file
    line: int  # of the piece's first line under that label, 1-based
    source: str  # lines end in \n; magics are replaced, line by line
    fault: str | None = None  # why it is no Python, with line and column; None: it parses

    @property
    def names(self) -> frozenset[str]:
        """The names that a broken piece seems to define at top level."""
        names: set[str] = set()
        for match in _DEFINES.finditer(self.source):
            names.update(re.findall(r"\w+", match["name"] or match["targets"]))
        return frozenset(names)


_DEFINES = re.compile(
    r"^(?:(?:async[ \t]+)?(?:def|class)[ \t]+(?P<name>\w+)"
    r"|(?P<targets>\w+(?:[ \t]*,[ \t]*\w+)*)[ \t]*(?::[^=\n]+)?=(?!=))",
    re.MULTILINE,
)


def parse(source: str) -> ast.Module:
    """The syntax tree of a piece that the child let through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd escapes and the like: the student's business
        return ast.parse(source)


def read_notebook(name: str, content: bytes) -> list[Piece]:
    """The code cells of a notebook, not yet parsed. Raises `BadInput`."""
    answer = _ask_child("notebook", content, f"`{name}`")
    if "error" in answer:
        raise BadInput(f"`{name}` {answer['error']}")
    return [
        Piece(label=f"{name}, cell {number}", line=1, source=normalise(source)) for number, source in answer["cells"]
    ]


def normalise(text: str) -> str:
    """Line ends as Python counts them, and no lone surrogates, which no parser takes."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def try_pieces(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Parse each piece in a limited child: as it stands, else without its magics, else split into statements.

    One list per piece. A piece that does not parse as a whole comes back as several, those at fault marked.
    Raises `BadInput` when the sources are too large, or wear the parser out.
    """
    size = sum(len(piece.source) for piece in pieces)
    if size > parser_child.MAX_SOURCE_CHARACTERS:
        raise BadInput(f"What was handed in {parser_child.source_too_long(size)}")
    candidates = [_candidates(piece.source) for piece in pieces]
    found: list[list[Piece]] = []
    broken: list[int] = []
    for piece, sources, (index, fault) in zip(pieces, candidates, _verdicts(candidates), strict=True):
        if fault is None:
            found.append([_with(piece, sources[index])])
        else:
            broken.append(len(found))
            found.append([_with(piece, sources[-1], fault)])
    for splitter in (_split_statements, _split_lines):
        parts = [(position, part) for position in broken for part in _split_broken(found[position], splitter)]
        if not parts:
            break
        for position in broken:
            found[position] = [piece for piece in found[position] if piece.fault is None]
        verdicts = _verdicts([[part.source] for _, part in parts])
        for (position, part), (_, fault) in zip(parts, verdicts, strict=True):
            found[position].append(_with(part, part.source, fault))
        for position in broken:
            found[position].sort(key=lambda piece: piece.line)
    return found


def _split_broken(pieces: Iterable[Piece], splitter: Callable[[list[str]], list[int]]) -> list[Piece]:
    parts: list[Piece] = []
    for piece in pieces:
        if piece.fault is not None:
            lines = piece.source.split("\n")
            starts = splitter(lines)
            for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
                text = "\n".join(lines[start:end])
                if text.strip():
                    parts.append(Piece(label=piece.label, line=piece.line + start, source=text + "\n"))
    return parts


def _with(piece: Piece, source: str, fault: Sequence[Any] | None = None) -> Piece:
    message = None
    if fault is not None:
        line, column, text = fault
        place = f"{piece.label}, line {piece.line + (line or 1) - 1}"
        message = f"{place}, column {column}: {text}" if column else f"{place}: {text}"
    return Piece(label=piece.label, line=piece.line, source=source, fault=message)


def _verdicts(candidates: list[list[str]]) -> list[tuple[int, Sequence[Any] | None]]:
    answer = _ask_child("sources", json.dumps(candidates).encode(), "What was handed in")
    return [(index, fault) for index, fault in answer["verdicts"]]


def _ask_child(task: str, payload: bytes, subject: str) -> dict[str, Any]:
    command = [sys.executable, "-I", "-S", str(_CHILD), task]
    try:
        child = subprocess.run(command, input=payload, capture_output=True, timeout=_CHILD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise InfrastructureFault("The parser's process did not get its share of the processor.") from None
    except OSError as error:
        raise InfrastructureFault(f"The parser's process could not be started: {error}.") from error
    if child.returncode != 0:
        raise BadInput(
            f"{subject} wears Python's parser out: it takes more than {parser_child.CPU_SECONDS} seconds or "
            f"{parser_child.MEMORY_BYTES // 2**30} GiB. Delete what belongs to no answer, such as data written as text."
        )
    answer: dict[str, Any] = json.loads(child.stdout)
    return answer


# --- magics -----------------------------------------------------------------------------------------------------

_KEEPS_BODY = frozenset({"time", "capture", "prun", "python", "python3"})  # cell magics that run the cell as Python
_HELP = re.compile(r"\?{1,2}[\w.*%]+\s*$|[\w.*%\[\]]+\?{1,2}\s*$")
_TIMED = re.compile(r"%time\s+(?=\S)")
_SHELL_ASSIGNMENT = re.compile(r"[\w, ]+=\s*(?:!|%\w)")


def _candidates(source: str) -> list[str]:
    cleaned = without_magics(source)
    return [source] if cleaned == source else [source, cleaned]


def without_magics(source: str) -> str:
    """The cell as Python: what IPython would run otherwise is dropped, line for line, so that numbers hold.

    `%time x = f()` keeps its statement and `%%time` its cell; `%%bash` and the like drop the whole cell.
    """
    lines = source.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), 0)
    if lines[first].startswith("%%"):
        magic = lines[first][2:].split(maxsplit=1)[0] if lines[first][2:].strip() else ""
        if magic not in _KEEPS_BODY:
            return "\n" * (len(lines) - 1)
        lines[first] = ""
        first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip(" \t"))]
    if indent:  # IPython takes a cell's common indentation away
        lines = [line.removeprefix(indent) for line in lines]
    starts = set(_statement_starts(lines))
    continued = False
    for i, line in enumerate(lines):
        if continued or i in starts:
            cleaned = "" if continued else _clean_line(line)
            dropped = continued or cleaned.strip() == "pass" != line.strip()
            continued = dropped and line.rstrip().endswith("\\")
            lines[i] = cleaned
    return "\n".join(lines)


def _clean_line(line: str) -> str:
    text = line.lstrip()
    indent = line[: len(line) - len(text)]
    if _TIMED.match(text):
        return indent + _TIMED.sub("", text, count=1)
    if text.startswith(("%", "!", "?")) or _HELP.match(text) or _SHELL_ASSIGNMENT.match(text):
        return indent + "pass"
    return line


# --- lines ------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""#.*|\"{3}|'{3}|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|[(\[{]|[)\]}]""",
    re.DOTALL,
)
_CLOSING = {quote: re.compile(rf"(?:\\.|[^\\])*?{quote}", re.DOTALL) for quote in ('"""', "'''")}
_CONTINUES = re.compile(r"(?:else|elif|except|finally|case)\b")
_OPENS = re.compile(
    r"@|\"{3}|'{3}|(?:async\s+)?def\s|class\s|import\s|from\s+\S+\s+import\b|[A-Za-z_][\w, .\[\]]*(?::[^=]+)?=(?!=)"
)


def _statement_starts(lines: list[str]) -> list[int]:
    """Lines that are not inside a string, a bracket, or after a backslash."""
    starts: list[int] = []
    quote, depth, continued = "", 0, False
    for number, line in enumerate(lines):
        if not quote and not depth and not continued:
            starts.append(number)
        position = 0
        while position < len(line):
            if quote:
                end = _CLOSING[quote].match(line, position)
                if end is None:
                    break
                position, quote = end.end(), ""
                continue
            token = _TOKEN.search(line, position)
            if token is None:
                break
            position = token.end()
            if token[0] in _CLOSING:
                quote = token[0]
            elif token[0] in "([{":
                depth += 1
            elif token[0] in ")]}":
                depth = max(0, depth - 1)
        continued = not quote and line.endswith("\\")
    return starts


def _split_statements(lines: list[str]) -> list[int]:
    """First lines of the statements at the left margin."""
    return _tidy(
        lines,
        [i for i in _statement_starts(lines) if lines[i][:1].strip() and not _CONTINUES.match(lines[i])],
    )


def _split_lines(lines: list[str]) -> list[int]:
    """The same for pieces whose brackets or quotes do not close: every line that looks like a new definition."""
    return _tidy(lines, [i for i, line in enumerate(lines) if _OPENS.match(line)])


def _tidy(lines: list[str], starts: list[int]) -> list[int]:
    """Starts without comments, with decorators kept by what they decorate, and the first line among them."""
    kept: list[int] = [0]
    decorated = False
    for start in starts:
        if lines[start].startswith("#"):
            continue
        if not decorated and start != 0:
            kept.append(start)
        decorated = lines[start].startswith("@")
    return kept
