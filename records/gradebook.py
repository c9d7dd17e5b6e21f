"""Who has which grade, and out of what: reports, what people decided by hand, hints, lateness, and the policy.

Everything is read in a handful of queries, however many students there are.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from records.database import Database
from records.intake_rules import ATTEMPTS, STAFF, grant_of
from records.models import (
    Assignment,
    Extension,
    FlagDecision,
    Grading,
    HintAsked,
    Improvement,
    Member,
    Override,
    Role,
    State,
    Submission,
    User,
)
from records.policy import Policy, penalty, which_counts
from records.versions import Versions

ACCURACY = "accuracy"  # what an override of the accuracy points has in place of a blank


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score and how it came about, in points."""

    reported: float  # what the report says
    overrides: float = 0.0  # what people added by hand, or took
    withheld: float = 0.0  # accuracy points, where an integrity flag was confirmed
    hints: float = 0.0  # what hints cost
    late: float = 0.0  # what lateness costs
    points: float  # what remains, never less than nothing
    max_points: float


def effective_score(
    outcome: Mapping[str, Any],
    overrides: Mapping[str, float],
    decisions: Mapping[str, bool],
    hint_cost: Mapping[str, float],
    penalty: float,
) -> Score:
    """What a grading is worth.

    Args:
        outcome: `Grading.outcome`.
        overrides: points that count in place of the report's, by blank or `accuracy`.
        decisions: integrity flag -> whether it was confirmed. One that the outcome does not raise does not matter.
        hint_cost: share of a blank's points that the hints asked for cost; never more than the blank earned.
        penalty: share of the maximal score that lateness costs.
    """
    earned = {name: float(blank["points"]) for name, blank in outcome["blanks"].items()}
    earned[ACCURACY] = float(outcome["accuracy_points"])
    # An override of a blank that this version no longer has is worth nothing
    changes = {name: points - earned[name] for name, points in overrides.items() if name in earned}
    earned |= {name: points for name, points in overrides.items() if name in earned}
    withheld = earned[ACCURACY] if any(decisions.get(flag, False) for flag in outcome["flags"]) else 0.0
    hints = sum(
        min(earned[name], share * outcome["blanks"][name]["max_points"])
        for name, share in hint_cost.items()
        if name in outcome["blanks"]
    )
    max_points = float(outcome["max_score"])
    reported, late = float(outcome["score"]), penalty * max_points
    changed = sum(changes.values())
    return Score(
        reported=reported,
        overrides=changed,
        withheld=withheld,
        hints=hints,
        late=late,
        points=max(0.0, reported + changed - withheld - hints - late),
        max_points=max_points,
    )


@dataclass(frozen=True, kw_only=True)
class Adjustments:
    """What changes a submission's score beside its report. It stays with the submission across regrades."""

    overrides: Mapping[str, float]
    decisions: Mapping[str, bool]
    hint_steps: Mapping[str, int]  # blank -> steps revealed, here and in what this improves on
    penalty: float

    def score(self, outcome: Mapping[str, Any], hint_prices: tuple[float, float, float]) -> Score:
        """`hint_prices`: of a blank's points, for each step (see `hint_prices`)."""
        cost = {blank: sum(hint_prices[:steps]) for blank, steps in self.hint_steps.items()}
        return effective_score(outcome, self.overrides, self.decisions, cost, self.penalty)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One hand-in in the gradebook."""

    submission_id: str
    received_at: datetime
    state: State
    outcome: Mapping[str, Any] | None
    penalty: float  # share of the maximal score
    score: Score | None  # None: there is no report


@dataclass(frozen=True, kw_only=True)
class Student:
    id: int
    login: str
    name: str
    email: str


@dataclass(frozen=True, kw_only=True)
class Grade:
    """One student's line."""

    student: Student
    attempts: tuple[Attempt, ...]  # in the order in which they came
    counting: Attempt | None  # None: nothing is graded yet
    pending: bool  # a grading is under way, and may change what counts


def hint_prices(policy: Policy, versions: Versions, version_id: str) -> tuple[float, float, float]:
    """What each step of hints costs under a version, as a share of the blank's points."""
    rules = policy.hint_policy(versions.pack(version_id).file.hints)
    return (0.0, 0.0, 0.0) if rules is None else rules.cost


