"""Source text on its way to a syntax tree: the parser kept in bounds, what it cannot read set apart."""

import ast
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grading import newer_syntax, parser_child
from grading.magics import without_magics
from grading.outcomes import BadInput, InfrastructureFault
from grading.splitting import definition_like_lines, statements_at_the_margin

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


class Unreadable(BadInput):
    """One file cannot be read. Others that were handed in with it can be."""


def read_notebook(name: str, content: bytes) -> list[Piece]:
    """The code cells of a notebook, not yet parsed.

    Raises `Unreadable`, or `BadInput` where it wears the parser out.
    """
    answer = _ask_child("notebook", content, f"`{name}`")
    if "error" in answer:
        raise Unreadable(f"`{name}` {answer['error']}")
    return [
        Piece(label=f"{name}, cell {number}", line=1, source=normalise(source)) for number, source in answer["cells"]
    ]


def normalise(text: str) -> str:
    """Line ends as Python counts them, and no lone surrogates, which no parser takes."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def try_pieces(pieces: Sequence[Piece], modules: Collection[str] = ()) -> list[list[Piece]]:
    """Parse each piece in a limited child: as it stands, else without its magics, else split into statements.

    One list per piece. A piece that does not parse as a whole comes back as several, those at fault marked.
    `modules`: the names of those handed in. Raises `BadInput` when the sources are too large, or wear the parser out.
    """
    size = sum(len(piece.source) for piece in pieces)
    if size > parser_child.MAX_SOURCE_CHARACTERS:
        raise BadInput(f"What was handed in {parser_child.source_too_long(size)}")
    candidates = [_candidates(piece.source, modules) for piece in pieces]
    found: list[list[Piece]] = []
    broken: list[int] = []
    for piece, sources, (index, fault) in zip(pieces, candidates, _verdicts(candidates), strict=True):
        if fault is None:
            found.append([replace(piece, source=sources[index])])
        else:
            broken.append(len(found))
            found.append([_at_fault(piece, sources[-1], fault)])
    for splitter in (statements_at_the_margin, definition_like_lines):
        parts = [(position, part) for position in broken for part in _split_broken(found[position], splitter)]
        if not parts:
            break
        for position in broken:
            found[position] = [piece for piece in found[position] if piece.fault is None]
        tried = [_spellings(part.source) for _, part in parts]
        for (position, part), sources, (index, fault) in zip(parts, tried, _verdicts(tried), strict=True):
            piece = replace(part, source=sources[index]) if fault is None else _at_fault(part, sources[0], fault)
            found[position].append(piece)
        for position in broken:
            found[position].sort(key=lambda piece: piece.line)
    _name_newer_pythons([found[position] for position in broken])
    return found


def _candidates(source: str, modules: Collection[str]) -> list[str]:
    """What a piece may mean, best first: Python as it stands, or a cell with magics."""
    cleaned = without_magics(source, modules)
    return _spellings(source) if cleaned == source else [source, *_spellings(cleaned)]


def _spellings(source: str) -> list[str]:
    """The text, and what this Python can read of it where it was written for a newer one."""
    older = newer_syntax.in_older_words(source) if newer_syntax.HERE < newer_syntax.FREE_FSTRINGS else source
    return [source] if older == source else [source, older]


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


def _at_fault(piece: Piece, source: str, fault: Sequence[Any]) -> Piece:
    line, column, text = fault
    place = f"{piece.label}, line {piece.line + (line or 1) - 1}"
    return replace(piece, source=source, fault=f"{place}, column {column}: {text}" if column else f"{place}: {text}")


def _name_newer_pythons(found: Sequence[list[Piece]]) -> None:
    """Where a piece is broken only since this Python is too old for it, let its fault say so."""
    here = newer_syntax.HERE
    broken = [(pieces, index) for pieces in found for index, piece in enumerate(pieces) if piece.fault is not None]
    freed = [newer_syntax.without_new_fstrings(pieces[index].source) for pieces, index in broken]
    doubtful = [text for text, (pieces, index) in zip(freed, broken, strict=True) if text != pieces[index].source]
    verdicts = _verdicts([[text] for text in doubtful]) if doubtful and here < newer_syntax.FREE_FSTRINGS else []
    parsed = {text for text, (_, fault) in zip(doubtful, verdicts, strict=False) if fault is None}
    for text, (pieces, index) in zip(freed, broken, strict=True):
        piece = pieces[index]
        used = newer_syntax.NEW_FSTRING if text in parsed else newer_syntax.type_syntax(piece.source)
        if used is not None and used[1] > here:
            brought, ours = (".".join(map(str, version)) for version in (used[1], here))
            words = f"{used[0]}, which Python {brought} brought; this grader runs Python {ours}"
            pieces[index] = _at_fault(piece, piece.source, (None, None, words))


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
