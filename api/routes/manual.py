"""What people decide by hand: points, comments, integrity flags, and requests to look again."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, status
from pydantic import BaseModel, Field, StringConstraints

from api.access import CallerDep, require, require_user
from api.dependencies import AssignmentDep, AuthoredSubmission, OwnSubmission, Services, ServicesDep
from api.problems import AlreadySettled, Forbidden, NotFound, NotReady, Unprocessable, describe
from api.schemas import NO_NUL, RowId
from records.gradebook import ACCURACY
from records.manual import Work
from records.models import Assignment, Comment, FlagDecision, Override, RegradeRequest, Role, Submission

router = APIRouter(tags=["work by hand"])

# A sentence or a page, not a book
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=10_000, pattern=NO_NUL)]


class NewOverride(BaseModel):
    blank: str = Field(description="id of the blank, or `accuracy`")
    points: float = Field(ge=0)
    reason: Text


class Reason(BaseModel):
    reason: Text


class NewComment(BaseModel):
    blank: str | None = Field(default=None, description="null: on the whole")
    body: Text


class Reply(BaseModel):
    body: Text


class NewDecision(BaseModel):
    confirmed: bool = Field(description="true withholds the accuracy points; false: there is nothing to it")
    reason: Text


class OverrideInfo(BaseModel):
    id: int
    blank: str
    points: float
    reason: str
    by: str | None = Field(description="who; null for the server's operator")
    at: datetime
    withdrawn_at: datetime | None


class CommentInfo(BaseModel):
    id: int
    blank: str | None
    body: str
    by: str | None
    at: datetime


class DecisionInfo(BaseModel):
    flag: str
    confirmed: bool
    reason: str
    by: str | None
    at: datetime


class RequestInfo(BaseModel):
    id: int
    submission: str
    blank: str | None
    opened_at: datetime
    closed_at: datetime | None
    thread: list[CommentInfo]


class Review(BaseModel):
    """All that was done by hand for a submission."""

    overrides: list[OverrideInfo]
    comments: list[CommentInfo]
    decisions: list[DecisionInfo]
    requests: list[RequestInfo]


def course_of(submission: Submission, services: Services) -> str:
    with services.database.read() as session:
        return session.get_one(Assignment, submission.assignment).course_id


def get_staffs_submission(submission: OwnSubmission, caller: CallerDep, services: ServicesDep) -> Submission:
    """A submission, for graders of its course."""
    require(caller, course_of(submission, services), Role.GRADER)
    return submission


StaffsSubmission = Annotated[Submission, Depends(get_staffs_submission)]


@router.get("/submissions/{submission}/review", responses=describe(NotFound))
def get_review(submission: OwnSubmission, caller: CallerDep, services: ServicesDep) -> Review:
    """What was done by hand: for its author and for staff. Flags that were dismissed only staff sees."""
    work = services.manual.of(submission.id)
    is_staff = caller.is_at_least(Role.GRADER, course_of(submission, services))
    return Review(
        overrides=[_override(override, work) for override in work.overrides],
        comments=[_comment(comment, work) for comment in work.comments if comment.request_id is None],
        decisions=[_decision(decision, work) for decision in work.decisions if is_staff or decision.confirmed],
        requests=[_request(request, work) for request in work.requests],
    )


@router.post(
    "/submissions/{submission}/overrides",
    status_code=status.HTTP_201_CREATED,
    responses=describe(Forbidden, NotFound, NotReady),
)
def set_points(
    submission: StaffsSubmission, new: NewOverride, caller: CallerDep, services: ServicesDep
) -> OverrideInfo:
    """Set the points of a blank, or of the accuracy. They stay when the submission is regraded."""
    if submission.grading.outcome is None:
        raise NotReady(f"The grading is {submission.grading.state}: there is no report whose points could be set.")
    most = _max_points(submission, new.blank, services)
    if new.points > most:
        raise Unprocessable(f"{new.points:g} points are too many: {new.blank} is worth {most:g}.")
    services.manual.override(caller.id, submission.id, new.blank, new.points, new.reason)
    work = services.manual.of(submission.id)
    return _override(work.overrides[-1], work)


@router.post(
    "/submissions/{submission}/overrides/{override}/withdraw", responses=describe(Forbidden, NotFound, AlreadySettled)
)
def withdraw_points(
    submission: StaffsSubmission, override: RowId, given: Reason, caller: CallerDep, services: ServicesDep
) -> Review:
    """Have points set by hand count no more."""
    services.manual.withdraw(caller.id, submission.id, override, given.reason)
    return get_review(submission, caller, services)


@router.post(
    "/submissions/{submission}/comments",
    status_code=status.HTTP_201_CREATED,
    responses=describe(Forbidden, NotFound),
)
def write_comment(submission: StaffsSubmission, new: NewComment, caller: CallerDep, services: ServicesDep) -> Review:
    """Say something on a blank, or on the whole."""
    _check_blank(submission, new.blank, services)
    services.manual.comment(caller.id, submission.id, new.blank, new.body)
    return get_review(submission, caller, services)


@router.put("/submissions/{submission}/flags/{flag}", responses=describe(Forbidden, NotFound))
def decide_on_flag(
    submission: OwnSubmission, flag: str, new: NewDecision, caller: CallerDep, services: ServicesDep
) -> Review:
    """Confirm an integrity flag, which withholds the accuracy points, or dismiss it. For instructors."""
    require(caller, course_of(submission, services), Role.INSTRUCTOR)
    if flag not in (submission.grading.outcome or {}).get("flags", ()):
        raise NotFound(f"The report raises no flag {flag!r}.")
    services.manual.decide(caller.id, submission.id, flag, confirmed=new.confirmed, reason=new.reason)
    return get_review(submission, caller, services)


@router.post(
    "/submissions/{submission}/requests",
    status_code=status.HTTP_201_CREATED,
    responses=describe(Forbidden, NotFound, AlreadySettled),
)
def ask_to_look_again(
    submission: AuthoredSubmission, new: NewComment, caller: CallerDep, services: ServicesDep
) -> Review:
    """Ask a person to look at a blank again, or at the whole. For the author."""
    user = require_user(caller)
    _check_blank(submission, new.blank, services)
    services.manual.request(user.id, submission.id, new.blank, new.body)
    return get_review(submission, caller, services)


@router.post(
    "/submissions/{submission}/requests/{request}/replies",
    status_code=status.HTTP_201_CREATED,
    responses=describe(NotFound, AlreadySettled),
)
def reply(submission: OwnSubmission, request: RowId, new: Reply, caller: CallerDep, services: ServicesDep) -> Review:
    """Add to the thread of a request. For both sides."""
    services.manual.reply(caller.id, submission.id, request, new.body)
    return get_review(submission, caller, services)


@router.post(
    "/submissions/{submission}/requests/{request}/close", responses=describe(Forbidden, NotFound, AlreadySettled)
)
def close_request(
    submission: StaffsSubmission, request: RowId, new: Reply, caller: CallerDep, services: ServicesDep
) -> Review:
    """Say what came of a request, and end its thread."""
    services.manual.close(caller.id, submission.id, request, new.body)
    return get_review(submission, caller, services)


@router.get("/assignments/{assignment}/requests", responses=describe(Forbidden, NotFound))
def list_requests(assignment: AssignmentDep, caller: CallerDep, services: ServicesDep) -> list[RequestInfo]:
    """Requests to look again that wait for an answer, the oldest first."""
    require(caller, assignment.course_id, Role.GRADER)
    return [
        _request(request, services.manual.of(request.submission_id))
        for request in services.manual.open_requests(assignment.id)
    ]


def _check_blank(submission: Submission, blank: str | None, services: Services) -> None:
    if blank is not None:
        _max_points(submission, blank, services)


def _max_points(submission: Submission, name: str, services: Services) -> float:
    """What a blank, or the accuracy, is worth. Raises `Unprocessable` where there is no such blank."""
    pack = services.versions.pack(submission.grading.version_id)
    worth = {blank.id: blank.points for blank in pack.blanks} | {ACCURACY: pack.file.accuracy.points}
    if name not in worth:
        raise Unprocessable(f"There is no blank {name!r}. There are: {', '.join(worth)}.")
    return worth[name]


def _name(user_id: int | None, work: Work) -> str | None:
    return None if user_id is None else work.names[user_id]


def _override(override: Override, work: Work) -> OverrideInfo:
    return OverrideInfo(
        id=override.id,
        blank=override.blank,
        points=override.points,
        reason=override.reason,
        by=_name(override.by, work),
        at=override.at,
        withdrawn_at=override.withdrawn_at,
    )


def _comment(comment: Comment, work: Work) -> CommentInfo:
    return CommentInfo(id=comment.id, blank=comment.blank, body=comment.body, by=_name(comment.by, work), at=comment.at)


def _decision(decision: FlagDecision, work: Work) -> DecisionInfo:
    return DecisionInfo(
        flag=decision.flag,
        confirmed=decision.confirmed,
        reason=decision.reason,
        by=_name(decision.by, work),
        at=decision.at,
    )


def _request(request: RegradeRequest, work: Work) -> RequestInfo:
    return RequestInfo(
        id=request.id,
        submission=request.submission_id,
        blank=request.blank,
        opened_at=request.opened_at,
        closed_at=request.closed_at,
        thread=[_comment(comment, work) for comment in work.comments if comment.request_id == request.id],
    )
