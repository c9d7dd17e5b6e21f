"""Zip archives as students send them: what is code is unpacked in bounded memory, the rest is not even looked at."""

import io
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from grading.file_names import ARCHIVE_SUFFIXES, SOURCE_SUFFIXES, check_name, check_stays, listing, sort_out, suffix_of
from grading.outcomes import BadInput

# 24 notebooks full of plots, or one with its animations; also what a service accepts in one request.
MAX_UPLOAD_BYTES = 20 * 2**20
MAX_UNPACKED_BYTES = 40 * 2**20  # of all that is taken: images in notebooks hardly shrink when they are zipped
MAX_ENTRIES = 200  # files that are taken; a whole project has 50
# Everything listed, also what is left out: the 10,000 pictures of MNIST's test set, or a virtual environment with some
# libraries. Reading so long a list takes half a second.
MAX_LISTED = 20_000
# zlib packs at most 1032 : 1, real code about 5 : 1, notebooks with repetitive outputs up to 50 : 1
MAX_RATIO = 200
RATIO_FREE_BYTES = 2**20  # below this an entry's ratio does not matter: an honest log of zeros packs well too
_BLOCK = 64 * 2**10  # bytes unpacked at a time

FILE_START, _LISTED_START = b"PK\x03\x04", b"PK\x01\x02"
_UTF8_FLAG, _ENCRYPTED_FLAG = 0x800, 0x1
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first time that a zip archive can express

# What `zipfile` raises over records that make no sense; `OverflowError`: an entry said to lie 2**63 bytes away
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, OSError, OverflowError)


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    files: tuple[tuple[str, bytes], ...]  # name inside the archive, content
    left_out: tuple[str, ...]  # names of the files that were not taken


def is_archive(name: str, content: bytes) -> bool:
    """Whether it is a zip archive, by its name or, under the name of something else, by how it begins."""
    return suffix_of(name) == ".zip" or content.startswith(FILE_START)


def unpack_code(name: str, content: bytes) -> Unpacked:
    """What of a zip archive can be a hand-in. Raises `BadInput` naming the archive or the entry, and the way out."""
    unpacked = unpack(name, content)
    if not unpacked.files:
        inner = [entry for entry in unpacked.left_out if suffix_of(entry) in ARCHIVE_SUFFIXES]
        if inner:
            raise BadInput(
                f"`{name}` holds no .py and no .ipynb file, only another archive: {listing(inner, [])}. "
                "Unpack that one and hand in the files that are in it, or a .zip of them."
            )
        found = f", only {listing(unpacked.left_out, [])}" if unpacked.left_out else ""
        raise BadInput(f"`{name}` holds no .py and no .ipynb file{found}. Zip the files that hold your answers.")
    return unpacked


def unpack(
    name: str, content: bytes, suffixes: Sequence[str] = SOURCE_SUFFIXES, max_entries: int = MAX_ENTRIES
) -> Unpacked:
    """The code in a zip archive, or the files with other `suffixes`.

    Raises `BadInput` naming the archive or the entry, and the way out.
    """
    # Each listed file has this mark, wherever the list is said to lie: so `zipfile` makes no more objects than that
    if content.count(_LISTED_START) > MAX_LISTED:
        raise BadInput(f"`{name}` lists more than {MAX_LISTED} files. Zip only the files that hold your answers.")
    try:
        if not zipfile.is_zipfile(io.BytesIO(content)):
            raise BadInput(f"`{name}` is not a zip archive, or not a whole one. Zip the files again.")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _unpack(name, archive, suffixes, max_entries)
    except _DAMAGE as error:
        raise BadInput(f"`{name}` is damaged ({error}). Zip the files again.") from error
    except (NotImplementedError, RuntimeError) as error:
        raise BadInput(f"`{name}` is packed in a way that cannot be read ({error}). Make a plain zip of it.") from error


def bundle(files: Sequence[tuple[str, bytes]]) -> bytes:
    """One zip archive of several files: the same bytes for the same files in whatever order."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _EARLIEST), data)
    return content.getvalue()


def _unpack(name: str, archive: zipfile.ZipFile, suffixes: Sequence[str], max_entries: int) -> Unpacked:
    listed = [(_name_of(entry), entry) for entry in archive.infolist()]
    files = [(path, entry) for path, entry in listed if not path.endswith("/")]
    for path, _ in files:
        check_stays(path)
    taken, left_out = sort_out((path for path, _ in files), suffixes)
    wanted = set(taken)
    seen: set[str] = set()
    for path, entry in files:
        if path in wanted:
            check_name(path)
            _check_entry(name, path, entry)
            if path.casefold() in seen:
                raise BadInput(f"`{name}` holds `{path}` twice. Zip the files again, each under its own name.")
            seen.add(path.casefold())
    if len(taken) > max_entries:
        kinds = " and ".join(suffixes)
        raise BadInput(
            f"`{name}` holds {len(taken)} files that end in {kinds}; {max_entries} are allowed. "
            "Zip only the files that hold your answers."
        )
    unpacked: list[tuple[str, bytes]] = []
    left = MAX_UNPACKED_BYTES
    for path, entry in files:
        if path in wanted:
            data = _read(name, path, archive, entry, left)
            left -= len(data)
            unpacked.append((path, data))
    return Unpacked(files=tuple(unpacked), left_out=tuple(left_out))


def _name_of(entry: zipfile.ZipInfo) -> str:
    """What an entry is called: with slashes, as PowerShell 5.1 does not write it, and letters in one piece (NFC).

    macOS writes UTF-8 without saying so. What is not valid as such is in the code page of DOS, as it should be.
    """
    name = entry.orig_filename  # `filename` ends at a NUL byte
    if not entry.flag_bits & _UTF8_FLAG and not name.isascii():
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    parts = name.replace("\\", "/").split("/")
    plain = [part for position, part in enumerate(parts) if part != "." and (part or position in (0, len(parts) - 1))]
    return unicodedata.normalize("NFC", "/".join(plain))


def _check_entry(name: str, path: str, entry: zipfile.ZipInfo) -> None:
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise BadInput(f"`{path}` in `{name}` is a link or a device. Zip plain files only.")
    if entry.flag_bits & _ENCRYPTED_FLAG:
        raise BadInput(f"`{path}` in `{name}` is encrypted. Zip the files again without a password.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInput(f"`{path}` in `{name}` is packed in a rare way. Make a plain zip of the files.")


def _read(name: str, path: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int) -> bytes:
    """Unpack one entry, counting what really comes out: the size that an entry states may be a lie."""
    data = bytearray()
    with archive.open(entry) as stream:
        while block := stream.read(_BLOCK):
            data += block
            if len(data) > left:
                raise BadInput(
                    f"The code in `{name}` unpacks to more than {MAX_UNPACKED_BYTES // 2**20} MiB. "
                    "Clear the notebooks' outputs and zip only the files with answers."
                )
            if len(data) > max(RATIO_FREE_BYTES, MAX_RATIO * entry.compress_size):
                raise BadInput(
                    f"`{path}` in `{name}` unpacks to more than {MAX_RATIO} times its size. "
                    "Clear the notebook's outputs and zip it again."
                )
    return bytes(data)
