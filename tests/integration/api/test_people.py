"""Accounts, courses, rosters, tokens and notices, as the API has them."""

import pytest
from classroom import COURSE, SERVER_TOKEN, Classroom, bearer
from pydantic import SecretStr
from services import running_api
from sqlalchemy import func, select

from records.models import Notice, Role, User, utc_now

OPERATOR = bearer(SERVER_TOKEN)
MEMBERS, ROSTER = f"/api/v1/courses/{COURSE}/members", f"/api/v1/courses/{COURSE}/roster"


@pytest.fixture(scope="module")
def classroom(store):
    return Classroom(store)


@pytest.fixture(scope="module")
def guarded(settings, classroom):
    with running_api(settings.model_copy(update={"api_token": SecretStr(SERVER_TOKEN)})) as client:
        yield client


@pytest.fixture(scope="module")
def instructor(classroom):
    return classroom.headers(classroom.user("ines", COURSE, Role.INSTRUCTOR))


def send(client, headers, content, **params):
    return client.post(ROSTER, files={"file": ("roster.csv", content)}, params=params, headers=headers)


def roles(client, headers):
    return {member["login"]: member["role"] for member in client.get(MEMBERS, headers=headers).json()}


def test_from_nothing_to_a_student_who_hands_in(guarded):
    def post(path, body, headers=OPERATOR):
        answer = guarded.post(f"/api/v1{path}", json=body, headers=headers)
        assert answer.status_code == 201
        return answer.json()

    admin = post("/users", {"login": "ada", "name": "Ada", "is_admin": True})
    every = {"name": "first", "scopes": ["read", "submit", "grade", "manage", "admin"]}
    ada = bearer(post(f"/users/{admin['id']}/tokens", every)["token"])
    assert post("/courses", {"id": "zoology", "title": "Zoology"}, ada)["role"] == "instructor"
    roster = {"file": ("r.csv", b"login,role\nzoe,student\n")}
    assert guarded.post("/api/v1/courses/zoology/roster", files=roster, headers=ada).json()["added"] == ["zoe"]
    (zoe,) = guarded.get("/api/v1/users", params={"login": "zoe"}, headers=ada).json()
    issued = post(f"/users/{zoe['id']}/tokens", {"name": "first"}, ada)
    assert issued["scopes"] == ["read", "submit"]
    headers = bearer(issued["token"])
    assert [course["id"] for course in guarded.get("/api/v1/courses", headers=headers).json()] == ["open", "zoology"]
    files = {"files": ("a.py", b"x = 1")}
    assert guarded.post("/api/v1/assignments/ddpm/submissions", files=files, headers=headers).status_code == 202


def test_a_token_is_shown_once_listed_and_ended(guarded, classroom):
    headers = classroom.headers(classroom.user("tom"))
    issued = guarded.post("/api/v1/me/tokens", json={"name": " laptop ", "days": 10}, headers=headers).json()
    own = bearer(issued["token"])
    listed = guarded.get("/api/v1/me/tokens", headers=own).json()
    assert [(token["name"], token["used_at"] is None) for token in listed] == [("laptop", False), ("test", False)]
    assert issued["token"] not in str(listed)
    for _ in range(2):
        assert guarded.delete(f"/api/v1/me/tokens/{issued['id']}", headers=headers).status_code == 204
    assert guarded.get("/api/v1/me", headers=own).status_code == 401
    others = classroom.tokens.issue(None, classroom.user("tim"), "his", ["read"]).token.id
    assert guarded.delete(f"/api/v1/me/tokens/{others}", headers=headers).status_code == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "x", "days": 367}, "366"),
        ({"name": "x", "days": 0}, "days"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["root"]}, "'read', 'submit', 'grade', 'manage' or 'admin'"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "printed"),
    ],
)
def test_what_is_no_token_is_refused_in_words(guarded, classroom, body, words):
    refusal = guarded.post("/api/v1/me/tokens", json=body, headers=classroom.headers(classroom.user("tom")))
    assert (refusal.status_code, words in refusal.json()["detail"]) == (422, True)


@pytest.mark.parametrize("login", ["", "a b", "ä", "erased-1", "../x", "a" * 129])
def test_what_is_no_login_is_refused(guarded, login):
    assert guarded.post("/api/v1/users", json={"login": login}, headers=OPERATOR).status_code == 422


def test_names_are_given_once(guarded, classroom):
    classroom.user("vera")
    for path, body in (("users", {"login": "Vera"}), ("courses", {"id": COURSE, "title": "Again"})):
        refusal = guarded.post(f"/api/v1/{path}", json=body, headers=OPERATOR)
        assert (refusal.status_code, refusal.json()["type"]) == (409, "urn:noisemark:problem:taken")


