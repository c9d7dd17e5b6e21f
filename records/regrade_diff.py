"""What a regrade would change, before it does: per student and blank, with the likeliest cause."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from records.database import Database
from records.gradebook import Adjustments, adjustments, hint_prices
from records.models import Assignment, Comment, Grading, Mode, Regrade, RegradeItem, State, Submission, User
from records.policy import Policy
from records.versions import Versions

Cause = Literal[
    "check changed",  # the version has other checks, or another solution to compare with
    "points changed",  # the same outcome is worth something else
    "trained anew",  # another training, and not by chance alone
    "noise within its interval",  # another training; both accuracies lie within each other's interval
    "code path",  # neither: Noisemark itself, a library or a machine gives another result
]
_CHECKS = ("checks/", "solution.py", "misconceptions.toml")


class BlankChange(BaseModel):
    blank: str  # id, or `accuracy`
    before: str | None  # status; None: the version has no such blank
    after: str | None
    points_before: float
    points_after: float
    cause: Cause
    overridden: bool  # a person set the points: this change does not show in the score


class SubmissionChange(BaseModel):
    submission: str
    file_name: str
    login: str | None  # None: handed in without an account
    name: str | None
    state: State  # of the new grading
    score_before: float | None  # effective: with overrides, hints and lateness; None: there is no report
    score_after: float | None
    verdict_before: str | None
    verdict_after: str | None
    tier_before: str | None
    tier_after: str | None
    blanks: list[BlankChange]
    commented: bool  # people wrote about it; that stays as it is
    known: bool  # answered from stored results

    @property
    def changes(self) -> bool:
        """Whether anything is different that a student could see."""
        return bool(self.blanks) or (self.score_before, self.verdict_before, self.tier_before) != (
            self.score_after,
            self.verdict_after,
            self.tier_after,
        )


class Diff(BaseModel):
    regrade: int
    assignment: str
    mode: Mode
    version: str
    reason: str
    submissions: int
    unfinished: int  # their line may still come
    without_report: int  # rejected, or ended by a fault of ours: they stay as they are
    unchanged: int
    gain: int  # submissions whose score rises
    lose: int
    changes: list[SubmissionChange]  # those with a difference only, the largest loss first


class Diffs:
    """Reads regrades of one database."""

    def __init__(self, database: Database, versions: Versions) -> None:
        self._database = database
        self._versions = versions

    def of(self, regrade_id: int) -> Diff:
        """The difference that a regrade makes, or made. Raises `LookupError` where there is none."""
        with self._database.read() as session:
            regrade = session.get(Regrade, regrade_id)
            if regrade is None:
                raise LookupError(f"There is no regrade {regrade_id}.")
            return self._diff(session, regrade)

    def _diff(self, session: Session, regrade: Regrade) -> Diff:
        assignment = session.get_one(Assignment, regrade.assignment_id)
        policy = Policy.model_validate(assignment.policy)
        adjusted = adjustments(session, assignment)
        commented = set(session.scalars(select(Comment.submission_id)))
        before, after = aliased(Grading), aliased(Grading)
        rows = (
            select(Submission, User.login, User.name, before, after)
            .join(RegradeItem, RegradeItem.submission_id == Submission.id)
            .join(before, before.id == RegradeItem.before_id)
            .join(after, after.id == RegradeItem.after_id)
            .outerjoin(User, User.id == Submission.user_id)
            .where(RegradeItem.regrade_id == regrade.id)
            .order_by(User.login, Submission.created_at)
        )
        total, unfinished, without_report = 0, 0, 0
        changes: list[SubmissionChange] = []
        changed_checks: dict[str, bool] = {}
        for submission, login, name, old, new in session.execute(rows):
            total += 1
            if not new.state.final:
                unfinished += 1
                continue
            if new.state is not State.DONE:
                without_report += 1
                continue
            if old.version_id not in changed_checks:
                files = self._versions.changed_files(old.version_id, new.version_id)
                changed_checks[old.version_id] = any(file.startswith(_CHECKS) for file in files)
            own = adjusted[submission.id]
            scores = [self._score(grading, own, policy) for grading in (old, new)]
            change = SubmissionChange(
                submission=submission.id,
                file_name=submission.file_name,
                login=login,
                name=name,
                state=new.state,
                score_before=scores[0],
                score_after=scores[1],
                verdict_before=_of(old, "verdict"),
                verdict_after=_of(new, "verdict"),
                tier_before=_of(old, "tier"),
                tier_after=_of(new, "tier"),
                blanks=_blank_changes(old, new, own, checks_changed=changed_checks[old.version_id]),
                commented=submission.id in commented,
                known=new.regrade_id != regrade.id,
            )
            if change.changes:
                changes.append(change)
        gains = [_gain(change) for change in changes]
        return Diff(
            regrade=regrade.id,
            assignment=regrade.assignment_id,
            mode=regrade.mode,
            version=regrade.version_id,
            reason=regrade.reason,
            submissions=total,
            unfinished=unfinished,
            without_report=without_report,
            unchanged=total - unfinished - without_report - len(changes),
            gain=sum(gain > 0 for gain in gains),
            lose=sum(gain < 0 for gain in gains),
            changes=sorted(changes, key=_gain),
        )

    def _score(self, grading: Grading, own: Adjustments, policy: Policy) -> float | None:
        if grading.outcome is None:
            return None
        return own.score(grading.outcome, hint_prices(policy, self._versions, grading.version_id)).points


def _of(grading: Grading, name: str) -> str | None:
    return None if grading.outcome is None else grading.outcome.get(name)


def _gain(change: SubmissionChange) -> float:
    return (change.score_after or 0.0) - (change.score_before or 0.0)


def _blank_changes(old: Grading, new: Grading, own: Adjustments, *, checks_changed: bool) -> list[BlankChange]:
    nothing: Mapping[str, Any] = {"blanks": {}, "accuracy_points": 0.0, "accuracy": None}
    before, after = old.outcome or nothing, new.outcome or nothing
    found = []
    for blank in [*before["blanks"], *(blank for blank in after["blanks"] if blank not in before["blanks"])]:
        sides = [side["blanks"].get(blank, {"status": None, "points": 0.0}) for side in (before, after)]
        if sides[0]["status"] != sides[1]["status"]:
            cause: Cause = "check changed" if checks_changed else "code path"
        elif sides[0]["points"] != sides[1]["points"]:
            cause = "points changed"
        else:
            continue
        found.append(_change(blank, sides[0], sides[1], cause, own))
    sides = [{"status": _accuracy(side), "points": side["accuracy_points"]} for side in (before, after)]
    if sides[0] != sides[1]:
        found.append(_change("accuracy", sides[0], sides[1], _accuracy_cause(before, after, new.mode), own))
    return found


def _change(
    blank: str, before: Mapping[str, Any], after: Mapping[str, Any], cause: Cause, own: Adjustments
) -> BlankChange:
    return BlankChange(
        blank=blank,
        before=before["status"],
        after=after["status"],
        points_before=before["points"],
        points_after=after["points"],
        cause=cause,
        overridden=blank in own.overrides,
    )


def _accuracy(outcome: Mapping[str, Any]) -> str | None:
    return None if outcome["accuracy"] is None else f"{outcome['accuracy']['estimate']:.1%}"


def _accuracy_cause(before: Mapping[str, Any], after: Mapping[str, Any], mode: Mode) -> Cause:
    old, new = before["accuracy"], after["accuracy"]
    if mode is not Mode.FULL:
        return "points changed" if old == new else "code path"
    if old is None or new is None:
        return "trained anew"
    overlap = max(old["low"], new["low"]) <= min(old["high"], new["high"])
    return "noise within its interval" if overlap else "trained anew"
