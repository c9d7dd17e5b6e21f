"""Assignments as courses set them: made, given a policy, a version, a pause, extensions. Every change is audited."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, contains_eager

from records.audit import note
from records.database import Database
from records.intake_rules import attempts_of, grant_of
from records.models import Assignment, Extension, Member, Submission, User, utc_now
from records.policy import AttemptsLeft, Grant, Policy, attempts_left


class AssignmentExists(Exception):  # noqa: N818  (what is the matter)
    """There is an assignment of this id."""


class UnknownStudent(Exception):  # noqa: N818  (what is the matter)
    """Nobody in the course has this login."""


class Assignments:
    """The assignments of one database. `actor_id` is None for the operator."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def create(self, actor_id: int | None, course_id: str, assignment_id: str, title: str, version_id: str) -> None:
        """Raises `AssignmentExists`."""
        assignment = Assignment(
            id=assignment_id,
            course_id=course_id,
            title=title,
            version_id=version_id,
            policy={},
            created_at=self._clock(),
        )
        try:
            with self._database.write() as session:
                session.add(assignment)
                session.flush()
                self._note(session, actor_id, "assignment created", assignment, version=version_id)
        except IntegrityError:
            raise AssignmentExists(f"There is an assignment {assignment_id!r} already.") from None

    def set_policy(self, actor_id: int | None, assignment_id: str, policy: Policy, reason: str) -> None:
        """Replace the policy as a whole."""
        with self._changing(assignment_id) as (session, assignment):
            before, after = assignment.policy, policy.model_dump(mode="json", exclude_defaults=True)
            assignment.policy = after
            self._note(session, actor_id, "policy changed", assignment, reason, before=before, after=after)

    def use_version(self, actor_id: int | None, assignment_id: str, version_id: str, reason: str) -> None:
        """What is handed in from now on is graded under that version. What was handed in before stays as it is."""
        with self._changing(assignment_id) as (session, assignment):
            before, assignment.version_id = assignment.version_id, version_id
            self._note(session, actor_id, "version published", assignment, reason, before=before, after=version_id)

    def pause(self, actor_id: int | None, assignment_id: str, reason: str) -> None:
        """Take hand-ins, and grade none of them until `resume`."""
        with self._changing(assignment_id) as (session, assignment):
            assignment.paused = reason
            self._note(session, actor_id, "grading paused", assignment, reason)

    def resume(self, actor_id: int | None, assignment_id: str) -> None:
        with self._changing(assignment_id) as (session, assignment):
            if assignment.paused is not None:
                assignment.paused = None
                self._note(session, actor_id, "grading resumed", assignment)

    def publish_grades(self, actor_id: int | None, assignment_id: str, *, published: bool) -> None:
        """Show students their grades, or no longer."""
        with self._changing(assignment_id) as (session, assignment):
            if (assignment.grades_published_at is not None) != published:
                assignment.grades_published_at = self._clock() if published else None
                self._note(session, actor_id, "grades published" if published else "grades withdrawn", assignment)

    def extend(
        self, actor_id: int | None, assignment_id: str, login: str, hours: float, bonus_attempts: int, reason: str
    ) -> None:
        """Grant a student more time or attempts, in place of what was granted before; 0 of both takes it back.

        Raises `UnknownStudent`.
        """
        with self._changing(assignment_id) as (session, assignment):
            user_id = _member_id(session, assignment.course_id, login)
            granted = Extension(
                assignment_id=assignment_id,
                user_id=user_id,
                hours=hours,
                bonus_attempts=bonus_attempts,
                reason=reason,
            )
            if hours or bonus_attempts:
                session.merge(granted)
            elif (before := session.get(Extension, (assignment_id, user_id))) is not None:
                session.delete(before)
            data = {"hours": hours, "bonus_attempts": bonus_attempts, "user": user_id}
            self._note(session, actor_id, "extension granted", assignment, reason, **data)

    def extensions(self, assignment_id: str) -> list[tuple[str, Extension]]:
        """Logins and what was granted to them."""
        query = select(User.login, Extension).join(Extension, Extension.user_id == User.id)
        with self._database.read() as session:
            rows = session.execute(query.where(Extension.assignment_id == assignment_id).order_by(User.login))
            return [(row.login, row.Extension) for row in rows]

    def grant(self, assignment_id: str, user_id: int | None) -> Grant:
        """What a user has beyond the policy."""
        with self._database.read() as session:
            found = None if user_id is None else session.get(Extension, (assignment_id, user_id))
        return grant_of(found)

    def attempts_left(self, assignment: Assignment, user_id: int) -> AttemptsLeft:
        """How many more hand-ins a student has, now and altogether."""
        query = select(Submission).join(Submission.grading).where(Submission.assignment == assignment.id)
        query = query.where(Submission.user_id == user_id).options(contains_eager(Submission.grading))
        with self._database.read() as session:
            attempts = attempts_of(session.scalars(query.order_by(Submission.created_at)).all())
        policy, grant = Policy.model_validate(assignment.policy), self.grant(assignment.id, user_id)
        return attempts_left(policy, grant, self._clock(), list(attempts.values()))

    @contextmanager
    def _changing(self, assignment_id: str) -> Iterator[tuple[Session, Assignment]]:
        with self._database.write() as session:
            yield session, session.get_one(Assignment, assignment_id, with_for_update=True)

    def _note(
        self,
        session: Session,
        actor_id: int | None,
        action: str,
        assignment: Assignment,
        reason: str = "",
        **data: object,
    ) -> None:
        subject = f"assignment {assignment.id}"
        note(session, actor_id, action, assignment.course_id, subject, reason, clock=self._clock, **data)


def _member_id(session: Session, course_id: str, login: str) -> int:
    member = select(User.id).join(Member, Member.user_id == User.id).where(Member.course_id == course_id)
    found = session.scalar(member.where(User.login == login))
    if found is None:
        raise UnknownStudent(f"Nobody in the course has the login {login!r}.")
    return found
