"""What people decide by hand about a submission: points, comments, integrity flags, and requests to look again.

All of it belongs to the submission, not to one of its gradings, and so stays when it is regraded. Every change is
audited in the transaction that makes it, and whom it concerns is told when he next looks.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from records.audit import note
from records.database import Database
from records.models import (
    Assignment,
    Comment,
    FlagDecision,
    Grading,
    Notice,
    Override,
    RegradeRequest,
    Submission,
    User,
    utc_now,
)
from records.queue import cancel


class Unknown(Exception):  # noqa: N818  (what is the matter)
    """There is no such thing for this submission."""


class Settled(Exception):  # noqa: N818  (what is the matter)
    """It was withdrawn, or closed: nothing is left to change."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """All that was done by hand for one submission, in order."""

    overrides: Sequence[Override]
    comments: Sequence[Comment]  # of graders, and of both sides in the threads of requests
    decisions: Sequence[FlagDecision]
    requests: Sequence[RegradeRequest]
    names: dict[int, str]  # of the people in it, by the user's id


class Manual:
    """Work by hand, of one database. `actor_id` is None for the operator."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def of(self, submission_id: str) -> Work:
        """What there is for a submission."""
        with self._database.read() as session:
            overrides = session.scalars(_for(Override, submission_id).order_by(Override.id)).all()
            comments = session.scalars(_for(Comment, submission_id).order_by(Comment.id)).all()
            decisions = session.scalars(_for(FlagDecision, submission_id).order_by(FlagDecision.at)).all()
            requests = session.scalars(_for(RegradeRequest, submission_id).order_by(RegradeRequest.id)).all()
            people = {row.by for rows in (overrides, comments, decisions, requests) for row in rows}
            users = session.scalars(select(User).where(User.id.in_(people)))
            names = {user.id: user.name or user.login for user in users}
        return Work(overrides=overrides, comments=comments, decisions=decisions, requests=requests, names=names)

    def open_requests(self, assignment_id: str) -> Sequence[RegradeRequest]:
        """Those of an assignment that nobody has closed, the oldest first."""
        query = select(RegradeRequest).join(Submission, Submission.id == RegradeRequest.submission_id)
        query = query.where(Submission.assignment == assignment_id, RegradeRequest.closed_at.is_(None))
        with self._database.read() as session:
            return session.scalars(query.order_by(RegradeRequest.id)).all()

    def cancel(self, actor_id: int | None, submission_id: str, message: str) -> bool:
        """Give somebody else's grading up, waiting or running. False where it has ended already."""
        with self._changing(submission_id) as change:
            counting = select(Grading.id).where(Grading.submission_id == submission_id, Grading.counts)
            cancelled = cancel(change.session, change.session.scalars(counting).one(), message, change.now)
            if cancelled:
                change.note(actor_id, "grading cancelled", "")
                change.tell(actor_id, message)
            return cancelled

    def override(self, actor_id: int | None, submission_id: str, blank: str, points: float, reason: str) -> Override:
        """Set the points of a blank, or of `accuracy`. It counts until a later one does, or it is withdrawn."""
        with self._changing(submission_id) as change:
            override = Override(
                submission_id=submission_id, blank=blank, points=points, reason=reason, by=actor_id, at=change.now
            )
            change.session.add(override)
            change.session.flush()
            change.note(actor_id, "points set", reason, override=override.id, blank=blank, points=points)
            change.tell(actor_id, f"Your points for {blank} were set to {points:g}: {reason}")
            return override

    def withdraw(self, actor_id: int | None, submission_id: str, override_id: int, reason: str) -> Override:
        """Have an override count no more. Raises `Unknown`, `Settled`."""
        with self._changing(submission_id) as change:
            override = change.session.get(Override, override_id)
            if override is None or override.submission_id != submission_id:
                raise Unknown("This submission has no such override.")
            if override.withdrawn_at is not None:
                raise Settled("This override was withdrawn before.")
            override.withdrawn_at = change.now
            change.note(actor_id, "points withdrawn", reason, override=override_id, blank=override.blank)
            change.tell(actor_id, f"The points set by hand for {override.blank} were withdrawn: {reason}")
            return override

    def comment(self, actor_id: int | None, submission_id: str, blank: str | None, body: str) -> Comment:
        """Say something on a blank, or on the whole."""
        with self._changing(submission_id) as change:
            comment = change.comment(actor_id, body, blank=blank)
            change.tell(actor_id, f"There is a comment on {blank or 'your hand-in'}.")
            return comment

    def decide(
        self, actor_id: int | None, submission_id: str, flag: str, *, confirmed: bool, reason: str
    ) -> FlagDecision:
        """Confirm an integrity flag, which withholds the accuracy points, or dismiss it. The last decision counts."""
        with self._changing(submission_id) as change:
            decision = change.session.merge(
                FlagDecision(
                    submission_id=submission_id,
                    flag=flag,
                    confirmed=confirmed,
                    reason=reason,
                    by=actor_id,
                    at=change.now,
                )
            )
            change.note(actor_id, "flag confirmed" if confirmed else "flag dismissed", reason, flag=flag)
            if confirmed:  # of one that is dismissed there is nothing to know
                change.tell(actor_id, f"Your accuracy points are withheld: {reason}")
            return decision

    def request(self, actor_id: int | None, submission_id: str, blank: str | None, body: str) -> RegradeRequest:
        """Ask a person to look again. Raises `Settled` where such a request is open already."""
        with self._changing(submission_id) as change:
            same = _for(RegradeRequest, submission_id).where(
                RegradeRequest.blank.is_(None) if blank is None else RegradeRequest.blank == blank,
                RegradeRequest.closed_at.is_(None),
            )
            if change.session.scalars(same).first() is not None:
                raise Settled("A request for this is open already; add to its thread.")
            request = RegradeRequest(submission_id=submission_id, blank=blank, by=actor_id, opened_at=change.now)
            change.session.add(request)
            change.session.flush()
            change.comment(actor_id, body, blank=blank, request_id=request.id)
            return request

    def reply(self, actor_id: int | None, submission_id: str, request_id: int, body: str) -> Comment:
        """Add to the thread of a request. Raises `Unknown`, `Settled`."""
        with self._changing(submission_id) as change:
            request = _open_request(change.session, submission_id, request_id)
            comment = change.comment(actor_id, body, blank=request.blank, request_id=request_id)
            change.tell(actor_id, "There is an answer to your request to look again.")
            return comment

    def close(self, actor_id: int | None, submission_id: str, request_id: int, body: str) -> RegradeRequest:
        """Say what came of a request, and end its thread. Raises `Unknown`, `Settled`."""
        with self._changing(submission_id) as change:
            request = _open_request(change.session, submission_id, request_id)
            request.closed_at = change.now
            change.comment(actor_id, body, blank=request.blank, request_id=request_id)
            change.note(actor_id, "request closed", body, request=request_id)
            change.tell(actor_id, "Your request to look again was answered and closed.")
            return request

    @contextmanager
    def _changing(self, submission_id: str) -> Iterator["_Change"]:
        with self._database.write() as session:
            submission = session.get_one(Submission, submission_id)
            course_id = session.get_one(Assignment, submission.assignment).course_id
            yield _Change(session=session, submission=submission, course_id=course_id, now=self._clock())


