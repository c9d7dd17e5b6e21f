"""Regrades through the front door: planned, staged, seen as a difference, applied, rolled back."""

import csv
import io
import json
import shutil

import pytest
import sample_reports
from classroom import ASSIGNMENT, COURSE, Classroom
from services import open_store, running_api

from grading.report import Report, outcome
from records.models import Mode, Need, Role
from records.queue import Result
from records.settings import Settings
from records.versions import Versions
from reference.pack import Pack, load_pack

BLANK = "alphas"
NO_BROKER = "redis+socket:///nonexistent/redis.sock"


@pytest.fixture
def store(tmp_path):
    with open_store(Settings(data_dir=tmp_path / "var", redis_url=NO_BROKER, train=False, backoff_seconds=0)) as opened:
        yield opened


@pytest.fixture
def api(store):
    with running_api(store.settings) as client:
        yield client


@pytest.fixture
def room(store):
    return Classroom(store)


@pytest.fixture
def instructor(room):
    return room.headers(room.user("ina", COURSE, Role.INSTRUCTOR))


@pytest.fixture
def version(store, tmp_path):
    """Another version of the pack, with a changed check, and points that are worth something else."""
    root = tmp_path / "ddpm"
    shutil.copytree(load_pack("ddpm").root, root)
    check = root / "checks" / "test_sampling.py"
    check.write_text(check.read_text() + "\n# stricter\n")
    return Versions(store.database, store.blobs, store.settings.version_dir).publish(Pack(root))


def score(report: Report, **points: float) -> dict:
    """An outcome as a judge tells it, with other points for some blanks; none where they have not passed."""
    blanks = [
        blank.model_copy(update={"points": points[blank.id], "status": "passed" if points[blank.id] else "failed"})
        if blank.id in points
        else blank
        for blank in report.blanks
    ]
    lost = sum(blank.points for blank in report.blanks) - sum(blank.points for blank in blanks)
    return outcome(report.model_copy(update={"blanks": blanks, "score": report.score - lost}))


def work(store, outcomes=None) -> list[tuple[str, Mode]]:
    """What a worker does, until nothing waits: each submission gets its outcome."""
    done = []
    while (lease := store.queue.claim("worker", [*Need])) is not None:
        told = (outcomes or {}).get(lease.submission_id, outcome(sample_reports.passing()))
        report = store.blobs.put(json.dumps(told).encode())
        html = store.blobs.put(b"<!doctype html>")
        store.queue.finish(lease, Result(report_sha256=report, html_sha256=html, artifacts=(), outcome=told))
        done.append((lease.submission_id, lease.mode))
    return done


@pytest.fixture
def graded(store, room):
    """Three students, all graded with full marks: login -> submission."""
    logins = ("ada", "ben", "cem")
    found = {login: room.hand_in(room.user(login, COURSE), f"x = '{login}'".encode()) for login in logins}
    work(store)
    return found


def start(api, headers, version, **fields):
    body = {"mode": "recheck", "reason": "a check was too strict", "version": version} | fields
    return api.post(f"/api/v1/assignments/{ASSIGNMENT}/regrades", json=body, headers=headers)


