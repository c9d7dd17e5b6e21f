"""What is typed on the command line, taken as it was meant, or refused in words."""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from cli.errors import UnusableInput

_PAGE = re.compile(r"(?:/api/v1)?/submissions/([^/]+)")


def hand_in(typed: str) -> Path:
    """Where the work is. An empty name would be the working directory."""
    if not typed.strip():
        raise UnusableInput("No file is named. Name the .py, .ipynb or .zip file that holds your work, or its folder.")
    return Path(typed)


def submission_id(typed: str) -> str:
    """The id, also out of the address of the submission's page."""
    value = typed.strip()
    if "://" in value:
        page = _PAGE.match(urlsplit(value).path)
        if page is None:
            raise UnusableInput(f"{value} is not the address of a submission; that ends in /submissions/ID.")
        return page[1]
    if not value:
        raise UnusableInput("No submission is named. Its id is what `noisemark submit` printed, or the page's address.")
    return value


def recipe_name(typed: str) -> str:
    if not typed.strip():
        raise UnusableInput("No recipe is named. Without --recipe it is the assignment's own.")
    return typed.strip()


def earlier_id(typed: str) -> str:
    if not typed.strip():
        raise UnusableInput("No submission is named. Without --improves-on it is a hand-in of its own.")
    return submission_id(typed)


HandIn = Annotated[
    Path,
    typer.Argument(metavar="PATH", parser=hand_in, help="A .py, .ipynb or .zip file, or a folder of these."),
]
SubmissionId = Annotated[
    str,
    typer.Argument(metavar="ID", parser=submission_id, help="As `noisemark submit` printed it, or its page's address."),
]
