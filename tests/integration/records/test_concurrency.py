"""Leases and constraints where several workers, each with connections of its own, meet on a real database."""

import threading
from collections import Counter

import pytest
from services import open_store
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from records.models import State
from records.queue import LostLease, NewEvent, Queue, Result
from records.settings import Settings
from records.submissions import HandedIn

RESULT = Result(report_sha256="a" * 64, html_sha256="b" * 64, artifacts=(), outcome={})
WORKERS = 6


def at_once(work):
    """Run `work(n)` in several threads that start at the same moment, and pass on what they raise."""
    barrier = threading.Barrier(WORKERS)
    errors = []

    def run(number):
        try:
            barrier.wait()
            work(number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_nobody_gets_what_another_one_has(store, settings):
    submissions = [store.hand_in(f"x = {n}".encode()) for n in range(20)]
    claimed = []

    def work(number):
        with open_store(settings) as own:
            while (lease := own.queue.claim(f"worker {number}")) is not None:
                claimed.append(lease.submission_id)
                own.queue.record(lease, [NewEvent(type="stage_started", data={"stage": "check"})], stage="check")
                own.queue.finish(lease, RESULT)

    at_once(work)
    assert sorted(claimed) == sorted(submissions)
    for submission in submissions:
        assert store.events(submission) == ["queued", "started", "stage_started", "done"]


def test_of_two_who_believe_they_have_it_one_finishes(store, settings):
    submission = store.hand_in()
    first = store.queue.claim("first")
    impatient = Queue(store.database, settings.model_copy(update={"lease_seconds": -1}))
    impatient.record(first)  # the lease has expired now
    assert store.queue.reap() == 1
    second = store.queue.claim("second")
    ended = Counter()

    def work(number):
        with open_store(settings) as own:
            lease = (first, second)[number % 2]
            try:
                own.queue.finish(lease, RESULT)
            except LostLease:
                ended["refused"] += 1
            else:
                ended[lease.token] += 1

    at_once(work)
    assert ended == {second.token: 1, "refused": WORKERS - 1}
    assert store.events(submission) == ["queued", "started", "retrying", "started", "done"]


def test_an_expired_lease_is_taken_away_once(store, settings):
    submission = store.hand_in()
    Queue(store.database, settings.model_copy(update={"lease_seconds": -1})).claim("gone")
    reaped = []

    def work(_):
        with open_store(settings) as own:
            reaped.append(own.queue.reap())

    at_once(work)
    assert sum(reaped) == 1
    assert store.state(submission) == State.QUEUED


@pytest.mark.threat(51)
def test_one_key_at_one_moment_is_one_submission(store, settings):
    handed_in = HandedIn(assignment="ddpm", recipe="digits16", file_name="a.py", content=b"x = 1")
    ids = []

    def work(_):
        with open_store(settings) as own:
            ids.append(own.submissions.take_in(handed_in, "one key, one moment").submission.id)

    at_once(work)
    assert len(ids) == WORKERS
    assert len(set(ids)) == 1


@pytest.mark.parametrize(
    "change",
    [
        "state = 'lost'",
        "state = 'running'",
        "state = 'done'",
        "state = 'rejected'",
        "lease = 'token'",
        "report_sha256 = 'a'",
        "attempts = -1",
        "submission_id = 'nobody'",
    ],
)
def test_the_database_refuses_what_cannot_be(store, change):
    store.hand_in()
    with pytest.raises(IntegrityError), store.database.write() as session:
        session.execute(text(f"UPDATE gradings SET {change}"))


def test_sqlite_survives_a_power_cut(tmp_path):
    with open_store(Settings(data_dir=tmp_path)) as store, store.database.read() as session:
        pragmas = {name: session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}  # 2: FULL
