"""The queue: gradings as rows, claimed under leases.

    queued -> running -> done | rejected
      ^          |
      +----------+  fault of ours, lease expired, or given back;  after the last attempt -> faulted

A lease is a random token. Whoever has lost it (it expired and the grading was taken away) can change nothing any more,
so that two workers never both finish a grading, whatever the clocks of their machines say.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.orm import Session

from records.database import Database
from records.models import Artifact, Event, Grading, State, Submission, utc_now
from records.settings import Settings

FAULT_MESSAGE = "Something of ours failed, several times. It is our fault and costs you nothing; your hand-in is safe."


class LostLease(Exception):  # noqa: N818  (what happened, in the words of lease-based queues)
    """The lease expired, and the grading is no longer this worker's."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to work on one grading, and what is needed to do so."""

    grading_id: int
    token: str
    attempt: int  # 1 for the first
    submission_id: str
    assignment: str
    recipe: str
    file_name: str
    sha256: str  # of the hand-in


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    type: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class NewArtifact:
    name: str
    media_type: str
    sha256: str  # the blob has been stored


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished grading leaves. The blobs have been stored."""

    report_sha256: str
    html_sha256: str
    pack_version: str
    artifacts: tuple[NewArtifact, ...]
    summary: dict[str, Any]  # what the last event tells


class Queue:
    """Gradings to be done. Every method is one transaction."""

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    def claim(self, worker: str) -> Lease | None:
        """Take the oldest grading that waits, or None. No two callers ever get the same one."""
        now = self._clock()
        with self._database.write() as session:
            grading = session.scalar(
                select(Grading)
                .where(Grading.state == State.QUEUED, Grading.available_at <= now)
                .order_by(Grading.id)
                .limit(1)
                # PostgreSQL: pass over what another worker is just claiming. SQLite: writers come one by one anyway.
                .with_for_update(skip_locked=True)
            )
            if grading is None:
                return None
            submission = session.get_one(Submission, grading.submission_id)
            grading.state = State.RUNNING
            grading.lease = secrets.token_hex(16)
            grading.worker = worker
            grading.lease_expires_at = self._expiry(now)
            grading.heartbeat_at = grading.started_at = now
            grading.attempts += 1
            grading.stage = None
            _add_events(session, grading.id, [NewEvent(type="started", data={"attempt": grading.attempts})], now)
            return Lease(
                grading_id=grading.id,
                token=grading.lease,
                attempt=grading.attempts,
                submission_id=submission.id,
                assignment=submission.assignment,
                recipe=grading.recipe,
                file_name=submission.file_name,
                sha256=submission.sha256,
            )

    def record(
        self,
        lease: Lease,
        events: Sequence[NewEvent] = (),
        *,
        stage: str | None = None,
        artifacts: Sequence[NewArtifact] = (),
    ) -> None:
        """Renew the lease, and store what the grading told. Raises `LostLease`."""
        now = self._clock()
        values: dict[str, Any] = {"lease_expires_at": self._expiry(now), "heartbeat_at": now}
        if stage is not None:
            values["stage"] = stage
        with self._database.write() as session:
            _update(session, lease, values)
            _add_artifacts(session, lease.grading_id, artifacts)
            _add_events(session, lease.grading_id, events, now)

    def finish(self, lease: Lease, result: Result) -> None:
        """The grading is done, for good. Raises `LostLease`."""
        values = {
            "report_sha256": result.report_sha256,
            "html_sha256": result.html_sha256,
            "pack_version": result.pack_version,
        }
        with self._database.write() as session:
            self._end(session, lease, State.DONE, values, result.summary)
            _add_artifacts(session, lease.grading_id, result.artifacts)

    def reject(self, lease: Lease, message: str) -> None:
        """The hand-in cannot be read: that is final, and `message` tells the student why. Raises `LostLease`."""
        with self._database.write() as session:
            self._end(session, lease, State.REJECTED, {"message": message}, {"message": message})

    def fail(self, lease: Lease, fault: str) -> None:
        """A fault of ours: try again after a while, or give up after the last attempt. Raises `LostLease`."""
        with self._database.write() as session:
            grading = session.get_one(Grading, lease.grading_id, with_for_update=True)
            if grading.lease != lease.token:
                raise LostLease
            self._retry_or_give_up(session, grading, fault)

    def release(self, lease: Lease) -> None:
        """Give the grading back, so that another worker takes it at once. The attempt does not count."""
        now = self._clock()
        values = {"state": State.QUEUED, "lease": None, "lease_expires_at": None, "available_at": now}
        with self._database.write() as session:
            _update(session, lease, values | {"attempts": Grading.attempts - 1})
            _add_events(session, lease.grading_id, [NewEvent(type=State.QUEUED, data={})], now)

    def reap(self) -> int:
        """Take away what workers have shown no sign of life for. Returns how many gradings that were."""
        now = self._clock()
        with self._database.read() as session:  # nothing to do, nearly always: then no writer is disturbed
            expired = (Grading.state == State.RUNNING, Grading.lease_expires_at < now)
            if session.scalar(select(Grading.id).where(*expired).limit(1)) is None:
                return 0
        with self._database.write() as session:
            gradings = session.scalars(select(Grading).where(*expired).with_for_update(skip_locked=True)).all()
            for grading in gradings:
                self._retry_or_give_up(session, grading, f"worker {grading.worker} gave no sign of life")
            return len(gradings)

    def position(self, grading: Grading) -> int | None:
        """The place of a waiting grading in the queue, 1 for the next one; None when it does not wait."""
        if grading.state is not State.QUEUED:
            return None
        with self._database.read() as session:
            ahead = select(func.count()).where(Grading.state == State.QUEUED, Grading.id < grading.id)
            return 1 + session.scalars(ahead.select_from(Grading)).one()

    def _expiry(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self._settings.lease_seconds)

    def _end(self, session: Session, lease: Lease, state: State, values: dict[str, Any], data: dict[str, Any]) -> None:
        now = self._clock()
        values = values | {"state": state, "lease": None, "lease_expires_at": None, "finished_at": now}
        _update(session, lease, values)
        _add_events(session, lease.grading_id, [NewEvent(type=state, data=data)], now)

    def _retry_or_give_up(self, session: Session, grading: Grading, fault: str) -> None:
        now = self._clock()
        grading.lease = grading.lease_expires_at = None
        grading.fault = fault
        if grading.attempts >= self._settings.max_attempts:
            grading.state = State.FAULTED
            grading.finished_at = now
            grading.message = FAULT_MESSAGE
            event = NewEvent(type=State.FAULTED, data={"message": FAULT_MESSAGE})
        else:
            delay = self._settings.backoff_seconds * 2 ** (grading.attempts - 1)
            grading.state = State.QUEUED
            grading.available_at = now + timedelta(seconds=delay)
            event = NewEvent(type="retrying", data={"attempt": grading.attempts, "seconds": delay})
        _add_events(session, grading.id, [event], now)


def _update(session: Session, lease: Lease, values: dict[str, Any]) -> None:
    """Change a grading under its lease. Raises `LostLease`, and with it the transaction is rolled back."""
    statement = update(Grading).where(Grading.id == lease.grading_id, Grading.lease == lease.token).values(**values)
    if cast(CursorResult[Any], session.execute(statement)).rowcount != 1:
        raise LostLease


def _add_events(session: Session, grading_id: int, events: Sequence[NewEvent], now: datetime) -> None:
    for event in events:
        session.add(Event(grading_id=grading_id, type=event.type, data=event.data, created_at=now))
        session.flush()  # one by one, so that ids follow the order


def _add_artifacts(session: Session, grading_id: int, artifacts: Sequence[NewArtifact]) -> None:
    for artifact in artifacts:  # an earlier attempt may have left one of the same name
        session.merge(
            Artifact(grading_id=grading_id, name=artifact.name, media_type=artifact.media_type, sha256=artifact.sha256)
        )
