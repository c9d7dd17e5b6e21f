"""Regrades: gradings beside those that count, seen as a difference, then applied or discarded as one.

    running -> applied -> rolled_back
       ^  \\-> discarded
       v  /
    cancelled

Applying moves `Grading.counts` from one grading of each submission to another, in one transaction; all else stays.
Overrides, comments and decisions by hand belong to submissions, not to gradings, and so stay whatever is applied.
"""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from records.audit import note
from records.database import Database
from records.gradebook import Gradebook
from records.intake_rules import grant_of
from records.models import (
    Assignment,
    Event,
    Extension,
    Grading,
    Mode,
    Need,
    Notice,
    Regrade,
    RegradeItem,
    RegradeState,
    State,
    utc_now,
)
from records.policy import Policy, shows_grade
from records.queue import REGRADE, cancel
from records.regrade_plan import Plan, Selection, make_plan
from records.versions import Versions

CANCELLED_MESSAGE = "The regrade that this grading belongs to was stopped."


class RegradeRefused(Exception):  # noqa: N818  (what is the matter)
    """This cannot be done with this regrade. The message says why, and the way out."""


class Regrades:
    """The regrades of one database. `actor_id` None is the operator."""

    def __init__(
        self,
        database: Database,
        versions: Versions,
        gradebook: Gradebook,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._database = database
        self._versions = versions
        self._gradebook = gradebook
        self._clock = clock

    def plan(
        self, assignment_id: str, version_id: str, mode: Mode, selection: Selection, *, anew: bool = False
    ) -> Plan:
        """A dry run: nothing is stored. Raises `LookupError` where there is no such version, student, blank, ..."""
        with self._database.read() as session:
            return make_plan(session, self._versions, assignment_id, version_id, mode, selection, anew=anew)[0]

    def start(
        self,
        assignment_id: str,
        version_id: str,
        mode: Mode,
        selection: Selection,
        *,
        reason: str,
        actor_id: int | None,
        anew: bool = False,
    ) -> int:
        """Begin a regrade and return its id.

        Args:
            anew: grade also what was graded in the same way before, instead of answering from what is stored.

        Raises:
            RegradeRefused: nothing is selected.
            LookupError: there is no such version, or nothing that the selection names.
        """
        now = self._clock()
        with self._database.write() as session:
            plan, items = make_plan(session, self._versions, assignment_id, version_id, mode, selection, anew=anew)
            if not items:
                why = "; ".join(f"{count} {reason}" for reason, count in plan.left_out.items())
                raise RegradeRefused(f"Nothing is left to regrade{f' ({why})' if why else ''}. Select something else.")
            regrade = Regrade(
                assignment_id=assignment_id,
                version_id=version_id,
                mode=mode,
                selection=selection.model_dump(exclude_none=True),
                reason=reason,
                created_by=actor_id,
                created_at=now,
            )
            session.add(regrade)
            session.flush()
            for item in items:
                after = item.stored or self._grading(session, regrade, item.before, now)
                session.add(
                    RegradeItem(
                        regrade_id=regrade.id,
                        submission_id=item.before.submission_id,
                        before_id=item.before.id,
                        after_id=after.id,
                    )
                )
            self._note(session, regrade, "regrade started", actor_id, submissions=len(items), mode=mode)
            return regrade.id

    def _grading(self, session: Session, regrade: Regrade, before: Grading, now: datetime) -> Grading:
        grading = Grading(
            submission_id=before.submission_id,
            recipe=before.recipe,
            version_id=regrade.version_id,
            mode=regrade.mode,
            basis_id=None if regrade.mode is Mode.FULL else before.id,
            regrade_id=regrade.id,
            counts=False,
            need=Need.CHECK,
            priority=REGRADE,
            created_at=now,
            available_at=now,
        )
        session.add(grading)
        session.flush()
        session.add(Event(grading_id=grading.id, type=State.QUEUED, data={}, created_at=now))
        return grading

    def get(self, regrade_id: int) -> Regrade | None:
        with self._database.read() as session:
            return session.get(Regrade, regrade_id)

    def of(self, assignment_id: str) -> list[Regrade]:
        """The latest first."""
        with self._database.read() as session:
            regrades = select(Regrade).where(Regrade.assignment_id == assignment_id)
            return list(session.scalars(regrades.order_by(Regrade.id.desc())))

    def progress(self, regrade_id: int) -> dict[State, int]:
        """How many of its gradings stand where."""
        with self._database.read() as session:
            return _progress(session, regrade_id)

    def cancel(self, regrade_id: int, actor_id: int | None) -> None:
        """Stop what has not ended. What is done stays, and `resume` goes on from there. Raises `RegradeRefused`."""
        with self._database.write() as session:
            regrade = _locked(session, regrade_id, RegradeState.RUNNING)
            self._stop(session, regrade)
            regrade.state = RegradeState.CANCELLED
            self._note(session, regrade, "regrade cancelled", actor_id)

    def resume(self, regrade_id: int, actor_id: int | None) -> None:
        """Go on after a stop, and once more with what a fault of ours ended. Raises `RegradeRefused`."""
        now = self._clock()
        with self._database.write() as session:
            regrade = _locked(session, regrade_id, RegradeState.RUNNING, RegradeState.CANCELLED)
            again = {"state": State.QUEUED, "finished_at": None, "message": None, "attempts": 0, "available_at": now}
            session.execute(
                update(Grading)
                .where(Grading.regrade_id == regrade.id, Grading.state.in_((State.CANCELLED, State.FAULTED)))
                .values(**again)
            )
            regrade.state = RegradeState.RUNNING
            self._note(session, regrade, "regrade resumed", actor_id)

    def discard(self, regrade_id: int, actor_id: int | None) -> None:
        """Give it up: nothing changes for anybody. Raises `RegradeRefused`."""
        with self._database.write() as session:
            regrade = _locked(session, regrade_id, RegradeState.RUNNING, RegradeState.CANCELLED)
            self._stop(session, regrade)
            self._decide(session, regrade, RegradeState.DISCARDED, actor_id)

    def apply(self, regrade_id: int, actor_id: int | None) -> int:
        """Let its gradings count, all at once, and tell those whose grade it changes. Returns how many those are.

        A grading that a fault of ours ended leaves the submission as it was. Raises `RegradeRefused` where something
        has not ended yet, or where another regrade was applied to one of the submissions meanwhile.
        """
        with self._database.write() as session:
            regrade = _locked(session, regrade_id, RegradeState.RUNNING)
            unfinished = sum(count for state, count in _progress(session, regrade.id).items() if not state.final)
            if unfinished:
                raise RegradeRefused(f"{unfinished} of its gradings have not ended. Wait for them, or cancel it.")
            return self._swap(session, regrade, RegradeState.APPLIED, actor_id)

    def roll_back(self, regrade_id: int, actor_id: int | None) -> int:
        """Undo an applied regrade: what counted before counts again. As `apply`."""
        with self._database.write() as session:
            regrade = _locked(session, regrade_id, RegradeState.APPLIED)
            return self._swap(session, regrade, RegradeState.ROLLED_BACK, actor_id)

    def _swap(self, session: Session, regrade: Regrade, state: RegradeState, actor_id: int | None) -> int:
        before, after = RegradeItem.before_id, RegradeItem.after_id
        old, new = (before, after) if state is RegradeState.APPLIED else (after, before)
        done = (
            select(old.label("old"), new.label("new"))
            .join(Grading, Grading.id == after)
            .where(RegradeItem.regrade_id == regrade.id, before != after, Grading.state == State.DONE)
        )
        pairs = session.execute(done).all()
        moved = select(Grading.submission_id).where(Grading.id.in_([pair.old for pair in pairs]), ~Grading.counts)
        if others := session.scalars(moved).all():
            raise RegradeRefused(
                f"{len(others)} of its submissions were changed by another regrade meanwhile, {others[0]} among them. "
                "Roll that one back first, or discard this one and begin anew."
            )
        assignment = session.get_one(Assignment, regrade.assignment_id)
        grades_before = self._points(session, assignment)
        # One after the other: of each submission one grading counts at any time.
        for values, ids in ((False, [pair.old for pair in pairs]), (True, [pair.new for pair in pairs])):
            session.execute(update(Grading).where(Grading.id.in_(ids)).values(counts=values))
        reason = regrade.reason if state is RegradeState.APPLIED else f"a regrade was undone ({regrade.reason})"
        told = self._tell(session, assignment, grades_before, reason)
        self._decide(session, regrade, state, actor_id, submissions=len(pairs), students_told=told)
        return told

    def _points(self, session: Session, assignment: Assignment) -> dict[int, tuple[float, str]]:
        """What each student's grade is, and the submission that it comes from."""
        session.flush()
        session.expire_all()
        return {
            grade.student.id: (grade.counting.score.points, grade.counting.submission_id)
            for grade in self._gradebook.grades(session, assignment)
            if grade.counting is not None and grade.counting.score is not None
        }

    def _tell(self, session: Session, assignment: Assignment, before: dict[int, tuple[float, str]], reason: str) -> int:
        now, told = self._clock(), 0
        policy, published_at = Policy.model_validate(assignment.policy), assignment.grades_published_at
        of_assignment = select(Extension).where(Extension.assignment_id == assignment.id)
        extensions = {extension.user_id: extension for extension in session.scalars(of_assignment)}
        after = self._points(session, assignment)
        for user_id in sorted(before.keys() | after.keys()):
            old, new = before.get(user_id), after.get(user_id)
            if (old and old[0]) == (new and new[0]):
                continue
            if shows_grade(policy, grant_of(extensions.get(user_id)), now, published_at):
                words = [f"{found[0]:g}" if found else "none" for found in (old, new)]
                text = f"Your grade for {assignment.title} changed from {words[0]} to {words[1]}: {reason}"
            else:
                text = f"Your grade for {assignment.title} changed, and is shown once it is published: {reason}"
            standing = new or old
            assert standing is not None  # the two differ
            session.add(Notice(user_id=user_id, submission_id=standing[1], body=text, at=now))
            told += 1
        return told

    def _stop(self, session: Session, regrade: Regrade) -> None:
        now = self._clock()
        waiting = select(Grading.id).where(
            Grading.regrade_id == regrade.id, Grading.state.in_((State.QUEUED, State.RUNNING))
        )
        for grading_id in session.scalars(waiting).all():
            cancel(session, grading_id, CANCELLED_MESSAGE, now)

    def _decide(
        self, session: Session, regrade: Regrade, state: RegradeState, actor_id: int | None, **data: int
    ) -> None:
        regrade.state, regrade.decided_at = state, self._clock()
        self._note(session, regrade, f"regrade {state.replace('_', ' ')}", actor_id, **data)

    def _note(self, session: Session, regrade: Regrade, action: str, actor_id: int | None, **data: int | str) -> None:
        course = session.get_one(Assignment, regrade.assignment_id).course_id
        note(session, actor_id, action, course, f"regrade {regrade.id}", regrade.reason, clock=self._clock, **data)


def _locked(session: Session, regrade_id: int, *states: RegradeState) -> Regrade:
    regrade = session.get_one(Regrade, regrade_id, with_for_update=True)
    if regrade.state not in states:
        words = " or ".join(state.replace("_", " ") for state in states)
        raise RegradeRefused(
            f"Regrade {regrade_id} is {regrade.state.replace('_', ' ')}; that takes one that is {words}."
        )
    return regrade


def _progress(session: Session, regrade_id: int) -> dict[State, int]:
    counts = (
        select(Grading.state, func.count().label("number"))
        .join(RegradeItem, RegradeItem.after_id == Grading.id)
        .where(RegradeItem.regrade_id == regrade_id)
        .group_by(Grading.state)
    )
    return {row.state: row.number for row in session.execute(counts)}
