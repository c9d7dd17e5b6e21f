"""Assignments, starters, pages and the OpenAPI document."""

import html
import json
import re

import pytest
from classroom import ASSIGNMENT, COURSE, Classroom
from services import open_store, running_api
from sqlalchemy import text

from api.access import SESSION_COOKIE
from records.models import Assignment, Role
from records.settings import Settings
from reference.pack import load_pack


@pytest.fixture(scope="module")
def room(store):
    return Classroom(store)


def test_assignments_are_listed_with_all_that_can_be_known(api):
    pack = load_pack("ddpm")
    (assignment,) = api.get("/api/v1/assignments").json()
    assert assignment == api.get("/api/v1/assignments/ddpm").json()
    assert assignment["version"] == pack.version
    assert [blank["id"] for blank in assignment["blanks"]] == [blank.id for blank in pack.blanks]
    assert [recipe["name"] for recipe in assignment["recipes"]] == list(pack.recipes)


@pytest.mark.parametrize("suffix", ["py", "ipynb"])
def test_starters_can_be_downloaded(api, suffix):
    response = api.get(f"/api/v1/assignments/ddpm/starter.{suffix}")
    assert response.content == load_pack("ddpm").starter(f".{suffix}").read_bytes()
    assert response.headers["content-disposition"] == f'attachment; filename="ddpm_starter.{suffix}"'


@pytest.mark.threat(16)
def test_solutions_and_checks_cannot(api):
    for name in ("solution.py", "starter.py/../solution.py", "checks/test_q.py", "starter.%2e%2e/solution.py"):
        assert api.get(f"/api/v1/assignments/ddpm/{name}").status_code in (404, 422)
    assert api.get("/static/../main.py").status_code == 404
    assert api.get("/static/%2e%2e/main.py").status_code == 404


def test_pages_load_only_what_is_served_here(api, store):
    for path in ("/", f"/submissions/{store.hand_in()}"):
        page = api.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assert "'unsafe" not in page.headers["content-security-policy"]
        assert not re.search(r"<script>|<style>|\son\w+=|style=", page.text)
        addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert addresses
        for address in addresses:
            assert address.startswith("/")
            assert api.get(address).status_code in (200, 409)  # 409: the report that is not there yet


@pytest.mark.parametrize(
    ("status", "method", "path", "headers"),
    [
        (404, "GET", "/nowhere", {}),
        (404, "GET", "/submissions/none", {}),
        (404, "GET", "/static/none.css", {}),
        (405, "GET", "/logout", {}),
        (401, "GET", "/", {"Host": "example.org"}),
        (403, "POST", "/logout", {"Sec-Fetch-Site": "cross-site"}),
    ],
)
def test_errors_are_pages_for_people_and_problems_for_programs(api, status, method, path, headers):
    page = api.request(method, path, headers=headers | {"Accept": "text/html,*/*;q=0.8"})
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert '<a href="/">' in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert ('href="/login"' in page.text) == (status == 401)
    problem = api.request(method, path, headers=headers)
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["detail"] in html.unescape(page.text)


def test_the_api_tells_problems_whoever_asks(api):
    answer = api.get("/api/v1/submissions/none", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_what_failed_is_a_page_with_the_way_out(tmp_path):
    settings = Settings(data_dir=tmp_path, redis_url="redis+socket:///nonexistent/redis.sock")
    with open_store(settings) as store, running_api(settings) as api:
        with store.database.write() as session:
            session.execute(text("DROP TABLE assignments"))
        page = api.get("/", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert "Something of ours failed" in page.text
    assert "Traceback" not in page.text


@pytest.mark.threat(48)
def test_homework_can_be_told_from_practice_and_says_when_it_is_due(api, store, room):
    policy = {"due_at": "2199-05-01T20:00:00Z", "time_zone": "Europe/Berlin", "total_submission_limit": 3}
    with store.database.write() as session:
        session.get_one(Assignment, ASSIGNMENT).policy = policy
    page = " ".join(api.get("/", headers=room.headers(room.user("dora", COURSE))).text.split())
    due = "due <strong>2199-05-01 22:00 (Europe/Berlin)</strong>; attempts left: 3."
    assert f"In the course {COURSE}, as <code>{ASSIGNMENT}</code>; {due}" in page
    assert "For practice, as <code>ddpm</code>." in page


def test_names_of_files_are_shown_as_text(api):
    body = api.post("/api/v1/assignments/ddpm/submissions", files={"files": ("<b>x.py", b"x = 1")}).json()
    page = api.get(body["links"]["page"]).text
    assert "&lt;b&gt;x.py" in page
    assert "<b>" not in page


def test_every_operation_documents_its_errors(api):
    document = api.get("/api/v1/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            errors = {status: answer for status, answer in operation["responses"].items() if status[0] == "4"}
            if path.startswith("/api"):
                assert {"401", "422"} <= errors.keys()
            for answer in errors.values():
                assert list(answer["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in json.dumps(document)
    assert "example" in document["components"]["schemas"]["SubmissionStatus"]


def test_somebody_who_is_signed_in_sees_his_work_what_people_said_of_it_and_nobody_elses(api, room):
    ada, ben = (room.user(login, COURSE) for login in ("ada", "ben"))
    own, other = room.hand_in(ada, b"a = 1\n"), room.hand_in(ben, b"b = 1\n")
    grader = room.headers(room.user("gil", COURSE, Role.GRADER))
    comment = {"blank": "q", "body": "Nearly: look at the <root>."}
    assert api.post(f"/api/v1/submissions/{own}/comments", json=comment, headers=grader).is_success
    browser = {"Cookie": f"{SESSION_COOKIE}={room.tokens.open_session(room.token(ada)).secret}"}
    home = api.get("/", headers=browser).text
    assert own in home
    assert other not in home
    assert "There is a comment on q." in home
    assert "Ada <button>Sign out" in home
    page = api.get(f"/submissions/{own}", headers=browser).text
    assert "Gil: Nearly: look at the &lt;root&gt;." in page
    assert api.get(f"/submissions/{other}", headers=browser).status_code == 404
