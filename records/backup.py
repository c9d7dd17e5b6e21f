"""Backup and restore: the rows of the database and the blobs that they name, in one tar file.

Rows are JSON lines, one file per table, so that a backup of SQLite can be restored into PostgreSQL and the other way.
The database is read first, in one transaction. Blobs never change, so all that its rows name is there afterwards.
"""

import argparse
import hashlib
import io
import json
import sys
import tarfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, insert, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from records.blobs import BlobError, BlobStore
from records.database import Database
from records.migrate import current_revision, head_revision, migrate
from records.models import Base, UtcDateTime
from records.settings import ConfigurationError, Settings, load_settings
from records.upkeep import NoDatabaseError, existing_database, referenced_blobs

MANIFEST = "manifest.json"
SECRET = "secret.key"  # noqa: S105  (a file's name)
BATCH = 1000  # rows per insert: bounds memory, and is large enough that round trips do not count


class BackupError(Exception):
    """The backup cannot be written or read back. The message says why."""


def backup(settings: Settings, target: Path) -> tuple[int, int]:
    """Write everything to `target`, which appears only when it is whole. Returns numbers of rows and blobs.

    Raises `BackupError`. Service and workers may go on meanwhile.
    """
    if target.is_dir():
        raise BackupError(f"{target} is a folder. Name a file that the backup is written to.")
    draft = target.with_name(f".{target.name}.draft")
    blobs = BlobStore(settings.blob_dir)
    try:
        with existing_database(settings) as database, tarfile.open(draft, "w") as archive:
            draft.chmod(0o600)  # students' work, and perhaps the secret
            with database.snapshot() as connection:
                revision = current_revision(connection)
                added = [_add_table(archive, connection, table) for table in Base.metadata.sorted_tables]
                named = referenced_blobs(connection)
            for sha256 in sorted(named):
                _add(archive, f"blobs/{sha256}", blobs.get(sha256))
            if (secret := settings.data_dir / SECRET).exists():
                _add(archive, SECRET, secret.read_bytes())
            tables = {name: sha256 for name, sha256, _ in added}
            manifest = {"revision": revision, "blobs": len(named), "tables": tables}
            _add(archive, MANIFEST, json.dumps(manifest).encode())
        draft.replace(target)
    except NoDatabaseError as error:
        raise BackupError(str(error)) from None
    except (OSError, BlobError, SQLAlchemyError) as error:
        raise BackupError(f"{target} was not written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return sum(rows for *_, rows in added), len(named)


def restore(settings: Settings, source: Path) -> tuple[int, int]:
    """Bring a backup back, into an empty database. Returns numbers of rows and blobs. Raises `BackupError`."""
    database, blobs = Database(settings.database), BlobStore(settings.blob_dir)
    try:
        with tarfile.open(source) as archive:
            manifest = json.loads(_read(archive, MANIFEST))
            names = archive.getnames()
            # All of this before anything is written
            if manifest["revision"] != head_revision():
                raise BackupError(
                    f"The backup is of schema {manifest['revision']}, this version of {head_revision()}. Restore it "
                    "with the version that wrote it, then update."
                )
            blob_names = [name for name in names if name.startswith("blobs/")]
            if not manifest["tables"].keys() <= set(names) or len(blob_names) != manifest["blobs"]:
                raise BackupError("The backup is not whole; nothing was changed.")
            hashes = manifest["tables"] | {name: name.removeprefix("blobs/") for name in blob_names}
            for name, sha256 in hashes.items():
                if hashlib.sha256(_read(archive, name)).hexdigest() != sha256:
                    raise BackupError(f"{name} is damaged; nothing was changed.")
            if not _is_empty(database):
                raise BackupError("The database is not empty. Restore into a new one; nothing was changed.")
            migrate(database)
            for name in blob_names:
                blobs.put(_read(archive, name))
            with database.engine.begin() as connection:
                rows = sum(_fill(archive, connection, table) for table in Base.metadata.sorted_tables)
            if SECRET in names and not (secret := settings.data_dir / SECRET).exists():
                secret.touch(0o600)
                secret.write_bytes(_read(archive, SECRET))
    except (OSError, tarfile.TarError, SQLAlchemyError, ValueError, KeyError) as error:
        raise BackupError(f"{source} was not restored: {error}") from error
    finally:
        database.close()
    return rows, manifest["blobs"]


def _is_empty(database: Database) -> bool:
    """Whether it has no rows; perhaps no tables either."""
    with database.engine.connect() as connection:
        there = set(inspect(connection).get_table_names())
        tables = (table for table in Base.metadata.sorted_tables if table.name in there)
        return not any(connection.scalar(select(func.count()).select_from(table)) for table in tables)


def _add_table(archive: tarfile.TarFile, connection: Connection, table: Table) -> tuple[str, str, int]:
    """Returns its name in the archive, its SHA-256 and how many rows it has."""
    lines = [
        json.dumps(dict(row._mapping), default=_plain)
        for row in connection.execute(select(table).order_by(*table.primary_key.columns))
    ]
    name, content = f"tables/{table.name}.jsonl", "".join(f"{line}\n" for line in lines).encode()
    _add(archive, name, content)
    return name, hashlib.sha256(content).hexdigest(), len(lines)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _fill(archive: tarfile.TarFile, connection: Connection, table: Table) -> int:
    times = {column.name for column in table.columns if isinstance(column.type, UtcDateTime)}
    number = 0
    for batch in _batches(_read(archive, f"tables/{table.name}.jsonl").decode().splitlines()):
        rows: list[dict[str, Any]] = [json.loads(line) for line in batch]
        for row in rows:
            row |= {name: datetime.fromisoformat(row[name]) for name in times if row[name] is not None}
        connection.execute(insert(table), rows)
        number += len(rows)
    if connection.dialect.name == "postgresql" and number and (key := table.autoincrement_column) is not None:
        # The rows brought their ids along, of which its counters know nothing.
        sequence = f"pg_get_serial_sequence('{table.name}', '{key.name}')"
        connection.execute(text(f"SELECT setval({sequence}, (SELECT MAX({key.name}) FROM {table.name}))"))  # noqa: S608
    return number


def _batches(lines: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(lines), BATCH):
        yield lines[start : start + BATCH]


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
    archive.addfile(entry, io.BytesIO(content))


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise BackupError(f"{name} is no file.")
    return file.read()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m records.backup", description="Saves or restores everything.")
    parser.add_argument("verb", choices=["save", "restore"])
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    try:
        rows, blobs = {"save": backup, "restore": restore}[options.verb](load_settings(), options.file)
    except (ConfigurationError, BackupError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.file}: {rows} rows and {blobs} blobs {'saved' if options.verb == 'save' else 'restored'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
