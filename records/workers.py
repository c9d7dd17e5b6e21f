"""Workers as they tell of themselves. Staff, estimates and metrics read it; no grading depends on it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, delete, select, update

from records.database import Database
from records.models import Need, Worker, utc_now

TELL_SECONDS = 5.0  # between two signs of life
FORGET_HOURS = 24.0  # a worker that has been silent for a day has long been replaced by another name


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Guests at a worker's launcher."""

    warm: int  # ready now
    kept: int  # that are to be


class Workers:
    """The workers of one database."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def tell(self, name: str, needs: Collection[Need], *, fit: bool, note: str = "", pool: Pool | None = None) -> bool:
        """A sign of life. Returns whether this worker has been asked to take nothing more."""
        now = self._clock()
        with self._database.write() as session:
            worker = session.get(Worker, name)
            if worker is None:
                session.execute(delete(Worker).where(Worker.seen_at < now - timedelta(hours=FORGET_HOURS)))
                worker = Worker(name=name, started_at=now, draining=False)
                session.add(worker)
            worker.needs, worker.fit, worker.note, worker.seen_at = [str(need) for need in needs], fit, note, now
            worker.warm_guests = None if pool is None else pool.warm
            worker.kept_guests = None if pool is None else pool.kept
            return worker.draining

    def leave(self, name: str) -> None:
        """This worker ends."""
        with self._database.write() as session:
            session.execute(delete(Worker).where(Worker.name == name))

    def drain(self, draining: bool, name: str | None = None) -> int:
        """Ask a worker, or all, to take nothing more, or to go on. Returns how many were asked."""
        with self._database.write() as session:
            asked = update(Worker).values(draining=draining)
            result = session.execute(asked if name is None else asked.where(Worker.name == name))
            return cast(CursorResult[Any], result).rowcount

    def all(self) -> list[Worker]:
        with self._database.read() as session:
            return list(session.scalars(select(Worker).order_by(Worker.name)))
