"""Policies where hand-ins come in: nobody gets one attempt too many, also not by asking twice at once."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from services import open_store
from sqlalchemy import update

from records.intake_rules import Refused
from records.models import Assignment, Extension, Grading, Member, Role, State, Submission, User
from records.submissions import HandedIn, Submissions

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
THREADS = 6


@pytest.fixture
def ada(store):
    return add_user(store, "ada")


def add_user(store, login, **fields):
    with store.database.write() as session:
        user = User(login=login, created_at=NOW, **fields)
        session.add(user)
        session.flush()
        return user.id


def set_policy(store, **policy):
    with store.database.write() as session:
        session.get_one(Assignment, "ddpm").policy = policy


def hand_in(store, user, content=b"x = 1\n", now=NOW, **fields):
    submissions = Submissions(store.database, store.blobs, b"receipts", lambda: now)
    arguments = {"assignment": "ddpm", "recipe": "digits16", "file_name": "a.py"} | fields
    return submissions.take_in(HandedIn(content=content, user_id=user, **arguments))


def end(store, intake, state):
    with store.database.write() as session:
        session.execute(
            update(Grading)
            .where(Grading.submission_id == intake.submission.id)
            .values(state=state, finished_at=NOW, message="why")
        )


def refusal(store, user, content=b"y = 1\n", **arguments):
    with pytest.raises(Refused) as refused:
        hand_in(store, user, content, **arguments)
    return refused.value.refusal.reason


def test_the_last_attempt_is_taken_once(store, settings, ada):
    set_policy(store, total_submission_limit=2)
    barrier = threading.Barrier(THREADS)
    ends = []

    def work(number):
        with open_store(settings) as own:
            barrier.wait()
            try:
                hand_in(own, ada, f"x = {number}\n".encode())
            except Refused as refused:
                ends.append(refused.refusal.reason)
            else:
                ends.append("taken")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["attempt_limit"] * (THREADS - 2) + ["taken"] * 2


def test_the_same_bytes_are_answered_with_what_they_repeat(store, ada):
    set_policy(store, total_submission_limit=1, due_at=NOW.isoformat())
    first = hand_in(store, ada)
    again = hand_in(store, ada, now=NOW + timedelta(days=9))  # even then: nothing new is handed in
    assert (again.identical, again.submission.id) == (True, first.submission.id)
    assert (first.identical, first.replayed) == (False, False)
    other_recipe = hand_in(store, ada, recipe="mnist16")  # another grading, and no further attempt
    assert not other_recipe.identical
    assert refusal(store, ada) == "attempt_limit"
    other = add_user(store, "grace")
    assert not hand_in(store, other).identical  # somebody else's bytes are nobody's business


def test_going_back_to_earlier_bytes_makes_them_count_again(store, ada):
    set_policy(store, total_submission_limit=2)
    first, second = hand_in(store, ada), hand_in(store, ada, b"y = 1\n", now=NOW + timedelta(minutes=1))
    back = hand_in(store, ada, now=NOW + timedelta(minutes=2))
    assert not back.identical
    assert len({intake.submission.id for intake in (first, second, back)}) == 3
    imported = hand_in(store, ada, b"y = 1\n", by_staff=True)  # which an import twice over must not
    assert imported.submission.id == second.submission.id
    set_policy(store, total_submission_limit=2, counts="best")
    assert hand_in(store, ada, b"y = 1\n").submission.id == second.submission.id


@pytest.mark.parametrize(
    ("state", "counts"),
    [(State.FAULTED, False), (State.REJECTED, False), (State.CANCELLED, False), (State.QUEUED, True)],
)
def test_what_was_not_graded_is_no_attempt(store, ada, state, counts):
    set_policy(store, total_submission_limit=1)
    first = hand_in(store, ada)
    if state.final:
        end(store, first, state)
    if counts:
        assert refusal(store, ada) == "attempt_limit"
    else:
        assert not hand_in(store, ada, b"y = 1\n").identical


def test_a_fault_of_ours_may_be_tried_again_with_the_same_bytes(store, ada):
    first = hand_in(store, ada)
    end(store, first, State.FAULTED)
    assert not hand_in(store, ada).identical
    rejected = hand_in(store, add_user(store, "grace"))
    end(store, rejected, State.REJECTED)
    with store.database.read() as session:
        grace = session.get_one(Submission, rejected.submission.id).user_id
    assert hand_in(store, grace).submission.id == rejected.submission.id  # it would be rejected again


def test_dates_and_extensions(store, ada):
    set_policy(store, due_at=NOW.isoformat(), total_submission_limit=1)
    late = NOW + timedelta(minutes=1)
    assert refusal(store, ada, now=late) == "too_late"
    with store.database.write() as session:
        session.add(Extension(assignment_id="ddpm", user_id=ada, hours=1, bonus_attempts=1, reason="ill"))
    hand_in(store, ada, now=late)
    hand_in(store, ada, b"y = 1\n", now=late)
    assert refusal(store, ada, b"z = 1\n", now=late) == "attempt_limit"
    assert refusal(store, ada, b"z = 1\n", now=NOW + timedelta(hours=2)) == "too_late"


def test_staff_is_not_bound(store, ada):
    set_policy(store, due_at=NOW.isoformat(), total_submission_limit=1)
    late = NOW + timedelta(days=1)
    for role in Role:
        user = add_user(store, role)
        with store.database.write() as session:
            session.add(Member(course_id="open", user_id=user, role=role))
        if role is Role.STUDENT:
            assert refusal(store, user, now=late) == "too_late"
        else:
            hand_in(store, user, now=late)
            hand_in(store, user, b"y = 1\n", now=late)
    hand_in(store, add_user(store, "admin", is_admin=True), now=late)
    hand_in(store, None, now=late)
    # And who hands in for a student says when it came
    taken = hand_in(store, ada, now=late, by_staff=True, received_at=NOW - timedelta(days=1))
    assert taken.submission.created_at == NOW - timedelta(days=1)
