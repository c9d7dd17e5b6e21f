"""Hints: one step at a time, on request."""

from typing import Annotated

from fastapi import APIRouter, Path

from api.dependencies import AuthoredSubmission, OwnSubmission, ServicesDep
from api.problems import Forbidden, NoHint, NotFound, describe
from api.schemas import BlankHints, Hint, SubmissionHints
from api.views import ViewDep
from grading.report import Report
from records.hints import History
from reference.pack import Blank, HintPolicy, Pack

router = APIRouter(prefix="/submissions/{submission}/hints", tags=["hints"])


@router.get("", responses=describe(NotFound))
def get_hints(submission: OwnSubmission, view: ViewDep, services: ServicesDep) -> SubmissionHints:
    """What has been revealed so far, what there is to ask for, and what it costs."""
    pack = services.versions.pack(submission.grading.version_id)
    rules = view.policy.hint_policy(pack.file.hints)
    report = view.report(services)
    history = services.hints.history(submission.id)
    blanks = [present(pack, rules, blank, history, report) for blank in pack.blanks if blank.id in pack.hints]
    cost = sum(cost_of(rules, blank, history, report) for blank in pack.blanks) if report and rules else 0.0
    return SubmissionHints(
        blanks=blanks, cost=cost, score_after_hints=None if report is None else max(0.0, report.score - cost)
    )


@router.post("/{blank}", responses=describe(Forbidden, NotFound, NoHint))
def ask_for_hint(
    submission: AuthoredSubmission,
    blank: Annotated[str, Path(description="id of the blank, or one of the other names that it is handed in under")],
    view: ViewDep,
    services: ServicesDep,
) -> BlankHints:
    """Reveal the next step. It is recorded, also for the hand-ins that improve on this one."""
    pack = services.versions.pack(submission.grading.version_id)
    found = find_blank(pack, blank)
    rules = view.policy.hint_policy(pack.file.hints)
    report = view.report(services)
    offer = present(pack, rules, found, services.hints.history(submission.id), report)
    if offer.unavailable is not None:
        raise NoHint(offer.unavailable)
    services.hints.ask(submission.id, found.id, len(offer.revealed) + 1)
    return present(pack, rules, found, services.hints.history(submission.id), report)


def find_blank(pack: Pack, name: str) -> Blank:
    """The blank of that name, or alias, for which there are hints. Raises `NotFound` naming those there are."""
    with_hints = [blank for blank in pack.blanks if blank.id in pack.hints]
    found = next((blank for blank in with_hints if name.strip() in blank.names), None)
    if found is None:
        known = ", ".join(blank.id for blank in with_hints) or "none"
        raise NotFound(f"There are no hints for {name!r}. There are hints for: {known}.")
    return found


def present(pack: Pack, rules: HintPolicy | None, blank: Blank, history: History, report: Report | None) -> BlankHints:
    steps = list(pack.hints[blank.id].model_dump().items())
    asked = history.asked.get(blank.id, 0)
    unavailable = _why_not(rules, blank, history, report, len(steps))
    return BlankHints(
        blank=blank.id,
        title=blank.title,
        revealed=[Hint(name=name, text=text) for name, text in steps[:asked]],
        left=len(steps) - asked,
        next_cost=None if unavailable or rules is None else rules.cost[asked] * blank.points,
        unavailable=unavailable,
    )


def _why_not(rules: HintPolicy | None, blank: Blank, history: History, report: Report | None, steps: int) -> str | None:
    asked = history.asked.get(blank.id, 0)
    if rules is None:
        return "Your course gives no hints."
    if asked == steps:
        return "You have seen every hint for this blank."
    if report is not None and any(found.id == blank.id and found.status == "passed" for found in report.blanks):
        return "This blank is right already."
    if rules.reveal == "per_attempt":
        if report is None:
            return "Hints come with the report."
        if asked >= history.attempts:
            return "The next hint comes with your next attempt. Hand it in as an improvement on this one."
    return None


def cost_of(rules: HintPolicy, blank: Blank, history: History, report: Report) -> float:
    """Points that the hints for a blank take from this report: never more than the blank earned."""
    asked = history.asked.get(blank.id, 0)
    earned = next((found.points for found in report.blanks if found.id == blank.id), 0.0)
    return min(earned, sum(rules.cost[:asked]) * blank.points)
