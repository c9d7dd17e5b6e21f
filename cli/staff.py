"""`noisemark course`, `roster`, `user` and `token`: for instructors, and for whoever looks after a server."""

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer
from pydantic import BaseModel, TypeAdapter
from rich.text import Text

from cli.console import out, say
from cli.errors import UnusableInput
from cli.remote import LOCAL_SERVER, Server
from grading.text import neutralise

if TYPE_CHECKING:
    from cli.client import Client

course = typer.Typer(help="Courses of a server.", no_args_is_help=True)
user = typer.Typer(help="Accounts on a server. For administrators.", no_args_is_help=True)
token = typer.Typer(help="Tokens: what people and programs sign in with.", no_args_is_help=True)

For = Annotated[
    str | None, typer.Option("--for", metavar="LOGIN", help="Somebody else; for administrators.", show_default="you")
]


class Course(BaseModel):
    id: str
    title: str
    role: str | None


class User(BaseModel):
    id: int
    login: str


class Token(BaseModel):
    id: int
    name: str
    scopes: list[str]
    is_session: bool
    expires_at: str
    used_at: str | None


class IssuedToken(Token):
    token: str


class StudentsToken(BaseModel):
    login: str
    name: str
    email: str
    token: str


class RosterResult(BaseModel):
    added: list[str]
    changed: list[str]
    unchanged: list[str]
    missing: list[str]
    removed: bool


_NOTHING: TypeAdapter[None] = TypeAdapter(None)
_COURSE = TypeAdapter(Course)
_COURSES = TypeAdapter(list[Course])
_USER = TypeAdapter(User)
_USERS = TypeAdapter(list[User])
_TOKENS = TypeAdapter(list[Token])
_ISSUED = TypeAdapter(IssuedToken)
_HANDED_OUT = TypeAdapter(list[StudentsToken])
_ROSTER = TypeAdapter(RosterResult)


@course.command("create")
def create_course(
    course_id: Annotated[str, typer.Argument(metavar="COURSE", help="Its id: small letters, digits and hyphens.")],
    title: Annotated[str, typer.Argument(help="What people call it.")],
    server: Server = LOCAL_SERVER,
) -> None:
    """Make a course. For administrators."""
    from cli.client import Client

    with Client(server) as client:
        created = client.ask("POST", "/courses", _COURSE, json={"id": course_id, "title": title})
    say(f"There is a course {created.id} now. `noisemark roster {created.id} FILE` brings its people.")


@course.command("list")
def list_courses(server: Server = LOCAL_SERVER) -> None:
    """List your courses, and what you are in them."""
    from cli.client import Client

    with Client(server) as client:
        found = client.ask("GET", "/courses", _COURSES)
    _print_rows([(entry.id, entry.role or "", entry.title) for entry in found])


def roster(
    course_id: Annotated[str, typer.Argument(metavar="COURSE", help="The course's id.")],
    file: Annotated[Path, typer.Argument(help="A CSV file with the columns login, name, email, role.")],
    server: Server = LOCAL_SERVER,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    remove_missing: Annotated[
        bool, typer.Option("--remove-missing", help="Take students out whom the file does not name.")
    ] = False,
) -> None:
    """Take a roster over into a course, as a whole or not at all. For its instructors."""
    from cli.client import Client

    try:
        content = file.read_bytes()
    except OSError as error:
        raise UnusableInput(f"{file} cannot be read: {error.strerror}.") from error
    params = {"dry_run": dry_run, "remove_missing": remove_missing}
    path = f"/courses/{quote(course_id, safe='')}/roster"
    with Client(server) as client:
        result = client.ask("POST", path, _ROSTER, files={"file": (file.name, content)}, params=params)
    missing = "removed" if result.removed else "missing from the file, and still in the course"
    for logins, what in ((result.added, "added"), (result.changed, "changed"), (result.missing, missing)):
        if logins:
            out().print(Text(neutralise(f"{len(logins)} {what}: {', '.join(logins)}")), soft_wrap=True)
    out().print(f"{len(result.unchanged)} unchanged")
    if dry_run:
        say("Nothing was done: without --dry-run it is.")


@user.command("create")
def create_user(
    login: Annotated[str, typer.Argument(help="What the roster calls him.")],
    server: Server = LOCAL_SERVER,
    name: Annotated[str, typer.Option(help="The name for people.", show_default=False)] = "",
    email: Annotated[str, typer.Option(help="The address for mail.", show_default=False)] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May do everything, in every course.")] = False,
) -> None:
    """Make an account. Students get theirs from the roster."""
    from cli.client import Client

    new = {"login": login, "name": name, "email": email, "is_admin": admin}
    with Client(server) as client:
        created = client.ask("POST", "/users", _USER, json=new)
    scopes = "read,submit,grade,manage,admin" if admin else "read,submit"
    say(
        f"There is a user {created.login} now. `noisemark token create --for {created.login} --scope {scopes}` "
        "makes what to sign in with."
    )


