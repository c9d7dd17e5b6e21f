"""`noisemark grades`: a course's gradebook, as another system imports it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from cli.console import say
from cli.files import require_writable, write
from cli.remote import LOCAL_SERVER, Server


class Format(StrEnum):
    """Those that the server knows."""

    GENERIC = "generic"
    CANVAS = "canvas"
    MOODLE = "moodle"
    NBGRADER = "nbgrader"


def grades(
    assignment: Annotated[str, typer.Argument(help="The assignment.")],
    server: Server = LOCAL_SERVER,
    format_: Annotated[Format, typer.Option("--format", help="Whose import it is for.")] = Format.GENERIC,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", show_default="printed, not written")
    ] = None,
) -> None:
    """Fetch the gradebook as CSV. For the staff of the course."""
    from cli.client import Client

    if output is not None:
        require_writable(output)
    with Client(server) as client:
        content = client.download(f"/assignments/{quote(assignment, safe='')}/grades.csv?format={format_}")
    if output is None:
        typer.echo(content, nl=False)  # byte for byte: it may go into a pipe
    else:
        write(output, content)
        say(f"Written to {output}.")
