"""Bringing in the hand-ins of a whole course at once."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, File, Form, UploadFile
from pydantic import BaseModel, Field

from api.access import CallerDep, require
from api.bulk import Matched, Plan, open_archives, plan
from api.dependencies import AssignmentDep, PackDep, ServicesDep
from api.problems import Forbidden, NotFound, TooLarge, Unprocessable, describe
from records import audit
from records.broker import wake_workers
from records.models import Role, utc_now
from records.policy import Moment
from records.submissions import HandedIn
from reference.pack import PackError

router = APIRouter(tags=["submissions"])


class BroughtIn(BaseModel):
    login: str
    files: list[str]
    submission: str | None = Field(description="id; null in a dry run")
    identical: bool = Field(description="the student had handed in the same before: nothing was stored")


class NotBroughtIn(BaseModel):
    file: str
    why: str


class BulkResult(BaseModel):
    dry_run: bool
    taken: list[BroughtIn]
    unmatched: list[NotBroughtIn]


@router.post("/assignments/{assignment}/bulk", responses=describe(Forbidden, NotFound, TooLarge))
def bring_in(
    assignment: AssignmentDep,
    pack: PackDep,
    caller: CallerDep,
    services: ServicesDep,
    background: BackgroundTasks,
    files: Annotated[list[UploadFile], File(description="a zip as Canvas, Moodle or Gradescope give it, or files")],
    dry_run: Annotated[bool, Form(description="only say which file is whose")] = False,
    partial: Annotated[bool, Form(description="take what can be matched, and leave the rest")] = False,
    received_at: Annotated[
        Moment | None, Form(description="when they were handed in elsewhere; now, if absent. It is audited")
    ] = None,
    recipe: Annotated[str | None, Form(description="one of the assignment's; the default one if absent")] = None,
) -> BulkResult:
    """Take in hand-ins for students, whatever dates and caps say. The same files again are recognised."""
    require(caller, assignment.course_id, Role.INSTRUCTOR)
    if received_at is not None and received_at > utc_now():
        raise Unprocessable("received_at lies in the future.")
    try:
        chosen = pack.recipe(recipe or None)
    except PackError as error:
        raise Unprocessable(str(error)) from None
    found = open_archives((file.filename or "", file.file.read()) for file in files)
    members = services.people.members(assignment.course_id)
    students = [member.user for member in members if member.role is Role.STUDENT]
    planned = plan(found, students, services.settings.max_upload_bytes)
    if dry_run:
        return _result(planned, [_brought_in(matched, None, identical=False) for matched in planned.matched])
    if planned.unmatched and not partial:
        raise Unprocessable(
            f"{len(planned.unmatched)} of {len(found)} files cannot be brought in, so nothing was. The first: "
            f"{planned.unmatched[0].file}: {planned.unmatched[0].why} "
            "dry_run shows them all, partial leaves them out.",
            unmatched=[{"file": one.file, "why": one.why} for one in planned.unmatched],
        )
    with services.database.write() as session:  # first: who said when it came is known, whatever happens after
        audit.note(
            session,
            caller.id,
            "hand-ins brought in",
            assignment.course_id,
            f"assignment {assignment.id}",
            received_at=None if received_at is None else received_at.isoformat(),
            files={str(matched.user.id): len(matched.files) for matched in planned.matched},  # users by id
        )
    taken = []
    for matched in planned.matched:
        handed_in = HandedIn(
            assignment=assignment.id,
            recipe=chosen.name,
            file_name=matched.upload.name,
            content=matched.upload.content,
            user_id=matched.user.id,
            by_staff=True,
            received_at=received_at,
        )
        intake = services.submissions.take_in(handed_in)
        taken.append(_brought_in(matched, intake.submission.id, identical=intake.identical))
    background.add_task(wake_workers, services.celery)
    return _result(planned, taken, dry_run=False)


def _brought_in(matched: Matched, submission: str | None, *, identical: bool) -> BroughtIn:
    return BroughtIn(login=matched.user.login, files=list(matched.files), submission=submission, identical=identical)


def _result(planned: Plan, taken: list[BroughtIn], *, dry_run: bool = True) -> BulkResult:
    unmatched = [NotBroughtIn(file=one.file, why=one.why) for one in planned.unmatched]
    return BulkResult(dry_run=dry_run, taken=taken, unmatched=unmatched)
