"""What a caller may see of a submission's grading: staff everything, its author what the policy shows him now."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends

from api.access import CallerDep
from api.dependencies import OwnSubmission, Services, ServicesDep
from grading.outcomes import Outcome
from grading.redaction import redact
from grading.report import WORKS_TOGETHER, Report
from records.models import Assignment, Role, State, Submission, utc_now
from records.policy import Grant, Policy, shown_when, shows_all

TOLD_AT_THE_END = ("verdict", "score", "max_score", "summary")  # of the report, by the event `done`


@dataclass(frozen=True, kw_only=True)
class View:
    """One caller's view of one submission."""

    submission: Submission
    policy: Policy
    whole: bool  # nothing is hidden
    _grant: Grant
    _published_at: datetime | None
    _now: datetime

    def report(self, services: Services) -> Report | None:
        """The report, without what is hidden; None where there is none."""
        grading = self.submission.grading
        if grading.state is not State.DONE or grading.report_sha256 is None:
            return None
        report = Report.model_validate_json(services.blobs.get(grading.report_sha256))
        return report if self.whole else redact(report, self.hidden)

    def hidden(self, blank: str, check: str) -> str | None:
        """When this check is shown, in words; None: it is shown now."""
        level = self.policy.level(blank, check)
        return None if self.whole else shown_when(self.policy, self._grant, level, self._now, self._published_at)

    def may_hide(self, blank: str) -> bool:
        """Whether any check of a blank may be hidden."""
        if self.whole:
            return False
        levels = self.policy.levels(blank)
        return any(
            shown_when(self.policy, self._grant, level, self._now, self._published_at) is not None for level in levels
        )

    def event(self, type_: str, data: Mapping[str, Any], services: Services) -> dict[str, Any] | None:
        """What is told of an event; None: nothing. It must give away no more than the report does."""
        if self.whole:
            return dict(data)
        if data.get("run") == "repaired":  # whether there is such a run says whether a blank failed
            return None
        match type_:
            case "check_finished":
                # One that was skipped may have been stopped by a hidden one, of this blank or one that it builds on
                told = data["outcome"] != Outcome.SKIPPED and not self._follows_hidden_ones(data)
                return dict(data) if told and self.hidden(data["blank"], data["check"]) is None else None
            case "blank_finished" if data["outcome"] == Outcome.SKIPPED or (
                self.may_hide(data["blank"]) and data["outcome"] != Outcome.NOT_ATTEMPTED
            ):
                return dict(data) | {"outcome": Outcome.WITHHELD, "points": 0.0}
            case State.DONE:
                current = services.submissions.get(self.submission.id)  # it is done only now
                report = None if current is None else replace(self, submission=current).report(services)
                return {} if report is None else report.model_dump(mode="json", include=set(TOLD_AT_THE_END))
        return dict(data)

    def _follows_hidden_ones(self, data: Mapping[str, Any]) -> bool:
        """Whether a check takes place only where hidden ones of its blank have passed."""
        return data["check"] == WORKS_TOGETHER and self.may_hide(data["blank"])

    def shows_image(self, name: str) -> bool:
        """Images of the repaired run go with it."""
        return self.whole or "repaired" not in name


def get_view(submission: OwnSubmission, caller: CallerDep, services: ServicesDep) -> View:
    with services.database.read() as session:
        assignment = session.get_one(Assignment, submission.assignment)
    policy = Policy.model_validate(assignment.policy)
    # The dates are those of who handed in
    grant = services.assignments.grant(assignment.id, submission.user_id)
    now, published_at = utc_now(), assignment.grades_published_at
    is_staff = caller.is_at_least(Role.GRADER, assignment.course_id)
    return View(
        submission=submission,
        policy=policy,
        whole=is_staff or shows_all(policy, grant, now, published_at),
        _grant=grant,
        _published_at=published_at,
        _now=now,
    )


ViewDep = Annotated[View, Depends(get_view)]
