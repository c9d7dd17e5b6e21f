"""What a regrade would do: which gradings it takes, which of them are known already, and what it leaves as it was."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from records.models import Grading, Mode, State, Submission, User, Version
from records.versions import Versions
from reference.pack import Pack

RECENT = 50  # gradings that an estimate rests on


class Selection(BaseModel):
    """Which submissions of an assignment. What is left out does not restrict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    submissions: tuple[str, ...] | None = None  # ids
    students: tuple[str, ...] | None = None  # logins
    verdicts: tuple[Literal["passed", "failed", "checks_only", "rejected", "faulted", "cancelled"], ...] | None = None
    blanks: tuple[str, ...] | None = None  # names; where at least one of them has not passed
    versions: tuple[str, ...] | None = None  # graded under one of these


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a regrade would do."""

    submissions: int
    known: int  # answered from what is stored: the same thing was graded before
    left_out: Mapping[str, int]  # why -> how many
    seconds: float | None  # estimate for one worker; None where nothing like it has been graded yet
    changed_files: tuple[str, ...]  # of the pack, against the versions that count now
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One submission of a regrade."""

    before: Grading
    stored: Grading | None  # has done the very same already


def make_plan(
    session: Session,
    versions: Versions,
    assignment_id: str,
    version_id: str,
    mode: Mode,
    selection: Selection,
    *,
    anew: bool,
) -> tuple[Plan, list[Item]]:
    """The plan of a regrade, and what it takes.

    `anew`: as if nothing were stored. Raises `LookupError` where there is no such version, student, blank, ...
    """
    pack = versions.pack(version_id)
    stored = {} if anew else _stored(session, assignment_id, version_id, mode)
    left_out: dict[str, int] = {}
    items: list[Item] = []
    blanks = {blank.id for blank in pack.blanks}
    selection = _resolved(session, assignment_id, selection, pack)
    for grading in _selected(session, assignment_id, selection):
        why = _why_not(grading, mode, pack, blanks)
        if why is None:
            same = (grading.submission_id, grading.recipe, None if mode is Mode.FULL else grading.id)
            items.append(Item(before=grading, stored=stored.get(same)))
        else:
            left_out[why] = left_out.get(why, 0) + 1
    befores = {item.before.version_id for item in items}
    changed = tuple(sorted({file for before in befores for file in versions.changed_files(before, version_id)}))
    known = sum(item.stored is not None for item in items)
    plan = Plan(
        submissions=len(items),
        known=known,
        left_out=left_out,
        seconds=_estimate(session, mode, len(items) - known),
        changed_files=changed,
        warnings=tuple(_warnings(mode, changed)),
    )
    return plan, items


def _resolved(session: Session, assignment_id: str, selection: Selection, pack: Pack) -> Selection:
    """The selection with blanks by their ids. Raises `LookupError` for what it names and there is not."""
    handed_in = select(Submission.user_id).where(Submission.assignment == assignment_id)
    ids = {name: blank.id for blank in pack.blanks for name in blank.names}
    own = select(Submission.id).where(Submission.assignment == assignment_id)
    for what, named, known in (
        ("student who handed in", selection.students, select(User.login).where(User.id.in_(handed_in))),
        ("submission of this assignment", selection.submissions, own),
        ("version", selection.versions, select(Version.id)),
    ):
        if named:
            _refuse_unknown(what, named, session.scalars(known))
    if not selection.blanks:
        return selection
    _refuse_unknown("blank", selection.blanks, ids)
    return selection.model_copy(update={"blanks": tuple(ids[name] for name in selection.blanks)})


def _refuse_unknown(what: str, named: Iterable[str], known: Iterable[str]) -> None:
    if unknown := sorted(set(named) - set(known)):
        raise LookupError(f"There is no {what} {' or '.join(map(repr, unknown))}.")


def _selected(session: Session, assignment_id: str, selection: Selection) -> Sequence[Grading]:
    """The gradings that count, of the submissions that are selected."""
    wanted: list[ColumnElement[bool]] = [Submission.assignment == assignment_id]
    if selection.submissions is not None:
        wanted.append(Submission.id.in_(selection.submissions))
    if selection.students is not None:
        wanted.append(Submission.user_id.in_(select(User.id).where(User.login.in_(selection.students))))
    if selection.versions is not None:
        wanted.append(Grading.version_id.in_(selection.versions))
    gradings = session.scalars(
        select(Grading)
        .join(Submission, Submission.id == Grading.submission_id)
        .where(Grading.counts, *wanted)
        .order_by(Grading.id)
    ).all()
    return [grading for grading in gradings if _matches(grading, selection)]


def _matches(grading: Grading, selection: Selection) -> bool:
    """What databases search badly: the outcome, which is JSON."""
    outcome = grading.outcome or {}
    if selection.verdicts is not None and outcome.get("verdict", grading.state) not in selection.verdicts:
        return False
    if selection.blanks is None:
        return True
    return any(outcome.get("blanks", {}).get(blank, {}).get("status") != "passed" for blank in selection.blanks)


def _why_not(grading: Grading, mode: Mode, pack: Pack, blanks: set[str]) -> str | None:
    if not grading.state.final:
        return "still graded for the first time"
    if grading.recipe not in pack.recipes:
        return f"graded by the recipe {grading.recipe}, which this version lacks"
    if mode is Mode.FULL:
        return None
    if grading.state is not State.DONE:
        return f"{grading.state}: without results to use again (take mode full)"
    if mode is Mode.RESCORE and set((grading.outcome or {}).get("blanks", {})) != blanks:
        return "checked for other blanks than this version has (take mode recheck)"
    return None


def _stored(
    session: Session, assignment_id: str, version_id: str, mode: Mode
) -> dict[tuple[str, str, int | None], Grading]:
    """Gradings that have done the very same already, by submission, recipe and basis; the latest of several."""
    done = (
        select(Grading)
        .join(Submission, Submission.id == Grading.submission_id)
        .where(
            Submission.assignment == assignment_id,
            Grading.version_id == version_id,
            Grading.mode == mode,
            Grading.state == State.DONE,
        )
        .order_by(Grading.id)
    )
    return {(found.submission_id, found.recipe, found.basis_id): found for found in session.scalars(done)}


def _estimate(session: Session, mode: Mode, number: int) -> float | None:
    recent = (
        select(Grading.started_at, Grading.finished_at)
        .where(Grading.state == State.DONE, Grading.mode == mode)
        .order_by(Grading.id.desc())
        .limit(RECENT)
    )
    seconds = [(row.finished_at - row.started_at).total_seconds() for row in session.execute(recent)]
    return number * sum(seconds) / len(seconds) if seconds else None


def _warnings(mode: Mode, changed: Sequence[str]) -> list[str]:
    """What a mode leaves as it was, though the new version says otherwise."""
    found = []
    checks = [name for name in changed if name.startswith("checks/") or name == "solution.py"]
    training = [name for name in changed if name in ("harness.py", "recipes.toml")]
    if mode is Mode.RESCORE and checks:
        found.append(f"{', '.join(checks)} changed: rescore does not run checks again, recheck does.")
    if mode is not Mode.FULL and training:
        found.append(f"{', '.join(training)} changed: only full trains again.")
    return found
