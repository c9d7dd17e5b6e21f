"""Grades: a course's gradebook, one's own grade, and files for other systems."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from api.access import CallerDep, require, require_user
from api.dependencies import AssignmentDep, GradedSubmission, PackDep, Services, ServicesDep
from api.problems import Forbidden, NotFound, NotReady, describe
from api.views import View, ViewDep
from grading.exchange import gradescope_results, junit_xml
from grading.report import Report
from records.exports import Format, to_csv
from records.gradebook import Attempt, Grade
from records.models import Role, State, utc_now
from records.policy import Policy, shows_grade

router = APIRouter(tags=["grades"])


class ScoreInfo(BaseModel):
    """Points, and how they came about."""

    reported: float = Field(description="what the report says")
    overrides: float = Field(description="what people added by hand, or took")
    withheld: float = Field(description="accuracy points, where an integrity flag was confirmed")
    hints: float = Field(description="what hints cost")
    late: float = Field(description="what lateness costs")
    points: float = Field(description="what remains, never less than 0")
    max_points: float


class AttemptInfo(BaseModel):
    submission: str
    received_at: datetime
    state: State
    counts: bool
    score: ScoreInfo | None = Field(description="null where there is no report")


class GradeInfo(BaseModel):
    login: str
    name: str
    email: str
    attempts: list[AttemptInfo]
    points: float | None = Field(description="of the attempt that counts; null where nothing is graded")
    pending: bool = Field(description="a grading is under way, and may change what counts")


@router.get("/assignments/{assignment}/grades", responses=describe(Forbidden, NotFound))
def get_grades(assignment: AssignmentDep, caller: CallerDep, services: ServicesDep) -> list[GradeInfo]:
    """The gradebook: every student of the course, by login. For staff."""
    require(caller, assignment.course_id, Role.GRADER)
    return [_grade(grade) for grade in services.gradebook.of(assignment.id)]


@router.get("/assignments/{assignment}/grades.csv", response_class=Response, responses=describe(Forbidden, NotFound))
def get_grades_as_csv(
    assignment: AssignmentDep,
    pack: PackDep,
    caller: CallerDep,
    services: ServicesDep,
    format_: Annotated[Format, Query(alias="format", description="whose import it is for")] = Format.GENERIC,
) -> Response:
    """The gradebook for another system. For staff."""
    require(caller, assignment.course_id, Role.GRADER)
    content = to_csv(format_, assignment, services.gradebook.of(assignment.id), pack.max_score)
    disposition = f'attachment; filename="{assignment.id}-{format_}.csv"'
    return Response(content, media_type="text/csv; charset=utf-8", headers={"Content-Disposition": disposition})


@router.get("/assignments/{assignment}/grade", responses=describe(Forbidden, NotFound, NotReady))
def get_own_grade(assignment: AssignmentDep, caller: CallerDep, services: ServicesDep) -> GradeInfo:
    """Your own grade. Where checks are kept from you, only once the grades are published: it would tell of them."""
    user = require_user(caller)
    policy, grant = Policy.model_validate(assignment.policy), services.assignments.grant(assignment.id, user.id)
    if not shows_grade(policy, grant, utc_now(), assignment.grades_published_at):
        raise NotReady("Grades are shown once your instructor publishes them.")
    return _grade(services.gradebook.grade(assignment.id, user.id))


@router.get("/submissions/{submission}/report/gradescope.json", responses=describe(NotFound, NotReady))
def get_gradescope_results(_graded: GradedSubmission, view: ViewDep, services: ServicesDep) -> Response:
    """The report as Gradescope's `results.json`, with the visibility of each check."""
    return Response(gradescope_results(_report(view, services), view.policy.level), media_type="application/json")


@router.get(
    "/submissions/{submission}/report/junit.xml",
    response_class=Response,
    responses=describe(NotFound, NotReady) | {200: {"content": {"application/xml": {}}}},
)
def get_junit_report(_graded: GradedSubmission, view: ViewDep, services: ServicesDep) -> Response:
    """The checks of the report as JUnit XML."""
    return Response(junit_xml(_report(view, services)), media_type="application/xml")


def _report(view: View, services: Services) -> Report:
    report = view.report(services)
    assert report is not None  # it is graded
    return report


def _grade(grade: Grade) -> GradeInfo:
    counting = grade.counting
    return GradeInfo(
        login=grade.student.login,
        name=grade.student.name,
        email=grade.student.email,
        attempts=[_attempt(attempt, counts=attempt is counting) for attempt in grade.attempts],
        points=None if counting is None or counting.score is None else counting.score.points,
        pending=grade.pending,
    )


def _attempt(attempt: Attempt, *, counts: bool) -> AttemptInfo:
    return AttemptInfo(
        submission=attempt.submission_id,
        received_at=attempt.received_at,
        state=attempt.state,
        counts=counts,
        score=None if attempt.score is None else ScoreInfo.model_validate(asdict(attempt.score)),
    )
