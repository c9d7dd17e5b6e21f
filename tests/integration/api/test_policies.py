"""Assignments of a course through the front door: their policies, versions, pauses and extensions."""

import io
import itertools
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from classroom import ASSIGNMENT, COURSE, OTHER, Classroom

from records.hints import Hints
from records.models import Role, utc_now
from reference.pack import PACKS, load_pack

HOUR = timedelta(hours=1)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def classroom(store):
    return Classroom(store)


@pytest.fixture
def student(classroom):
    """A new student of the course, by login and headers."""
    login = f"student{next(_numbers)}"
    return login, classroom.headers(classroom.user(login, COURSE))


@pytest.fixture(scope="module")
def instructor(classroom):
    return classroom.headers(classroom.user("teacher", COURSE, Role.INSTRUCTOR))


@pytest.fixture
def assignment(api, instructor):
    """A new assignment of the course: its address."""
    name = f"quiz-{next(_numbers)}"
    made = api.post("/api/v1/assignments", data={"course": COURSE, "id": name, "pack": "ddpm"}, headers=instructor)
    assert made.status_code == 201, made.text
    return made.json()["links"]["self"]


def set_policy(api, assignment, instructor, **policy):
    response = api.put(f"{assignment}/policy", json={"policy": policy, "reason": "test"}, headers=instructor)
    assert response.status_code == 200, response.text


def hand_in(api, assignment, headers, content=b"x = 1\n"):
    return api.post(f"{assignment}/submissions", files={"files": ("a.py", content)}, headers=headers)


def at(delta):
    return (utc_now() + delta).isoformat()


def audit(api, instructor, subject):
    entries = api.get(f"/api/v1/courses/{COURSE}/audit", headers=instructor).json()
    return [entry for entry in entries if entry["subject"] == subject]


def test_outside_of_its_dates_there_is_neither_starter_nor_hand_in(api, assignment, instructor, student):
    _, ada = student
    set_policy(api, assignment, instructor, exam={"opens_at": at(HOUR), "closes_at": at(2 * HOUR)})
    for refused in (hand_in(api, assignment, ada), api.get(f"{assignment}/starter.py", headers=ada)):
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:noisemark:problem:not-open")
        assert 0 < int(refused.headers["retry-after"]) <= 3600
        assert refused.json()["opens_at"]
    assert api.get(f"{assignment}/starter.py", headers=instructor).status_code == 200
    set_policy(api, assignment, instructor, exam={"opens_at": at(-HOUR), "closes_at": at(HOUR)})
    assert api.get(f"{assignment}/starter.py", headers=ada).status_code == 200
    assert hand_in(api, assignment, ada).status_code == 202
    set_policy(api, assignment, instructor, exam={"opens_at": at(-2 * HOUR), "closes_at": at(-HOUR)})
    assert api.get(f"{assignment}/starter.py", headers=ada).status_code == 403
    late = hand_in(api, assignment, ada, b"y = 1\n")
    assert (late.status_code, late.json()["type"]) == (403, "urn:noisemark:problem:too-late")
    assert hand_in(api, assignment, instructor).status_code == 202


def test_caps_are_told_with_when_the_next_attempt_is_possible(api, assignment, instructor, student):
    login, ada = student
    set_policy(api, assignment, instructor, submission_limit_per_day=1)
    first = hand_in(api, assignment, ada)
    assert first.headers["identical-resubmission"] == "false"
    refused = hand_in(api, assignment, ada, b"y = 1\n")
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:noisemark:problem:attempt-limit")
    assert 0 < int(refused.headers["retry-after"]) <= 25 * 3600
    again = hand_in(api, assignment, ada)
    assert (again.status_code, again.headers["identical-resubmission"]) == (202, "true")
    assert again.json()["id"] == first.json()["id"]
    extension = {"hours": 0, "bonus_attempts": 1, "reason": "a power cut"}
    given = api.put(f"{assignment}/extensions/{login}", json=extension, headers=instructor)
    assert given.json() == extension | {"login": login}
    assert api.get(f"{assignment}/extensions", headers=instructor).json() == [given.json()]
    assert api.get(f"{assignment}/terms", headers=ada).json()["attempts_left_today"] == 1
    assert hand_in(api, assignment, ada, b"y = 1\n").status_code == 202
    assert api.get(f"{assignment}/terms", headers=ada).json()["attempts_left_today"] == 0
    set_policy(api, assignment, instructor, total_submission_limit=1)
    assert "retry-after" not in hand_in(api, assignment, ada, b"z = 1\n").headers


