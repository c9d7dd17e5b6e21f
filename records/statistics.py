"""Figures for whoever watches the service, read from the database: every process sees the same."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import quantiles

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from records.database import Database
from records.models import Event, Grading, State, Worker, utc_now
from records.queue import LIVE, SILENT_SECONDS

WINDOW = timedelta(hours=1)  # that latencies are of: long enough for some, short enough to show a change
MOST_EVENTS = 20_000  # looked at for latencies: an hour of several hundred gradings


@dataclass(frozen=True, kw_only=True)
class Statistics:
    waiting: Mapping[tuple[str, str], int]  # (need, "live" or "regrade") -> gradings
    oldest_seconds: float  # how long the grading that waits longest has been waiting
    gradings: Mapping[str, int]  # state -> number
    verdicts: Mapping[str, int]  # of the gradings that count
    retried: int  # gradings that met a fault of ours, whatever became of them
    workers: Mapping[str, int]  # ready, draining, unfit, silent -> number
    guests: Mapping[tuple[str, str], int]  # (worker, "warm" or "kept") -> guests at its launcher
    stage_seconds: Mapping[str, tuple[float, float]]  # stage -> median and 95th percentile of the last hour


class Figures:
    """Reads one database."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def read(self) -> Statistics:
        now = self._clock()
        with self._database.read() as session:
            waiting = select(Grading.need, Grading.priority, func.count().label("n")).where(
                Grading.state == State.QUEUED
            )
            states = select(Grading.state, func.count().label("n")).group_by(Grading.state)
            verdict = Grading.outcome["verdict"].as_string()
            verdicts = select(verdict.label("v"), func.count().label("n")).where(
                Grading.counts, Grading.state == State.DONE
            )
            oldest = session.scalar(select(func.min(Grading.available_at)).where(Grading.state == State.QUEUED))
            return Statistics(
                waiting={
                    (row.need, "live" if row.priority == LIVE else "regrade"): row.n
                    for row in session.execute(waiting.group_by(Grading.need, Grading.priority))
                },
                oldest_seconds=0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()),
                gradings={row.state: row.n for row in session.execute(states)},
                verdicts={row.v: row.n for row in session.execute(verdicts.group_by(verdict)) if row.v},
                retried=session.scalars(
                    select(func.count()).select_from(Grading).where(Grading.fault.is_not(None))
                ).one(),
                workers=_workers(session, now),
                guests=_guests(session),
                stage_seconds=_stage_seconds(session, now),
            )


def _workers(session: Session, now: datetime) -> dict[str, int]:
    found = dict.fromkeys(("ready", "draining", "unfit", "silent"), 0)
    for worker in session.scalars(select(Worker)):
        found[worker_state(worker, now)] += 1
    return found


def _guests(session: Session) -> dict[tuple[str, str], int]:
    found = {}
    for worker in session.scalars(select(Worker).where(Worker.warm_guests.is_not(None))):
        found[worker.name, "warm"] = worker.warm_guests or 0
        found[worker.name, "kept"] = worker.kept_guests or 0
    return found


def worker_state(worker: Worker, now: datetime) -> str:
    if worker.seen_at < now - timedelta(seconds=SILENT_SECONDS):
        return "silent"
    if not worker.fit:
        return "unfit"
    return "draining" if worker.draining else "ready"


def _stage_seconds(session: Session, now: datetime) -> dict[str, tuple[float, float]]:
    finished = select(Event.data).where(Event.type == "stage_finished", Event.created_at > now - WINDOW)
    seconds: dict[str, list[float]] = defaultdict(list)
    for data in session.scalars(finished.order_by(Event.id.desc()).limit(MOST_EVENTS)):
        seconds[data["stage"]].append(data["seconds"])
    found = {}
    for stage, values in seconds.items():
        cuts = quantiles(values, n=20, method="inclusive") if len(values) > 1 else [values[0]] * 19
        found[stage] = (cuts[9], cuts[18])
    return found
