"""How a command ends: exit codes, and one handler that turns every exception into a message.

CommandError            the base: a message and an exit code
 +- UnusableInput       2, what was given cannot be worked with
 +- Unavailable         3, the machine or the server lets us down
"""

import os
import tempfile
import traceback
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path

from cli.console import complain
from cli.state import state_dir
from grading.outcomes import BadInput, InfrastructureFault
from reference.pack import PackError
from sandbox.faults import SandboxError


class ExitCode(IntEnum):
    """What scripts can rely on."""

    DONE = 0  # graded, whatever the verdict; or whatever else the command was asked to do
    BAD_INPUT = 2  # the same number that a wrong option gives
    INFRASTRUCTURE = 3


class CommandError(Exception):
    """The command cannot go on. The message says why, and the way out."""

    exit_code: ExitCode


class UnusableInput(CommandError):  # noqa: N818  (says what is the matter)
    """A file, an id or an address that cannot be worked with."""

    exit_code = ExitCode.BAD_INPUT


class Unavailable(CommandError):  # noqa: N818
    """A sandbox, a data set, a server or a disk that is not there, or does not do its part."""

    exit_code = ExitCode.INFRASTRUCTURE


def report_exception(error: Exception) -> ExitCode:
    """Tell the user what happened, in words; the details of what nobody foresaw go to a file."""
    if isinstance(error, CommandError):
        complain(str(error))
        return error.exit_code
    if isinstance(error, BadInput | PackError):
        complain(str(error))
        return ExitCode.BAD_INPUT
    if isinstance(error, InfrastructureFault | SandboxError):
        complain(str(error))
        return ExitCode.INFRASTRUCTURE
    complain(
        f"Something went wrong that nobody foresaw ({type(error).__name__}). It is not your fault. "
        f"The details are in {_write_details(error)}; whoever looks after Noisemark will want to see them."
    )
    return ExitCode.INFRASTRUCTURE


def _write_details(error: Exception) -> Path:
    details = f"{datetime.now(UTC).isoformat()}\n{''.join(traceback.format_exception(error))}"
    try:
        path = state_dir() / "last-error.log"
        path.write_text(details, encoding="utf-8", errors="backslashreplace")
    except (OSError, CommandError):  # no home, or a full one
        descriptor, name = tempfile.mkstemp(prefix="noisemark-", suffix=".log")
        path = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(details)
    return path
