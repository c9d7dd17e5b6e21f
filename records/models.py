"""The tables. What must always hold stands as a constraint, so that no code path can break it."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class State(StrEnum):
    """Where a grading stands. The last three are final: such a grading never changes again."""

    QUEUED = "queued"  # waits for a worker, or for its next attempt
    RUNNING = "running"  # a worker holds a lease on it
    DONE = "done"  # there is a report
    REJECTED = "rejected"  # the hand-in cannot be read; the message says why
    FAULTED = "faulted"  # our fault, and no attempt is left

    @property
    def final(self) -> bool:
        return self in FINAL_STATES


FINAL_STATES = frozenset({State.DONE, State.REJECTED, State.FAULTED})


def utc_now() -> datetime:
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite has no time zones, so they are taken off on the way in and put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        # Constraints need names, or a migration cannot drop them.
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON}  # noqa: RUF012  (SQLAlchemy's own)


SHA256 = String(64)  # in hexadecimal
# Stored by value, and without a type of its own: adding a state must not need ALTER TYPE.
_STATE = Enum(State, native_enum=False, length=16, create_constraint=False, values_callable=lambda e: list(e))


class Submission(Base):
    """The bytes that a student handed in: immutable. Who knows the id may see it, so the id is 128 random bits."""

    __tablename__ = "submissions"
    __table_args__ = (CheckConstraint("size > 0", name="not_empty"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    assignment: Mapped[str] = mapped_column(String(64))  # the pack's id
    file_name: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(SHA256)  # of the blob
    size: Mapped[int]  # bytes
    created_at: Mapped[datetime]  # server time, UTC
    receipt: Mapped[str] = mapped_column(String(64), unique=True)
    idempotency_key: Mapped[str | None] = mapped_column(SHA256, unique=True)  # its SHA-256

    grading: Mapped["Grading"] = relationship(back_populates="submission", lazy="raise")


class Improvement(Base):
    """A hand-in that its author says improves on an earlier one, whose id he has."""

    __tablename__ = "improvements"

    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    earlier_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"))


class HintAsked(Base):
    """One step of the hints for a blank that was revealed to the author of a hand-in."""

    __tablename__ = "hints"
    __table_args__ = (CheckConstraint("step > 0", name="step"),)

    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    blank: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # the first is 1
    asked_at: Mapped[datetime]


class Grading(Base):
    """One evaluation of one submission: a small state machine (see `records.queue`)."""

    __tablename__ = "gradings"
    __table_args__ = (
        # A regrade adds rows; until there is one, a submission has one grading and can have no second.
        UniqueConstraint("submission_id"),
        CheckConstraint("state IN ('queued', 'running', 'done', 'rejected', 'faulted')", name="state"),
        CheckConstraint("(state = 'running') = (lease IS NOT NULL)", name="running_has_lease"),
        CheckConstraint("(lease IS NULL) = (lease_expires_at IS NULL)", name="lease_expires"),
        CheckConstraint("(state = 'done') = (report_sha256 IS NOT NULL)", name="done_has_report"),
        CheckConstraint("(report_sha256 IS NULL) = (html_sha256 IS NULL)", name="report_has_html"),
        CheckConstraint(
            "(state IN ('done', 'rejected', 'faulted')) = (finished_at IS NOT NULL)", name="final_has_finished"
        ),
        CheckConstraint("attempts >= 0", name="attempts"),
        Index("ix_gradings_claim", "state", "available_at", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"))
    recipe: Mapped[str] = mapped_column(String(64))
    pack_version: Mapped[str | None] = mapped_column(SHA256)  # that it was graded under; known when it is done
    state: Mapped[State] = mapped_column(_STATE, default=State.QUEUED)
    stage: Mapped[str | None] = mapped_column(String(16))  # the last one begun
    attempts: Mapped[int] = mapped_column(default=0)  # begun so far; one that a worker gave back does not count
    created_at: Mapped[datetime]
    available_at: Mapped[datetime]  # not to be claimed before
    lease: Mapped[str | None] = mapped_column(String(32))  # a new random token with every claim
    worker: Mapped[str | None] = mapped_column(String(128))  # who holds, or last held, the lease: for people
    lease_expires_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]  # of the last attempt
    finished_at: Mapped[datetime | None]
    report_sha256: Mapped[str | None] = mapped_column(SHA256)  # blobs
    html_sha256: Mapped[str | None] = mapped_column(SHA256)
    message: Mapped[str | None] = mapped_column(Text)  # for the student, where there is no report
    fault: Mapped[str | None] = mapped_column(Text)  # the last fault of ours, for operators; students never see it

    submission: Mapped[Submission] = relationship(back_populates="grading", lazy="raise")


class Event(Base):
    """What a grading told on its way. The id is the event's id in the stream, and never used twice."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_grading", "grading_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    grading_id: Mapped[int] = mapped_column(ForeignKey("gradings.id"))
    type: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Artifact(Base):
    """A file that belongs to a grading: an image of the report, or of its progress."""

    __tablename__ = "artifacts"

    grading_id: Mapped[int] = mapped_column(ForeignKey("gradings.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    media_type: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(SHA256)