def test_a_regrade_is_seen_before_it_counts_and_only_those_it_touches_are_told(
    api, store, room, instructor, version, graded
):
    passing = sample_reports.passing()
    plan = api.post(
        f"/api/v1/assignments/{ASSIGNMENT}/regrades/plan",
        json={"mode": "recheck", "reason": "x", "version": version},
        headers=instructor,
    ).json()
    assert (plan["submissions"], plan["known"]) == (3, 0)
    assert plan["changed_files"] == ["checks/test_sampling.py"]
    started = start(api, instructor, version)
    assert started.status_code == 202
    own = started.json()["links"]["self"]
    assert started.json()["gradings"] == {"queued": 3}
    early = api.post(f"{own}/apply", headers=instructor)
    assert (early.status_code, "3 of its gradings" in early.json()["detail"]) == (409, True)
    assert sorted(work(store, {graded["ada"]: score(passing, **{BLANK: 0.0})})) == sorted(
        (submission, Mode.RECHECK) for submission in graded.values()
    )

    diff = api.get(f"{own}/diff", headers=instructor).json()
    assert (diff["submissions"], diff["unchanged"], diff["lose"], diff["gain"]) == (3, 2, 1, 0)
    (change,) = diff["changes"]
    assert (change["login"], change["score_before"] - change["score_after"]) == ("ada", _points(BLANK))
    (blank,) = change["blanks"]
    assert (blank["blank"], blank["before"], blank["after"], blank["cause"]) == (
        BLANK,
        "passed",
        "failed",
        "check changed",
    )
    (line,) = csv.DictReader(io.StringIO(api.get(f"{own}/diff.csv", headers=instructor).text))
    assert (line["login"], line["blank"], line["cause"]) == ("ada", BLANK, "check changed")
    page = api.get(f"{own}/diff.html", headers=instructor).text
    assert "check changed" in page
    assert "Ada" in page

    ada, ben = (room.headers(room.user(login)) for login in ("ada", "ben"))
    before = grade_of(api, instructor, "ada")
    assert before == passing.score
    assert api.get("/api/v1/me/notices", headers=ada).json() == []
    applied = api.post(f"{own}/apply", headers=instructor).json()
    assert (applied["regrade"]["state"], applied["students_told"]) == ("applied", 1)
    assert grade_of(api, instructor, "ada") == passing.score - _points(BLANK)
    assert "a check was too strict" in json.dumps(api.get("/api/v1/me/notices", headers=ada).json())
    assert api.get("/api/v1/me/notices", headers=ben).json() == []
    assert api.post(f"{own}/apply", headers=instructor).status_code == 409

    rolled_back = api.post(f"{own}/roll-back", headers=instructor).json()
    assert (rolled_back["regrade"]["state"], rolled_back["students_told"]) == ("rolled_back", 1)
    assert grade_of(api, instructor, "ada") == before
    newest = api.get("/api/v1/me/notices", headers=ada).json()[0]["body"]
    assert newest.endswith("a regrade was undone (a check was too strict)")
    audit = json.dumps(api.get(f"/api/v1/courses/{COURSE}/audit", headers=instructor).json())
    assert all(f"regrade {word}" in audit for word in ("started", "applied", "rolled back"))

    again = start(api, instructor, version).json()
    assert again["gradings"] == {"done": 3}  # answered from what is stored
    assert work(store) == []
    assert api.get(f"{again['links']['self']}/diff", headers=instructor).json()["changes"][0]["known"]
    anew = start(api, instructor, version, anew=True).json()
    assert anew["gradings"] == {"queued": 3}


def test_what_was_graded_with_other_corrections_is_not_taken_from_what_is_stored(
    api, store, instructor, version, graded
):
    policy = {"policy": {"corrections_off": ["older/loss-time"]}, "reason": "we teach it"}
    assert api.put(f"/api/v1/assignments/{ASSIGNMENT}/policy", json=policy, headers=instructor).status_code == 200
    for mode in ("rescore", "recheck"):
        start(api, instructor, version, mode=mode)
        work(store)  # as if with all corrections
    assert start(api, instructor, version, mode="rescore").json()["gradings"] == {"done": 3}
    again = start(api, instructor, version).json()
    assert again["gradings"] == {"queued": 3}
    off = {"corrections_off": ["older/loss-time"]}
    told = outcome(sample_reports.passing()) | off
    work(
        store,
        {
            graded["ada"]: score(sample_reports.passing(), **{BLANK: 0.0}) | off,
            **dict.fromkeys((graded["ben"], graded["cem"]), told),
        },
    )
    (change,) = api.get(f"{again['links']['self']}/diff", headers=instructor).json()["changes"]
    assert start(api, instructor, version).json()["gradings"] == {"done": 3}
    assert change["login"] == "ada"


def _points(blank):
    return next(found.max_points for found in sample_reports.passing().blanks if found.id == blank)


def grade_of(api, headers, login):
    grades = api.get(f"/api/v1/assignments/{ASSIGNMENT}/grades", headers=headers).json()
    return next(grade["points"] for grade in grades if grade["login"] == login)


