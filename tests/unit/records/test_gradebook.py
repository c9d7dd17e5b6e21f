"""Effective scores, which attempt counts, and how many queries a gradebook takes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services import open_store
from sqlalchemy import event

from records.gradebook import Gradebook, effective_score
from records.models import (
    Assignment,
    Course,
    Extension,
    FlagDecision,
    Grading,
    HintAsked,
    Improvement,
    Member,
    Override,
    Role,
    State,
    Submission,
    User,
)
from records.settings import Settings
from records.versions import Versions

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def outcome(accuracy=40.0, flags=(), **points):
    """Two blanks of 10 points each, and 40 for the accuracy."""
    points = {"q": 10.0, "alphas": 10.0} | points
    blanks = {
        name: {"status": "passed" if earned else "failed", "points": earned, "max_points": 10.0}
        for name, earned in points.items()
    }
    return {
        "verdict": "passed" if accuracy else "failed",
        "summary": "",
        "score": accuracy + sum(points.values()),
        "max_score": 60.0,
        "tier": None,
        "accuracy": None,
        "accuracy_points": accuracy,
        "accuracy_max": 40.0,
        "blanks": blanks,
        "flags": list(flags),
    }


@pytest.mark.parametrize(
    ("arguments", "points"),
    [
        ({}, 60),
        ({"outcome": outcome(q=0.0)}, 50),
        ({"outcome": outcome(q=0.0), "overrides": {"q": 8.0}}, 58),
        ({"overrides": {"q": 0.0, "accuracy": 30.0}}, 40),
        ({"overrides": {"gone": 50.0}}, 60),
        ({"outcome": outcome(flags=["copies"]), "decisions": {}}, 60),  # a flag alone takes nothing
        ({"outcome": outcome(flags=["copies"]), "decisions": {"copies": False}}, 60),
        ({"outcome": outcome(flags=["copies"]), "decisions": {"copies": True}}, 20),
        ({"decisions": {"copies": True}}, 60),  # this grading does not raise it
        ({"hint_cost": {"q": 0.25, "gone": 1.0}}, 57.5),
        ({"outcome": outcome(q=0.0), "hint_cost": {"q": 0.25}}, 50),  # what earned nothing costs nothing
        ({"hint_cost": {"q": 3.0}}, 50),  # and never more than it earned
        ({"penalty": 0.5}, 30),
        ({"outcome": outcome(accuracy=0.0), "penalty": 0.5}, 0),  # never below nothing
    ],
)
def test_what_a_score_is_made_of(arguments, points):
    arguments = {"outcome": outcome(), "overrides": {}, "decisions": {}, "hint_cost": {}, "penalty": 0} | arguments
    score = effective_score(**arguments)
    assert score.points == points
    assert score.max_points == 60


shares = st.floats(0, 1)


@given(
    earned=st.tuples(shares, shares, shares),
    overrides=st.dictionaries(st.sampled_from(["q", "alphas", "accuracy"]), st.floats(0, 10)),
    confirmed=st.booleans(),
    hints=st.dictionaries(st.sampled_from(["q", "alphas"]), st.floats(0, 3)),
    penalty=shares,
)
def test_the_breakdown_adds_up(earned, overrides, confirmed, hints, penalty):
    given_outcome = outcome(40 * earned[0], ["copies"], q=10 * earned[1], alphas=10 * earned[2])
    score = effective_score(given_outcome, overrides, {"copies": confirmed}, hints, penalty)
    left = score.reported + score.overrides - score.withheld - score.hints - score.late
    assert score.points == pytest.approx(max(0.0, left))
    assert min(score.withheld, score.hints, score.late) >= 0
    assert 0 <= score.points <= score.max_points


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(Settings(data_dir=tmp_path_factory.mktemp("var"))) as opened:
        yield opened


@pytest.fixture
def book(store):
    return Gradebook(store.database, Versions(store.database, store.blobs, store.settings.version_dir))


@pytest.fixture
def course(store, request):
    """A course of its own with the bundled pack as its assignment, both called as the test."""
    name = request.node.name[:60]
    with store.database.write() as session:
        version = session.get_one(Assignment, "ddpm").version_id
        session.add(Course(id=name, title=name, created_at=NOW))
        session.flush()
        session.add(Assignment(id=name, course_id=name, title=name, version_id=version, policy={}, created_at=NOW))
    return name


def enrol(store, course, login, role=Role.STUDENT):
    with store.database.write() as session:
        user = User(login=f"{login}@{course}", name=login, created_at=NOW)
        session.add(user)
        session.flush()
        session.add(Member(course_id=course, user_id=user.id, role=role))
        return user.id


def attempt(session, course, user, at, found, state=State.DONE):
    """A hand-in and how it was graded."""
    version = session.get_one(Assignment, course).version_id
    id_ = f"{course[-10:]}-{user}-{at.timestamp():.0f}"
    done = state is State.DONE
    submission = Submission(
        id=id_, assignment=course, user_id=user, file_name="a.py", sha256="0" * 64, size=1, created_at=at, receipt=id_
    )
    grading = Grading(
        submission_id=id_,
        counts=True,
        recipe="digits16",
        version_id=version,
        state=state,
        created_at=at,
        available_at=at,
        finished_at=at if state.final else None,
        report_sha256="0" * 64 if done else None,
        html_sha256="0" * 64 if done else None,
        outcome=found,
    )
    session.add(submission)
    session.flush()
    session.add(grading)
    session.flush()
    return id_


def test_a_line_of_the_gradebook(store, book, course):
    ada = enrol(store, course, "ada")
    policy = {"due_at": NOW.isoformat(), "late_until": (NOW + 9 * DAY).isoformat(), "late_penalty_per_day": 0.1}
    policy["hints"] = {"cost": [0.5, 0.25, 0.25]}
    with store.database.write() as session:
        session.get_one(Assignment, course).policy = policy
        session.add(Extension(assignment_id=course, user_id=ada, hours=24, reason="ill"))
        first = attempt(session, course, ada, NOW, outcome(q=0.0))
        second = attempt(session, course, ada, NOW + 2 * DAY, outcome(flags=["copies"]))
        session.add(Improvement(submission_id=second, earlier_id=first))
        for step in (1, 2):
            session.add(HintAsked(submission_id=first, blank="q", step=step, asked_at=NOW))
        session.add(Override(submission_id=second, blank="alphas", points=0, reason="no", at=NOW, withdrawn_at=NOW))
        session.add(Override(submission_id=second, blank="alphas", points=1, reason="no", at=NOW))
        session.add(Override(submission_id=second, blank="alphas", points=4, reason="yes", at=NOW))
        session.add(FlagDecision(submission_id=second, flag="copies", confirmed=True, reason="seen", at=NOW))
    (line,) = book.of(course)
    assert line == book.grade(course, ada)
    score = line.counting.score
    assert (score.reported, score.overrides, score.withheld, score.hints, score.late) == (60, -6, 40, 7.5, 6)
    assert score.points == 0.5
    assert [one.score.points for one in line.attempts] == [50, 0.5]  # the first: in time, by the extension


@pytest.mark.parametrize(("counts", "points"), [("most_recent", 20), ("best", 60), ("first", 50)])
def test_which_attempt_counts(store, book, course, counts, points):
    ada, idle, grader = (enrol(store, course, login) for login in ("ada", "idle", "staff"))
    with store.database.write() as session:
        session.get_one(Member, (course, grader)).role = Role.GRADER
        session.get_one(Assignment, course).policy = {"counts": counts}
        for days, found in enumerate((outcome(q=0.0), outcome(), outcome(accuracy=0.0))):
            attempt(session, course, ada, NOW + days * DAY, found)
        attempt(session, course, ada, NOW + 5 * DAY, None, State.REJECTED)
        attempt(session, course, ada, NOW + 6 * DAY, None, State.QUEUED)
        attempt(session, course, grader, NOW, outcome())
    lines = book.of(course)
    assert [line.student.id for line in lines] == [ada, idle]
    assert lines[0].counting.score.points == points
    assert (lines[0].pending, lines[1].pending, lines[1].counting) == (True, False, None)
    assert len(lines[0].attempts) == 5


def test_takes_as_many_queries_for_300_students_as_for_one(store, book, course):
    def queries():
        seen = []
        event.listen(store.database.engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
        book.of(course)
        return len(seen)

    def add(numbers):
        users = [enrol(store, course, f"student{number}") for number in numbers]
        with store.database.write() as session:
            for user in users:
                for days in range(2):
                    id_ = attempt(session, course, user, NOW + days * DAY, outcome())
                    session.add(HintAsked(submission_id=id_, blank="q", step=1, asked_at=NOW))
                    session.add(Override(submission_id=id_, blank="q", points=4, reason="no", at=NOW))

    add(range(1))
    few = queries()
    add(range(1, 300))
    assert queries() == few < 15
    lines = book.of(course)
    assert len(lines) == 300
    assert {line.counting.score.points for line in lines} == {54}
