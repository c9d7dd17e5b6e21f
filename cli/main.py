"""The command `noisemark`."""

import contextlib
import io
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from cli import doctor, grade, gradebook, regrades, remote, staff, starter
from cli.errors import report_exception


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"noisemark {version('noisemark')}")
        raise typer.Exit


app = typer.Typer(
    name="noisemark",
    help="Grade the final assessment of a course on diffusion models.",
    epilog="Exit codes: 0 done (graded, whatever the verdict), 2 bad input, 3 the machine or the server failed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show tracebacks; `report_exception` shows messages
)


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command("grade")(grade.grade)
app.command("submit")(remote.submit)
app.command("status")(remote.status)
app.command("hint")(remote.hint)
app.command("report")(remote.report)
app.command("grades")(gradebook.grades)
app.command("roster")(staff.roster)
app.command("starter")(starter.starter)
app.command("doctor")(doctor.doctor)
app.add_typer(regrades.app, name="regrade")
app.add_typer(staff.course, name="course")
app.add_typer(staff.user, name="user")
app.add_typer(staff.token, name="token")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit. Wrong options end with 2, an interrupt with 130, both by typer."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without UTF-8 gets question marks in place of symbols
            with contextlib.suppress(io.UnsupportedOperation):
                stream.reconfigure(errors="replace")
    try:
        app(args=arguments)
    except Exception as error:  # the one place that turns exceptions into messages
        sys.exit(report_exception(error))


if __name__ == "__main__":
    main()
