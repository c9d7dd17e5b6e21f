"""Courses, who is in them, and what was done there."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, File, Path, Query, Response, UploadFile, status
from pydantic import BaseModel, Field, StringConstraints

from api.access import CallerDep, require, require_admin
from api.dependencies import CourseDep, ServicesDep
from api.problems import Forbidden, NotFound, Taken, TooLarge, Unprocessable, describe
from api.routes.people import MAX_PAGE, Line
from api.schemas import After
from records import audit
from records.models import AuditEntry, Course, Role
from records.people import BadRoster, Enrolled, NameTaken
from records.roster import MAX_BYTES, Fault, read_roster
from records.tokens import DEFAULT_DAYS, MAX_DAYS

router = APIRouter(tags=["courses"])


class CourseInfo(BaseModel):
    id: str
    title: str
    created_at: datetime
    role: Role | None = Field(description="what you are in it")


class NewCourse(BaseModel):
    # It stands in addresses and in file names.
    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    title: Annotated[Line, Field(min_length=1)]


class MemberInfo(BaseModel):
    id: int = Field(description="of the user")
    login: str
    name: str
    email: str
    role: Role


class RoleInCourse(BaseModel):
    role: Role


class RosterResult(BaseModel):
    """Logins, by what became of them."""

    dry_run: bool = Field(description="nothing of it was done")
    added: list[str]
    changed: list[str] = Field(description="another role, name or address")
    unchanged: list[str]
    missing: list[str] = Field(description="students of the course whom the file does not name")
    removed: bool = Field(description="those who are missing were taken out of the course")


class HandOut(BaseModel):
    days: int = Field(default=DEFAULT_DAYS, ge=1, le=MAX_DAYS, description="until they expire")


class StudentsToken(BaseModel):
    login: str
    name: str
    email: str
    token: str = Field(description="shown now, and never again")
    expires_at: datetime


class AuditInfo(BaseModel):
    id: int
    at: datetime
    actor: int | None = Field(description="id of the user; null for the server's operator, or the server itself")
    action: str
    subject: str
    reason: str
    data: dict[str, Any]


@router.post("/courses", status_code=status.HTTP_201_CREATED, responses=describe(Forbidden, Taken))
def create_course(new: NewCourse, caller: CallerDep, services: ServicesDep) -> CourseInfo:
    """A new course. For administrators."""
    require_admin(caller)
    try:
        course = services.people.add_course(caller.id, new.id, new.title)
    except NameTaken as error:
        raise Taken(str(error)) from None
    return present(course, caller.role_in(course.id))


@router.get("/courses", responses=describe())
def list_courses(caller: CallerDep, services: ServicesDep) -> list[CourseInfo]:
    """The courses that you are in."""
    known = ((course, caller.role_in(course.id)) for course in services.people.courses())
    return [present(course, role) for course, role in known if role is not None]


@router.get("/courses/{course}", responses=describe(NotFound))
def get_one(course: CourseDep, caller: CallerDep) -> CourseInfo:
    """One course."""
    return present(course, caller.role_in(course.id))


@router.get("/courses/{course}/members", responses=describe(Forbidden, NotFound))
def list_members(course: CourseDep, caller: CallerDep, services: ServicesDep) -> list[MemberInfo]:
    """Everybody in the course. For its instructors."""
    require(caller, course.id, Role.INSTRUCTOR)
    return [present_member(enrolled) for enrolled in services.people.members(course.id)]


@router.put("/courses/{course}/members/{login}", responses=describe(Forbidden, NotFound))
def put_member(
    course: CourseDep, login: Annotated[str, Path()], new: RoleInCourse, caller: CallerDep, services: ServicesDep
) -> MemberInfo:
    """Take somebody who has an account into the course, or change what he is there. For its instructors."""
    require(caller, course.id, Role.INSTRUCTOR)
    try:
        return present_member(services.people.set_role(caller.id, course.id, login, new.role))
    except LookupError as error:
        raise NotFound(f"{error} The roster brings new people.") from None


@router.delete(
    "/courses/{course}/members/{login}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=describe(Forbidden, NotFound),
)
def remove_member(
    course: CourseDep, login: Annotated[str, Path()], caller: CallerDep, services: ServicesDep
) -> Response:
    """Take somebody out of the course. His hand-ins stay. For its instructors."""
    require(caller, course.id, Role.INSTRUCTOR)
    try:
        services.people.remove_member(caller.id, course.id, login)
    except LookupError as error:
        raise NotFound(str(error)) from None
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.post("/courses/{course}/tokens", status_code=status.HTTP_201_CREATED, responses=describe(Forbidden, NotFound))
def hand_out_tokens(
    course: CourseDep, wanted: HandOut, caller: CallerDep, services: ServicesDep
) -> list[StudentsToken]:
    """A token for each student of the course who has none that holds. For administrators.

    Asked again, it makes tokens for those alone who have come since.
    """
    require_admin(caller)
    return [
        StudentsToken(
            login=student.login,
            name=student.name,
            email=student.email,
            token=issued.secret,
            expires_at=issued.token.expires_at,
        )
        for student, issued in services.tokens.hand_out(caller.id, course.id, wanted.days)
    ]


@router.post("/courses/{course}/roster", responses=describe(Forbidden, NotFound, Taken, TooLarge))
def import_roster(
    course: CourseDep,
    caller: CallerDep,
    services: ServicesDep,
    file: Annotated[UploadFile, File(description="CSV with the columns login, name, email, role; only login must be")],
    *,
    dry_run: Annotated[bool, Query(description="only say what it would do")] = False,
    remove_missing: Annotated[bool, Query(description="take students out whom the file does not name")] = False,
) -> RosterResult:
    """Take a roster over, as a whole or not at all. For the course's instructors.

    People without an account get one. Where a line is at fault, the answer is 422, and `faults` names each.
    """
    require(caller, course.id, Role.INSTRUCTOR)
    entries, faults = read_roster(file.file.read(MAX_BYTES + 1))
    if faults:
        raise _refuse(faults)
    try:
        change = services.people.enrol(caller.id, course.id, entries, remove_missing=remove_missing, dry_run=dry_run)
    except BadRoster as error:
        raise _refuse(error.faults) from None
    except NameTaken as error:
        raise Taken(str(error)) from None
    return RosterResult(
        dry_run=dry_run,
        added=change.added,
        changed=change.changed,
        unchanged=change.unchanged,
        missing=change.missing,
        removed=remove_missing and not dry_run,
    )


def _refuse(faults: Sequence[Fault]) -> Unprocessable:
    lines = "\n".join(map(str, faults))
    return Unprocessable(
        f"Nothing of the roster was taken over.\n{lines}",
        faults=[{"line": fault.line, "fault": fault.text} for fault in faults],
    )


@router.get("/courses/{course}/audit", responses=describe(Forbidden, NotFound))
def list_audit(
    course: CourseDep,
    caller: CallerDep,
    services: ServicesDep,
    after: After = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
) -> list[AuditInfo]:
    """What touched grades, or who may, the oldest first. For the course's instructors."""
    require(caller, course.id, Role.INSTRUCTOR)
    with services.database.read() as session:
        return [present_audit(entry) for entry in audit.entries(session, course.id, after, limit)]


@router.get("/audit", responses=describe(Forbidden))
def list_server_audit(
    caller: CallerDep,
    services: ServicesDep,
    after: After = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
) -> list[AuditInfo]:
    """What belongs to no course: accounts and tokens. For administrators."""
    require_admin(caller)
    with services.database.read() as session:
        return [present_audit(entry) for entry in audit.entries(session, None, after, limit)]


def present(course: Course, role: Role | None) -> CourseInfo:
    return CourseInfo(id=course.id, title=course.title, created_at=course.created_at, role=role)


def present_member(enrolled: Enrolled) -> MemberInfo:
    user = enrolled.user
    return MemberInfo(id=user.id, login=user.login, name=user.name, email=user.email, role=enrolled.role)


def present_audit(entry: AuditEntry) -> AuditInfo:
    return AuditInfo(
        id=entry.id,
        at=entry.at,
        actor=entry.actor_id,
        action=entry.action,
        subject=entry.subject,
        reason=entry.reason,
        data=entry.data,
    )
