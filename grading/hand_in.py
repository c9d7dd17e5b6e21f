"""What a student handed in: bytes become source text, cell by cell. Nothing is run.

A hand-in is one or several `.py` files (jupytext's percent format is such a file), an `.ipynb`, or a `.zip` of these.
"""

import codecs
import hashlib
import io
import re
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from grading import archive, newer_syntax, parser_child, source
from grading.archive import MAX_ENTRIES, MAX_UPLOAD_BYTES
from grading.file_names import SOURCE_SUFFIXES, check_name, in_reading_order, listing, suffix_of
from grading.magics import undo_export, written_file
from grading.outcomes import BadInput
from grading.source import Piece, Unreadable

_ENCODINGS = frozenset({"utf-8", "utf-8-sig", "ascii", "iso8859-1", "cp1252"})  # what editors save Python in
MAX_NOTICES = 20  # about broken pieces; whoever has more of them knows
# How texts begin that are not what their names say
_LIKE_A_NOTEBOOK = re.compile(rb"\s*\{(?=.*\"(?:cells|worksheets)\"\s*:)", re.DOTALL)
_LIKE_A_MODULE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:#|[\"']{3}|(?:import|from|def|class)\s|[%!]\w|[A-Za-z_]\w*\s*=)")
_LIKE_A_PAGE = re.compile(rb"\s*(?:<!doctype html|<html)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One module or notebook."""

    name: str  # as handed in; with its folders where it came in a zip
    pieces: tuple[Piece, ...]  # in order; several where it is a notebook or does not parse as a whole
    is_notebook: bool = False


@dataclass(frozen=True, kw_only=True)
class HandIn:
    sha256: str  # of the bytes as handed in, hexadecimal
    files: tuple[SourceFile, ...]
    notices: tuple[str, ...] = ()  # for the student, about what could not be read or was left out


def combine(files: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """What was handed in side by side as one file: a single one as it is, several in a zip archive.

    The same files make the same bytes in whatever order they come. Raises `BadInput`.
    """
    if not files:
        raise BadInput("Nothing was handed in. Choose the files that hold your answers.")
    named = [(_base_name(filename), content) for filename, content in files]
    if len(named) == 1:
        return named[0]
    if len(named) > MAX_ENTRIES or sum(len(content) for _, content in named) > MAX_UPLOAD_BYTES:
        raise BadInput(
            f"{len(named)} files are too much: {MAX_ENTRIES} files and {MAX_UPLOAD_BYTES // 2**20} MiB "
            "are allowed. Hand in only the files that hold your answers."
        )
    seen: set[str] = set()
    for name, content in named:
        if suffix_of(name) not in SOURCE_SUFFIXES:
            raise BadInput(f"`{name}` is no .py and no .ipynb file. Hand in these, or a single .zip of them.")
        if name.casefold() in seen:
            raise BadInput(f"Two files are called `{name}`. Give each its own name.")
        seen.add(name.casefold())
        _check_size(name, content)
    return "hand-in.zip", archive.bundle(named)


def read_hand_in_files(files: Sequence[tuple[str, bytes]]) -> HandIn:
    """Read what was handed in side by side. Raises `BadInput`."""
    return read_hand_in(*combine(files))


def read_hand_in(filename: str, content: bytes) -> HandIn:
    """Read a `.py`, an `.ipynb`, or a `.zip` of these.

    A piece of code that is no Python costs only itself: it stays among the pieces with its fault, and is a notice.
    Of several files, one that cannot be read costs only itself, too. Raises `BadInput`, naming the file or the entry
    and the way out.
    """
    name = _base_name(filename)
    _check_size(name, content)
    if suffix_of(name) not in (*SOURCE_SUFFIXES, ".zip"):
        raise BadInput(f"`{name}` is no .py, .ipynb or .zip file. {_way_out(name)}")
    reading = _Reading()
    if archive.is_archive(name, content):
        unpacked = archive.unpack_code(name, content)
        if suffix_of(name) != ".zip":
            reading.notices.append(f"`{name}` is really a zip archive, and was read as one.")
        if unpacked.left_out:
            left_out = listing(unpacked.left_out, [inner for inner, _ in unpacked.files])
            reading.notices.append(f"Left out of `{name}`, where only .py and .ipynb files are read: {left_out}.")
        reading.read_all(dict(unpacked.files))
    else:
        reading.read(name, content)
    return HandIn(sha256=hashlib.sha256(content).hexdigest(), files=reading.files(), notices=tuple(reading.notices))


def _base_name(filename: str) -> str:
    name = PurePosixPath(filename.replace("\\", "/")).name
    check_name(name)
    return name


def _check_size(name: str, content: bytes) -> None:
    if not content and name != "__init__.py":  # which is empty in most packages
        raise BadInput(f"`{name}` is empty. Save it before you hand it in.")
    if len(content) > MAX_UPLOAD_BYTES:
        raise BadInput(
            f"`{name}` has {len(content) / 2**20:.1f} MiB; {MAX_UPLOAD_BYTES // 2**20} are allowed. "
            "Clear the notebook's outputs, and leave data and weights out."
        )


def _way_out(name: str) -> str:
    """What to do with a file of another kind."""
    stem = PurePosixPath(name).stem
    if suffix_of(stem) in SOURCE_SUFFIXES:  # as Windows and browsers name what they take for text
        return f"If it is the file `{stem}`, rename it to that."
    return "Hand in one of these."


@dataclass(kw_only=True)
class _Draft:
    """A file whose pieces have not been parsed yet."""

    name: str
    pieces: list[Piece]
    is_notebook: bool


@dataclass(kw_only=True)
class _Reading:
    """A hand-in on its way from bytes to pieces of code."""

    notices: list[str] = field(default_factory=list)
    drafts: dict[str, _Draft] = field(default_factory=dict)  # by name
    written: set[str] = field(default_factory=set)  # names of the files that cells write

    def read_all(self, files: dict[str, bytes]) -> None:
        """Read several files. Raises `BadInput` where none can be read."""
        unreadable: list[Unreadable] = []
        for name in in_reading_order(files):
            try:
                self.read(name, files[name])
            except Unreadable as error:
                unreadable.append(error)
        if len(unreadable) == len(files):
            raise unreadable[0]
        self.notices += [f"Left out: {error}" for error in unreadable[:MAX_NOTICES]]

    def read(self, name: str, content: bytes) -> None:
        """Read one file, by what it holds rather than what it is called. Raises `Unreadable`."""
        if content.startswith(archive.FILE_START):
            raise Unreadable(f"`{name}` is really a zip archive. Unpack it first.")
        if _LIKE_A_PAGE.match(content):
            raise Unreadable(f"`{name}` is a web page. Download the file itself, not the page that shows it.")
        is_called_notebook = suffix_of(name) == ".ipynb"
        if is_called_notebook or _LIKE_A_NOTEBOOK.match(content):
            try:
                cells = source.read_notebook(name, content)
            except Unreadable:
                if is_called_notebook and not _LIKE_A_MODULE.match(content):
                    raise
            else:
                if not is_called_notebook:
                    self.notices.append(f"`{name}` is really a notebook, and was read as one.")
                self.drafts[name] = _Draft(name=name, pieces=cells, is_notebook=True)
                return
        text = _decode(name, content)
        if is_called_notebook:
            self.notices.append(f"`{name}` is not a notebook but a Python module, and was read as one.")
        self.drafts[name] = _Draft(name=name, pieces=[Piece(label=name, line=1, source=text)], is_notebook=False)

    def _undo_magics(self) -> None:
        """Make cells of what nbconvert made strings, and files of what cells write."""
        for draft in list(self.drafts.values()):
            parts = [part for piece in draft.pieces for part in _undo_export(piece)]
            draft.pieces = [part for part in parts if not self._write(draft.name, part)]

    def _write(self, notebook: str, cell: Piece) -> bool:
        """Do what `%%writefile` does: over a file that was handed in, too. False where the cell writes no module."""
        found = written_file(cell.source)
        name = None if found is None else _beside(notebook, found.path)
        if found is None or name is None or name == notebook:
            return False
        there = self.drafts.get(name)
        if there is not None and name not in self.written:
            does = "adds to" if found.appends else "replaces"
            self.notices.append(f"`%%writefile` in {cell.label} {does} the file `{name}` that was handed in with it.")
        kept = there.pieces if there is not None and found.appends else []
        text = Piece(label=cell.label, line=cell.line + found.first_line - 1, source=found.text)
        self.drafts[name] = _Draft(name=name, pieces=[*kept, text], is_notebook=False)
        self.written.add(name)
        if len(self.written) > MAX_ENTRIES:
            raise BadInput(f"The notebook writes more than {MAX_ENTRIES} files. Delete cells that belong to no answer.")
        return True

    def files(self) -> tuple[SourceFile, ...]:
        """What was read, parsed; what is no Python becomes notices. Raises `BadInput` where there is no code at all."""
        self._undo_magics()
        drafts = [self.drafts[name] for name in in_reading_order(self.drafts)]
        cells = [piece for draft in drafts for piece in draft.pieces]
        if not any(cell.source.strip() for cell in cells):
            raise BadInput(
                "There is no Python code in what was handed in. Save the file with your answers and try again."
            )
        tried = iter(source.try_pieces(cells, {PurePosixPath(draft.name).stem for draft in drafts}))
        files = [
            SourceFile(
                name=draft.name,
                pieces=tuple(piece for _ in draft.pieces for piece in next(tried)),
                is_notebook=draft.is_notebook,
            )
            for draft in drafts
        ]
        self._tell_faults(files)
        return tuple(files)

    def _tell_faults(self, files: Sequence[SourceFile]) -> None:
        # One mistake may leave several pieces unread
        faults = list(dict.fromkeys(piece.fault for file in files for piece in file.pieces if piece.fault))
        version = ".".join(map(str, newer_syntax.HERE))
        for text in faults[:MAX_NOTICES]:
            why = (
                "Left out"
                if text.endswith(parser_child.AWAITS)
                else f"Not read, since it is not valid Python {version}"
            )
            self.notices.append(f"{why}: {text}.")
        if len(faults) > MAX_NOTICES:
            self.notices.append(f"{len(faults) - MAX_NOTICES} more places are not valid Python.")


def _undo_export(piece: Piece) -> list[Piece]:
    """A piece in which nbconvert made strings of cells, as several: one for each such cell."""
    pieces: list[Piece] = []
    for part in undo_export(piece.source):
        line = piece.line + part.line - 1
        if part.is_cell:
            label = f"{piece.label}, the cell in line {line}"
            pieces.append(Piece(label=label, line=1, source=source.normalise(part.text)))
        else:
            pieces.append(Piece(label=piece.label, line=line, source=part.text))
    return pieces


def _beside(notebook: str, path: str) -> str | None:
    """The name of a module that a notebook's cell writes, in the notebook's folder; None where it is no module."""
    typed = PurePosixPath(path.replace("\\", "/"))
    if typed.suffix != ".py":
        return None
    if typed.is_absolute() or not {"..", "~"}.isdisjoint(typed.parts):  # `/content/blocks.py`, as in Colab
        typed = PurePosixPath(typed.name)
    name = str(PurePosixPath(notebook).parent / typed)
    try:
        check_name(name)
    except BadInput:
        return None
    return name


def _decode(name: str, content: bytes) -> str:
    """A module's text: UTF-8 with or without a mark, or what its coding line says (PEP 263)."""
    advice = "Save it as UTF-8."
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable(f"`{name}` is UTF-16 text. {advice}")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        encoding = codecs.lookup(encoding).name if encoding != "utf-8-sig" else encoding
        if encoding not in _ENCODINGS:
            raise Unreadable(f"`{name}` says that its encoding is {encoding}. {advice}")
        text = content.decode(encoding)
    except (SyntaxError, UnicodeError, LookupError):
        raise Unreadable(f"`{name}` is not UTF-8 text. {advice}") from None
    if len(text) > parser_child.MAX_SOURCE_CHARACTERS:
        raise Unreadable(f"`{name}` {parser_child.source_too_long(len(text))}")
    if "\0" in text:
        raise Unreadable(f"`{name}` holds NUL bytes: it is no Python source. {advice}")
    return source.normalise(text)
