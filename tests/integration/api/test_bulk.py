"""Hand-ins of a whole course at once, as learning platforms give them out."""

import io
import itertools
import zipfile
from datetime import datetime, timedelta

import pytest
from classroom import ASSIGNMENT, COURSE, Classroom

from records.hints import Hints
from records.models import Role, utc_now

BULK = f"/api/v1/assignments/{ASSIGNMENT}/bulk"
_numbers = itertools.count()
METADATA = """---
submission_12:
  :submitters:
  - :name: Ada Lovelace
    :sid: ada
    :email: ada@example.org
  :created_at: 2026-03-01 12:00:00
submission_13:
  :submitters:
  - :name: Grace Hopper
    :sid: '999'
    :email: grace@example.org
"""


@pytest.fixture(scope="module")
def classroom(store):
    made = Classroom(store)
    students = {
        "ada": "Ada Lovelace",
        "grace": "Grace Brewster Hopper",
        "kim1": "Kim Lee",
        "kim2": "Lee Kim",
    }
    for login, name in students.items():
        made.people.add_user(None, login, name, f"{login}@example.org")
        made.people.set_role(None, COURSE, login, Role.STUDENT)
    return made


@pytest.fixture(scope="module")
def instructor(classroom):
    return classroom.headers(classroom.user("teacher", COURSE, Role.INSTRUCTOR))


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def send(api, headers, files, **form):
    return api.post(BULK, files={"files": ("all.zip", zipped(files))}, data=form, headers=headers)


def code():
    """A module that nobody has handed in."""
    return f"x = {next(_numbers)}\n"


@pytest.mark.parametrize(
    "files",
    [
        {"lovelaceada_123_456_answers.ipynb": "{}", "hoppergracebrewster_LATE_124_457_a.py": "x = 1"},
        {"lovelaceada_123_456_answers.ipynb": "{}", "brewsterhoppergrace_124_457_a.py": "x = 1"},
        {
            "Ada Lovelace_1_assignsubmission_file_/answers.ipynb": "{}",
            "Grace Brewster Hopper_2_assignsubmission_file_/a.py": "x = 1",
        },
        {
            "export/submission_metadata.yml": METADATA,
            "export/submission_12/answers.ipynb": "{}",
            "export/submission_13/a.py": "x = 1",
        },
        {"ada/answers.ipynb": "{}", "grace@example.org/a.py": "x = 1"},
        {"ADA.ipynb": "{}", "grace.py": "x = 1"},
    ],
    ids=["canvas", "canvas-two-last-names", "moodle", "gradescope", "folders", "files"],
)
def test_whose_it_is(api, instructor, files):
    result = send(api, instructor, files, dry_run="true").json()
    assert result["unmatched"] == []
    assert [one["login"] for one in result["taken"]] == ["ada", "grace"]
    assert {one["submission"] for one in result["taken"]} == {None}


def test_what_cannot_be_matched_is_named_and_nothing_is_taken(api, instructor, classroom):
    mine = code()
    files = {"ada.py": mine, "leekim_1_2_a.py": code(), "nobody.py": code(), "grace/a.txt.py": "  "}
    refused = send(api, instructor, files)
    assert refused.status_code == 422
    why = {one["file"]: one["why"] for one in refused.json()["unmatched"]}
    assert set(why) == {"leekim_1_2_a.py", "nobody.py", "grace/a.txt.py"}
    assert "kim1, kim2" in why["leekim_1_2_a.py"]
    assert "empty" in why["grace/a.txt.py"]
    taken = send(api, instructor, files, partial="true").json()
    assert [(one["login"], one["identical"]) for one in taken["taken"]] == [("ada", False)]
    assert len(taken["unmatched"]) == 3


def test_files_of_other_kinds_are_named(api, instructor):
    files = {"all/ada/a.py": code(), "all/grace/essay.pdf": "%PDF", "all/kim1/x.txt": "x = 1", "README.md": "# all"}
    hidden = ["__MACOSX/all/ada/._a.py", "all/.DS_Store", "all/grace/.notes.txt", "all/kim1/"]
    result = send(api, instructor, files | dict.fromkeys(hidden, ""), dry_run="true").json()
    assert [one["files"] for one in result["taken"]] == [["all/ada/a.py"]]
    assert {one["file"] for one in result["unmatched"]} == set(files) - {"all/ada/a.py"}
    assert {one["why"] for one in result["unmatched"]} == {"It is neither .py nor .ipynb nor .zip."}


