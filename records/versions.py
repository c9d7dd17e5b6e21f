"""Assignment versions: packs frozen by their content when they are published, and read back from there ever after."""

import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from records.blobs import BlobStore
from records.database import Database
from records.models import Assignment, Course, Version, utc_now
from reference.pack import Pack, list_packs, load_pack

OPEN_COURSE = "open"  # the course of the bundled packs: whoever may use the server may hand in there
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip archive can express


class Versions:
    """Published packs. The archive of each is a blob; a folder beside the blobs holds them unpacked."""

    def __init__(
        self, database: Database, blobs: BlobStore, folder: Path, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._folder = folder
        self._clock = clock
        self._packs: dict[str, Pack] = {}

    def publish(self, pack: Pack) -> str:
        """Freeze a pack as it is now, and return the version's id. The same content has one version."""
        archive = self._blobs.put(_archive(pack))
        version = Version(id=pack.version, pack=pack.id, archive_sha256=archive, published_at=self._clock())
        with suppress(IntegrityError), self._database.write() as session:  # another process may be faster
            if session.get(Version, pack.version) is None:
                session.add(version)
        return pack.version

    def publish_bundled(self) -> None:
        """Publish the packs that come with Noisemark, each as an assignment of the open course that follows it."""
        for name in list_packs():
            pack = load_pack(name)
            version = self.publish(pack)
            with suppress(IntegrityError), self._database.write() as session:  # another process may be faster
                self._follow(session, pack, version)

    def _follow(self, session: Session, pack: Pack, version: str) -> None:
        assignment = session.get(Assignment, pack.id)
        if assignment is None:
            if session.get(Course, OPEN_COURSE) is None:
                session.add(Course(id=OPEN_COURSE, title="Open to everybody", created_at=self._clock()))
                session.flush()
            assignment = Assignment(id=pack.id, course_id=OPEN_COURSE, policy={}, created_at=self._clock())
            session.add(assignment)
        if assignment.course_id == OPEN_COURSE:
            assignment.version_id, assignment.title = version, pack.file.title

    def pack(self, version_id: str) -> Pack:
        """The pack of a version. Raises `BlobError` where it cannot be read, `LookupError` where there is none."""
        if version_id not in self._packs:
            self._packs[version_id] = Pack(self.root(version_id))
        return self._packs[version_id]

    def changed_files(self, before: str, after: str) -> set[str]:
        """Names of the files that differ between two versions. Empty where one is from before packs were frozen."""
        if before == after:
            return set()
        try:
            old, new = self.pack(before), self.pack(after)
        except LookupError:
            return set()
        contents = [{path.relative_to(p.root).as_posix(): path.read_bytes() for path in p.files()} for p in (old, new)]
        return {
            name for name in contents[0].keys() | contents[1].keys() if contents[0].get(name) != contents[1].get(name)
        }

    def root(self, version_id: str) -> Path:
        """The folder that holds a version, unpacked on first use. Raises as `pack` does."""
        root = self._folder / version_id
        if root.is_dir():
            return root
        with self._database.read() as session:
            version = session.get(Version, version_id)
        if version is None:
            raise LookupError(f"There is no version {version_id}.")
        content = self._blobs.get(version.archive_sha256)
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self._folder))
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                archive.extractall(draft)  # ours: `_archive` made it, and its hash was just checked
            draft.chmod(0o755)  # read by whatever user a judge runs as
            os.rename(draft, root)  # noqa: PTH104  (Path.rename says nothing of folders)
        except OSError:
            if not root.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return root


def _archive(pack: Pack) -> bytes:
    """The files of a pack as a zip archive: the same bytes for the same content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in pack.files():
            archive.writestr(zipfile.ZipInfo(path.relative_to(pack.root).as_posix(), _EPOCH), path.read_bytes())
    return buffer.getvalue()
