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
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Role(StrEnum):
    """What somebody is in a course. Each may do what those before it may."""

    STUDENT = "student"
    GRADER = "grader"
    INSTRUCTOR = "instructor"


class Mode(StrEnum):
    """What a grading does anew, and what it takes from an earlier one."""

    FULL = "full"  # everything
    RECHECK = "recheck"  # the checks; weights and images stay as they are
    RESCORE = "rescore"  # points and tiers alone, from stored outcomes


class Need(StrEnum):
    """What the next step of a grading asks of a worker."""

    CHECK = "check"  # seconds of a processor
    TRAIN_CPU = "train-cpu"  # minutes of one
    TRAIN_GPU = "train-gpu"


class State(StrEnum):
    """Where a grading stands. The last four are final: such a grading never changes again."""

    QUEUED = "queued"  # waits for a worker, or for its next attempt
    RUNNING = "running"  # a worker holds a lease on it
    DONE = "done"  # there is a report
    REJECTED = "rejected"  # the hand-in cannot be read; the message says why
    FAULTED = "faulted"  # our fault, and no attempt is left
    CANCELLED = "cancelled"  # somebody who may do so gave it up

    @property
    def final(self) -> bool:
        return self in FINAL_STATES


FINAL_STATES = frozenset({State.DONE, State.REJECTED, State.FAULTED, State.CANCELLED})


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
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012  (SQLAlchemy's own)


SHA256 = String(64)  # in hexadecimal


# Stored by value, and without a type of its own: adding a state must not need ALTER TYPE.
def _stored(kind: type[StrEnum]) -> Enum:
    return Enum(kind, native_enum=False, length=16, create_constraint=False, values_callable=lambda e: list(e))


class User(Base):
    """Somebody who may sign in. Erasing one keeps the row, without name or login, for what refers to it."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    login: Mapped[str] = mapped_column(String(128), unique=True)  # as the roster has it
    name: Mapped[str] = mapped_column(String(255), default="")
    email: Mapped[str] = mapped_column(String(255), default="")
    is_admin: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    erased_at: Mapped[datetime | None]


class Token(Base):
    """What somebody signs in with: an API token, or a browser's session. Only its hash is kept."""

    __tablename__ = "tokens"
    __table_args__ = (Index("ix_tokens_user", "user_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str] = mapped_column(String(128))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    is_session: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]  # to the day: every request would be a write


class Course(Base):
    __tablename__ = "courses"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    title: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime]


class Member(Base):
    """Who is in a course, and as what."""

    __tablename__ = "members"

    course_id: Mapped[str] = mapped_column(ForeignKey("courses.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    role: Mapped[Role] = mapped_column(_stored(Role))


class Version(Base):
    """A pack as it was published: immutable, kept as a blob, addressed by its content hash."""

    __tablename__ = "versions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)  # `Pack.version`
    pack: Mapped[str] = mapped_column(String(64))
    archive_sha256: Mapped[str] = mapped_column(String(64))  # of the blob, a zip archive of the folder
    published_at: Mapped[datetime]


class Assignment(Base):
    """A pack as a course sets it: the version in force, and the course's policy."""

    __tablename__ = "assignments"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    course_id: Mapped[str] = mapped_column(ForeignKey("courses.id"))
    title: Mapped[str] = mapped_column(String(255))
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    policy: Mapped[dict[str, Any]]  # `records.policy.Policy`
    paused: Mapped[str | None] = mapped_column(Text)  # why nothing of it is graded for now
    grades_published_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class Extension(Base):
    """What one student is granted beyond the policy."""

    __tablename__ = "extensions"

    assignment_id: Mapped[str] = mapped_column(ForeignKey("assignments.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    hours: Mapped[float] = mapped_column(default=0.0)  # by which due and late dates move
    bonus_attempts: Mapped[int] = mapped_column(default=0)
    reason: Mapped[str] = mapped_column(Text)


class AuditEntry(Base):
    """Something that touched a grade, or who may: never changed, never removed."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_course", "course_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))  # None: the operator, or the machine itself
    action: Mapped[str] = mapped_column(String(64))
    course_id: Mapped[str | None] = mapped_column(ForeignKey("courses.id"))
    subject: Mapped[str] = mapped_column(String(255))  # what it was done to: `submission 5f0c...`
    reason: Mapped[str] = mapped_column(Text, default="")
    data: Mapped[dict[str, Any]]


class Submission(Base):
    """The bytes that a student handed in: immutable. What nobody's name is on is seen by who knows the id, 128 bits."""

    __tablename__ = "submissions"
    __table_args__ = (
        CheckConstraint("size > 0", name="not_empty"),
        Index("ix_submissions_of", "assignment", "user_id", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    assignment: Mapped[str] = mapped_column(ForeignKey("assignments.id"))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))  # None: handed in without an account
    file_name: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(SHA256)  # of the blob
    size: Mapped[int]  # bytes
    created_at: Mapped[datetime]  # server time, UTC
    receipt: Mapped[str] = mapped_column(String(64), unique=True)
    idempotency_key: Mapped[str | None] = mapped_column(SHA256, unique=True)  # its SHA-256

    # The one that counts
    grading: Mapped["Grading"] = relationship(
        primaryjoin="and_(Submission.id == Grading.submission_id, Grading.counts)",
        back_populates="submission",
        lazy="raise",
    )


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
        UniqueConstraint("submission_id", "regrade_id"),
        Index(
            "uq_gradings_counts",
            "submission_id",
            unique=True,
            sqlite_where=text("counts"),
            postgresql_where=text("counts"),
        ),
        CheckConstraint("state IN ('queued', 'running', 'done', 'rejected', 'faulted', 'cancelled')", name="state"),
        CheckConstraint("(state = 'running') = (lease IS NOT NULL)", name="running_has_lease"),
        CheckConstraint("(lease IS NULL) = (lease_expires_at IS NULL)", name="lease_expires"),
        CheckConstraint("(state = 'done') = (report_sha256 IS NOT NULL)", name="done_has_report"),
        CheckConstraint("(report_sha256 IS NULL) = (html_sha256 IS NULL)", name="report_has_html"),
        CheckConstraint(
            "(state IN ('done', 'rejected', 'faulted', 'cancelled')) = (finished_at IS NOT NULL)",
            name="final_has_finished",
        ),
        CheckConstraint("attempts >= 0", name="attempts"),
        Index("ix_gradings_claim", "state", "need", "priority", "turn", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"))
    recipe: Mapped[str] = mapped_column(String(64))
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))  # that it is graded under
    mode: Mapped[Mode] = mapped_column(_stored(Mode), default=Mode.FULL)
    basis_id: Mapped[int | None] = mapped_column(ForeignKey("gradings.id"))  # whose results are used again
    regrade_id: Mapped[int | None] = mapped_column(ForeignKey("regrades.id"))  # None: it came with the hand-in
    # Of each submission one does. Regrades make others beside it; applying one lets another count.
    counts: Mapped[bool]
    need: Mapped[Need] = mapped_column(_stored(Need), default=Need.CHECK)
    priority: Mapped[int] = mapped_column(default=0)  # the lower, the sooner: regrades come behind live submissions
    turn: Mapped[int] = mapped_column(default=0)  # how many of the same student's waited when it came: fairness
    state: Mapped[State] = mapped_column(_stored(State), default=State.QUEUED)
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
    checked_sha256: Mapped[str | None] = mapped_column(SHA256)  # report of the checks, for when training follows
    outcome: Mapped[dict[str, Any] | None]  # what the report says, in short (`grading.report.outcome`)
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


class RegradeState(StrEnum):
    RUNNING = "running"  # its gradings wait or run; what is done already can be looked at
    CANCELLED = "cancelled"  # stopped half way; it can be resumed
    APPLIED = "applied"
    DISCARDED = "discarded"
    ROLLED_BACK = "rolled_back"


class Regrade(Base):
    """A named set of gradings under a version, staged: seen as a diff, then applied or discarded as one."""

    __tablename__ = "regrades"

    id: Mapped[int] = mapped_column(primary_key=True)
    assignment_id: Mapped[str] = mapped_column(ForeignKey("assignments.id"))
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    mode: Mapped[Mode] = mapped_column(_stored(Mode))
    selection: Mapped[dict[str, Any]]
    reason: Mapped[str] = mapped_column(Text)
    state: Mapped[RegradeState] = mapped_column(_stored(RegradeState), default=RegradeState.RUNNING)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]  # applied, discarded or rolled back


class RegradeItem(Base):
    """One submission of a regrade: the grading that counted when it began, and the one that would."""

    __tablename__ = "regrade_items"

    regrade_id: Mapped[int] = mapped_column(ForeignKey("regrades.id"), primary_key=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    before_id: Mapped[int] = mapped_column(ForeignKey("gradings.id"))
    after_id: Mapped[int] = mapped_column(ForeignKey("gradings.id"))  # perhaps an earlier regrade's, of the same thing


class Override(Base):
    """Points that a person set for a blank, or for the accuracy. The latest that is not withdrawn counts."""

    __tablename__ = "overrides"
    __table_args__ = (Index("ix_overrides_submission", "submission_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"))
    blank: Mapped[str] = mapped_column(String(64))  # id, or `accuracy`
    points: Mapped[float]
    reason: Mapped[str] = mapped_column(Text)
    by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None]


class Comment(Base):
    """Words of a grader on a blank, or of either side in the thread of a regrade request."""

    __tablename__ = "comments"
    __table_args__ = (Index("ix_comments_submission", "submission_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"))
    blank: Mapped[str | None] = mapped_column(String(64))  # None: on the whole
    request_id: Mapped[int | None] = mapped_column(ForeignKey("regrade_requests.id"))
    body: Mapped[str] = mapped_column(Text)
    by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    at: Mapped[datetime]


class RegradeRequest(Base):
    """A student asks a person to look again. What is said about it stands in `comments`."""

    __tablename__ = "regrade_requests"
    __table_args__ = (Index("ix_regrade_requests_submission", "submission_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"))
    blank: Mapped[str | None] = mapped_column(String(64))
    by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class FlagDecision(Base):
    """What a person decided about an integrity flag of a report. Until then it takes nothing."""

    __tablename__ = "flag_decisions"

    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    flag: Mapped[str] = mapped_column(String(64), primary_key=True)
    confirmed: Mapped[bool]  # then the accuracy points are withheld; False: dismissed
    reason: Mapped[str] = mapped_column(Text)
    by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    at: Mapped[datetime]


class Notice(Base):
    """Something that a student is told when he next looks."""

    __tablename__ = "notices"
    __table_args__ = (Index("ix_notices_user", "user_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"))
    body: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime]
    read_at: Mapped[datetime | None]


class Worker(Base):
    """A worker as it last told of itself: for staff, estimates and metrics. No grading depends on it."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    needs: Mapped[list[str]]  # what it takes
    fit: Mapped[bool]  # False: its canary grading came out wrong, and it takes nothing
    note: Mapped[str] = mapped_column(Text, default="")
    # Guests that are warm at its launcher, and that are to be; None where it has none
    warm_guests: Mapped[int | None]
    kept_guests: Mapped[int | None]
    draining: Mapped[bool] = mapped_column(default=False)  # finishes what it does and takes nothing more
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
