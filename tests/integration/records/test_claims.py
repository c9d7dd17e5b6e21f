"""What a worker leaves alone."""

from classroom import Classroom


def test_versions_that_a_worker_gets_wrong_wait_for_another(store):
    submission = Classroom(store).hand_in(None, assignment="ddpm")
    version = store.submissions.get(submission).grading.version_id
    assert store.queue.claim("broken", without={version}) is None
    assert store.queue.claim("sound", without={"another"}).submission_id == submission
