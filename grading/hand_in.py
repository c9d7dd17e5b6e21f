"""What a student handed in: bytes become source text, cell by cell. Nothing is run.

A hand-in is one or several `.py` files (jupytext's percent format is such a file), an `.ipynb`, or a `.zip` of these.
"""

import codecs
import hashlib
import io
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from grading import archive, source
from grading.archive import MAX_UPLOAD_BYTES, SOURCE_SUFFIXES
from grading.outcomes import BadInput
from grading.source import Piece

_ENCODINGS = frozenset({"utf-8", "utf-8-sig", "ascii", "iso8859-1", "cp1252"})  # what editors save Python in
MAX_NOTICES = 20  # about broken pieces; whoever has more of them knows


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One module or notebook."""

    name: str  # as handed in; with its folders where it came in a zip
    pieces: tuple[Piece, ...]  # in order; several where it is a notebook or does not parse as a whole


@dataclass(frozen=True, kw_only=True)
class HandIn:
    sha256: str  # of the bytes as handed in, hexadecimal
    files: tuple[SourceFile, ...]
    notices: tuple[str, ...] = ()  # for the student, about what could not be read or was left out


def read_hand_in(filename: str, content: bytes) -> HandIn:
    """Read a `.py`, an `.ipynb`, or a `.zip` of these.

    A piece of code that is no Python costs only itself: it stays among the pieces with its fault, and is a notice.
    Raises `BadInput`, naming the file or the entry and the way out.
    """
    name = _base_name(filename)
    _check_size(name, content)
    sha256 = hashlib.sha256(content).hexdigest()
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".zip":
        unpacked = archive.unpack(name, content)
        if not unpacked.files:
            raise BadInput(f"`{name}` holds no .py and no .ipynb file. Zip the files that hold your answers.")
        ignored = [f"Left out of `{name}`: {_listing(unpacked.ignored)}."] if unpacked.ignored else []
        return _read(unpacked.files, sha256, ignored)
    if suffix not in SOURCE_SUFFIXES:
        raise BadInput(f"`{name}` is no .py, .ipynb or .zip file. Hand in one of these.")
    return _read([(name, content)], sha256, [])


def read_hand_in_files(files: Sequence[tuple[str, bytes]]) -> HandIn:
    """Read several `.py` or `.ipynb` files that were handed in side by side; a single file is `read_hand_in`'s.

    The hash is that of all names, lengths and contents in the order given. Raises `BadInput`.
    """
    if not files:
        raise BadInput("Nothing was handed in. Choose the files that hold your answers.")
    if len(files) == 1:
        return read_hand_in(*files[0])
    named = [(_base_name(filename), content) for filename, content in files]
    if len(named) > archive.MAX_ENTRIES or sum(len(content) for _, content in named) > MAX_UPLOAD_BYTES:
        raise BadInput(
            f"{len(named)} files are too much: {archive.MAX_ENTRIES} files and {MAX_UPLOAD_BYTES // 2**20} MiB "
            "are allowed. Hand in only the files with answers."
        )
    digest = hashlib.sha256()
    seen: set[str] = set()
    for name, content in named:
        if PurePosixPath(name).suffix.lower() not in SOURCE_SUFFIXES:
            raise BadInput(f"`{name}` is no .py and no .ipynb file. Hand in these, or a single .zip of them.")
        if name.casefold() in seen:
            raise BadInput(f"Two files are called `{name}`. Give each its own name.")
        seen.add(name.casefold())
        _check_size(name, content)
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return _read(named, digest.hexdigest(), [])


def _base_name(filename: str) -> str:
    name = PurePosixPath(filename.replace("\\", "/")).name
    archive.check_name(name)
    return name


def _check_size(name: str, content: bytes) -> None:
    if not content:
        raise BadInput(f"`{name}` is empty. Save it before you hand it in.")
    if len(content) > MAX_UPLOAD_BYTES:
        raise BadInput(
            f"`{name}` has {len(content) / 2**20:.1f} MiB; {MAX_UPLOAD_BYTES // 2**20} are allowed. "
            "Clear the notebook's outputs, and leave data and weights out."
        )


def _read(files: Sequence[tuple[str, bytes]], sha256: str, notices: list[str]) -> HandIn:
    cells: list[Piece] = []
    owners: list[str] = []
    for name, content in files:
        found = (
            source.read_notebook(name, content)
            if name.lower().endswith(".ipynb")
            else [Piece(label=name, line=1, source=_decode(name, content))]
        )
        cells += found
        owners += [name] * len(found)
    if not any(cell.source.strip() for cell in cells):
        raise BadInput("There is no Python code in what was handed in. Save the file with your answers and try again.")
    pieces: dict[str, list[Piece]] = {name: [] for name, _ in files}
    for owner, parts in zip(owners, source.try_pieces(cells), strict=True):
        pieces[owner] += parts
    # One mistake may leave several pieces unread
    faults = list(dict.fromkeys(piece.fault for parts in pieces.values() for piece in parts if piece.fault))
    notices = notices + [f"Not read, since it is not valid Python: {fault}." for fault in faults[:MAX_NOTICES]]
    if len(faults) > MAX_NOTICES:
        notices.append(f"{len(faults) - MAX_NOTICES} more places are not valid Python.")
    return HandIn(
        sha256=sha256,
        files=tuple(SourceFile(name=name, pieces=tuple(parts)) for name, parts in pieces.items()),
        notices=tuple(notices),
    )


def _decode(name: str, content: bytes) -> str:
    """A module's text: UTF-8 with or without a mark, or what its coding line says (PEP 263)."""
    advice = "Save it as UTF-8."
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadInput(f"`{name}` is UTF-16 text. {advice}")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        encoding = codecs.lookup(encoding).name if encoding != "utf-8-sig" else encoding
        if encoding not in _ENCODINGS:
            raise BadInput(f"`{name}` says that its encoding is {encoding}. {advice}")
        text = content.decode(encoding)
    except (SyntaxError, UnicodeError, LookupError):
        raise BadInput(f"`{name}` is not UTF-8 text. {advice}") from None
    if "\0" in text:
        raise BadInput(f"`{name}` holds NUL bytes: it is no Python source. {advice}")
    return source.normalise(text)


def _listing(names: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f"`{name}`" for name in names[:shown]) + more
