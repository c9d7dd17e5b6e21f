"""The pages for a browser. They use the API as everybody else does."""

from contextlib import suppress
from http import HTTPStatus
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from api.access import CallerDep
from api.dependencies import AuthoredSubmission, OwnSubmission, ServicesDep, visible_assignments
from api.intake import SUFFIXES
from api.links import submission_links
from api.problems import NoHint
from api.routes.assignments import present
from api.routes.assignments_admin import get_terms
from api.routes.hints import ask_for_hint, get_hints
from api.templating import templates
from api.views import ViewDep
from records.policy import Policy
from records.versions import OPEN_COURSE

OWN = 20  # hand-ins on the first page, the latest: more than anybody makes of one assignment in a week
NEWS = 5  # notices there

router = APIRouter(include_in_schema=False)


@router.get("/")
def show_home(request: Request, caller: CallerDep, services: ServicesDep) -> HTMLResponse:
    cards = []
    for assignment in visible_assignments(caller, services):
        terms = get_terms(assignment, caller, services)
        due = None if terms.due_at is None else Policy.model_validate(assignment.policy).show(terms.due_at)
        info = present(assignment, services.versions.pack(assignment.version_id))
        practice = assignment.course_id == OPEN_COURSE
        cards.append({"assignment": info, "terms": terms, "due": due, "practice": practice})
    context = {
        "cards": cards,
        "suffixes": ",".join(SUFFIXES),
        "max_bytes": services.settings.max_upload_bytes,
        "own": [] if caller.id is None else services.submissions.of_user(caller.id, OWN),
        "notices": [] if caller.id is None else services.people.notices(caller.id, NEWS),
    }
    return templates.TemplateResponse(request, "home.html", context)


@router.get("/submissions/{submission}")
def show_submission(request: Request, submission: OwnSubmission, services: ServicesDep) -> HTMLResponse:
    context = {
        "submission": submission,
        "links": submission_links(submission.id),
        "work": services.manual.of(submission.id),
    }
    return templates.TemplateResponse(request, "submission.html", context)


@router.get("/submissions/{submission}/hints")
def show_hints(request: Request, submission: OwnSubmission, view: ViewDep, services: ServicesDep) -> HTMLResponse:
    context = {
        "submission": submission,
        "links": submission_links(submission.id),
        "hints": get_hints(submission, view, services),
    }
    return templates.TemplateResponse(request, "hints.html", context)


@router.post("/submissions/{submission}/hints/{blank}")
def show_next_hint(
    submission: AuthoredSubmission, blank: str, view: ViewDep, services: ServicesDep
) -> RedirectResponse:
    with suppress(NoHint):  # a second click; the page says why there is none
        ask_for_hint(submission, blank, view, services)
    place = f"{submission_links(submission.id)['hints_page']}#{quote(blank)}"
    return RedirectResponse(place, status_code=HTTPStatus.SEE_OTHER)
