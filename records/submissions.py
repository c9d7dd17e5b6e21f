"""Submissions: taking them in, and finding them again."""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from records.blobs import BlobStore
from records.database import Database
from records.intake_rules import admit
from records.models import Artifact, Assignment, Event, Grading, Improvement, State, Submission, utc_now
from records.queue import PROGRESS_PREFIX

ID_BYTES = 16  # 128 bits: the id is a capability, so nobody may guess one


class IdempotencyConflict(Exception):  # noqa: N818  (the words of the Idempotency-Key draft)
    """The idempotency key was used before, for something else."""


class UnknownEarlier(Exception):  # noqa: N818  (what is the matter)
    """What a hand-in is said to improve on is not there."""


@dataclass(frozen=True, kw_only=True)
class HandedIn:
    """What somebody hands in, checked for size and kind, not for content."""

    assignment: str
    recipe: str
    file_name: str
    content: bytes
    user_id: int | None = None  # None: handed in without an account
    improves_on: str | None = None  # id of an earlier submission for the same assignment
    # Where staff hands in for a student: no date and no cap refuses it, and it may have come earlier, elsewhere
    by_staff: bool = False
    received_at: datetime | None = None  # None: now


@dataclass(frozen=True, kw_only=True)
class Intake:
    submission: Submission
    replayed: bool  # the idempotency key was known: nothing was stored
    identical: bool = False  # the student had handed in the same bytes: nothing was stored, no attempt is used


