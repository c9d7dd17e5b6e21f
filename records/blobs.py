"""Blobs: immutable bytes on disk, addressed by their SHA-256."""

import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlobError(Exception):
    """A blob is not there, or its bytes are not those that were stored."""


class BlobStore:
    """A folder of blobs. Several processes may write at once: equal bytes have one name, so nobody overwrites."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, content: bytes) -> str:
        """Store `content` and return its SHA-256. When this returns, the bytes survive a power cut."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = self._path(sha256)
        with suppress(FileNotFoundError), self._lock(fcntl.LOCK_SH):
            os.utime(path)  # young again: a row is about to name it, and `remove` shall know
            _sync_folder(path.parent)  # whoever wrote it may not have come to that yet
            return sha256
        for folder in (self._root.parent, self._root, path.parent):
            if not folder.exists():
                folder.mkdir(parents=True, exist_ok=True)
                _sync_folder(folder.parent)
        descriptor, draft = tempfile.mkstemp(prefix=".draft-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
        return sha256

    def get(self, sha256: str) -> bytes:
        """The bytes of a blob. Raises `BlobError`."""
        try:
            content = self._path(sha256).read_bytes()
        except OSError as error:
            raise BlobError(f"blob {sha256} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise BlobError(f"blob {sha256} is damaged")
        return content

    def all(self) -> Iterator[str]:
        """The hashes of all blobs."""
        for path in self._root.glob("[0-9a-f][0-9a-f]/[0-9a-f]*"):
            if _SHA256.fullmatch(path.name):
                yield path.name

    def remove(self, sha256: str, unless_since: float) -> bool:
        """Remove a blob, unless it was stored, or stored again, since then (seconds since 1970): whether it did."""
        path = self._path(sha256)
        with self._lock(fcntl.LOCK_EX):  # nobody stores it again between the look and the removal
            if path.stat().st_mtime >= unless_since:
                return False
            path.unlink()
            return True

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        descriptor = os.open(self._root, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)

    def check(self) -> None:
        """Raises `BlobError` where nothing can be written."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._root):
                pass
        except OSError as error:
            raise BlobError(f"the blob store cannot be written: {error.strerror}") from error

    def _path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise BlobError(f"{sha256!r} is no SHA-256")
        return self._root / sha256[:2] / sha256


def _sync_folder(path: Path) -> None:
    """Makes names that were added to a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
