"""Zip archives and file names as students send them: checked entry by entry, unpacked in bounded memory."""

import io
import stat
import struct
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath

from grading.outcomes import BadInput

SOURCE_SUFFIXES = (".py", ".ipynb")

# 24 notebooks full of plots, or one with its animations; also what a service accepts in one request.
MAX_UPLOAD_BYTES = 20 * 2**20
MAX_UNPACKED_BYTES = 40 * 2**20  # of all entries together: images in notebooks hardly shrink when they are zipped
MAX_ENTRIES = 200  # files and folders; a whole project folder has 50
DIRECTORY_BYTES = 655  # for each entry in a zip's own list of them: one with a name of 255 bytes takes 350
# zlib packs at most 1032 : 1, real code about 5 : 1, notebooks with repetitive outputs up to 50 : 1
MAX_RATIO = 200
RATIO_FREE_BYTES = 2**20  # below this an entry's ratio does not matter: an honest log of zeros packs well too
MAX_NAME_BYTES = 255  # what file systems allow
_BLOCK = 64 * 2**10  # bytes unpacked at a time

# What rides along in an honest zip and holds no answers. Everything else that is not code is refused, by name.
_IGNORED_PARTS = frozenset({"__MACOSX", ".ipynb_checkpoints", ".git", ".vscode", ".idea"})
_IGNORED_NAMES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".gitignore", "LICENSE", "README"})
_HIDDEN_NAMES = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})  # by systems that hide without a dot
_IGNORED_SUFFIXES = frozenset({".md", ".txt", ".rst", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf", ".toml"})

# What `zipfile` raises over records that make no sense; `OverflowError`: an entry said to lie 2**63 bytes away
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, OSError, OverflowError)

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    files: tuple[tuple[str, bytes], ...]  # name inside the archive, content
    ignored: tuple[str, ...]  # names of the entries that were left out


def check_name(name: str) -> None:
    """Refuse names that could leave a folder, or that do not look like what they are. Raises `BadInput`."""
    shown = ascii(name) if not name.isprintable() or any(c in _BIDI for c in name) else f"`{name}`"
    shown = shown if len(shown) <= 120 else shown[:117] + "..."
    path = PurePosixPath(name)
    if not name.strip():
        raise BadInput("A file without a name was handed in. Give it one that ends in .py, .ipynb or .zip.")
    if name.startswith(("/", "~")) or path.is_absolute() or "\\" in name or name[1:2] == ":" or ".." in path.parts:
        raise BadInput(f"The name {shown} points outside of the hand-in. Zip the folder itself, with plain names.")
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn") for c in name):
        raise BadInput(f"The name {shown} holds invisible characters. Rename it, with letters and digits.")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise BadInput(f"The name {shown} is longer than {MAX_NAME_BYTES} bytes. Give it a shorter one.")


def is_hidden(name: str) -> bool:
    """Whether it is of a kind that systems and tools leave behind unseen, so that nobody handed it in."""
    return any(part.startswith(".") or part in _HIDDEN_NAMES for part in PurePosixPath(name).parts)


def unpack(
    name: str, content: bytes, suffixes: tuple[str, ...] = SOURCE_SUFFIXES, max_entries: int = MAX_ENTRIES
) -> Unpacked:
    """The code in a zip archive, or the files with other `suffixes`.

    Raises `BadInput` naming the archive or the entry, and the way out.
    """
    _check_directory(name, content, max_entries)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _unpack(name, archive, suffixes, max_entries)
    except _DAMAGE as error:
        raise BadInput(f"`{name}` is damaged ({error}). Zip the files again.") from error
    except (NotImplementedError, RuntimeError) as error:
        raise BadInput(f"`{name}` is packed in a way that cannot be read ({error}). Make a plain zip of it.") from error


def _check_directory(name: str, content: bytes, max_entries: int) -> None:
    """Look at the end record before `zipfile` builds an object per entry."""
    end = content.rfind(b"PK\x05\x06")
    if end < 0 or len(content) < end + 22:  # the record's fixed part
        raise BadInput(f"`{name}` is not a zip archive. Hand in a .py, an .ipynb, or a .zip of these.")
    (directory_bytes,) = struct.unpack_from("<L", content, end + 12)
    if directory_bytes > max_entries * DIRECTORY_BYTES:
        raise BadInput(f"`{name}` holds too many files; {max_entries} are allowed. Zip only the files with answers.")


def _unpack(name: str, archive: zipfile.ZipFile, suffixes: tuple[str, ...], max_entries: int) -> Unpacked:
    entries = archive.infolist()
    if len(entries) > max_entries:
        raise BadInput(
            f"`{name}` holds {len(entries)} files; {max_entries} are allowed. Zip only the files with answers."
        )
    files: list[tuple[str, bytes]] = []
    ignored: list[str] = []
    seen: dict[str, str] = {}
    left = MAX_UNPACKED_BYTES
    for entry in entries:
        check_name(entry.orig_filename)
        key = unicodedata.normalize("NFC", entry.filename).casefold().rstrip("/")
        if key in seen:
            raise BadInput(f"`{name}` holds `{entry.filename}` twice. Zip the files again, each under its own name.")
        seen[key] = entry.filename
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.is_dir():
            continue
        if kind not in (0, stat.S_IFREG):
            raise BadInput(f"`{entry.filename}` in `{name}` is a link or a device. Zip plain files only.")
        if _harmless(entry.filename, suffixes):
            ignored.append(entry.filename)
            continue
        _check_entry(name, entry, suffixes)
        data = _read(name, archive, entry, left)
        left -= len(data)
        files.append((entry.filename, data))
    return Unpacked(files=tuple(files), ignored=tuple(ignored))


def _harmless(name: str, wanted: tuple[str, ...]) -> bool:
    path = PurePosixPath(name)
    return (
        not _IGNORED_PARTS.isdisjoint(path.parts)
        or path.name in _IGNORED_NAMES
        or path.name.startswith("._")
        or (path.suffix.lower() in _IGNORED_SUFFIXES and path.suffix.lower() not in wanted)
    )


def _check_entry(name: str, entry: zipfile.ZipInfo, suffixes: tuple[str, ...]) -> None:
    suffix = PurePosixPath(entry.filename).suffix.lower()
    if entry.flag_bits & 0x1:
        raise BadInput(f"`{entry.filename}` in `{name}` is encrypted. Zip the files again without a password.")
    if suffix in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar") and suffix not in suffixes:
        raise BadInput(f"`{name}` holds another archive, `{entry.filename}`. Unpack it and zip its files directly.")
    if suffix not in suffixes:
        raise BadInput(
            f"`{name}` holds `{entry.filename}`; only {' and '.join(suffixes)} files are taken. Delete it from the zip."
        )
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInput(f"`{entry.filename}` in `{name}` is packed in a rare way. Make a plain zip of the files.")


def _read(name: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int) -> bytes:
    """Unpack one entry, counting what really comes out: the size that an entry states may be a lie."""
    data = bytearray()
    with archive.open(entry) as stream:
        while block := stream.read(_BLOCK):
            data += block
            if len(data) > left:
                raise BadInput(
                    f"`{name}` unpacks to more than {MAX_UNPACKED_BYTES // 2**20} MiB. "
                    "Clear the notebooks' outputs and zip only the files with answers."
                )
            if len(data) > max(RATIO_FREE_BYTES, MAX_RATIO * entry.compress_size):
                raise BadInput(
                    f"`{entry.filename}` in `{name}` unpacks to {MAX_RATIO} times its size. "
                    "Clear the notebook's outputs and zip it again."
                )
    return bytes(data)
