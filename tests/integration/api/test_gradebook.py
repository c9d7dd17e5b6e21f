"""The gradebook and its files, through the front door."""

import csv
import io

import pytest
import sample_reports
from classroom import ASSIGNMENT, COURSE, Classroom

from grading.report import outcome
from records.models import Role
from records.queue import Result

GRADES = f"/api/v1/assignments/{ASSIGNMENT}/grades"
REPORT = sample_reports.four_mistakes()


@pytest.fixture(scope="module")
def classroom(store):
    """Ada has a grade, Bob has none, and somebody's name is a formula."""
    made = Classroom(store)
    ada = made.user("ada", COURSE)
    made.user("bob", COURSE)
    made.people.add_user(None, "mallory", '=HYPERLINK("http://evil")', is_admin=False)
    made.people.set_role(None, COURSE, "mallory", Role.STUDENT)
    submission = made.hand_in(ada)
    while (lease := store.queue.claim("w")).submission_id != submission:
        store.queue.reject(lease, "another's")
    result = Result(
        report_sha256=store.blobs.put(REPORT.model_dump_json().encode()),
        html_sha256=store.blobs.put(b"<!doctype html>"),
        artifacts=(),
        outcome=outcome(REPORT),
    )
    store.queue.finish(lease, result)
    return made


@pytest.fixture(scope="module")
def grader(classroom):
    return classroom.headers(classroom.user("grader", COURSE, Role.GRADER))


def table(api, grader, format_):
    response = api.get(f"{GRADES}.csv?format={format_}", headers=grader)
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert f"{ASSIGNMENT}-{format_}.csv" in response.headers["content-disposition"]
    return list(csv.reader(io.StringIO(response.text)))


def test_the_gradebook_is_for_staff(api, classroom, grader):
    lines = api.get(GRADES, headers=grader).json()
    assert [(line["login"], line["points"], len(line["attempts"])) for line in lines] == [
        ("ada", REPORT.score, 1),
        ("bob", None, 0),
        ("mallory", None, 0),
    ]
    assert lines[0]["attempts"][0]["score"]["max_points"] == REPORT.max_score
    student = classroom.headers(classroom.user("bob"))
    assert api.get(GRADES, headers=student).status_code == 403
    assert api.get(f"{GRADES}.csv", headers=student).status_code == 403
    stranger = classroom.headers(classroom.user("stranger", "botany"))
    assert api.get(GRADES, headers=stranger).status_code == 404


def test_canvas(api, grader):
    header, possible, *rows = table(api, grader, "canvas")
    assert header == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", ASSIGNMENT.title()]
    assert (possible[0].strip(), float(possible[-1])) == ("Points Possible", REPORT.max_score)
    assert [(row[3], row[5]) for row in rows] == [("ada", f"{REPORT.score:g}"), ("bob", ""), ("mallory", "")]


def test_moodle(api, grader):
    header, *rows = table(api, grader, "moodle")
    assert header == ["Username", "Full name", "Email address", ASSIGNMENT.title()]
    assert rows[0][0] == "ada"


def test_nbgrader(api, grader):
    header, *rows = table(api, grader, "nbgrader")
    words = "assignment,duedate,timestamp,student_id,last_name,first_name,email,raw_score,late_submission_penalty"
    assert header == [*words.split(","), "score", "max_score"]
    assert rows[0][7:] == [f"{REPORT.score:g}", "0", f"{REPORT.score:g}", f"{REPORT.max_score:g}"]


@pytest.mark.parametrize("format_", ["generic", "canvas", "moodle", "nbgrader"])
def test_names_are_no_formulas(api, grader, format_):
    cells = [cell for row in table(api, grader, format_) for cell in row]
    assert any("HYPERLINK" in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t"))]


def test_an_unknown_format_is_refused(api, grader):
    assert api.get(f"{GRADES}.csv?format=excel", headers=grader).status_code == 422
