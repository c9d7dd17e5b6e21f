"""`noisemark submit`, `status`, `hint` and `report`: a server does the grading."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.text import Text

from cli.arguments import HandIn, SubmissionId, earlier_id, recipe_name
from cli.console import out, say, warn
from cli.errors import Unavailable, UnusableInput
from cli.files import read_work, require_reports_writable, write
from cli.progress import display
from cli.summary import print_report
from grading.events import Emit, Event
from grading.hand_in import read_hand_in
from grading.outcomes import InfrastructureFault
from grading.text import neutralise

if TYPE_CHECKING:
    from cli.client import Client, Status, StreamEvent

Server = Annotated[
    str,
    typer.Option(
        "--server", envvar="NOISEMARK_SERVER", metavar="URL", help="Its token, if it asks for one: NOISEMARK_TOKEN."
    ),
]
LOCAL_SERVER = "http://127.0.0.1:8000"  # where scripts/serve listens

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def submit(
    path: HandIn,
    server: Server = LOCAL_SERVER,
    assignment: Annotated[str, typer.Option("--assignment", "--pack", help="The assignment.")] = "ddpm",
    recipe: Annotated[
        str | None,
        typer.Option(metavar="TEXT", parser=recipe_name, help="What to train on.", show_default="the assignment's"),
    ] = None,
    improves_on: Annotated[
        str | None,
        typer.Option(
            "--improves-on", metavar="ID", parser=earlier_id, help="Your earlier submission: hints go on from there."
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show the report when it is there.")] = False,
) -> None:
    """Hand in, and get a receipt."""
    from cli.client import Client

    work = read_work(path)
    _warn_of_what_cannot_be_read(work)
    with Client(server) as client:
        accepted = client.submit(assignment, [work], recipe, improves_on)
        _print_facts(
            ("Submission", accepted.id),
            ("Receipt", accepted.receipt.code),
            ("Received", accepted.receipt.received_at),
            ("SHA-256", accepted.receipt.sha256),
            ("Page", client.url + accepted.links["page"]),
        )
        if watch:
            _watch(client, accepted)


def status(
    submission: SubmissionId,
    server: Server = LOCAL_SERVER,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show the report when it is there.")] = False,
) -> None:
    """Say how a submission stands."""
    from cli.client import Client

    with Client(server) as client:
        current = client.status(submission)
        if watch:
            _watch(client, current)
        else:
            facts = [("Submission", current.id), ("File", current.file_name), ("State", current.state)]
            if current.position is not None:
                facts.append(("Place in the queue", str(current.position)))
            if current.stage is not None:
                facts.append(("Stage", current.stage))
            if current.message is not None:
                facts.append(("Message", current.message))
            _print_facts(*facts)


def hint(
    submission: SubmissionId,
    blank: Annotated[str | None, typer.Argument(help="The blank to be helped with; none: say what there is.")] = None,
    server: Server = LOCAL_SERVER,
) -> None:
    """Show the next hint for a blank. Your instructor can see which you asked for."""
    if blank is not None and not blank.strip():
        raise UnusableInput("No blank is named. `noisemark hint ID` says which there are.")
    from cli.client import Client

    with Client(server) as client:
        shown = client.hints(submission).blanks if blank is None else [client.next_hint(submission, blank)]
        after = client.hints(submission)
    console = out()
    for entry in shown:
        if blank is None and not entry.revealed and entry.unavailable:
            continue  # right already
        console.print(Text(f"{entry.title} ({entry.blank})", style="bold"))
        for step in entry.revealed:
            console.print(Text(f"  {step.name}: {neutralise(step.text)}"))
        if entry.unavailable is None:
            cost = f"{entry.next_cost:g} points" if entry.next_cost else "nothing"
            console.print(Text(f"  {entry.left} more to ask for; the next one costs {cost}", style="dim"))
    if after.score_after_hints is None:
        say("There is no report yet. Which blanks are right is not known, so a hint may be about one that is.")
    else:
        cost = f"{after.cost:g} points" if after.cost else "nothing"
        console.print(f"Hints have cost {cost} so far; your score is {after.score_after_hints:g}.")


def report(
    submission: SubmissionId,
    server: Server = LOCAL_SERVER,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page.")
    ] = None,
) -> None:
    """Show a submission's report."""
    from cli.client import Client, parse_report

    require_reports_writable(json_file, html_file)
    with Client(server) as client:
        content = client.report(submission)
        print_report(parse_report(content))
        if json_file is not None:
            write(json_file, content)
            say(f"Report as JSON: {json_file}")
        if html_file is not None:
            write(html_file, client.report_page(submission))
            say(f"Report as a page: {html_file}")


def _warn_of_what_cannot_be_read(work: tuple[str, bytes]) -> None:
    """Say now what the report would say. Raises `UnusableInput` or `BadInput` where nothing can be read at all."""
    try:
        hand_in = read_hand_in(*work)
    except InfrastructureFault:  # the server reads it too
        return
    pieces = [piece for file in hand_in.files for piece in file.pieces]
    if all(piece.fault for piece in pieces):
        raise UnusableInput(f"Nothing was handed in, for nothing in it is valid Python: {pieces[0].fault}.")
    for notice in hand_in.notices:
        warn(notice)


def _watch(client: "Client", submission: "Status") -> None:
    """Follow a submission to its end. Raises `UnusableInput` where it was rejected, `Unavailable` where we failed."""
    from cli.client import FINAL_STATES, parse_report

    with display(client.blanks(submission.assignment)) as emit:
        for event in client.events(submission.id):
            if event.type in FINAL_STATES:
                break
            _show(event, emit)
    message = str(event.data.get("message") or "There is no report, and the server does not say why.")
    if event.type in ("rejected", "cancelled"):
        raise UnusableInput(message)
    if event.type == "faulted":
        raise Unavailable(message)
    print_report(parse_report(client.report(submission.id)))


def _show(event: "StreamEvent", emit: Emit) -> None:
    match event.type:
        case "queued":
            say("Waiting for a worker ...")
        case "retrying":
            say("Something of the server's failed; it is tried again.")
        case _:
            fields = {name: value for name, value in event.data.items() if name not in ("at", "url", "image")}
            with suppress(
                ValidationError
            ):  # a sample grid, whose image stays on the server, or an event of a newer one
                emit(_EVENT.validate_python(fields))


def _print_facts(*facts: tuple[str, str]) -> None:
    width = max(len(name) for name, _ in facts) + 2
    console = out()
    for name, value in facts:
        console.print(Text(f"{name + ':':<{width}}{neutralise(value)}"), soft_wrap=True)
