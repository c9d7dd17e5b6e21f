"""`noisemark regrade`: grade again, look at the difference, then apply or discard it. For instructors."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from pydantic import BaseModel, TypeAdapter
from rich.table import Table
from rich.text import Text

from cli.console import out, say
from cli.files import require_reports_writable, write
from cli.remote import LOCAL_SERVER, Server
from grading.text import neutralise

app = typer.Typer(help="Grade again, and see what changes before it counts. For instructors.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Of the regrade, as `regrade start` tells it.")]


class Mode(StrEnum):
    rescore = "rescore"
    recheck = "recheck"
    full = "full"


class Plan(BaseModel):
    submissions: int
    known: int
    left_out: dict[str, int]
    seconds: float | None
    changed_files: list[str]
    warnings: list[str]


class Regrade(BaseModel):
    id: int
    assignment: str
    mode: str
    version: str
    reason: str
    state: str
    gradings: dict[str, int]


class Decision(BaseModel):
    regrade: Regrade
    students_told: int


class BlankChange(BaseModel):
    blank: str
    before: str | None
    after: str | None
    cause: str
    overridden: bool


class Change(BaseModel):
    submission: str
    login: str | None
    score_before: float | None
    score_after: float | None
    blanks: list[BlankChange]


class Diff(BaseModel):
    submissions: int
    unfinished: int
    without_report: int
    unchanged: int
    gain: int
    lose: int
    changes: list[Change]


_PLAN = TypeAdapter(Plan)
_REGRADE = TypeAdapter(Regrade)
_REGRADES = TypeAdapter(list[Regrade])
_DECISION = TypeAdapter(Decision)
_DIFF = TypeAdapter(Diff)


@app.command("start")
def start(
    assignment: Annotated[str, typer.Argument(help="Its id.")],
    reason: Annotated[str, typer.Option(help="Why; students whose grade changes are told it.")],
    mode: Annotated[
        Mode, typer.Option(help="rescore: points alone; recheck: checks, with stored trainings; full: everything.")
    ] = Mode.recheck,
    version: Annotated[str | None, typer.Option(help="Id of a version.", show_default="the one in force")] = None,
    student: Annotated[list[str] | None, typer.Option(help="Only this login; may be repeated.")] = None,
    verdict: Annotated[list[str] | None, typer.Option(help="Only this verdict; may be repeated.")] = None,
    blank: Annotated[list[str] | None, typer.Option(help="Only where this blank has not passed.")] = None,
    graded_under: Annotated[list[str] | None, typer.Option(help="Only what counts by this version.")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Also what was graded in the same way before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    server: Server = LOCAL_SERVER,
) -> None:
    """Begin a regrade. Nothing changes for students until it is applied."""
    from cli.client import Client

    chosen = {"students": student, "verdicts": verdict, "blanks": blank, "versions": graded_under}
    body: dict[str, Any] = {"mode": mode, "reason": reason, "version": version, "anew": anew}
    body["selection"] = {name: values for name, values in chosen.items() if values}
    path = f"/assignments/{quote(assignment, safe='')}/regrades"
    with Client(server) as client:
        plan = client.ask("POST", f"{path}/plan", _PLAN, json=body)
        _print_plan(plan)
        if dry_run:
            say("Nothing was done: without --dry-run it is.")
            return
        begun = client.ask("POST", path, _REGRADE, json=body)
    out().print(f"Regrade {begun.id}")
    say(f"`noisemark regrade diff {begun.id}` shows what changes, `noisemark regrade apply {begun.id}` lets it count.")


@app.command("list")
def list_regrades(assignment: Annotated[str, typer.Argument(help="Its id.")], server: Server = LOCAL_SERVER) -> None:
    """List an assignment's regrades, the latest first."""
    from cli.client import Client

    with Client(server) as client:
        found = client.ask("GET", f"/assignments/{quote(assignment, safe='')}/regrades", _REGRADES)
    for regrade in found:
        line = f"{regrade.id}  {regrade.state}  {regrade.mode}  {_counts(regrade)}  {regrade.reason}"
        out().print(Text(neutralise(line)), soft_wrap=True)
    if not found:
        say("There are none.")


@app.command("diff")
def diff(
    number: Number,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write it for spreadsheets.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write it as a page.")] = None,
    server: Server = LOCAL_SERVER,
) -> None:
    """Show what a regrade changes, per student and blank, the largest loss first."""
    from cli.client import Client

    require_reports_writable(csv_file, html_file)
    with Client(server) as client:
        found = client.ask("GET", f"/regrades/{number}/diff", _DIFF)
        _print_diff(found)
        for file, suffix in ((csv_file, "csv"), (html_file, "html")):
            if file is not None:
                write(file, client.download(f"/regrades/{number}/diff.{suffix}"))
                say(f"Written: {file}")


@app.command("apply")
def apply(number: Number, server: Server = LOCAL_SERVER) -> None:
    """Let it count, all at once. Students whose grade changes are told."""
    _decide(number, "apply", server)


@app.command("discard")
def discard(number: Number, server: Server = LOCAL_SERVER) -> None:
    """Give it up. Nothing changes."""
    _decide(number, "discard", server)


@app.command("roll-back")
def roll_back(number: Number, server: Server = LOCAL_SERVER) -> None:
    """Undo one that was applied."""
    _decide(number, "roll-back", server)


@app.command("cancel")
def cancel(number: Number, server: Server = LOCAL_SERVER) -> None:
    """Stop it half way. What is done stays."""
    _decide(number, "cancel", server)


@app.command("resume")
def resume(number: Number, server: Server = LOCAL_SERVER) -> None:
    """Go on after a stop, and once more with what the server failed at."""
    _decide(number, "resume", server)


def _decide(number: int, verb: str, server: str) -> None:
    from cli.client import Client

    with Client(server) as client:
        decision = client.ask("POST", f"/regrades/{number}/{verb}", _DECISION)
    told = f" Students told: {decision.students_told}." if verb in ("apply", "roll-back") else ""
    say(f"Regrade {number} is {decision.regrade.state.replace('_', ' ')} ({_counts(decision.regrade)}).{told}")


def _counts(regrade: Regrade) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(regrade.gradings.items()))


def _print_plan(plan: Plan) -> None:
    seconds = "" if plan.seconds is None else f", about {plan.seconds:.0f} s of one worker"
    out().print(f"{plan.submissions} submissions, {plan.known} of them known already{seconds}")
    for why, count in plan.left_out.items():
        say(f"Left out: {count} {why}.")
    if plan.changed_files:
        say(f"Changed in the pack: {', '.join(plan.changed_files)}.")
    for warning in plan.warnings:
        say(warning)


def _print_diff(found: Diff) -> None:
    out().print(
        f"{found.submissions} submissions: {found.gain} gain, {found.lose} lose, {found.unchanged} stay as they are"
    )
    if found.unfinished or found.without_report:
        say(f"{found.unfinished} are not done; {found.without_report} ended without a report and keep what they have.")
    if not found.changes:
        return
    table = Table()
    for title in ("student", "score", "blank", "before", "after", "cause"):
        table.add_column(title)
    for change in found.changes:
        who = Text(neutralise(change.login or change.submission[:12]))
        score = f"{_points(change.score_before)} -> {_points(change.score_after)}"
        for blank in change.blanks:
            cause = blank.cause + ("; points set by hand stay" if blank.overridden else "")
            table.add_row(who, score, Text(neutralise(blank.blank)), blank.before or "-", blank.after or "-", cause)
            who, score = Text(), ""
        if not change.blanks:
            table.add_row(who, score, "verdict or tier", "", "", "")
    out().print(table)


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
