"""The two consoles: results go to stdout, everything else to stderr. Neither has colours when it is piped."""

import sys

from rich.console import Console
from rich.style import Style
from rich.text import Text

from grading.text import neutralise, shorten

RED = Style(color="red", bold=True)
# Style of each tone of `grading.wording`; names of the 16 colours, which follow the terminal's theme
TONES = {
    "good": Style(color="green"),
    "bad": Style(color="red"),
    "open": Style(dim=True),
    "warn": Style(color="yellow"),
}
# Columns of a table that is piped into a file: wide enough that no line is wrapped
_PIPED_WIDTH = 2000


def out() -> Console:
    """For results."""
    return Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def err() -> Console:
    """For messages and progress."""
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _PIPED_WIDTH)


def say(message: str) -> None:
    """A message on stderr, as text: no markup, nothing that moves the cursor."""
    err().print(Text(neutralise(message)))


def complain(message: str) -> None:
    """What went wrong, on stderr."""
    err().print(Text.assemble(("Error: ", RED), shorten(neutralise(message))))


def warn(message: str) -> None:
    """What one must not overlook, on stderr, in red."""
    err().print(Text(f"Warning: {neutralise(message)}", style=RED))
