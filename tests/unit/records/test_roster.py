"""Rosters as files: what is understood, and that each fault is named by its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.models import Role
from records.roster import MAX_BYTES, MAX_ROWS, Entry, differently_written, read_roster


def people(content):
    entries, faults = read_roster(content if isinstance(content, bytes) else content.encode())
    assert faults == []
    return [(entry.login, entry.name, entry.email, entry.role) for entry in entries]


def faults(content):
    _, found = read_roster(content if isinstance(content, bytes) else content.encode())
    assert found
    return [str(fault) for fault in found]


ADA = ("ada", "Ada Lovelace", "ada@example.org", Role.GRADER)


@pytest.mark.parametrize(
    "content",
    [
        "login,name,email,role\nada,Ada Lovelace,ada@example.org,grader\n",
        "\ufefflogin,name,email,role\r\nada,Ada Lovelace,ada@example.org,grader\r\n",
        "Login;Name;Email;Role\nada;Ada Lovelace;ada@example.org;Grader",
        "login\tname\temail\trole\nada\tAda Lovelace\tada@example.org\tTA\n",
        "role, email ,name,login\ngrader, ada@example.org ,Ada Lovelace, ada\n\n,,,\n",
        "Student,ID,SIS User ID,SIS Login ID,Email,Role\n"
        "    Points Possible,,,,,\n"
        "Ada Lovelace,17,9,ada,ada@example.org,TaEnrollment\n"
        '"Student, Test",18,,0a1b2c,,\n',
        "First name,Surname,ID number,Username,Email address,Role\nAda,Lovelace,9,ada,ada@example.org,ta\n",
    ],
    ids=["plain", "bom and crlf", "semicolons", "tabs", "any order, blanks", "canvas", "moodle"],
)
def test_is_understood_as_platforms_and_spreadsheets_write_it(content):
    assert people(content) == [ADA]


def test_only_the_login_has_to_be_there():
    assert people("login\nada\nbob\n") == [("ada", "", "", None), ("bob", "", "", None)]


def test_names_may_be_in_quotes_and_from_anywhere():
    assert people('login,name\nada,"Ødegård, Åse"\n')[0][1] == "Ødegård, Åse"


def test_every_fault_is_named_by_its_line():
    content = (
        "login,name,email,role\n"
        "ada,Ada,ada@example.org,student\n"
        ",Nobody,,\n"
        "bob,Bob,bob at example,dean\n"
        "ADA,Ada again,,\n"
        "a/b,,,\n"
        "erased-7,,,\n"
    )
    assert faults(content) == [
        "Line 3: There is no login.",
        "Line 4: 'bob at example' is no email address.",
        "Line 4: There is no role 'dean'. There are: student, grader, instructor.",
        "Line 5: 'ADA' stands in line 2 already.",
        "Line 6: 'a/b' is no login: it takes letters without accents, digits, and any of . _ @ + -",
        "Line 7: No login may begin with 'erased-': those are of users who were erased.",
    ]


def test_lines_are_counted_as_an_editor_does():
    assert faults('login,name\nada,"Ada\nLovelace"\n,x\n') == [
        "Line 2: The name holds characters that cannot be printed.",
        "Line 4: There is no login.",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Line 1: No column is headed"),
        (b"login,name\n", "Line 1: Nobody is in it"),
        (b"who,name\nada,Ada\n", "Line 1: No column is headed 'login'"),
        ("login,name\nada,Åse\n".encode("latin-1"), "Line 2: This is not UTF-8"),
        ("login,name\nada,Ada\n".encode("utf-16-le"), "This is no text"),
        (b'login,name\nada,"Ada\n', "This is no CSV"),
        (b"login\n" + b"a" * 129, "Line 2: The login has more than 128"),
        (b"login,name\nada," + b"a" * 256, "Line 2: The name has more than 255"),
        (b"login\n" + b"\n".join(b"u%d" % n for n in range(MAX_ROWS + 1)), f"more than {MAX_ROWS} people"),
        (b"login\n" + b"a" * MAX_BYTES, "more than 2 MiB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_roster_is_refused_in_words(content, words):
    (fault,) = faults(content)
    assert words in fault


def test_a_roster_at_its_limit_is_taken():
    assert len(people(b"login\n" + b"\n".join(b"u%d" % n for n in range(MAX_ROWS)))) == MAX_ROWS


def test_logins_that_differ_in_case_only_are_one_person_written_wrong():
    (fault,) = differently_written([Entry(line=2, login="Ada"), Entry(line=3, login="bob")], ["ada", "bob"])
    assert str(fault) == "Line 2: The user 'ada' is not written 'Ada'."


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: ("login,name,role\n" + text).encode()))
def test_whatever_is_sent_there_are_people_or_faults(content):
    entries, found = read_roster(content)
    assert entries or found
    assert all(fault.line >= 1 for fault in found)
