"""What a course decides about its assignments: which there are, their policy, their version, pauses, extensions."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, File, Form, UploadFile, status
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field, StringConstraints

from api.access import Caller, CallerDep, require, require_admin
from api.dependencies import AssignmentDep, Services, ServicesDep, get_course
from api.packs import read_pack
from api.problems import Forbidden, NotFound, Taken, TooLarge, Unprocessable, describe
from api.routes.assignments import present
from api.schemas import NO_NUL, AssignmentInfo
from records.assignments import AssignmentExists, UnknownStudent
from records.models import Assignment, Role
from records.policy import AttemptsLeft, LateStep, Policy, closes_at, due_at, opens_at
from reference.pack import Pack, PackError, load_pack

router = APIRouter(tags=["assignments"])

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]  # it stands in addresses
# For the audit: a sentence or two
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000, pattern=NO_NUL)]
MAX_HOURS = 366 * 24.0  # of an extension: a year, which is what a course can wait
MAX_BONUS = 1000  # attempts: more is a slip of the finger


class ReasonGiven(BaseModel):
    reason: Reason


class NewPolicy(ReasonGiven):
    policy: Policy


class Terms(BaseModel):
    """What holds for you: extensions are counted in."""

    opens_at: datetime | None
    due_at: datetime | None = Field(description="later is late")
    closes_at: datetime | None = Field(description="later is too late; minutes of grace are counted in")
    time_zone: str = Field(description="in which a day begins")
    late_penalty_per_day: float | None = Field(description="share of the maximal score for each day begun")
    late_penalties: list[LateStep] = Field(description="in place of it: the last step that applies counts")
    counts: str = Field(description="which attempt counts: `most_recent`, `best` or `first`")
    attempts_left_today: int | None = Field(description="null: as many as you like")
    attempts_left: int | None
    grades_published_at: datetime | None
    paused: str | None = Field(description="why nothing is graded for now; hand-ins are taken all the same")


class Granted(BaseModel):
    hours: float = Field(default=0, ge=0, le=MAX_HOURS, description="by which due, late and exam dates move")
    bonus_attempts: int = Field(default=0, ge=0, le=MAX_BONUS)
    reason: Reason


class ExtensionInfo(Granted):
    login: str
    reason: str


@router.post(
    "/assignments", status_code=status.HTTP_201_CREATED, responses=describe(Forbidden, NotFound, Taken, TooLarge)
)
def create_assignment(
    caller: CallerDep,
    services: ServicesDep,
    course: Annotated[str, Form(description="id of the course")],
    id: Annotated[Id, Form(description="small letters, digits, hyphens")],  # noqa: A002  (as everywhere in the API)
    title: Annotated[str | None, Form(max_length=255, pattern=NO_NUL, description="the pack's, if absent")] = None,
    pack: Annotated[str | None, Form(description="name of a pack that comes with Noisemark")] = None,
    archive: Annotated[UploadFile | None, File(description="a pack of your own, zipped: administrators only")] = None,
) -> AssignmentInfo:
    """A new assignment of a course.

    The checks of a pack run in the judge, not in the sandbox: whoever may upload one may do on the server what its
    workers may. So instructors choose among the bundled packs, and administrators may bring others.
    """
    get_course(course, caller, services)
    require(caller, course, Role.INSTRUCTOR)
    version = _publish(caller, services, pack, archive)
    title = title or services.versions.pack(version).file.title
    try:
        services.assignments.create(caller.id, course, id, title, version)
    except AssignmentExists as error:
        raise Taken(str(error)) from None
    return _present(services, id)


@router.post("/assignments/{assignment}/versions", responses=describe(Forbidden, NotFound, TooLarge))
def publish_version(
    assignment: AssignmentDep,
    caller: CallerDep,
    services: ServicesDep,
    reason: Annotated[Reason, Form()],
    pack: Annotated[str | None, Form(description="name of a pack that comes with Noisemark")] = None,
    archive: Annotated[UploadFile | None, File(description="a pack of your own, zipped: administrators only")] = None,
) -> AssignmentInfo:
    """Grade what comes from now on under another version. What was graded stays as it is until it is regraded."""
    require(caller, assignment.course_id, Role.INSTRUCTOR)
    version = _publish(caller, services, pack, archive)
    _require_known(Policy.model_validate(assignment.policy), services.versions.pack(version))
    services.assignments.use_version(caller.id, assignment.id, version, reason)
    return _present(services, assignment.id)


@router.get("/assignments/{assignment}/policy", responses=describe(Forbidden, NotFound))
def get_policy(assignment: AssignmentDep, caller: CallerDep) -> Policy:
    """The policy as it was set. For staff, as it names hidden checks."""
    require(caller, assignment.course_id, Role.GRADER)
    return Policy.model_validate(assignment.policy)


@router.put("/assignments/{assignment}/policy", responses=describe(Forbidden, NotFound))
def put_policy(assignment: AssignmentDep, new: NewPolicy, caller: CallerDep, services: ServicesDep) -> Policy:
    """Replace the policy. Grades follow at once; what was taken in stays."""
    require(caller, assignment.course_id, Role.INSTRUCTOR)
    _require_known(new.policy, services.versions.pack(assignment.version_id))
    services.assignments.set_policy(caller.id, assignment.id, new.policy, new.reason)
    return new.policy


@router.get("/assignments/{assignment}/terms", responses=describe(NotFound))
def get_terms(assignment: AssignmentDep, caller: CallerDep, services: ServicesDep) -> Terms:
    """Dates, penalties and attempts as they hold for you."""
    policy = Policy.model_validate(assignment.policy)
    grant = services.assignments.grant(assignment.id, caller.id)
    left = AttemptsLeft(today=None, total=None)
    if caller.id is not None:
        left = services.assignments.attempts_left(assignment, caller.id)
    return Terms(
        opens_at=opens_at(policy),
        due_at=due_at(policy, grant),
        closes_at=closes_at(policy, grant),
        time_zone=policy.time_zone,
        late_penalty_per_day=policy.late_penalty_per_day,
        late_penalties=list(policy.late_penalties),
        counts=policy.counts,
        attempts_left_today=left.today,
        attempts_left=left.total,
        grades_published_at=assignment.grades_published_at,
        paused=assignment.paused,
    )


@router.post("/assignments/{assignment}/pause", responses=describe(Forbidden, NotFound))
def pause(assignment: AssignmentDep, given: ReasonGiven, caller: CallerDep, services: ServicesDep) -> AssignmentInfo:
    """Grade nothing until this is resumed. Hand-ins are taken, get their receipts, and wait."""
    require(caller, assignment.course_id, Role.INSTRUCTOR)
    services.assignments.pause(caller.id, assignment.id, given.reason)
    return _present(services, assignment.id)


@router.post("/assignments/{assignment}/resume", responses=describe(Forbidden, NotFound))
def resume(assignment: AssignmentDep, caller: CallerDep, services: ServicesDep) -> AssignmentInfo:
    """Grade again, what waits first."""
    require(caller, assignment.course_id, Role.INSTRUCTOR)
    services.assignments.resume(caller.id, assignment.id)
    return _present(services, assignment.id)


@router.put("/assignments/{assignment}/grades-published", responses=describe(Forbidden, NotFound))
def publish_grades(
    assignment: AssignmentDep, published: Annotated[bool, Body(embed=True)], caller: CallerDep, services: ServicesDep
) -> AssignmentInfo:
    """Show students their grades and what is visible from then on, or no longer."""
    require(caller, assignment.course_id, Role.INSTRUCTOR)
    services.assignments.publish_grades(caller.id, assignment.id, published=published)
    return _present(services, assignment.id)


@router.get("/assignments/{assignment}/extensions", responses=describe(Forbidden, NotFound))
def list_extensions(assignment: AssignmentDep, caller: CallerDep, services: ServicesDep) -> list[ExtensionInfo]:
    """What single students were granted."""
    require(caller, assignment.course_id, Role.GRADER)
    return [
        ExtensionInfo(
            login=login,
            hours=extension.hours,
            bonus_attempts=extension.bonus_attempts,
            reason=extension.reason,
        )
        for login, extension in services.assignments.extensions(assignment.id)
    ]


@router.put("/assignments/{assignment}/extensions/{login}", responses=describe(Forbidden, NotFound))
def put_extension(
    assignment: AssignmentDep,
    login: Annotated[str, PathParameter(max_length=128)],
    granted: Granted,
    caller: CallerDep,
    services: ServicesDep,
) -> ExtensionInfo:
    """Grant a student more time or attempts, in place of what was granted before; 0 of both takes it back."""
    require(caller, assignment.course_id, Role.INSTRUCTOR)
    try:
        services.assignments.extend(
            caller.id, assignment.id, login, granted.hours, granted.bonus_attempts, granted.reason
        )
    except UnknownStudent as error:
        raise NotFound(str(error)) from None
    return ExtensionInfo(login=login, **granted.model_dump())


def _require_known(policy: Policy, pack: Pack) -> None:
    """Refuse a policy that names what is not there: a check that it misspells would be shown."""
    blanks = {blank.id for blank in pack.blanks}
    for name in policy.visibility_of:
        blank, slash, check = name.partition("/")
        if blank not in blanks:
            raise Unprocessable(f"visibility_of: the pack has no blank {blank}. It has: {', '.join(sorted(blanks))}.")
        if slash and check.partition("[")[0] not in pack.check_names:
            raise Unprocessable(f"visibility_of: the pack has no check {name}. Reports call checks by their names.")
    if unknown := sorted(set(policy.corrections_off) - pack.corrections):
        there = ", ".join(sorted(pack.corrections)) or "none"
        raise Unprocessable(f"corrections_off: the pack has no correction {', '.join(unknown)}. It has: {there}.")


def _publish(caller: Caller, services: Services, name: str | None, archive: UploadFile | None) -> str:
    """Freeze a pack, and return the id of the version."""
    if (name is None) == (archive is None):
        raise Unprocessable("Give either pack, the name of a bundled one, or archive, a pack of your own.")
    try:
        if archive is None:
            return services.versions.publish(load_pack(name or ""))
        require_admin(caller)
        with read_pack(archive.filename or "pack.zip", archive.file.read()) as pack:
            return services.versions.publish(pack)
    except PackError as error:
        raise Unprocessable(str(error)) from None


def _present(services: Services, assignment_id: str) -> AssignmentInfo:
    with services.database.read() as session:
        assignment = session.get_one(Assignment, assignment_id)
    return present(assignment, services.versions.pack(assignment.version_id))