@dataclass(frozen=True, kw_only=True)
class _Change:
    """One transaction on one submission."""

    session: Session
    submission: Submission
    course_id: str
    now: datetime

    def note(self, actor_id: int | None, action: str, reason: str, **data: object) -> None:
        subject = f"submission {self.submission.id}"
        note(self.session, actor_id, action, self.course_id, subject, reason, clock=lambda: self.now, **data)

    def comment(self, actor_id: int | None, body: str, *, blank: str | None, request_id: int | None = None) -> Comment:
        comment = Comment(
            submission_id=self.submission.id,
            blank=blank,
            request_id=request_id,
            body=body,
            by=actor_id,
            at=self.now,
        )
        self.session.add(comment)
        self.session.flush()
        action = "comment written" if request_id is None else "request written to"
        self.note(actor_id, action, "", comment=comment.id)
        return comment

    def tell(self, actor_id: int | None, body: str) -> None:
        """Tell the author, where there is one and it is not he who acts."""
        author = self.submission.user_id
        if author is not None and author != actor_id:
            self.session.add(Notice(user_id=author, submission_id=self.submission.id, body=body, at=self.now))


Row = TypeVar("Row", Override, Comment, FlagDecision, RegradeRequest)


def _for(table: type[Row], submission_id: str) -> Select[Row]:
    return select(table).where(table.submission_id == submission_id)


def _open_request(session: Session, submission_id: str, request_id: int) -> RegradeRequest:
    request = session.get(RegradeRequest, request_id, with_for_update=True)
    if request is None or request.submission_id != submission_id:
        raise Unknown("This submission has no such request.")
    if request.closed_at is not None:
        raise Settled("This request is closed; open another one.")
    return request
