"""Work by hand, and what students see of it and of hidden checks, through the front door."""

import itertools
import json

import pytest
import sample_reports
from classroom import COURSE, Classroom
from httpx_sse import connect_sse

from grading.page import render
from grading.report import Flag, outcome
from records.models import Role
from records.queue import NewArtifact, NewEvent, Result

_numbers = itertools.count()
REPORT = sample_reports.four_mistakes().model_copy(
    update={"flags": [Flag(id="copies", title="Copies", evidence="30% of 100 images.")]}
)
WRONG = next(blank for blank in REPORT.blanks if blank.status == "failed")
RIGHT = next(blank for blank in REPORT.blanks if blank.status == "passed")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def classroom(store):
    return Classroom(store)


@pytest.fixture(scope="module")
def staff(classroom):
    """Headers by role."""
    return {role: classroom.headers(classroom.user(f"the-{role}", COURSE, role)) for role in Role}


@pytest.fixture
def assignment(api, staff):
    name = f"quiz-{next(_numbers)}"
    data = {"course": COURSE, "id": name, "pack": "ddpm"}
    assert api.post("/api/v1/assignments", data=data, headers=staff[Role.INSTRUCTOR]).status_code == 201
    return f"/api/v1/assignments/{name}"


@pytest.fixture
def ada(classroom):
    return classroom.headers(classroom.user(f"ada{next(_numbers)}", COURSE))


@pytest.fixture
def graded(api, store, assignment, ada):
    """A hand-in of Ada's with a report: its address."""
    response = api.post(f"{assignment}/submissions", files={"files": ("a.py", b"x = 1\n")}, headers=ada)
    own = response.json()["links"]["self"]
    grade(store, own)
    return own


def grade(store, own, report=REPORT):
    submission = own.rsplit("/", 1)[1]
    while (lease := store.queue.claim("w")).submission_id != submission:
        store.queue.reject(lease, "another test's")
    events = [
        NewEvent(
            type="check_finished",
            data={"blank": blank.id, "check": check.name, "outcome": check.outcome, "message": check.message},
        )
        for blank in report.blanks
        for check in blank.checks
    ]
    events += [
        NewEvent(
            type="blank_finished",
            data={"blank": blank.id, "outcome": blank.status, "points": blank.points, "max_points": blank.max_points},
        )
        for blank in report.blanks
    ]
    events += [NewEvent(type="stage_started", data={"stage": "train"}) for _ in range(2)]
    events.append(NewEvent(type="training_progress", data={"run": "repaired", "images_seen": 1}))
    store.queue.record(lease, events)
    image = NewArtifact(name=sample_reports.REPAIRED_GRID, media_type="image/png", sha256=store.blobs.put(PNG))
    result = Result(
        report_sha256=store.blobs.put(report.model_dump_json().encode()),
        html_sha256=store.blobs.put(render(report, {}, "title").encode()),
        artifacts=(image,),
        outcome=outcome(report),
    )
    store.queue.finish(lease, result)


def own_grade(api, assignment, headers):
    return api.get(f"{assignment}/grade", headers=headers).json()


def test_points_by_hand_count_until_they_are_withdrawn(api, assignment, graded, ada, staff):
    body = {"blank": WRONG.id, "points": WRONG.max_points, "reason": "right, in another way"}
    assert api.post(f"{graded}/overrides", json=body, headers=ada).status_code == 403
    made = api.post(f"{graded}/overrides", json=body, headers=staff[Role.GRADER])
    assert made.status_code == 201, made.text
    assert own_grade(api, assignment, ada)["points"] == REPORT.score + WRONG.max_points
    (seen,) = api.get(f"{graded}/review", headers=ada).json()["overrides"]
    assert (seen["reason"], seen["by"]) == (body["reason"], "The-Grader")
    assert body["reason"] in str(api.get("/api/v1/me/notices", headers=ada).json())
    withdraw = f"{graded}/overrides/{made.json()['id']}/withdraw"
    assert api.post(withdraw, json={"reason": "no"}, headers=staff[Role.GRADER]).status_code == 200
    assert own_grade(api, assignment, ada)["points"] == REPORT.score
    assert api.post(withdraw, json={"reason": "no"}, headers=staff[Role.GRADER]).status_code == 409
    entries = api.get(f"/api/v1/courses/{COURSE}/audit", headers=staff[Role.INSTRUCTOR]).json()
    subject = f"submission {graded.rsplit('/', 1)[1]}"
    actions = [(entry["action"], entry["reason"]) for entry in entries if entry["subject"] == subject]
    assert actions == [("points set", body["reason"]), ("points withdrawn", "no")]