class Submissions:
    """All submissions of one database and one blob store. `key` signs receipts."""

    def __init__(
        self, database: Database, blobs: BlobStore, key: bytes, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._key = key
        self._clock = clock

    def take_in(self, handed_in: HandedIn, idempotency_key: str | None = None) -> Intake:
        """Store bytes and rows. When this returns, the submission is safe, and its grading waits for a worker.

        Raises:
            IdempotencyConflict: the key came before with other content.
            Refused: the assignment's policy does not allow it.
            UnknownEarlier: what it is to improve on is not there, or for another assignment.
        """
        key_hash = None if idempotency_key is None else hashlib.sha256(idempotency_key.encode()).hexdigest()
        sha256 = self._blobs.put(handed_in.content)  # first: a row never refers to bytes that are not there
        try:
            with self._database.write() as session:
                if key_hash is not None and (earlier := _by_idempotency_key(session, key_hash)) is not None:
                    return _replay(earlier, handed_in, sha256)
                if (same := self._admit(session, handed_in, sha256)) is not None:
                    return Intake(submission=same, replayed=False, identical=True)
                return Intake(submission=self._insert(session, handed_in, sha256, key_hash), replayed=False)
        except IntegrityError:  # the same request came in twice at once, and the other one was faster
            with self._database.read() as session:
                if key_hash is None or (earlier := _by_idempotency_key(session, key_hash)) is None:
                    raise
                return _replay(earlier, handed_in, sha256)

    def _admit(self, session: Session, handed_in: HandedIn, sha256: str) -> Submission | None:
        if handed_in.user_id is None:
            return None
        bound = not handed_in.by_staff
        return admit(
            session, handed_in.assignment, handed_in.user_id, handed_in.recipe, sha256, self._clock(), bound=bound
        )

    def _insert(self, session: Session, handed_in: HandedIn, sha256: str, key_hash: str | None) -> Submission:
        now = self._clock()
        assignment = session.get_one(Assignment, handed_in.assignment)
        submission_id = secrets.token_hex(ID_BYTES)
        received_at = handed_in.received_at or now
        receipt = "\0".join(("receipt", submission_id, handed_in.assignment, sha256, received_at.isoformat()))
        submission = Submission(
            id=submission_id,
            assignment=handed_in.assignment,
            user_id=handed_in.user_id,
            file_name=handed_in.file_name,
            sha256=sha256,
            size=len(handed_in.content),
            created_at=received_at,
            receipt=hmac.digest(self._key, receipt.encode(), "sha256").hex(),
            idempotency_key=key_hash,
        )
        session.add(submission)
        grading = Grading(
            submission=submission,
            counts=True,
            recipe=handed_in.recipe,
            version_id=assignment.version_id,
            turn=_waiting(session, handed_in.user_id),
            created_at=now,
            available_at=now,
        )
        session.add(grading)
        session.flush()
        if (earlier_id := _earlier(session, handed_in, submission_id, received_at)) is not None:
            session.add(Improvement(submission_id=submission_id, earlier_id=earlier_id))
        session.add(Event(grading_id=grading.id, type=State.QUEUED, data={}, created_at=now))
        return submission

    def get(self, submission_id: str) -> Submission | None:
        """The submission with its grading, or None."""
        with self._database.read() as session:
            return session.scalar(
                select(Submission).where(Submission.id == submission_id).options(joinedload(Submission.grading))
            )

    def of_user(self, user_id: int, limit: int) -> list[Submission]:
        """A user's latest submissions with their gradings, the newest first."""
        own = select(Submission).where(Submission.user_id == user_id).options(joinedload(Submission.grading))
        with self._database.read() as session:
            return list(session.scalars(own.order_by(Submission.created_at.desc(), Submission.id).limit(limit)))

    def content(self, submission: Submission) -> bytes:
        """What was handed in. Raises `BlobError`."""
        return self._blobs.get(submission.sha256)

    def events(self, grading: Grading, *, after: int, limit: int) -> list[Event]:
        """At most `limit` events whose ids are greater than `after`, in order."""
        with self._database.read() as session:
            query = select(Event).where(Event.grading_id == grading.id, Event.id > after).order_by(Event.id)
            return list(session.scalars(query.limit(limit)))

    def last_event(self, grading: Grading, types: tuple[str, ...]) -> Event | None:
        with self._database.read() as session:
            query = select(Event).where(Event.grading_id == grading.id, Event.type.in_(types))
            return session.scalar(query.order_by(Event.id.desc()).limit(1))

    def artifact(self, grading: Grading, name: str) -> Artifact | None:
        with self._database.read() as session:
            return session.get(Artifact, (grading.id, name))

    def report_images(self, grading: Grading) -> list[Artifact]:
        """The images that the report of a grading names."""
        own = select(Artifact).where(Artifact.grading_id == grading.id, Artifact.name.not_like(f"{PROGRESS_PREFIX}%"))
        with self._database.read() as session:
            return list(session.scalars(own))


def _earlier(session: Session, handed_in: HandedIn, submission_id: str, received_at: datetime) -> str | None:
    """What the hand-in improves on: of somebody with an account his last one, whatever he says.

    For what hints told him he knows, and what they cost goes with him. Raises `UnknownEarlier`.
    """
    if handed_in.improves_on is not None:
        earlier = session.get(Submission, handed_in.improves_on)
        known = earlier is not None and earlier.user_id in (None, handed_in.user_id)
        if earlier is None or not known or earlier.assignment != handed_in.assignment:
            raise UnknownEarlier("There is no earlier submission with this id for this assignment.")
    if handed_in.user_id is None:
        return handed_in.improves_on
    own = (
        Submission.user_id == handed_in.user_id,
        Submission.assignment == handed_in.assignment,
        Submission.id != submission_id,
        Submission.created_at <= received_at,  # staff may bring in what came before it, elsewhere
    )
    last = select(Submission.id).where(*own).order_by(Submission.created_at.desc(), Submission.id).limit(1)
    return session.scalar(last) or handed_in.improves_on


def _waiting(session: Session, user_id: int | None) -> int:
    """How many gradings of that student's wait already: the more, the later comes this one's turn."""
    if user_id is None:
        return 0
    waiting = select(func.count(Grading.id)).join(Grading.submission)
    return session.scalars(waiting.where(Submission.user_id == user_id, Grading.state == State.QUEUED)).one()


def _by_idempotency_key(session: Session, key_hash: str) -> Submission | None:
    return session.scalar(
        select(Submission).where(Submission.idempotency_key == key_hash).options(joinedload(Submission.grading))
    )


def _replay(earlier: Submission, handed_in: HandedIn, sha256: str) -> Intake:
    before = (earlier.user_id, earlier.assignment, earlier.grading.recipe, earlier.file_name, earlier.sha256)
    if before != (handed_in.user_id, handed_in.assignment, handed_in.recipe, handed_in.file_name, sha256):
        raise IdempotencyConflict("This Idempotency-Key came before, with another hand-in. Use a new key.")
    return Intake(submission=earlier, replayed=True)