def test_what_was_cancelled_is_an_attempt_once_it_had_begun(api, assignment, instructor, student, store):
    _, ada = student
    set_policy(api, assignment, instructor, total_submission_limit=1)

    def cancel(content):
        handed_in = hand_in(api, assignment, ada, content)
        assert handed_in.status_code == 202
        return handed_in.json()["id"], f"{handed_in.json()['links']['self']}/cancel"

    _, link = cancel(b"x = 1\n")
    assert api.post(link, headers=ada).status_code == 200
    submission, link = cancel(b"x = 2\n")
    while (lease := store.queue.claim("w")).submission_id != submission:
        pass
    assert api.post(link, headers=ada).status_code == 200
    refused = hand_in(api, assignment, ada, b"x = 3\n")
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:noisemark:problem:attempt-limit")
    assert lease.attempt == 1


def test_what_hints_told_somebody_goes_with_him(api, assignment, student, store):
    _, ada = student
    first, second = (hand_in(api, assignment, ada, content).json()["id"] for content in (b"x = 1\n", b"x = 2\n"))
    hints = Hints(store.database)
    hints.ask(first, "q", 1)
    assert hints.history(second).asked == {"q": 1}


def test_who_had_more_time_is_told_his_own_dates(api, assignment, instructor, student):
    login, ada = student
    due = at(-HOUR)
    set_policy(api, assignment, instructor, due_at=due, grace_minutes=10)
    assert hand_in(api, assignment, ada).status_code == 403
    api.put(f"{assignment}/extensions/{login}", json={"hours": 2, "reason": "ill"}, headers=instructor)
    assert hand_in(api, assignment, ada).status_code == 202
    own, others = (api.get(f"{assignment}/terms", headers=headers).json() for headers in (ada, instructor))
    assert own["due_at"] > others["due_at"]
    api.put(f"{assignment}/extensions/{login}", json={"reason": "well again"}, headers=instructor)
    assert api.get(f"{assignment}/extensions", headers=instructor).json() == []


def test_only_who_is_in_the_course_gets_an_extension(api, assignment, instructor, classroom):
    classroom.user("otto", OTHER)
    for login in ("nobody", "otto"):
        refused = api.put(f"{assignment}/extensions/{login}", json={"reason": "ill"}, headers=instructor)
        assert (refused.status_code, "in the course" in refused.json()["detail"]) == (404, True)


