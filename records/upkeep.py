"""What goes: hand-ins of students who are erased, what is older than it may be kept, and blobs that nothing names."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, or_, select, update
from sqlalchemy.orm import Session

from records.audit import note
from records.blobs import BlobStore
from records.database import Database
from records.models import (
    Artifact,
    Comment,
    Event,
    FlagDecision,
    Grading,
    HintAsked,
    Improvement,
    Notice,
    Override,
    RegradeItem,
    RegradeRequest,
    Submission,
    User,
    Version,
    utc_now,
)
from records.people import People
from records.settings import ConfigurationError, Settings, load_settings

# Blobs are stored before the rows that name them: one this young may be waiting for its row.
YOUNG_SECONDS = 24 * 3600.0


def referenced_blobs(connection: Connection) -> set[str]:
    """The hashes of all blobs that some row names."""
    columns = (
        Submission.sha256,
        Grading.report_sha256,
        Grading.html_sha256,
        Grading.checked_sha256,
        Artifact.sha256,
        Version.archive_sha256,
    )
    return {sha256 for column in columns for sha256 in connection.scalars(select(column).distinct()) if sha256}


class Upkeep:
    """Removes things from one database and one blob store. Every removal of rows is audited."""

    def __init__(self, database: Database, blobs: BlobStore, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._blobs = blobs
        self._people = People(database, clock)
        self._clock = clock

    def erase(self, actor_id: int | None, login: str) -> int:
        """Remove a student's hand-ins with all that was said of them, then name and login. Returns how many they were.

        Their bytes go with the next `collect`. Raises `LookupError` where nobody has that login.
        """
        with self._database.write() as session:
            user = session.scalar(select(User).where(User.login == login))
            if user is None:
                raise LookupError(f"There is no user {login!r}.")
            number = self._remove(session, session.scalars(select(Submission.id).where(Submission.user_id == user.id)))
            note(session, actor_id, "hand-ins erased", None, f"user {user.id}", clock=self._clock, submissions=number)
        self._people.erase(actor_id, user.id)
        return number

    def retain(self, days: float) -> int:
        """Remove submissions that came more than so many days ago. Returns how many they were."""
        before = self._clock() - timedelta(days=days)
        with self._database.write() as session:
            number = self._remove(session, session.scalars(select(Submission.id).where(Submission.created_at < before)))
            if number:
                note(session, None, "retention", None, f"before {before:%F}", clock=self._clock, submissions=number)
            return number

    def collect(self, young_seconds: float = YOUNG_SECONDS) -> int:
        """Remove blobs that no row names. Returns how many they were."""
        begun = time.time()
        there = set(self._blobs.all())
        with self._database.read() as session:
            named = referenced_blobs(session.connection())
        return sum(self._blobs.remove(sha256, begun - young_seconds) for sha256 in there - named)

    def _remove(self, session: Session, found: Iterable[str]) -> int:
        ids = list(found)
        gradings = select(Grading.id).where(Grading.submission_id.in_(ids))
        session.execute(delete(RegradeItem).where(RegradeItem.submission_id.in_(ids)))
        session.execute(
            delete(Improvement).where(or_(Improvement.submission_id.in_(ids), Improvement.earlier_id.in_(ids)))
        )
        for table in (Event, Artifact):
            session.execute(delete(table).where(table.grading_id.in_(gradings)))
        for kind in (HintAsked, Override, Comment, RegradeRequest, FlagDecision, Notice):
            session.execute(delete(kind).where(kind.submission_id.in_(ids)))
        session.execute(update(Grading).where(Grading.submission_id.in_(ids)).values(basis_id=None))
        session.execute(delete(Grading).where(Grading.submission_id.in_(ids)))
        session.execute(delete(Submission).where(Submission.id.in_(ids)))
        return len(ids)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m records.upkeep", description="Removes what is not to be kept.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    erase = verbs.add_parser("erase", help="a student's hand-ins, name and login")
    erase.add_argument("login")
    retain = verbs.add_parser("retain", help="submissions older than so many days")
    retain.add_argument("days", type=float)
    verbs.add_parser("collect", help="blobs that nothing names")
    options = parser.parse_args()
    try:
        settings = load_settings()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    return _run(settings, options)


def _run(settings: Settings, options: argparse.Namespace) -> int:
    database = Database(settings.database)
    upkeep = Upkeep(database, BlobStore(settings.blob_dir))
    try:
        match options.verb:
            case "erase":
                print(f"{upkeep.erase(None, options.login)} hand-ins erased")
            case "retain":
                print(f"{upkeep.retain(options.days)} submissions removed")
        print(f"{upkeep.collect()} blobs removed")
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    finally:
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
