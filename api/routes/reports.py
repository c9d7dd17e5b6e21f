"""Reports and their images."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.responses import HTMLResponse

from api.dependencies import GradedSubmission, OwnSubmission, Services, ServicesDep
from api.problems import NotFound, NotReady, describe
from api.views import View, ViewDep
from grading.page import render
from grading.report import Report

router = APIRouter(prefix="/submissions/{submission}", tags=["reports"])

# The page brings styles and images along, and needs nothing else. Student text is in it: should an escape ever be
# missing, then no script runs, nothing is loaded or sent anywhere, and the page has no origin to act from.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-popups"
)


@router.get("/report", response_model=Report, responses=describe(NotFound, NotReady))
def get_report(submission: GradedSubmission, view: ViewDep, services: ServicesDep) -> Response:
    """The report as JSON, without checks that the policy hides from you for now."""
    if not view.whole:
        report = view.report(services)
        assert report is not None  # it is graded
        return Response(report.model_dump_json(), media_type="application/json")
    assert submission.grading.report_sha256 is not None  # a constraint of the table
    return Response(services.blobs.get(submission.grading.report_sha256), media_type="application/json")


@router.get("/report.html", response_class=HTMLResponse, responses=describe(NotFound, NotReady))
def get_report_page(submission: GradedSubmission, view: ViewDep, services: ServicesDep) -> Response:
    """The report as a page that needs nothing else."""
    assert submission.grading.html_sha256 is not None  # a constraint of the table
    headers = {"Content-Security-Policy": PAGE_POLICY}
    if not view.whole:
        return HTMLResponse(_render(view, services), headers=headers)
    return HTMLResponse(services.blobs.get(submission.grading.html_sha256), headers=headers)


@router.get("/images/{name}", response_class=Response, responses=describe(NotFound))
def get_image(
    submission: OwnSubmission,
    view: ViewDep,
    services: ServicesDep,
    name: Annotated[str, Path(description="as the report or an event of type `sample_grid` names it")],
) -> Response:
    """One image of the report, or of its progress."""
    artifact = services.submissions.artifact(submission.grading, name)
    if artifact is None or not view.shows_image(name):
        raise NotFound("This submission has no such image.")
    return Response(services.blobs.get(artifact.sha256), media_type=artifact.media_type)


def _render(view: View, services: Services) -> str:
    """The page of a report from which something was left out."""
    report = view.report(services)
    assert report is not None  # it is graded
    grading = view.submission.grading
    images = {
        artifact.name: services.blobs.get(artifact.sha256)
        for artifact in services.submissions.report_images(grading)
        if view.shows_image(artifact.name)
    }
    return render(report, images, services.versions.pack(grading.version_id).file.title)