def test_a_roster_is_tried_and_taken_over(guarded, instructor):
    content = "\ufeffLogin;Name;Role\r\nrosa;Rosa;student\r\nines;;instructor\r\n"
    before = roles(guarded, instructor)
    planned = send(guarded, instructor, content, dry_run=True).json()
    assert (planned["added"], planned["unchanged"], planned["dry_run"]) == (["rosa"], ["ines"], True)
    assert roles(guarded, instructor) == before
    done = send(guarded, instructor, content).json()
    assert done == planned | {"dry_run": False}
    assert roles(guarded, instructor) == before | {"rosa": "student"}
    assert send(guarded, instructor, content).json()["unchanged"] == ["rosa", "ines"]


def test_who_is_missing_is_taken_out_where_it_is_said(guarded, instructor):
    send(guarded, instructor, "login\nrita\n")
    kept = send(guarded, instructor, "login\nrolf\n").json()
    assert ("rita" in kept["missing"], kept["removed"]) == (True, False)
    gone = send(guarded, instructor, "login\nrolf\n", remove_missing=True).json()
    assert ("rita" in gone["missing"], gone["removed"]) == (True, True)
    left = roles(guarded, instructor)
    assert ("rita" in left, left["ines"]) == (False, "instructor")


def test_every_fault_of_a_roster_is_named_and_nothing_is_done(guarded, instructor, store):
    def count():
        with store.database.read() as session:
            return session.scalar(select(func.count(User.id)))

    before = count()
    refusal = send(guarded, instructor, "login,role\nnew,student\nines2,dean\n,student\nINES,\n")
    body = refusal.json()
    assert refusal.status_code == 422
    assert [fault["line"] for fault in body["faults"]] == [3, 4]
    assert "Line 3: There is no role 'dean'" in body["detail"]
    assert "Traceback" not in refusal.text
    late = send(guarded, instructor, "login\nnew\nINES\n").json()
    assert late["faults"] == [{"line": 3, "fault": "The user 'ines' is not written 'INES'."}]
    assert count() == before


def test_a_role_is_put_and_taken(guarded, instructor, classroom):
    classroom.user("sam")
    assert guarded.put(f"{MEMBERS}/sam", json={"role": "grader"}, headers=instructor).json()["role"] == "grader"
    assert roles(guarded, instructor)["sam"] == "grader"
    assert guarded.delete(f"{MEMBERS}/sam", headers=instructor).status_code == 204
    assert guarded.delete(f"{MEMBERS}/sam", headers=instructor).status_code == 404
    assert guarded.put(f"{MEMBERS}/nobody", json={"role": "grader"}, headers=instructor).status_code == 404


def test_what_was_done_to_a_course_can_be_read(guarded, instructor, classroom):
    classroom.user("uwe", COURSE)
    me = guarded.get("/api/v1/me", headers=instructor).json()["user"]["id"]
    guarded.put(f"{MEMBERS}/uwe", json={"role": "grader"}, headers=instructor)
    last = guarded.get(f"/api/v1/courses/{COURSE}/audit", headers=instructor).json()[-1]
    assert (last["actor"], last["action"], last["data"]) == (me, "member.set", {"before": "student", "role": "grader"})
    rest = guarded.get(f"/api/v1/courses/{COURSE}/audit", params={"after": last["id"]}, headers=instructor)
    assert rest.json() == []


def test_erasing_ends_a_person_everywhere(guarded, classroom):
    user = classroom.user("wilma", COURSE)
    headers = classroom.headers(user)
    assert guarded.delete(f"/api/v1/users/{user}", headers=OPERATOR).status_code == 204
    assert guarded.get("/api/v1/me", headers=headers).status_code == 401
    found = guarded.get(f"/api/v1/users/{user}", headers=OPERATOR).json()
    assert (found["login"], found["name"], found["erased_at"] is None) == (f"erased-{user}", "", False)
    assert guarded.post(f"/api/v1/users/{user}/tokens", json={"name": "x"}, headers=OPERATOR).status_code == 404
    assert guarded.delete("/api/v1/users/999999", headers=OPERATOR).status_code == 404


def test_notices_are_shown_and_read(guarded, classroom, store):
    user, other = classroom.user("xenia", COURSE), classroom.user("yan", COURSE)
    submission = classroom.hand_in(user)
    with store.database.write() as session:
        for person, body in ((user, "first"), (other, "not hers"), (user, "second")):
            session.add(Notice(user_id=person, submission_id=submission, body=body, at=utc_now()))
    headers = classroom.headers(user)

    def notices():
        found = guarded.get("/api/v1/me/notices", headers=headers).json()
        return [(notice["body"], notice["read_at"] is not None) for notice in found], found

    assert notices()[0] == [("second", False), ("first", False)]
    first = notices()[1][1]["id"]
    assert guarded.post("/api/v1/me/notices/read", json={"up_to": first}, headers=headers).status_code == 204
    assert notices()[0] == [("second", False), ("first", True)]
    guarded.post("/api/v1/me/notices/read", json={"up_to": first + 2}, headers=headers)
    others = guarded.get("/api/v1/me/notices", headers=classroom.headers(other)).json()
    assert [notice["read_at"] for notice in others] == [None]
