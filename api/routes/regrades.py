"""Regrades: seen as a difference before they count, then applied or discarded as one."""

import csv
import io
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, BackgroundTasks, Depends, Request, Response, status
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field, StringConstraints

from api.access import CallerDep, require
from api.dependencies import AssignmentDep, Services, ServicesDep
from api.links import API
from api.problems import Forbidden, NotFound, RegradeConflict, Unprocessable, describe
from api.schemas import NO_NUL, RowId
from api.templating import templates
from records.broker import wake_workers
from records.exports import guarded
from records.models import Assignment, Mode, Regrade, RegradeState, Role, State
from records.regrade_diff import BlankChange, Diff
from records.regrade_plan import Selection
from records.regrades import RegradeRefused

router = APIRouter(tags=["regrades"])
COLUMNS = [
    *("submission", "login", "name", *BlankChange.model_fields),
    *("score_before", "score_after", "verdict_before", "verdict_after", "tier_before", "tier_after"),
]


class NewRegrade(BaseModel):
    mode: Mode = Field(
        description="`rescore`: points and tiers from stored outcomes; `recheck`: checks only, with stored trainings; "
        "`full`: everything"
    )
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000, pattern=NO_NUL)] = (
        Field(description="stands in the audit log, and is told to students whose grade changes")
    )
    version: str | None = Field(None, description="id of the version; the one in force if absent")
    selection: Selection = Selection()
    anew: bool = Field(False, description="grade also what was graded in the same way before")


class PlanInfo(BaseModel):
    submissions: int
    known: int = Field(description="answered from what is stored: the same thing was graded before")
    left_out: dict[str, int] = Field(description="why -> how many")
    seconds: float | None = Field(description="estimate for one worker; null where nothing like it was graded yet")
    changed_files: list[str] = Field(description="of the pack, against the versions that count now")
    warnings: list[str]


class RegradeInfo(BaseModel):
    id: int
    assignment: str
    version: str
    mode: Mode
    selection: Selection
    reason: str
    state: RegradeState
    created_by: int | None = Field(description="id of the user; null for the operator")
    created_at: datetime
    decided_at: datetime | None
    gradings: dict[State, int] = Field(description="how many of them stand where")
    links: dict[str, str]


class Decision(BaseModel):
    regrade: RegradeInfo
    students_told: int = Field(description="those whose grade changed; nobody else is told")


def get_regrade(regrade: RowId, caller: CallerDep, services: ServicesDep) -> Regrade:
    """A regrade of a course that the caller is staff of."""
    found = services.regrades.get(regrade)
    if found is None:
        raise NotFound("There is no such regrade.")
    with services.database.read() as session:
        course = session.get_one(Assignment, found.assignment_id).course_id
    if caller.role_in(course) is None:
        raise NotFound("There is no such regrade.")
    require(caller, course, Role.INSTRUCTOR)
    return found


RegradeDep = Annotated[Regrade, Depends(get_regrade)]
ABOUT_ASSIGNMENT = describe(NotFound, Forbidden)
ABOUT_REGRADE = describe(NotFound, Forbidden, RegradeConflict)


@router.post("/assignments/{assignment}/regrades/plan", responses=ABOUT_ASSIGNMENT)
def plan_regrade(new: NewRegrade, assignment: AssignmentDep, caller: CallerDep, services: ServicesDep) -> PlanInfo:
    """A dry run: how many submissions, how many of them known already, how long it takes. Nothing is stored."""
    require(caller, assignment.course_id, Role.INSTRUCTOR)
    try:
        plan = services.regrades.plan(
            assignment.id, new.version or assignment.version_id, new.mode, new.selection, anew=new.anew
        )
    except LookupError as error:
        raise Unprocessable(str(error)) from None
    return PlanInfo(
        submissions=plan.submissions,
        known=plan.known,
        left_out=dict(plan.left_out),
        seconds=plan.seconds,
        changed_files=list(plan.changed_files),
        warnings=list(plan.warnings),
    )