def test_a_student_sees_nothing_of_it_before_it_is_applied(api, store, room, instructor, version, graded):
    own = start(api, instructor, version).json()["links"]["self"]
    ada = room.headers(room.user("ada"))
    submission = f"/api/v1/submissions/{graded['ada']}"
    events = {"Last-Event-ID": "0"} | ada
    before = [api.get(submission, headers=ada).json(), api.get(f"{submission}/events", headers=events).text]
    work(store, {graded["ada"]: score(sample_reports.passing(), **{BLANK: 0.0})})
    assert [api.get(submission, headers=ada).json(), api.get(f"{submission}/events", headers=events).text] == before
    for place in ("", "/diff", "/diff.csv", "/diff.html"):
        assert api.get(own + place, headers=ada).status_code in (403, 404)
    assert api.post(f"{own}/apply", headers=ada).status_code == 403


def test_live_submissions_go_first(store, api, room, instructor, version, graded):
    start(api, instructor, version)
    live = room.hand_in(room.user("dan", COURSE), b"late = 1")
    assert store.queue.claim("worker").submission_id == live


def test_a_cancelled_regrade_goes_on_where_it_stopped(api, store, instructor, version, graded):
    own = start(api, instructor, version).json()["links"]["self"]
    running = store.queue.claim("worker")
    store.queue.finish(running, _result(store))
    assert api.post(f"{own}/cancel", headers=instructor).json()["regrade"]["gradings"] == {"cancelled": 2, "done": 1}
    assert store.queue.claim("worker") is None
    assert api.post(f"{own}/apply", headers=instructor).status_code == 409
    assert api.post(f"{own}/resume", headers=instructor).json()["regrade"]["gradings"] == {"queued": 2, "done": 1}
    assert len(work(store)) == 2
    assert api.post(f"{own}/apply", headers=instructor).status_code == 200


def _result(store):
    told = outcome(sample_reports.passing())
    blob = store.blobs.put(b"{}")
    return Result(report_sha256=blob, html_sha256=blob, artifacts=(), outcome=told)


def test_a_discarded_regrade_changes_nothing(api, store, instructor, version, graded):
    own = start(api, instructor, version).json()["links"]["self"]
    before = grade_of(api, instructor, "ada")
    work(store, {graded["ada"]: score(sample_reports.passing(), **{BLANK: 0.0})})
    assert api.post(f"{own}/discard", headers=instructor).json()["regrade"]["state"] == "discarded"
    assert api.post(f"{own}/apply", headers=instructor).status_code == 409
    assert grade_of(api, instructor, "ada") == before


def test_what_people_set_by_hand_survives_and_is_flagged(api, store, instructor, version, graded):
    override = {"blank": BLANK, "points": 1.5, "reason": "shown on paper"}
    path = f"/api/v1/submissions/{graded['ada']}/overrides"
    assert api.post(path, json=override, headers=instructor).status_code in (200, 201)
    before = grade_of(api, instructor, "ada")
    own = start(api, instructor, version).json()["links"]["self"]
    work(store, {graded["ada"]: score(sample_reports.passing(), **{BLANK: 0.0})})
    (change,) = api.get(f"{own}/diff", headers=instructor).json()["changes"]
    assert change["blanks"][0]["overridden"]
    assert change["score_before"] == change["score_after"] == before
    assert api.post(f"{own}/apply", headers=instructor).json()["students_told"] == 0
    assert grade_of(api, instructor, "ada") == before


def test_two_regrades_of_one_submission_do_not_overwrite_each_other(api, store, instructor, version, graded):
    first, second = (start(api, instructor, version, anew=True).json()["links"]["self"] for _ in range(2))
    work(store)
    assert api.post(f"{first}/apply", headers=instructor).status_code == 200
    refused = api.post(f"{second}/apply", headers=instructor)
    assert (refused.status_code, "another regrade" in refused.json()["detail"]) == (409, True)


