"""What routes ask for, as `Annotated` aliases. Access is decided here, never in a route."""

from typing import Annotated

from celery import Celery
from fastapi import Depends, Path, Request
from sqlalchemy import select

from api.access import Caller, CallerDep, require_any_scope
from api.problems import Forbidden, NotFound, NotReady
from api.tries import WrongTries
from records.assignments import Assignments
from records.blobs import BlobStore
from records.broker import make_celery
from records.database import Database
from records.gradebook import Gradebook
from records.hints import Hints
from records.manual import Manual
from records.models import Assignment, Course, Role, State, Submission
from records.people import People
from records.queue import Queue
from records.regrade_diff import Diffs
from records.regrades import Regrades
from records.settings import Settings
from records.statistics import Figures
from records.submissions import Submissions
from records.tokens import Scope, Tokens
from records.versions import Versions
from records.workers import Workers
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
        self.assignments = Assignments(self.database)
        self.gradebook = Gradebook(self.database, self.versions)
        self.manual = Manual(self.database)
        self.regrades = Regrades(self.database, self.versions, self.gradebook)
        self.diffs = Diffs(self.database, self.versions)
        self.people = People(self.database)
        self.tokens = Tokens(self.database)
        self.wrong_tries = WrongTries()
        self.queue = Queue(self.database, settings)
        self.workers = Workers(self.database)
        self.figures = Figures(self.database)
        self.celery: Celery = make_celery(settings.redis_url.get_secret_value())

    def close(self) -> None:
        self.celery.close()
        self.database.close()


async def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


async def get_submissions(services: ServicesDep) -> Submissions:
    return services.submissions


SubmissionsDep = Annotated[Submissions, Depends(get_submissions)]


def get_assignment(
    assignment: Annotated[str, Path(description="as in the list of assignments")],
    caller: CallerDep,
    services: ServicesDep,
) -> Assignment:
    """An assignment of a course that the caller is in."""
    with services.database.read() as session:
        found = session.get(Assignment, assignment)
    if found is None or caller.role_in(found.course_id) is None:
        known = ", ".join(visible.id for visible in visible_assignments(caller, services)) or "none"
        raise NotFound(f"There is no assignment {assignment!r}. There are: {known}.")
    return found


def visible_assignments(caller: Caller, services: Services) -> list[Assignment]:
    """Those of the courses that the caller is in."""
    with services.database.read() as session:
        every = session.scalars(select(Assignment).order_by(Assignment.id))
        return [assignment for assignment in every if caller.role_in(assignment.course_id) is not None]


AssignmentDep = Annotated[Assignment, Depends(get_assignment)]


def get_pack(assignment: AssignmentDep, services: ServicesDep) -> Pack:
    """The version of the assignment's pack that is in force."""
    return services.versions.pack(assignment.version_id)


PackDep = Annotated[Pack, Depends(get_pack)]


def get_course(
    course: Annotated[str, Path(description="as in the list of courses")], caller: CallerDep, services: ServicesDep
) -> Course:
    """A course that the caller is in."""
    with services.database.read() as session:
        found = session.get(Course, course)
    if found is None or caller.role_in(course) is None:
        raise NotFound(f"There is no course {course!r}.")
    return found


CourseDep = Annotated[Course, Depends(get_course)]


def get_own_submission(
    submission: Annotated[str, Path(description="the id from the answer to handing in")],
    caller: CallerDep,
    services: ServicesDep,
) -> Submission:
    """A submission for its author and the staff of its course; one without an author for whoever knows the id."""
    found = services.submissions.get(submission)
    scopes = set() if found is None else _scopes_for(found, caller, services)
    if found is None or not scopes:
        raise NotFound("There is no submission with this id.")
    if caller.changes:
        require_any_scope(caller, scopes)
    return found


def _scopes_for(submission: Submission, caller: Caller, services: Services) -> set[Scope]:
    """As what the caller has to do with a submission. Nothing: not at all."""
    scopes = set()
    if submission.user_id in (None, caller.id):
        scopes.add(Scope.SUBMIT)
    with services.database.read() as session:
        course = session.get_one(Assignment, submission.assignment).course_id
    if caller.is_at_least(Role.GRADER, course):
        scopes.add(Scope.GRADE)
    return scopes


OwnSubmission = Annotated[Submission, Depends(get_own_submission)]


def get_authored_submission(submission: OwnSubmission, caller: CallerDep) -> Submission:
    """For what only the author may do, since it costs him something. Staff looks on."""
    if submission.user_id not in (None, caller.id):
        raise Forbidden("Only the author of a submission may do this.")
    return submission


AuthoredSubmission = Annotated[Submission, Depends(get_authored_submission)]


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
