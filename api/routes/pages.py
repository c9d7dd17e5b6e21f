"""The pages for a browser. They use the API as everybody else does."""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates

from api.dependencies import OwnSubmission
from api.intake import SUFFIXES
from api.links import submission_links
from api.routes.assignments import list_assignments

router = APIRouter(include_in_schema=False)
templates = Jinja2Templates(Path(__file__).parent.parent / "templates")


@router.get("/")
def show_home(request: Request) -> HTMLResponse:
    context = {"assignments": list_assignments(), "suffixes": ",".join(SUFFIXES)}
    return templates.TemplateResponse(request, "home.html", context)


@router.get("/submissions/{submission}")
def show_submission(request: Request, submission: OwnSubmission) -> HTMLResponse:
    context = {"submission": submission, "links": submission_links(submission.id)}
    return templates.TemplateResponse(request, "submission.html", context)