@pytest.mark.parametrize(
    "body",
    [
        {"blank": "no-such-blank", "points": 1, "reason": "x"},
        {"blank": WRONG.id, "points": WRONG.max_points + 0.5, "reason": "x"},
        {"blank": WRONG.id, "points": -1, "reason": "x"},
        {"blank": WRONG.id, "points": 1, "reason": "  "},
    ],
)
def test_points_that_cannot_be_are_refused(api, graded, staff, body):
    assert api.post(f"{graded}/overrides", json=body, headers=staff[Role.GRADER]).status_code == 422


def test_what_has_no_report_gets_no_points(api, store, assignment, ada, staff):
    sent = api.post(f"{assignment}/submissions", files={"files": ("a.py", b"x = 1\n")}, headers=ada).json()
    body = {"blank": WRONG.id, "points": 1, "reason": "kind"}
    refused = api.post(f"{sent['links']['self']}/overrides", json=body, headers=staff[Role.GRADER])
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:noisemark:problem:not-ready")
    assert api.get("/api/v1/me/notices", headers=ada).json() == []


def test_what_staff_cancels_is_audited_and_the_author_told(api, assignment, ada, staff):
    own, anothers = (
        api.post(f"{assignment}/submissions", files={"files": ("a.py", content)}, headers=ada).json()
        for content in (b"x = 1\n", b"x = 2\n")
    )
    assert api.post(f"{own['links']['self']}/cancel", headers=ada).status_code == 200
    cancelled = api.post(f"{anothers['links']['self']}/cancel", headers=staff[Role.GRADER])
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    entries = api.get(f"/api/v1/courses/{COURSE}/audit", headers=staff[Role.INSTRUCTOR]).json()
    subjects = [entry["subject"] for entry in entries if entry["action"] == "grading cancelled"]
    assert subjects == [f"submission {anothers['id']}"]
    (notice,) = api.get("/api/v1/me/notices", headers=ada).json()
    assert (notice["submission"], "staff of your course" in notice["body"]) == (anothers["id"], True)


def test_a_flag_withholds_points_once_an_instructor_confirms_it(api, store, assignment, ada, staff):
    response = api.post(f"{assignment}/submissions", files={"files": ("a.py", b"x = 1\n")}, headers=ada)
    own = response.json()["links"]["self"]
    report = sample_reports.passing().model_copy(update={"flags": REPORT.flags})
    grade(store, own, report)
    accuracy = report.score - sum(blank.points for blank in report.blanks)
    decision = {"confirmed": True, "reason": "the images are copies"}
    assert own_grade(api, assignment, ada)["points"] == report.score
    assert api.put(f"{own}/flags/copies", json=decision, headers=staff[Role.GRADER]).status_code == 403
    assert api.put(f"{own}/flags/other", json=decision, headers=staff[Role.INSTRUCTOR]).status_code == 404
    assert api.put(f"{own}/flags/copies", json=decision, headers=staff[Role.INSTRUCTOR]).status_code == 200
    assert own_grade(api, assignment, ada)["points"] == report.score - accuracy
    assert api.get(f"{own}/review", headers=ada).json()["decisions"][0]["reason"] == decision["reason"]
    dismissed = {"confirmed": False, "reason": "looked again"}
    api.put(f"{own}/flags/copies", json=dismissed, headers=staff[Role.INSTRUCTOR])
    assert own_grade(api, assignment, ada)["points"] == report.score
    assert api.get(f"{own}/review", headers=ada).json()["decisions"] == []
    assert len(api.get(f"{own}/review", headers=staff[Role.GRADER]).json()["decisions"]) == 1


def test_a_student_asks_and_both_sides_write(api, assignment, graded, ada, staff, classroom):
    grader = staff[Role.GRADER]
    asked = api.post(f"{graded}/requests", json={"blank": WRONG.id, "body": "This is right."}, headers=ada)
    assert asked.status_code == 201, asked.text
    number = asked.json()["requests"][0]["id"]
    again = api.post(f"{graded}/requests", json={"blank": WRONG.id, "body": "And?"}, headers=ada)
    assert (again.status_code, again.json()["type"]) == (409, "urn:noisemark:problem:already-settled")
    assert [one["id"] for one in api.get(f"{assignment}/requests", headers=grader).json()] == [number]
    for headers, words in ((grader, "Which line?"), (ada, "The second.")):
        reply = api.post(f"{graded}/requests/{number}/replies", json={"body": words}, headers=headers)
        assert reply.status_code == 201
    assert api.post(f"{graded}/requests/{number}/close", json={"body": "x"}, headers=ada).status_code == 403
    api.post(f"{graded}/requests/{number}/close", json={"body": "Points are set."}, headers=grader)
    (request,) = api.get(f"{graded}/review", headers=ada).json()["requests"]
    assert [entry["body"] for entry in request["thread"]] == [
        "This is right.",
        "Which line?",
        "The second.",
        "Points are set.",
    ]
    assert request["closed_at"]
    assert api.get(f"{assignment}/requests", headers=grader).json() == []
    closed = api.post(f"{graded}/requests/{number}/replies", json={"body": "But"}, headers=ada)
    assert closed.status_code == 409
    other = classroom.headers(classroom.user(f"eve{next(_numbers)}", COURSE))
    assert api.get(f"{graded}/review", headers=other).status_code == 404
    assert api.post(f"{graded}/requests", json={"body": "x"}, headers=grader).status_code == 403


