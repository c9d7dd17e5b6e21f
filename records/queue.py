"""The queue: gradings as rows, claimed under leases.

    queued -> running -> done | rejected
      ^          |
      +----------+  checked, and training follows; or a fault of ours, lease expired, given back
                    after the last attempt -> faulted
    queued, running -> cancelled

A grading that trains goes through the queue twice: checks take seconds, and must not wait behind others' trainings.
Rows that are queued are themselves what a message broker would have to be told reliably: a worker that was not woken
finds them when it next looks.

A lease is a random token. Whoever has lost it (it expired and the grading was taken away) can change nothing any more,
so that two workers never both finish a grading, whatever the clocks of their machines say.
"""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, Select, func, select, tuple_, update
from sqlalchemy.orm import Session

from records.database import Database
from records.models import Artifact, Assignment, Event, Grading, Mode, Need, State, Submission, Worker, utc_now
from records.policy import Policy
from records.settings import Settings

CPU_NEEDS = (Need.CHECK, Need.TRAIN_CPU)
LIVE, REGRADE = 0, 1  # priorities
PROGRESS_PREFIX = "progress-"  # of artifacts that belong to a training under way, and to no report
RECENT = 20  # gradings that an estimate rests on: enough for a mean, few enough to follow a change of recipe
SILENT_SECONDS = 30.0  # a worker tells of itself every few seconds; one silent for longer is gone
_TURNS = (Grading.priority, Grading.need, Grading.turn, Grading.id)
FAULT_MESSAGE = "Something of ours failed, several times. It is our fault and costs you nothing; your hand-in is safe."


class LostLease(Exception):  # noqa: N818  (what happened, in the words of lease-based queues)
    """The lease expired, and the grading is no longer this worker's."""


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What an earlier grading of the same hand-in left, to be used again."""

    report_sha256: str
    artifacts: Mapping[str, str]  # name -> SHA-256


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to work on one grading, and what is needed to do so."""

    grading_id: int
    token: str
    attempt: int  # 1 for the first
    submission_id: str
    assignment: str
    version_id: str
    recipe: str
    mode: Mode
    need: Need
    file_name: str
    sha256: str  # of the hand-in
    checked_sha256: str | None  # report of the checks, where this is the training that follows them
    basis: Basis | None
    corrections_off: frozenset[str] = frozenset()  # as the assignment's policy has them


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
    artifacts: tuple[NewArtifact, ...]
    outcome: dict[str, Any]  # `grading.report.outcome`