@user.command("erase")
def erase_user(
    login: Annotated[str, typer.Argument(help="Whom to erase.")],
    server: Server = LOCAL_SERVER,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take name, address, login and tokens from an account, for good. What was handed in stays."""
    from cli.client import Client

    with Client(server) as client:
        found = _find(client, login)
        if not yes:
            typer.confirm(f"Erase {found.login}? There is no way back.", abort=True, err=True)
        client.ask("DELETE", f"/users/{found.id}", _NOTHING)
    say(f"Of {login} nothing is left but the number {found.id}.")


@token.command("create")
def create_token(
    server: Server = LOCAL_SERVER,
    name: Annotated[str, typer.Option(help="What it is for, to know it again.")] = "noisemark token create",
    scope: Annotated[
        str, typer.Option(help="What it may be used for: any of read,submit,grade,manage,admin.")
    ] = "read,submit",
    days: Annotated[int, typer.Option(help="How long it holds, a year at most.")] = 180,
    login: For = None,
) -> None:
    """Make a token, and print it: the only time that it is shown."""
    from cli.client import Client

    new = {"name": name, "scopes": [part.strip() for part in scope.split(",")], "days": days}
    with Client(server) as client:
        issued = client.ask("POST", _tokens_of(client, login), _ISSUED, json=new)
    out().print(Text(neutralise(issued.token)), soft_wrap=True)
    say(
        f"Number {issued.id}, good until {issued.expires_at[:10]}. It is shown this once; whoever has it is you. "
        "Put it into NOISEMARK_TOKEN, or paste it on the page /login."
    )


@token.command("hand-out")
def hand_out_tokens(
    course_id: Annotated[str, typer.Argument(metavar="COURSE", help="The course's id.")],
    file: Annotated[Path, typer.Argument(help="A new CSV file, for a mail merge: login, name, email, token.")],
    server: Server = LOCAL_SERVER,
    days: Annotated[int, typer.Option(help="How long they hold, a year at most.")] = 180,
) -> None:
    """Make a token for each student of a course who has none yet. For administrators."""
    from cli.client import Client
    from records.exports import guarded

    # Before they are made: they are shown but once
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # nobody else may read them
    except OSError as error:
        raise UnusableInput(f"{file} cannot be made: {error.strerror}.") from error
    with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as table:
        try:
            with Client(server) as client:
                path = f"/courses/{quote(course_id, safe='')}/tokens"
                handed_out = client.ask("POST", path, _HANDED_OUT, json={"days": days})
        except BaseException:
            file.unlink()
            raise
        rows = csv.writer(table)
        rows.writerow(StudentsToken.model_fields)
        rows.writerows(map(guarded, one.model_dump().values()) for one in handed_out)
    say(
        f"Tokens made for students who had none: {len(handed_out)}, in {file}. Whoever has one is that student; delete "
        "the file once they are sent."
    )


@token.command("list")
def list_tokens(server: Server = LOCAL_SERVER, login: For = None) -> None:
    """List the tokens and browser sessions that can be used."""
    from cli.client import Client

    with Client(server) as client:
        found = client.ask("GET", _tokens_of(client, login), _TOKENS)
    _print_rows(
        [
            (
                str(entry.id),
                "session" if entry.is_session else entry.name,
                ",".join(entry.scopes),
                f"until {entry.expires_at[:10]}",
                f"used {entry.used_at[:10]}" if entry.used_at else "never used",
            )
            for entry in found
        ]
    )


@token.command("revoke")
def revoke_token(
    number: Annotated[int, typer.Argument(help="As `noisemark token list` shows it.")],
    server: Server = LOCAL_SERVER,
    login: For = None,
) -> None:
    """End a token, and with it every browser session of its owner."""
    from cli.client import Client

    with Client(server) as client:
        client.ask("DELETE", f"{_tokens_of(client, login)}/{number}", _NOTHING)
    say(f"Token {number} is good for nothing any more.")


def _tokens_of(client: "Client", login: str | None) -> str:
    if login is None:
        return "/me/tokens"
    return f"/users/{_find(client, login).id}/tokens"


def _find(client: "Client", login: str) -> User:
    found = client.ask("GET", "/users", _USERS, params={"login": login})
    if not found:
        raise UnusableInput(f"There is no user {login!r} on the server.")
    return found[0]


def _print_rows(rows: list[tuple[str, ...]]) -> None:
    """Columns that are as wide as what stands in them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(f"{value:<{width}}" for value, width in zip(row, widths, strict=True))
        out().print(Text(neutralise(line.rstrip())), soft_wrap=True)