def test_comments_are_staffs_and_seen_by_the_student(api, graded, ada, staff):
    body = {"blank": RIGHT.id, "body": "Well done."}
    assert api.post(f"{graded}/comments", json=body, headers=ada).status_code == 403
    assert api.post(f"{graded}/comments", json=body, headers=staff[Role.GRADER]).status_code == 201
    assert api.get(f"{graded}/review", headers=ada).json()["comments"][0]["body"] == "Well done."


def hide(api, assignment, staff, **policy):
    new = {"policy": policy, "reason": "test"}
    response = api.put(f"{assignment}/policy", json=new, headers=staff[Role.INSTRUCTOR])
    assert response.status_code == 200, response.text


def listen(api, own, headers, after=None):
    headers = headers if after is None else headers | {"Last-Event-ID": after}
    with connect_sse(api, "GET", f"{own}/events", headers=headers) as source:
        return list(source.iter_sse())


def test_hidden_checks_are_hidden_everywhere(api, assignment, graded, ada, staff):
    secret = next(check for check in WRONG.checks if check.outcome != "passed")
    levels = {f"{WRONG.id}/{secret.name}": "after_published", f"{RIGHT.id}/{RIGHT.checks[0].name}": "hidden"}
    hide(api, assignment, staff, visibility_of=levels)
    report = api.get(f"{graded}/report", headers=ada)
    status = {blank["id"]: blank["status"] for blank in report.json()["blanks"]}
    assert (status[WRONG.id], status[RIGHT.id]) == ("withheld", "withheld")
    assert "1 check is shown once grades are published" in report.text
    assert report.json()["training"]["repaired"] is None
    everything = [
        report.text,
        api.get(f"{graded}/report.html", headers=ada).text,
        api.get(f"{graded}/report/gradescope.json", headers=ada).text,
        api.get(f"{graded}/report/junit.xml", headers=ada).text,
        api.get(f"{graded}/hints", headers=ada).text,
    ]
    events = listen(api, graded, ada)
    everything += [event.data for event in events]
    for text in everything:
        for words in (secret.name, secret.title, secret.message, REPORT.summary):
            assert words not in text
    finished = {
        data["blank"]: data for data in map(json.loads, (e.data for e in events if e.event == "blank_finished"))
    }
    assert (finished[RIGHT.id]["outcome"], finished[RIGHT.id]["points"]) == ("withheld", 0)
    assert json.loads(events[-1].data)["score"] == report.json()["score"]
    assert [event.event for event in events].count("stage_started") == 1
    assert [event.event for event in events].count("training_progress") == 0
    for position, event in enumerate(events):
        assert [later.id for later in listen(api, graded, ada, event.id)] == [
            later.id for later in events[position + 1 :]
        ]
    image = f"{graded}/images/{sample_reports.REPAIRED_GRID}"
    assert api.get(image, headers=ada).status_code == 404
    assert api.get(image, headers=staff[Role.GRADER]).status_code == 200
    assert api.get(f"{assignment}/grade", headers=ada).status_code == 409
    hints = {hint["blank"]: hint for hint in api.get(f"{graded}/hints", headers=ada).json()["blanks"]}
    assert hints[RIGHT.id]["unavailable"] is None  # "right already" would tell
    # Staff sees it all, byte for byte
    for path in ("report", "report.html"):
        whole = api.get(f"{graded}/{path}", headers=staff[Role.GRADER]).text
        assert secret.message in whole
    assert len(listen(api, graded, staff[Role.GRADER])) > len(events)


def test_publishing_grades_shows_what_waited_for_it(api, assignment, graded, ada, staff):
    hide(api, assignment, staff, visibility="after_published")
    before = api.get(f"{graded}/report", headers=ada).json()
    assert before["score"] < REPORT.score
    published = api.put(f"{assignment}/grades-published", json={"published": True}, headers=staff[Role.INSTRUCTOR])
    assert published.status_code == 200
    assert api.get(f"{graded}/report", headers=ada).json()["score"] == REPORT.score
    assert own_grade(api, assignment, ada)["points"] == REPORT.score


def test_a_course_may_do_without_hints_or_charge_for_them(api, assignment, graded, ada, staff):
    hide(api, assignment, staff, hints={"cost": [0.5, 0, 0]})
    revealed = api.post(f"{graded}/hints/{WRONG.id}", headers=ada)
    assert revealed.status_code == 200, revealed.text
    hide(api, assignment, staff, hints={"reveal": "off"})
    refused = api.post(f"{graded}/hints/{WRONG.id}", headers=ada)
    assert (refused.status_code, refused.json()["detail"]) == (409, "Your course gives no hints.")
