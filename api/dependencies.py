"""What routes ask for, as `Annotated` aliases. Access is decided here, never in a route."""

import base64
import binascii
import hmac
from typing import Annotated

from celery import Celery
from fastapi import Depends, Path, Request
from sqlalchemy import select

from api.problems import CrossSite, NotFound, NotReady, Unauthorized
from records.blobs import BlobStore
from records.broker import make_celery
from records.database import Database
from records.hints import Hints
from records.models import Assignment, State, Submission
from records.queue import Queue
from records.settings import Settings
from records.submissions import Submissions
from records.versions import Versions
from reference.pack import Pack


class Services:
    """What lives as long as the process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database)
        self.blobs = BlobStore(settings.blob_dir)
        self.versions = Versions(self.database, self.blobs, settings.version_dir)
        self.submissions = Submissions(self.database, self.blobs, settings.derived_key("receipts"))
        self.hints = Hints(self.database)
        self.queue = Queue(self.database, settings)
        self.celery: Celery = make_celery(settings.redis_url.get_secret_value())

    def close(self) -> None:
        self.celery.close()
        self.database.close()


def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


def get_submissions(services: ServicesDep) -> Submissions:
    return services.submissions


SubmissionsDep = Annotated[Submissions, Depends(get_submissions)]


def authorize(request: Request, services: ServicesDep) -> None:
    """Lets in who has the token, where there is one.

    Programs send it as a bearer token; browsers as the password of HTTP Basic (the user name does not matter), which
    they then send along with forms, images and event streams too. Since they also do so from other sites' pages, what
    changes anything is refused from there.
    """
    if request.method not in ("GET", "HEAD") and request.headers.get("sec-fetch-site", "none") == "cross-site":
        raise CrossSite("This request came from another site's page.")
    token = services.settings.api_token
    if token is None:
        return
    if not hmac.compare_digest(_presented_token(request).encode(), token.get_secret_value().encode()):
        raise Unauthorized(
            "This server asks for its token: 'Authorization: Bearer TOKEN', or as the password in a browser.",
            headers={"WWW-Authenticate": 'Basic realm="Noisemark", charset="UTF-8"'},
        )


def _presented_token(request: Request) -> str:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic":
            try:
                return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return ""
        case _:
            return ""


def get_assignment(
    assignment: Annotated[str, Path(description="as in the list of assignments")], services: ServicesDep
) -> Assignment:
    with services.database.read() as session:
        found = session.get(Assignment, assignment)
        if found is None:
            known = ", ".join(session.scalars(select(Assignment.id).order_by(Assignment.id)))
            raise NotFound(f"There is no assignment {assignment!r}. There are: {known}.")
        return found


AssignmentDep = Annotated[Assignment, Depends(get_assignment)]


def get_pack(assignment: AssignmentDep, services: ServicesDep) -> Pack:
    """The version of the assignment's pack that is in force."""
    return services.versions.pack(assignment.version_id)


PackDep = Annotated[Pack, Depends(get_pack)]


def get_own_submission(
    submission: Annotated[str, Path(description="the id from the answer to handing in")], submissions: SubmissionsDep
) -> Submission:
    """The submission that the caller has the capability for."""
    found = submissions.get(submission)
    if found is None:
        raise NotFound("There is no submission with this id.")
    return found


OwnSubmission = Annotated[Submission, Depends(get_own_submission)]


def get_graded_submission(submission: OwnSubmission) -> Submission:
    """The caller's submission, where it has a report."""
    grading = submission.grading
    if grading.state is State.DONE:
        return submission
    if grading.state.final:
        raise NotReady(grading.message or "There will be no report.", state=grading.state)
    raise NotReady(
        f"The grading is {grading.state}; there is no report yet.",
        headers={"Retry-After": "5"},  # seconds: gradings take from some seconds to minutes
        state=grading.state,
    )


GradedSubmission = Annotated[Submission, Depends(get_graded_submission)]
