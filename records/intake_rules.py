"""What a policy means for a hand-in: dates, caps, and the same bytes again.

An attempt is a hand-in whose grading waits, runs, is done, or was cancelled after it had begun: by then it may have
told what is wrong. What was rejected, faulted, or cancelled before is none, and the same bytes again are no further
one. Staff, and who hands in without an account, are not bound.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, contains_eager

from records.models import Assignment, Extension, Member, Role, State, Submission, User
from records.policy import NO_GRANT, Grant, Policy, Refusal, check_attempts, check_dates

ATTEMPTS = (State.QUEUED, State.RUNNING, State.DONE)  # states of the grading that counts
STAFF = (Role.GRADER, Role.INSTRUCTOR)


class Refused(Exception):  # noqa: N818  (what became of it)
    """The policy does not allow this hand-in."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def admit(
    session: Session, assignment_id: str, user_id: int, recipe: str, sha256: str, now: datetime, *, bound: bool
) -> Submission | None:
    """Let a hand-in pass, or return the earlier one that it repeats. Where not `bound`, dates and caps do not matter.

    Belongs into the transaction that stores the hand-in. The student's row is locked until its end, so that of two
    requests at once the second sees the first one's attempt (on SQLite writers come one by one anyway). It is that row
    since everybody has one, members of a course or not; nobody else waits for it, and rows may refer to it meanwhile.

    Raises `Refused`.
    """
    user = session.scalars(select(User).where(User.id == user_id).with_for_update(key_share=True)).one()
    assignment = session.get_one(Assignment, assignment_id)
    policy = Policy.model_validate(assignment.policy)
    earlier = session.scalars(
        select(Submission)
        .join(Submission.grading)
        .where(Submission.assignment == assignment_id, Submission.user_id == user_id)
        .order_by(Submission.created_at, Submission.id)
        .options(contains_eager(Submission.grading))
    ).all()
    only_last = bound and policy.counts == "most_recent"
    if (same := _repeated(earlier, recipe, sha256, only_last=only_last)) is not None:
        return same
    if bound and not _is_staff(session, assignment.course_id, user):
        grant = grant_of(session.get(Extension, (assignment_id, user_id)))
        refusal = check_dates(policy, grant, now)
        attempts = attempts_of(earlier)
        if refusal is None and sha256 not in attempts:
            refusal = check_attempts(policy, grant, now, list(attempts.values()))
        if refusal is not None:
            raise Refused(refusal)
    return None


def attempts_of(submissions: Sequence[Submission]) -> dict[str, datetime]:
    """The attempts among one student's hand-ins, in order: SHA-256 of the bytes, and when they first came."""
    attempts: dict[str, datetime] = {}
    for submission in submissions:
        grading = submission.grading
        if grading.state in ATTEMPTS or (grading.state is State.CANCELLED and grading.started_at is not None):
            attempts.setdefault(submission.sha256, submission.created_at)
    return attempts


def grant_of(extension: Extension | None) -> Grant:
    if extension is None:
        return NO_GRANT
    return Grant(hours=extension.hours, bonus_attempts=extension.bonus_attempts)


def _repeated(earlier: Sequence[Submission], recipe: str, sha256: str, *, only_last: bool) -> Submission | None:
    """The hand-in that these bytes repeat. Where the most recent one counts, going back to bytes that another hand-in
    has replaced is no repetition: it makes them count again. Unless staff imports them, who knows nothing of it."""
    standing = [one for one in earlier if one.grading.state not in (State.FAULTED, State.CANCELLED)]
    if only_last:
        standing = standing[-1:]
    return next((one for one in standing if one.sha256 == sha256 and one.grading.recipe == recipe), None)


def _is_staff(session: Session, course_id: str, user: User) -> bool:
    member = session.get(Member, (course_id, user.id))
    return user.is_admin or (member is not None and member.role in STAFF)