class Queue:
    """Gradings to be done. Every method is one transaction."""

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    def claim(self, worker: str, needs: Collection[Need] = CPU_NEEDS, without: Collection[str] = ()) -> Lease | None:
        """Take the next grading of those needs that waits, or None. No two callers ever get the same one.

        Nothing of the versions in `without` is taken.

        Live submissions go before regrades, checks before trainings; then one of each student before the second of any.
        """
        now = self._clock()
        with self._database.write() as session:
            grading = session.scalar(
                select(Grading)
                .join(Grading.submission)
                .join(Assignment, Assignment.id == Submission.assignment)
                .where(
                    Grading.state == State.QUEUED,
                    Grading.need.in_(needs),
                    Grading.available_at <= now,
                    Assignment.paused.is_(None),
                    Grading.version_id.not_in(without),
                )
                .order_by(*_TURNS)
                .limit(1)
                # PostgreSQL: pass over what another worker is just claiming. SQLite: writers come one by one anyway.
                .with_for_update(skip_locked=True, of=Grading)
            )
            if grading is None:
                return None
            submission = session.get_one(Submission, grading.submission_id)
            assignment = session.get_one(Assignment, submission.assignment)
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
                version_id=grading.version_id,
                recipe=grading.recipe,
                mode=grading.mode,
                need=grading.need,
                file_name=submission.file_name,
                sha256=submission.sha256,
                checked_sha256=grading.checked_sha256,
                basis=_basis(session, grading),
                corrections_off=frozenset(Policy.model_validate(assignment.policy).corrections_off),
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

    def train_next(self, lease: Lease, checked_sha256: str, need: Need) -> None:
        """The checks are done: let the training wait for whoever can do it. Raises `LostLease`."""
        now = self._clock()
        values = {"checked_sha256": checked_sha256, "need": need, "attempts": 0}
        with self._database.write() as session:
            self._requeue(session, lease, values, now)

    def finish(self, lease: Lease, result: Result) -> None:
        """The grading is done, for good. Raises `LostLease`."""
        values = {
            "report_sha256": result.report_sha256,
            "html_sha256": result.html_sha256,
            "outcome": result.outcome,
        }
        told = {name: result.outcome.get(name) for name in ("verdict", "score", "max_score", "summary")}
        with self._database.write() as session:
            self._end(session, lease, State.DONE, values, told)
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
        with self._database.write() as session:
            self._requeue(session, lease, {"attempts": Grading.attempts - 1}, self._clock())

    def cancel(self, grading_id: int, message: str) -> bool:
        """Give a grading up, waiting or running. False where it has ended already."""
        now = self._clock()
        with self._database.write() as session:
            return cancel(session, grading_id, message, now)

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
        place = (grading.priority, grading.need, grading.turn, grading.id)
        ahead = select(func.count(Grading.id)).where(Grading.state == State.QUEUED, tuple_(*_TURNS) < place)
        with self._database.read() as session:
            return 1 + session.scalars(ahead).one()

    def waiting(self) -> int:
        """How many gradings of live submissions wait."""
        with self._database.read() as session:
            waiting = select(func.count(Grading.id)).where(Grading.state == State.QUEUED, Grading.priority == LIVE)
            return session.scalars(waiting).one()

    def seconds_until_done(self, grading: Grading, position: int | None) -> float | None:
        """An estimate for a grading that waits: what is ahead of it, shared among the workers that take such things.

        `position` is its own. None where it does not wait, where no such worker is there, or where nothing like it has
        been graded yet.
        """
        if position is None:
            return None
        with self._database.read() as session:
            workers = sum(grading.need in worker.needs for worker in session.scalars(_present(self._clock())))
            recent = (
                select(Grading.started_at, Grading.finished_at)
                .where(Grading.state == State.DONE, Grading.recipe == grading.recipe, Grading.mode == grading.mode)
                .order_by(Grading.id.desc())
                .limit(RECENT)
            )
            seconds = [(row.finished_at - row.started_at).total_seconds() for row in session.execute(recent)]
        if not workers or not seconds:
            return None
        rounds = -(-position // workers)
        return float(rounds * sum(seconds) / len(seconds))

    def _expiry(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self._settings.lease_seconds)

    def _end(self, session: Session, lease: Lease, state: State, values: dict[str, Any], data: dict[str, Any]) -> None:
        now = self._clock()
        values = values | {"state": state, "lease": None, "lease_expires_at": None, "finished_at": now}
        _update(session, lease, values)
        _add_events(session, lease.grading_id, [NewEvent(type=state, data=data)], now)

    def _requeue(self, session: Session, lease: Lease, values: dict[str, Any], now: datetime) -> None:
        queued = {"state": State.QUEUED, "lease": None, "lease_expires_at": None, "available_at": now}
        _update(session, lease, queued | values)
        _add_events(session, lease.grading_id, [NewEvent(type=State.QUEUED, data={})], now)

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


def cancel(session: Session, grading_id: int, message: str, now: datetime) -> bool:
    """As `Queue.cancel`, within a transaction."""
    ended = {"state": State.CANCELLED, "lease": None, "lease_expires_at": None, "finished_at": now, "message": message}
    waiting = update(Grading).where(Grading.id == grading_id, Grading.state.in_((State.QUEUED, State.RUNNING)))
    if cast(CursorResult[Any], session.execute(waiting.values(**ended))).rowcount != 1:
        return False
    _add_events(session, grading_id, [NewEvent(type=State.CANCELLED, data={"message": message})], now)
    return True


def _present(now: datetime) -> Select[Worker]:
    """Workers that take something."""
    seen = Worker.seen_at > now - timedelta(seconds=SILENT_SECONDS)
    return select(Worker).where(seen, Worker.fit, ~Worker.draining)


def _basis(session: Session, grading: Grading) -> Basis | None:
    if grading.basis_id is None:
        return None
    basis = session.get_one(Grading, grading.basis_id)
    assert basis.report_sha256 is not None  # a regrade takes only what is done as a basis
    artifacts = session.scalars(select(Artifact).where(Artifact.grading_id == basis.id))
    return Basis(
        report_sha256=basis.report_sha256,
        artifacts={found.name: found.sha256 for found in artifacts if not found.name.startswith(PROGRESS_PREFIX)},
    )


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
