"""What goes: hand-ins of students who are erased, what is older than it may be kept, and blobs that nothing names."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Select, delete, func, or_, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from records.audit import note
from records.blobs import BlobStore
from records.database import Database
from records.migrate import is_current
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
# What `retain` takes: with less than a day even today's hand-ins go, and the calendar ends some time before this one.
MIN_DAYS, MAX_DAYS = 1, 36500


class NoDatabaseError(Exception):
    """There is no database of this version where the settings say. The message says what to do."""


@contextmanager
def existing_database(settings: Settings) -> Iterator[Database]:
    """The configured database, while the block lasts. Raises `NoDatabaseError`, where SQLite would make one, too."""
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        way_out = "NOISEMARK_DATA_DIR names another folder"
        if settings.database_url is not None:
            way_out = "NOISEMARK_DATABASE_URL names another one"
        raise NoDatabaseError(f"There is no database at {url.database}; {way_out}.")
    database = Database(settings.database)
    try:
        if not is_current(database):
            raise NoDatabaseError("The database is not of this version; run `python -m records.migrate` first.")
        yield database
    finally:
        database.close()


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
        before = self._before(days)
        with self._database.write() as session:
            number = self._remove(session, session.scalars(_older(before)))
            if number:
                note(session, None, "retention", None, f"before {before:%F}", clock=self._clock, submissions=number)
            return number

    def count_older(self, days: float) -> int:
        """How many submissions `retain` would remove."""
        with self._database.read() as session:
            return session.scalar(select(func.count()).select_from(_older(self._before(days)).subquery())) or 0

    def collect(self, young_seconds: float = YOUNG_SECONDS) -> int:
        """Remove blobs that no row names. Returns how many they were."""
        begun = time.time()
        there = set(self._blobs.all())
        with self._database.read() as session:
            named = referenced_blobs(session.connection())
        return sum(self._blobs.remove(sha256, begun - young_seconds) for sha256 in there - named)

    def _before(self, days: float) -> datetime:
        return self._clock() - timedelta(days=days)

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


def _older(before: datetime) -> Select[str]:
    return select(Submission.id).where(Submission.created_at < before)


def _days(given: str) -> float:
    days = float(given)
    if not MIN_DAYS <= days <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{given} is not between {MIN_DAYS} and {MAX_DAYS}")
    return days


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m records.upkeep", description="Removes what is not to be kept.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    erase = verbs.add_parser("erase", help="a student's hand-ins, name and login")
    erase.add_argument("login")
    retain = verbs.add_parser("retain", help="submissions older than so many days")
    retain.add_argument("days", type=_days)
    retain.add_argument("--yes", action="store_true", help="remove them; without it they are only counted")
    verbs.add_parser("collect", help="blobs that nothing names")
    options = parser.parse_args()
    try:
        _run(load_settings(), options)
    except (ConfigurationError, NoDatabaseError, LookupError) as error:
        print(error.args[0], file=sys.stderr)
        return 2
    except SQLAlchemyError as error:  # a server that does not answer, a file that is no database
        print(f"The database cannot be used: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    return 0


def _run(settings: Settings, options: argparse.Namespace) -> None:
    with existing_database(settings) as database:
        upkeep = Upkeep(database, BlobStore(settings.blob_dir))
        match options.verb:
            case "erase":
                print(f"{upkeep.erase(None, options.login)} hand-ins erased")
            case "retain" if options.yes:
                print(f"{upkeep.retain(options.days)} submissions removed")
            case "retain":
                number = upkeep.count_older(options.days)
                print(f"{number} submissions would be removed, for good. Nothing was: say it again with --yes.")
                return
        print(f"{upkeep.collect()} blobs removed")


if __name__ == "__main__":
    sys.exit(main())