@router.post("/assignments/{assignment}/regrades", status_code=status.HTTP_202_ACCEPTED, responses=ABOUT_ASSIGNMENT)
def start_regrade(
    new: NewRegrade,
    assignment: AssignmentDep,
    caller: CallerDep,
    services: ServicesDep,
    response: Response,
    background: BackgroundTasks,
) -> RegradeInfo:
    """Grade again, beside what counts. Students see nothing of it before it is applied."""
    require(caller, assignment.course_id, Role.INSTRUCTOR)
    try:
        regrade_id = services.regrades.start(
            assignment.id,
            new.version or assignment.version_id,
            new.mode,
            new.selection,
            reason=new.reason,
            actor_id=caller.id,
            anew=new.anew,
        )
    except (RegradeRefused, LookupError) as error:
        raise Unprocessable(str(error)) from None
    background.add_task(wake_workers, services.celery)
    response.headers["Location"] = f"{API}/regrades/{regrade_id}"
    return present(_found(services, regrade_id), services)


@router.get("/assignments/{assignment}/regrades", responses=ABOUT_ASSIGNMENT)
def list_regrades(assignment: AssignmentDep, caller: CallerDep, services: ServicesDep) -> list[RegradeInfo]:
    """The latest first."""
    require(caller, assignment.course_id, Role.INSTRUCTOR)
    return [present(regrade, services) for regrade in services.regrades.of(assignment.id)]


@router.get("/regrades/{regrade}", responses=ABOUT_REGRADE)
def get_one(regrade: RegradeDep, services: ServicesDep) -> RegradeInfo:
    """How it goes."""
    return present(regrade, services)


@router.get("/regrades/{regrade}/diff", responses=ABOUT_REGRADE)
def get_diff(regrade: RegradeDep, services: ServicesDep) -> Diff:
    """What it changes, per student and blank, with the likeliest cause; the largest loss first."""
    return services.diffs.of(regrade.id)


@router.get("/regrades/{regrade}/diff.csv", response_class=Response, responses=ABOUT_REGRADE)
def get_diff_csv(regrade: RegradeDep, services: ServicesDep) -> Response:
    """The same for spreadsheets, one line per blank that changes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    for change in services.diffs.of(regrade.id).changes:
        line = change.model_dump(include=set(COLUMNS))
        line |= {name: guarded(line[name] or "") for name in ("login", "name")}
        for blank in change.blanks:
            writer.writerow(line | blank.model_dump())
        if not change.blanks:  # verdict or tier alone
            writer.writerow(line)
    headers = {"Content-Disposition": f"attachment; filename=regrade-{regrade.id}.csv"}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/regrades/{regrade}/diff.html", response_class=HTMLResponse, responses=ABOUT_REGRADE)
def get_diff_page(request: Request, regrade: RegradeDep, services: ServicesDep) -> HTMLResponse:
    """The same as a page."""
    context = {"diff": services.diffs.of(regrade.id), "regrade": present(regrade, services)}
    return templates.TemplateResponse(request, "regrade.html", context)


@router.post("/regrades/{regrade}/{verb}", responses=ABOUT_REGRADE)
def decide(
    verb: Literal["apply", "discard", "cancel", "resume", "roll-back"],
    regrade: RegradeDep,
    caller: CallerDep,
    services: ServicesDep,
    background: BackgroundTasks,
) -> Decision:
    """Apply or discard it as one; stop it half way and go on; roll back what was applied."""
    regrades, told = services.regrades, 0
    try:
        match verb:
            case "apply":
                told = regrades.apply(regrade.id, caller.id)
            case "roll-back":
                told = regrades.roll_back(regrade.id, caller.id)
            case "discard":
                regrades.discard(regrade.id, caller.id)
            case "cancel":
                regrades.cancel(regrade.id, caller.id)
            case "resume":
                regrades.resume(regrade.id, caller.id)
                background.add_task(wake_workers, services.celery)
    except RegradeRefused as error:
        raise RegradeConflict(str(error)) from None
    return Decision(regrade=present(_found(services, regrade.id), services), students_told=told)


def _found(services: Services, regrade_id: int) -> Regrade:
    found = services.regrades.get(regrade_id)
    assert found is not None  # regrades stay
    return found


def present(regrade: Regrade, services: Services) -> RegradeInfo:
    own = f"{API}/regrades/{regrade.id}"
    return RegradeInfo(
        id=regrade.id,
        assignment=regrade.assignment_id,
        version=regrade.version_id,
        mode=regrade.mode,
        selection=Selection.model_validate(regrade.selection),
        reason=regrade.reason,
        state=regrade.state,
        created_by=regrade.created_by,
        created_at=regrade.created_at,
        decided_at=regrade.decided_at,
        gradings=services.regrades.progress(regrade.id),
        links={"self": own} | {name: f"{own}/{name}" for name in ("diff", "diff.csv", "diff.html")},
    )
