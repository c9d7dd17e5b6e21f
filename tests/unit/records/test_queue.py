"""The state machine, against a model of it. What needs two processes stands in tests/integration/records."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from services import open_store

from records.assignments import Assignments
from records.blobs import BlobStore
from records.database import Database
from records.migrate import migrate
from records.models import Need, State
from records.policy import Policy
from records.queue import LostLease, NewArtifact, NewEvent, Queue, Result
from records.settings import Settings
from records.submissions import HandedIn, Submissions
from records.versions import Versions

RESULT = Result(
    report_sha256="a" * 64,
    html_sha256="b" * 64,
    artifacts=(NewArtifact(name="grid.png", media_type="image/png", sha256="d" * 64),),
    outcome={"verdict": "passed"},
)
POLICY = Settings(lease_seconds=30, max_attempts=3, backoff_seconds=5)


class QueueMachine(RuleBasedStateMachine):
    """Workers come and go, time passes, leases are lost: no grading ends twice, changes after its end, or is lost."""

    leases = Bundle("leases")

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.now = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # half an hour before clocks change in Europe
        self.database = Database("sqlite://")  # in memory: a disk that syncs takes ten times as long
        migrate(self.database)
        blobs = BlobStore(Path(self.folder.name))
        Versions(self.database, blobs, Path(self.folder.name) / "versions").publish_bundled()
        self.submissions = Submissions(self.database, blobs, b"key", self.clock)
        self.queue = Queue(self.database, POLICY, self.clock)
        self.ids = []
        self.held = {}  # grading -> its valid lease
        self.ends = {}  # submission -> how it ended

    def teardown(self):
        self.database.close()
        self.folder.cleanup()

    def clock(self):
        return self.now

    def grading(self, submission):
        return self.submissions.get(submission).grading

    @rule()
    def hand_in(self):
        handed_in = HandedIn(assignment="ddpm", recipe="digits16", file_name="a.py", content=b"x = 1")
        self.ids.append(self.submissions.take_in(handed_in).submission.id)

    @rule(target=leases)
    def claim(self):
        lease = self.queue.claim("worker")
        waiting = [g for g in map(self.grading, self.ids) if g.state is State.QUEUED and g.available_at <= self.now]
        if lease is None:
            assert waiting == []
            return multiple()
        assert lease.grading_id not in self.held
        assert lease.submission_id not in self.ends
        assert lease.attempt <= POLICY.max_attempts
        self.held[lease.grading_id] = lease.token
        checks_wait = any(grading.need is Need.CHECK for grading in waiting)
        assert lease.need is Need.CHECK or not checks_wait
        return lease

    def do(self, lease, action):
        """`action`, which has to be refused exactly when the lease is not valid any more."""
        if self.held.get(lease.grading_id) == lease.token:
            action()
            return True
        before = self.grading(lease.submission_id)
        with pytest.raises(LostLease):
            action()
        after = self.grading(lease.submission_id)
        assert (before.state, before.lease, before.attempts) == (after.state, after.lease, after.attempts)
        return False

    def end(self, lease, state):
        del self.held[lease.grading_id]
        self.ends[lease.submission_id] = state

    @rule(lease=leases)
    def record(self, lease):
        event = NewEvent(type="stage_started", data={"stage": "check"})
        self.do(lease, lambda: self.queue.record(lease, [event], stage="check"))

    @rule(lease=leases)
    def finish(self, lease):
        if self.do(lease, lambda: self.queue.finish(lease, RESULT)):
            self.end(lease, State.DONE)

    @rule(lease=leases)
    def reject(self, lease):
        if self.do(lease, lambda: self.queue.reject(lease, "not a notebook")):
            self.end(lease, State.REJECTED)

    @rule(lease=leases)
    def train_next(self, lease):
        if lease.need is Need.CHECK and self.do(lease, lambda: self.queue.train_next(lease, "e" * 64, Need.TRAIN_CPU)):
            del self.held[lease.grading_id]
            grading = self.grading(lease.submission_id)
            assert (grading.state, grading.need, grading.attempts) == (State.QUEUED, Need.TRAIN_CPU, 0)

    @rule(data=st.data())
    def cancel(self, data):
        if not self.ids:
            return
        submission = data.draw(st.sampled_from(self.ids))
        grading = self.grading(submission)
        assert self.queue.cancel(grading.id, "on request") == (submission not in self.ends)
        if submission not in self.ends:
            self.held.pop(grading.id, None)
            self.ends[submission] = State.CANCELLED

    @rule(lease=leases)
    def fail(self, lease):
        if self.do(lease, lambda: self.queue.fail(lease, "disk full")):
            del self.held[lease.grading_id]
            if self.grading(lease.submission_id).state is State.FAULTED:
                assert lease.attempt == POLICY.max_attempts
                self.ends[lease.submission_id] = State.FAULTED

    @rule(lease=leases)
    def release(self, lease):
        if self.do(lease, lambda: self.queue.release(lease)):
            del self.held[lease.grading_id]
            assert self.grading(lease.submission_id).attempts == lease.attempt - 1

    @rule(seconds=st.sampled_from([1, 10, 31, 3600]))
    def time_passes(self, seconds):
        self.now += timedelta(seconds=seconds)
        expired = {
            grading.id: submission
            for submission in self.ids
            if (grading := self.grading(submission)).state is State.RUNNING and grading.lease_expires_at < self.now
        }
        assert self.queue.reap() == len(expired)
        for grading_id, submission in expired.items():
            del self.held[grading_id]
            if self.grading(submission).state is State.FAULTED:
                self.ends[submission] = State.FAULTED

    @invariant()
    def every_submission_has_one_story(self):
        for submission in self.ids:
            grading = self.grading(submission)
            assert (grading.id in self.held) == (grading.state is State.RUNNING)
            assert self.ends.get(submission) == (grading.state if grading.state.final else None)
            events = [event.type for event in self.submissions.events(grading, after=0, limit=1000)]
            finals = [event for event in events if event in ("done", "rejected", "faulted", "cancelled")]
            assert finals == ([grading.state] if grading.state.final else [])
            assert not finals or events[-1] == finals[0]


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


@pytest.fixture
def store(tmp_path):
    with open_store(Settings(data_dir=tmp_path, backoff_seconds=0)) as opened:
        yield opened


def test_the_oldest_comes_first_and_the_place_in_the_queue_is_told(store):
    ids = [store.hand_in(f"x = {n}".encode()) for n in range(3)]
    places = [store.queue.position(store.submissions.get(id_).grading) for id_ in ids]
    assert places == [1, 2, 3]
    assert [store.queue.claim("w").submission_id for _ in ids] == ids
    assert store.queue.position(store.submissions.get(ids[0]).grading) is None


def test_a_lease_carries_the_corrections_that_the_policy_switches_off_then(store):
    for content in (b"x = 1", b"x = 2"):
        store.hand_in(content)
    assert store.queue.claim("w").corrections_off == frozenset()
    policy = Policy(corrections_off=("older/loss-time",))
    Assignments(store.database).set_policy(None, "ddpm", policy, "we teach the division")
    assert store.queue.claim("w").corrections_off == {"older/loss-time"}


def test_after_the_last_attempt_it_is_our_fault_and_the_fault_stays_ours(store):
    submission = store.hand_in()
    for _ in range(store.settings.max_attempts):
        store.queue.fail(store.queue.claim("w"), "secret/path is full")
    assert store.queue.claim("w") is None
    grading = store.submissions.get(submission).grading
    assert grading.state is State.FAULTED
    assert "costs you nothing" in grading.message
    assert grading.fault == "secret/path is full"
    told = [event.data for event in store.submissions.events(grading, after=0, limit=100)]
    assert "secret" not in str(told)


def test_an_artifact_of_an_earlier_attempt_is_replaced(store):
    submission = store.hand_in()
    for sha256 in ("1" * 64, "2" * 64):
        lease = store.queue.claim("w")
        store.queue.record(lease, artifacts=[NewArtifact(name="g.png", media_type="image/png", sha256=sha256)])
        store.queue.release(lease)
    assert store.submissions.artifact(store.submissions.get(submission).grading, "g.png").sha256 == "2" * 64