def test_the_same_files_again_are_recognised(api, instructor, classroom):
    files = {"ada/a.py": code(), "ada/b.py": code(), "grace.py": code()}
    first, second = (send(api, instructor, files).json()["taken"] for _ in range(2))
    assert [one["identical"] for one in (*first, *second)] == [False, False, True, True]
    assert [one["submission"] for one in first] == [one["submission"] for one in second]
    assert first[0]["files"] == ["ada/a.py", "ada/b.py"]


def test_when_it_came_may_be_said_and_is_audited(api, instructor, classroom):
    late = {"policy": {"due_at": (utc_now() - timedelta(days=9)).isoformat()}, "reason": "test"}
    api.put(f"/api/v1/assignments/{ASSIGNMENT}/policy", json=late, headers=instructor)
    came = utc_now() - timedelta(days=10)
    (taken,) = send(api, instructor, {"ada.py": code()}, received_at=came.isoformat()).json()["taken"]
    status = api.get(f"/api/v1/submissions/{taken['submission']}", headers=instructor).json()
    assert datetime.fromisoformat(status["receipt"]["received_at"]) == came
    entries = api.get(f"/api/v1/courses/{COURSE}/audit", headers=instructor).json()
    told = [entry for entry in entries if entry["action"] == "hand-ins brought in"][-1]
    assert told["data"] == {"received_at": came.isoformat(), "files": {str(classroom.user("ada")): 1}}
    for never in ((utc_now() + timedelta(days=1)).isoformat(), "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"):
        assert send(api, instructor, {"ada.py": code()}, received_at=never).status_code == 422


def test_what_came_before_a_hint_does_not_pay_for_it(api, instructor, classroom, store):
    anytime = {"policy": {}, "reason": "test"}
    api.put(f"/api/v1/assignments/{ASSIGNMENT}/policy", json=anytime, headers=instructor)
    submission = classroom.hand_in(classroom.user("grace"), code().encode())
    hints = Hints(store.database)
    hints.ask(submission, "q", 1)
    came = (utc_now() - timedelta(days=3)).isoformat()
    (taken,) = send(api, instructor, {"grace.py": code()}, received_at=came).json()["taken"]
    assert hints.history(taken["submission"]).asked == {}


def test_an_address_that_two_share_is_nobodys(api, instructor, classroom):
    for login in ("pat1", "pat2"):
        classroom.people.add_user(None, login, login, "shared@example.org")
        classroom.people.set_role(None, COURSE, login, Role.STUDENT)
    result = send(api, instructor, {"shared@example.org/a.py": code()}, dry_run="true").json()
    assert result["taken"] == []
    assert "pat1, pat2" in result["unmatched"][0]["why"]


def test_what_a_group_handed_in_is_brought_in_for_each_by_a_person(api, instructor):
    both = METADATA.replace("  :created_at: 2026-03-01 12:00:00\nsubmission_13:\n  :submitters:\n", "")
    files = {"export/submission_metadata.yml": both, "export/submission_12/a.py": code()}
    result = send(api, instructor, files, dry_run="true").json()
    assert result["taken"] == []
    assert "A group handed it in: ada, grace." in result["unmatched"][0]["why"]


def test_several_files_without_an_archive(api, instructor, classroom):
    files = [
        ("files", ("ada.py", code())),
        ("files", ("lovelaceada_1_2_x.py", code())),
        ("files", ("grace.py", code())),
    ]
    taken = api.post(BULK, files=files, headers=instructor).json()["taken"]
    assert [one["files"] for one in taken] == [["ada.py", "lovelaceada_1_2_x.py"], ["grace.py"]]


@pytest.mark.threat(41, 43)
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"../ada.py": "x = 1"}, "outside"),
        ({"ada.py": "#" * 50_000_000}, "ada.py"),
        ({"ada.exe": "x"}, "ada.exe"),
    ],
)
def test_dangerous_archives_are_refused(api, instructor, files, words):
    refused = send(api, instructor, files)
    assert refused.status_code == 422
    assert words in refused.json()["detail"]


def test_is_for_instructors(api, classroom):
    grader = classroom.headers(classroom.user("helper", COURSE, Role.GRADER))
    assert send(api, grader, {"ada.py": "x = 1"}).status_code == 403