def test_a_fault_of_ours_leaves_what_counts(api, store, instructor, version, graded):
    own = start(api, instructor, version, selection={"students": ["ada"]}).json()["links"]["self"]
    while (lease := store.queue.claim("worker")) is not None:
        store.queue.fail(lease, "disk full")
    assert api.get(own, headers=instructor).json()["gradings"] == {"faulted": 1}
    assert api.get(f"{own}/diff", headers=instructor).json()["without_report"] == 1
    assert api.post(f"{own}/apply", headers=instructor).status_code == 200
    assert grade_of(api, instructor, "ada") == sample_reports.passing().score


def test_what_a_fault_of_ours_ended_gets_its_grade_and_the_student_is_told(api, store, room, instructor):
    ada = room.user("ada", COURSE)
    room.hand_in(ada)
    while (lease := store.queue.claim("worker")) is not None:
        store.queue.fail(lease, "disk full")
    own = start(api, instructor, None, mode="full", selection={"verdicts": ["faulted"]}).json()["links"]["self"]
    work(store)
    assert api.post(f"{own}/apply", headers=instructor).json()["students_told"] == 1
    (notice,) = api.get("/api/v1/me/notices", headers=room.headers(ada)).json()
    assert "from none to 100" in json.dumps(notice)
    assert api.post(f"{own}/roll-back", headers=instructor).json()["students_told"] == 1


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"students": ["ada"]}, {"ada"}),
        ({"verdicts": ["failed"]}, set()),
        ({"verdicts": ["passed"]}, {"ada", "ben", "cem"}),
        ({"blanks": [BLANK]}, {"ben"}),
        ({"blanks": ["a"]}, {"ben"}),
        ({"students": ["ada", "ben"], "blanks": [BLANK]}, {"ben"}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_selections(api, store, room, instructor, version, selection, expected):
    found = {login: room.hand_in(room.user(login, COURSE), login.encode()) for login in ("ada", "ben", "cem")}
    work(store, {found["ben"]: score(sample_reports.passing(), **{BLANK: 0.0})})
    answer = start(api, instructor, version, selection=selection)
    if not expected:
        assert (answer.status_code, "Select something else" in answer.json()["detail"]) == (422, True)
        return
    assert {submission for submission, _ in work(store)} == {found[login] for login in expected}


@pytest.mark.parametrize(
    "selection",
    [
        {"students": ["ada", "nobody"]},
        {"submissions": ["0" * 32]},
        {"versions": ["0" * 64]},
        {"blanks": ["nosuch"]},
        {"verdicts": ["perfect"]},
    ],
    ids=str,
)
def test_what_a_selection_names_has_to_be_there(api, instructor, version, graded, selection):
    answer = start(api, instructor, version, selection=selection)
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert "There is no" in detail or "verdicts" in detail


def test_who_may_not_know_a_grade_is_not_told_it(api, store, room, instructor, version, graded):
    policy = {"policy": {"visibility_of": {"q": "after_published"}}, "reason": "test"}
    assert api.put(f"/api/v1/assignments/{ASSIGNMENT}/policy", json=policy, headers=instructor).status_code == 200
    own = start(api, instructor, version).json()["links"]["self"]
    work(store, {graded["ada"]: score(sample_reports.passing(), **{BLANK: 0.0})})
    assert api.post(f"{own}/apply", headers=instructor).status_code == 200
    (notice,) = api.get("/api/v1/me/notices", headers=room.headers(room.user("ada"))).json()
    assert "changed, and is shown once it is published: a check was too strict" in notice["body"]
    assert not any(character.isdigit() for character in notice["body"])


def test_what_cannot_be_rescored_is_left_out_by_name(api, store, instructor, version, graded, room):
    room.hand_in(room.user("dan", COURSE), b"waits = 1")
    body = {"mode": "rescore", "reason": "x", "version": version}
    plan = api.post(f"/api/v1/assignments/{ASSIGNMENT}/regrades/plan", json=body, headers=instructor).json()
    assert (plan["submissions"], plan["left_out"]) == (3, {"still graded for the first time": 1})
    assert any("rescore does not run checks" in warning for warning in plan["warnings"])


def test_a_version_that_is_not_there_is_named(api, instructor, graded):
    answer = start(api, instructor, "f" * 64)
    assert (answer.status_code, "f" * 64 in answer.json()["detail"]) == (422, True)