def test_no_version_is_published_that_would_show_what_is_hidden(api, assignment, instructor, classroom):
    pack = load_pack("ddpm")
    check = (pack.checks / "test_forward.py").read_text()
    others = "".join(path.read_text() for path in pack.checks.glob("*.py")).replace(check, "")
    name = next(name for name in sorted(pack.check_names) if f"def test_{name}(" in check and f"_{name}(" not in others)
    set_policy(api, assignment, instructor, visibility_of={f"q/{name}": "hidden"})
    content = zipped_pack(**{"checks/test_forward.py": check.replace(f"def test_{name}(", "def test_renamed(")})
    admin = classroom.headers(classroom.user("root", is_admin=True))
    arguments = {"files": {"archive": ("mine.zip", content)}, "data": {"reason": "mended"}}
    refused = api.post(f"{assignment}/versions", headers=admin, **arguments)
    assert (refused.status_code, f"no check q/{name}" in refused.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"late_until": at(HOUR)}, "late_until must come after due_at"),
        ({"visibility_of": {"no-such-blank/check": "hidden"}}, "no blank no-such-blank"),
        ({"visibility_of": {"q/no_such_check": "hidden"}}, "no check q/no_such_check"),
        ({"visibility_of": {"q/": "hidden"}}, "no check q/"),
        ({"due_at": "tomorrow"}, "due_at"),
        ({"deadline": at(HOUR)}, "deadline"),
        ({"due_at": "9999-12-31T23:59:59Z"}, "9999 is no year"),
        ({"due_at": at(HOUR), "grace_minutes": 1e13}, "grace_minutes"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_in_words(api, assignment, instructor, policy, words):
    response = api.put(f"{assignment}/policy", json={"policy": policy, "reason": "test"}, headers=instructor)
    assert response.status_code == 422
    assert words in response.json()["detail"]


def test_what_changes_grades_is_audited_with_before_and_after(api, assignment, instructor):
    set_policy(api, assignment, instructor, grace_minutes=5)
    set_policy(api, assignment, instructor, counts="best")
    api.post(f"{assignment}/pause", json={"reason": "wrong check"}, headers=instructor)
    api.post(f"{assignment}/resume", headers=instructor)
    api.put(f"{assignment}/grades-published", json={"published": True}, headers=instructor)
    entries = audit(api, instructor, f"assignment {assignment.rsplit('/', 1)[1]}")
    assert [entry["action"] for entry in entries] == [
        "assignment created",
        "policy changed",
        "policy changed",
        "grading paused",
        "grading resumed",
        "grades published",
    ]
    assert entries[2]["data"] == {"before": {"grace_minutes": 5.0}, "after": {"counts": "best"}}
    assert entries[3]["reason"] == "wrong check"


def test_a_paused_assignment_takes_hand_ins_and_says_why_they_wait(api, assignment, instructor, student, store):
    _, ada = student
    api.post(f"{assignment}/pause", json={"reason": "a check is wrong"}, headers=instructor)
    handed_in = hand_in(api, assignment, ada)
    assert handed_in.status_code == 202
    assert api.get(f"{assignment}/terms", headers=ada).json()["paused"] == "a check is wrong"
    claimed = []
    while (lease := store.queue.claim("w")) is not None:
        claimed.append(lease.submission_id)
        store.queue.reject(lease, "test")
    assert handed_in.json()["id"] not in claimed
    api.post(f"{assignment}/resume", headers=instructor)
    assert store.queue.claim("w").submission_id == handed_in.json()["id"]


def zipped_pack(**changes):
    """The bundled pack with a folder around it, some of its files replaced, or left out where it is None."""
    buffer = io.BytesIO()
    root = PACKS / "ddpm"
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(root).as_posix()
                content = changes.pop(name, path.read_bytes())
                if content is not None:
                    archive.writestr(f"mine/{name}", content)
    return buffer.getvalue()


def test_an_administrator_publishes_a_pack_of_his_own(api, assignment, instructor, classroom):
    toml = Path(PACKS / "ddpm" / "pack.toml").read_text()
    title = next(line for line in toml.splitlines() if line.startswith("title"))
    content = zipped_pack(**{"pack.toml": toml.replace(title, 'title = "Mine"')})
    arguments = {"files": {"archive": ("mine.zip", content)}, "data": {"reason": "mended"}}
    before = api.get(assignment, headers=instructor).json()["version"]
    refused = api.post(f"{assignment}/versions", headers=instructor, **arguments)
    assert refused.status_code == 403  # checks run in the judge
    admin = classroom.headers(classroom.user("root", is_admin=True))
    published = api.post(f"{assignment}/versions", headers=admin, **arguments)
    assert published.status_code == 200, published.text
    assert api.get(assignment, headers=instructor).json()["version"] != before
    back = api.post(f"{assignment}/versions", headers=instructor, data={"pack": "ddpm", "reason": "back"})
    assert back.json()["version"] == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no zip", "not a zip archive"),
        (zipped_pack(**{"pack.toml": "id = 1"}), "pack/pack.toml: id: Input should be a valid string; title: Field"),
        (zipped_pack(**{"hints.toml": "x = ["}), "hints.toml"),
        (zipped_pack(**{"recipes.toml": "[fast]\nimages = 'many'"}), "pack/recipes.toml: fast.title: Field required"),
        (zipped_pack(**{"recipes.toml": "digits16 = 3"}), "pack/recipes.toml: 'digits16' is no table"),
        (zipped_pack(**{"checks/test_forward.py": "def"}), "pack/checks/test_forward.py: "),
        (zipped_pack(**{"solution.py": None}), "no `solution.py`"),
    ],
    ids=lambda value: value if isinstance(value, str) else "archive",  # its bytes hold the time
)
def test_an_archive_that_is_no_pack_is_refused_in_words(api, assignment, classroom, content, words):
    admin = classroom.headers(classroom.user("root", is_admin=True))
    arguments = {"files": {"archive": ("mine.zip", content)}, "data": {"reason": "mended"}}
    refused = api.post(f"{assignment}/versions", headers=admin, **arguments)
    assert refused.status_code == 422
    assert words in refused.json()["detail"]
    assert "/tmp" not in refused.text


def test_of_one_name_there_is_one_assignment(api, instructor):
    response = api.post(
        "/api/v1/assignments", data={"course": COURSE, "id": ASSIGNMENT, "pack": "ddpm"}, headers=instructor
    )
    assert (response.status_code, response.json()["type"]) == (409, "urn:noisemark:problem:taken")
    neither = api.post("/api/v1/assignments", data={"course": COURSE, "id": "new"}, headers=instructor)
    assert neither.status_code == 422


def test_students_see_no_policy(api, assignment, instructor, student):
    _, ada = student
    assert api.get(f"{assignment}/policy", headers=ada).status_code == 403  # it names hidden checks
    assert api.get(f"{assignment}/policy", headers=instructor).json()["counts"] == "most_recent"
