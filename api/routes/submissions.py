"""Handing in, and asking how it goes."""

from typing import Annotated
from urllib.parse import quote

import structlog
from fastapi import APIRouter, BackgroundTasks, File, Form, Header, Response, UploadFile, status

from api.access import CallerDep, require
from api.dependencies import AssignmentDep, OwnSubmission, PackDep, ServicesDep, SubmissionsDep
from api.intake import check_upload, combine
from api.links import submission_links
from api.problems import (
    AlreadyEnded,
    Busy,
    Forbidden,
    IdempotencyKeyReused,
    NotFound,
    TooLarge,
    Unprocessable,
    describe,
)
from api.schemas import Progress, Receipt, SubmissionStatus
from api.views import ViewDep
from records.broker import wake_workers
from records.logs import trace_of
from records.models import Role, Submission
from records.queue import Queue
from records.submissions import HandedIn, IdempotencyConflict, UnknownEarlier
from reference.pack import PackError

log = structlog.get_logger()

router = APIRouter(tags=["submissions"])

BUSY_SECONDS = 60  # a full queue does not empty sooner
CANCELLED_MESSAGE = (
    "The grading was cancelled on request. Your hand-in and its receipt stay; hand it in again to grade it."
)
CANCELLED_BY_STAFF_MESSAGE = (
    "The grading was cancelled by the staff of your course. Your hand-in and its receipt stay; ask them about it."
)
PROGRESS_EVENTS = ("training_progress", "generation_progress")


@router.post(
    "/assignments/{assignment}/submissions",
    status_code=status.HTTP_202_ACCEPTED,
    responses=describe(Forbidden, NotFound, TooLarge, IdempotencyKeyReused, Busy),
)
def submit(
    assignment: AssignmentDep,
    pack: PackDep,
    caller: CallerDep,
    services: ServicesDep,
    response: Response,
    background: BackgroundTasks,
    files: Annotated[list[UploadFile], File(description="one .py, .ipynb or .zip, or several .py and .ipynb")],
    recipe: Annotated[str | None, Form(description="one of the assignment's; the default one if absent")] = None,
    improves_on: Annotated[
        str | None, Form(description="id of your earlier submission: its hints then count as known")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=16,  # long enough that nobody meets somebody else's by accident
            max_length=200,
            description="any new random string: a repeated request with the same one is not a second submission",
        ),
    ] = None,
) -> SubmissionStatus:
    """Hand in. When the answer comes, bytes and receipt are stored; grading follows, and `links.events` tells of it."""
    require(caller, assignment.course_id, Role.STUDENT)
    if services.queue.waiting() >= services.settings.max_waiting:
        raise Busy(
            "More hand-ins wait than can be graded soon. Nothing was stored; try again in a minute.",
            headers={"Retry-After": str(BUSY_SECONDS)},
        )
    if len(files) > services.settings.max_files:
        raise Unprocessable(f"{len(files)} files are too many: {services.settings.max_files} at most.")
    uploads = [check_upload(file.filename or "", file.file.read()) for file in files]
    upload = combine(uploads, services.settings.max_upload_bytes)
    try:
        chosen = pack.recipe(recipe or None)
    except PackError as error:
        raise Unprocessable(str(error)) from None
    handed_in = HandedIn(
        assignment=assignment.id,
        recipe=chosen.name,
        file_name=upload.name,
        content=upload.content,
        user_id=caller.id,
        improves_on=improves_on or None,
    )
    try:
        intake = services.submissions.take_in(handed_in, idempotency_key)
    except IdempotencyConflict as error:
        raise IdempotencyKeyReused(str(error)) from None
    except UnknownEarlier as error:
        raise Unprocessable(str(error)) from None
    log.info("handed in", trace=trace_of(intake.submission.id), replayed=intake.replayed, identical=intake.identical)
    background.add_task(wake_workers, services.celery)  # after the answer: a broker that is gone delays nobody
    response.headers["Location"] = submission_links(intake.submission.id)["self"]
    response.headers["Idempotent-Replayed"] = str(intake.replayed).lower()
    response.headers["Identical-Resubmission"] = str(intake.identical).lower()
    return present(intake.submission, services.queue)


@router.get("/submissions/{submission}", responses=describe(NotFound))
def get_submission(submission: OwnSubmission, view: ViewDep, services: ServicesDep) -> SubmissionStatus:
    """How it goes: state, place in the queue, stage, progress."""
    last = None
    if not submission.grading.state.final:
        last = services.submissions.last_event(submission.grading, PROGRESS_EVENTS)
    told = None if last is None else view.event(last.type, last.data, services)
    progress = None if last is None or told is None else Progress(type=last.type, data=told)
    return present(submission, services.queue, progress)


@router.post("/submissions/{submission}/cancel", responses=describe(NotFound, AlreadyEnded))
def cancel_submission(submission: OwnSubmission, caller: CallerDep, services: ServicesDep) -> SubmissionStatus:
    """Give the grading up, whether it waits or runs. What was handed in stays, with its receipt.

    Where staff does it, the audit and the author are told.
    """
    if submission.user_id in (None, caller.id):
        cancelled = services.queue.cancel(submission.grading.id, CANCELLED_MESSAGE)
    else:
        cancelled = services.manual.cancel(caller.id, submission.id, CANCELLED_BY_STAFF_MESSAGE)
    if not cancelled:
        raise AlreadyEnded(f"The grading is {submission.grading.state}; there is nothing left to cancel.")
    current = services.submissions.get(submission.id)
    assert current is not None  # submissions stay
    return present(current, services.queue)


@router.get("/submissions/{submission}/hand-in", response_class=Response, responses=describe(NotFound))
def get_hand_in(submission: OwnSubmission, submissions: SubmissionsDep) -> Response:
    """What was handed in, byte for byte. Several files come back as the archive that they were stored as."""
    disposition = f"attachment; filename*=UTF-8''{quote(submission.file_name)}"
    return Response(
        submissions.content(submission),
        media_type="application/octet-stream",
        headers={"Content-Disposition": disposition},
    )


def present(submission: Submission, queue: Queue, progress: Progress | None = None) -> SubmissionStatus:
    grading = submission.grading
    position = queue.position(grading)
    return SubmissionStatus(
        id=submission.id,
        assignment=submission.assignment,
        recipe=grading.recipe,
        file_name=submission.file_name,
        receipt=Receipt(
            code=submission.receipt,
            sha256=submission.sha256,
            size=submission.size,
            received_at=submission.created_at,
        ),
        state=grading.state,
        position=position,
        seconds_left=queue.seconds_until_done(grading, position),
        stage=grading.stage,
        attempt=grading.attempts,
        progress=progress,
        message=grading.message,
        finished_at=grading.finished_at,
        links=submission_links(submission.id),
    )
