"""Rosters: who is in a course, as a CSV file of a learning platform or of a spreadsheet."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from records.models import Role

MAX_BYTES = 2 * 2**20  # 5,000 people with all columns of Canvas's export take one
MAX_ROWS = 5000  # no course is larger; one transaction holds them all
MAX_LOGIN, MAX_TEXT = 128, 255  # characters, as the columns of the table `users`

ERASED_PREFIX = "erased-"  # of the logins of users who were erased: nobody else may have one

_LOGIN = re.compile(r"[\w.@+-]+", re.ASCII)  # what stands in addresses of pages and in file names as it is
# Headings, in any case, with spaces for underscores: ours first, then those of Canvas and Moodle.
_HEADINGS: Mapping[str, Sequence[str]] = {
    "login": ("login", "sis login id", "login id", "username", "user name", "id number"),
    "name": ("name", "student", "student name", "full name", "display name"),
    "first": ("first name", "firstname", "given name"),
    "last": ("last name", "lastname", "surname", "family name"),
    "email": ("email", "e-mail", "email address", "mail"),
    "role": ("role",),
}
_ROLES = {
    **{role.value: role for role in Role},
    "ta": Role.GRADER,
    "teacher": Role.INSTRUCTOR,
    "studentenrollment": Role.STUDENT,
    "taenrollment": Role.GRADER,
    "teacherenrollment": Role.INSTRUCTOR,
}
# Canvas's gradebook has a row below its headings that is nobody, and a student who is made up.
_NOBODY = ("points possible", "student, test", "test student")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One person of a roster."""

    line: int
    login: str
    name: str = ""
    email: str = ""
    role: Role | None = None  # None: the roster does not say


@dataclass(frozen=True, kw_only=True)
class Fault:
    line: int
    text: str

    def __str__(self) -> str:
        return f"Line {self.line}: {self.text}"


def read_roster(content: bytes) -> tuple[list[Entry], list[Fault]]:
    """What a CSV file says, and everything that is wrong with it. Where there is a fault, do not use the entries."""
    if len(content) > MAX_BYTES:
        return [], [Fault(line=1, text=f"The file has more than {MAX_BYTES // 2**20} MiB. Leave other columns out.")]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return [], [Fault(line=line, text="This is not UTF-8. Save the file as 'CSV UTF-8'.")]
    if "\0" in text:
        return [], [Fault(line=text.count("\n", 0, text.index("\0")) + 1, text="This is no text. Save it as CSV.")]
    heading = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=heading.count), strict=True)
    try:
        return _read_rows(reader)
    except csv.Error as error:
        return [], [Fault(line=reader.line_num, text=f"This is no CSV: {error}.")]


def _read_rows(reader: Any) -> tuple[list[Entry], list[Fault]]:
    columns = _columns(next(reader, []))
    if "login" not in columns:
        known = ", ".join(f"'{name}'" for name in _HEADINGS["login"][:4])
        return [], [Fault(line=1, text=f"No column is headed {known}. The first line has to name the columns.")]
    entries: list[Entry] = []
    faults: list[Fault] = []
    line = reader.line_num + 1  # where the next row begins: quoted fields may hold line ends
    for row in reader:
        start, line = line, reader.line_num + 1
        values = {name: row[index].strip() if index < len(row) else "" for name, index in columns.items()}
        if not any(cell.strip() for cell in row) or values.get("name", "").casefold() in _NOBODY:
            continue
        if len(entries) + len(faults) == MAX_ROWS:
            return [], [Fault(line=start, text=f"There are more than {MAX_ROWS} people in it.")]
        entry, texts = _read_row(start, values)
        faults.extend(Fault(line=start, text=text) for text in texts)
        if entry is not None:
            entries.append(entry)
    if not entries and not faults:
        faults.append(Fault(line=1, text="Nobody is in it."))
    return entries, sorted([*faults, *_repeated(entries)], key=lambda fault: fault.line)


def _columns(headings: Iterable[str]) -> dict[str, int]:
    found = [" ".join(heading.replace("_", " ").split()).casefold() for heading in headings]
    columns = {}
    for name, known in _HEADINGS.items():
        for heading in known:
            if name not in columns and heading in found:
                columns[name] = found.index(heading)
    return columns


def _read_row(line: int, values: Mapping[str, str]) -> tuple[Entry | None, list[str]]:
    login, email, role = values["login"], values.get("email", ""), values.get("role", "")
    name = values.get("name") or f"{values.get('first', '')} {values.get('last', '')}".strip()
    texts = [fault] if (fault := login_fault(login)) else []
    for what, value in (("name", name), ("email address", email)):
        if len(value) > MAX_TEXT:
            texts.append(f"The {what} has more than {MAX_TEXT} characters.")
        if not value.isprintable():
            texts.append(f"The {what} holds characters that cannot be printed.")
    if email and not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        texts.append(f"{email!r} is no email address.")
    if role and role.casefold() not in _ROLES:
        texts.append(f"There is no role {role!r}. There are: {', '.join(Role)}.")
    if texts:
        return None, texts
    return Entry(line=line, login=login, name=name, email=email, role=_ROLES.get(role.casefold())), []


def login_fault(login: str) -> str | None:
    """What is wrong with a login, if anything."""
    if not login:
        return "There is no login."
    if len(login) > MAX_LOGIN:
        return f"The login has more than {MAX_LOGIN} characters."
    if not _LOGIN.fullmatch(login):
        return f"{login!r} is no login: it takes letters without accents, digits, and any of . _ @ + -"
    if login.casefold().startswith(ERASED_PREFIX):
        return f"No login may begin with {ERASED_PREFIX!r}: those are of users who were erased."
    return None


def _repeated(entries: Iterable[Entry]) -> list[Fault]:
    first: dict[str, Entry] = {}
    faults = []
    for entry in entries:
        earlier = first.setdefault(entry.login.casefold(), entry)
        if earlier is not entry:
            faults.append(Fault(line=entry.line, text=f"{entry.login!r} stands in line {earlier.line} already."))
    return faults


def differently_written(entries: Iterable[Entry], logins: Iterable[str]) -> list[Fault]:
    """Logins that differ from a user's in upper and lower case only: a second account that nobody wants."""
    known = {login.casefold(): login for login in logins}
    faults = []
    for entry in entries:
        login = known.get(entry.login.casefold(), entry.login)
        if login != entry.login:
            faults.append(Fault(line=entry.line, text=f"The user {login!r} is not written {entry.login!r}."))
    return faults