class Gradebook:
    """Grades of one database."""

    def __init__(self, database: Database, versions: Versions) -> None:
        self._database = database
        self._versions = versions

    def of(self, assignment_id: str) -> list[Grade]:
        """Every student of the course, and whoever else handed in and is not staff, by login."""
        with self._database.read() as session:
            return self.grades(session, session.get_one(Assignment, assignment_id))

    def grades(self, session: Session, assignment: Assignment) -> list[Grade]:
        """As `of`, within a transaction."""
        return self._grades(session, assignment, self._students(session, assignment))

    def grade(self, assignment_id: str, user_id: int) -> Grade:
        """One user's line."""
        with self._database.read() as session:
            assignment = session.get_one(Assignment, assignment_id)
            return self._grades(session, assignment, [session.get_one(User, user_id)])[0]

    def _students(self, session: Session, assignment: Assignment) -> list[User]:
        roles = select(Member.user_id).where(Member.course_id == assignment.course_id)
        handed_in = select(Submission.user_id).where(Submission.assignment == assignment.id)
        wanted = User.id.in_(roles.where(Member.role == Role.STUDENT)) | (
            User.id.in_(handed_in.where(Submission.user_id.is_not(None)))
            & User.id.not_in(roles.where(Member.role.in_(STAFF)))
        )
        return list(session.scalars(select(User).where(wanted).order_by(User.login)))

    def _grades(self, session: Session, assignment: Assignment, users: list[User]) -> list[Grade]:
        policy = Policy.model_validate(assignment.policy)
        rows = (
            select(Submission.id, Submission.user_id, Submission.created_at, Grading.state, Grading.outcome)
            .add_columns(Grading.version_id)
            .join(Grading, (Grading.submission_id == Submission.id) & Grading.counts)
            .where(Submission.assignment == assignment.id)
            .order_by(Submission.created_at, Submission.id)
        )
        only = users[0].id if len(users) == 1 else None
        if only is not None:
            rows = rows.where(Submission.user_id == only)
        found = adjustments(session, assignment, only)
        by_user: dict[int | None, list[Attempt]] = defaultdict(list)
        for row in session.execute(rows):
            score = None
            if row.state is State.DONE and row.outcome is not None:
                score = found[row.id].score(row.outcome, hint_prices(policy, self._versions, row.version_id))
            attempt = Attempt(
                submission_id=row.id,
                received_at=row.created_at,
                state=row.state,
                outcome=row.outcome,
                penalty=found[row.id].penalty,
                score=score,
            )
            by_user[row.user_id].append(attempt)
        return [_grade(policy, user, by_user[user.id]) for user in users]


def _grade(policy: Policy, user: User, attempts: list[Attempt]) -> Grade:
    graded = [(attempt, attempt.score.points) for attempt in attempts if attempt.score is not None]
    index = which_counts(policy, [(attempt.received_at, points) for attempt, points in graded])
    return Grade(
        student=Student(id=user.id, login=user.login, name=user.name, email=user.email),
        attempts=tuple(attempts),
        counting=None if index is None else graded[index][0],
        pending=any(attempt.state in ATTEMPTS and not attempt.state.final for attempt in attempts),
    )


def adjustments(session: Session, assignment: Assignment, user_id: int | None = None) -> dict[str, Adjustments]:
    """What changes the scores of an assignment's submissions (of one user's, where given), in five queries."""
    policy = Policy.model_validate(assignment.policy)
    wanted = select(Submission.id).where(Submission.assignment == assignment.id)
    if user_id is not None:
        wanted = wanted.where(Submission.user_id == user_id)
    overrides: dict[str, dict[str, float]] = defaultdict(dict)
    standing = select(Override).where(Override.submission_id.in_(wanted), Override.withdrawn_at.is_(None))
    for override in session.scalars(standing.order_by(Override.id)):  # the last one counts
        overrides[override.submission_id][override.blank] = override.points
    decisions: dict[str, dict[str, bool]] = defaultdict(dict)
    for decision in session.scalars(select(FlagDecision).where(FlagDecision.submission_id.in_(wanted))):
        decisions[decision.submission_id][decision.flag] = decision.confirmed
    steps = _hint_steps(session, assignment.id)
    submissions = (
        select(Submission.id, Submission.created_at, Extension)
        .outerjoin(
            Extension,
            (Extension.assignment_id == Submission.assignment) & (Extension.user_id == Submission.user_id),
        )
        .where(Submission.id.in_(wanted))
    )
    return {
        row.id: Adjustments(
            overrides=overrides[row.id],
            decisions=decisions[row.id],
            hint_steps=steps(row.id),
            penalty=penalty(policy, grant_of(row.Extension), row.created_at),
        )
        for row in session.execute(submissions)
    }


def _hint_steps(session: Session, assignment_id: str) -> Callable[[str], dict[str, int]]:
    """For a submission: blank -> steps revealed in it and in all that it improves on (see `records.hints`)."""
    own: dict[str, dict[str, int]] = defaultdict(dict)
    last = (
        select(HintAsked.submission_id, HintAsked.blank, func.max(HintAsked.step).label("step"))
        .join(Submission, Submission.id == HintAsked.submission_id)
        .where(Submission.assignment == assignment_id)
        .group_by(HintAsked.submission_id, HintAsked.blank)
    )
    for row in session.execute(last):
        own[row.submission_id][row.blank] = row.step
    links = (
        select(Improvement)
        .join(Submission, Submission.id == Improvement.submission_id)
        .where(Submission.assignment == assignment_id)
    )
    earlier = {link.submission_id: link.earlier_id for link in session.scalars(links)}

    def steps(submission_id: str) -> dict[str, int]:
        found: dict[str, int] = {}
        current: str | None = submission_id
        while current is not None:  # ends: what a hand-in improves on was there before it
            for blank, step in own.get(current, {}).items():
                found[blank] = max(step, found.get(blank, 0))
            current = earlier.get(current)
        return found

    return steps
