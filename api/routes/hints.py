"""Hints: one step at a time, on request."""

from typing import Annotated

from fastapi import APIRouter, Path

from api.dependencies import AuthoredSubmission, OwnSubmission, ServicesDep
from api.problems import NoHint, NotFound, describe
from api.schemas import BlankHints, Hint, SubmissionHints
from grading.report import Report
from records.hints import History
from records.models import State, Submission
from reference.pack import Blank, Pack

router = APIRouter(prefix="/submissions/{submission}/hints", tags=["hints"])


@router.get("", responses=describe(NotFound))
def get_hints(submission: OwnSubmission, services: ServicesDep) -> SubmissionHints:
    """What has been revealed so far, what there is to ask for, and what it costs."""
    pack = services.versions.pack(submission.grading.version_id)
    report = read_report(submission, services)
    history = services.hints.history(submission.id)
    blanks = [present(pack, blank, history, report) for blank in pack.blanks if blank.id in pack.hints]
    cost = sum(cost_of(pack, blank, history, report) for blank in pack.blanks) if report else 0.0
    return SubmissionHints(
        blanks=blanks, cost=cost, score_after_hints=None if report is None else max(0.0, report.score - cost)
    )


@router.post("/{blank}", responses=describe(NotFound, NoHint))
def ask_for_hint(
    submission: AuthoredSubmission,
    blank: Annotated[str, Path(description="id of the blank")],
    services: ServicesDep,
) -> BlankHints:
    """Reveal the next step. It is recorded, also for the hand-ins that improve on this one."""
    pack = services.versions.pack(submission.grading.version_id)
    found = next((known for known in pack.blanks if known.id == blank and blank in pack.hints), None)
    if found is None:
        raise NotFound(f"There are no hints for {blank!r}.")
    report = read_report(submission, services)
    offer = present(pack, found, services.hints.history(submission.id), report)
    if offer.unavailable is not None:
        raise NoHint(offer.unavailable)
    services.hints.ask(submission.id, blank, len(offer.revealed) + 1)
    return present(pack, found, services.hints.history(submission.id), report)


def read_report(submission: Submission, services: ServicesDep) -> Report | None:
    if submission.grading.state is not State.DONE:
        return None
    assert submission.grading.report_sha256 is not None  # a constraint of the table
    return Report.model_validate_json(services.blobs.get(submission.grading.report_sha256))


def present(pack: Pack, blank: Blank, history: History, report: Report | None) -> BlankHints:
    steps = list(pack.hints[blank.id].model_dump().items())
    asked = history.asked.get(blank.id, 0)
    unavailable = _why_not(pack, blank, history, report, len(steps))
    return BlankHints(
        blank=blank.id,
        title=blank.title,
        revealed=[Hint(name=name, text=text) for name, text in steps[:asked]],
        left=len(steps) - asked,
        next_cost=None if unavailable else pack.file.hints.cost[asked] * blank.points,
        unavailable=unavailable,
    )


def _why_not(pack: Pack, blank: Blank, history: History, report: Report | None, steps: int) -> str | None:
    asked = history.asked.get(blank.id, 0)
    if asked == steps:
        return "You have seen every hint for this blank."
    if report is not None and any(found.id == blank.id and found.status == "passed" for found in report.blanks):
        return "This blank is right already."
    if pack.file.hints.reveal == "per_attempt":
        if report is None:
            return "Hints come with the report."
        if asked >= history.attempts:
            return "The next hint comes with your next attempt. Hand it in as an improvement on this one."
    return None


def cost_of(pack: Pack, blank: Blank, history: History, report: Report) -> float:
    """Points that the hints for a blank take from this report: never more than the blank earned."""
    asked = history.asked.get(blank.id, 0)
    earned = next((found.points for found in report.blanks if found.id == blank.id), 0.0)
    return min(earned, sum(pack.file.hints.cost[:asked]) * blank.points)
