"""Real workers on a real broker: what happens to a grading when its worker, its judge or the broker is lost."""

import json
import signal
from collections import Counter

import psutil
import pytest
from httpx_sse import connect_sse
from services import assert_gone, family, running_api, running_redis, running_worker, wait_until

from records.models import State


def hand_in(api, order):
    files = {"files": ("orders.py", json.dumps(order).encode())}
    return api.post("/api/v1/assignments/ddpm/submissions", files=files).json()["id"]


def events(api, submission):
    with connect_sse(api, "GET", f"/api/v1/submissions/{submission}/events") as source:
        return [(event.event, json.loads(event.data)) for event in source.iter_sse()]


def types(api, submission):
    return [name for name, _ in events(api, submission)]


RUN = ["started", "stage_started", "sample_grid", "training_progress"]


def test_a_message_wakes_the_worker_and_all_that_it_tells_arrives(api, settings, store):
    with running_worker(settings):
        submission = hand_in(api, {"do": "finish"})
        told = events(api, submission)
        assert [name for name, _ in told] == ["queued", *RUN, "stage_finished", "done"]
        own = f"/api/v1/submissions/{submission}"
        assert api.get(own).json()["state"] == "done"
        assert api.get(f"{own}/report").json() == {"verdict": "passed"}
        assert api.get(f"{own}/report.html").text == "<!doctype html>"
        assert api.get(f"{own}/images/grid.png").content.startswith(b"\x89PNG")
        assert api.get(dict(told)["sample_grid"]["url"]).content.startswith(b"\x89PNG")
        assert "png" not in dict(told)["sample_grid"]


def test_what_waited_before_the_worker_came_is_graded(api, settings):
    submissions = [hand_in(api, {"do": "finish", "number": number}) for number in range(3)]
    with running_worker(settings):
        assert [types(api, submission)[-1] for submission in submissions] == ["done"] * 3


def test_a_worker_killed_in_the_middle_costs_nothing_but_time(api, settings, store, tmp_path):
    quick = settings.model_copy(update={"lease_seconds": 1.0, "poll_seconds": 0.1})
    with running_worker(quick) as first:
        submission = hand_in(api, {"do": "hang once", "mark": str(tmp_path / "mark")})
        wait_until((tmp_path / "mark").exists, "the first judge")
        processes = family(first.pid)
        assert len(processes) > 1
        judge = judge_of(first.pid)
        first.send_signal(signal.SIGKILL)
        assert_gone([*processes, judge])
        assert store.state(submission) == State.RUNNING
        with running_worker(quick):
            told = types(api, submission)
    assert Counter(told)["done"] == 1
    assert [name for name in told if name in ("started", "retrying", "done")] == [
        "started",
        "retrying",
        "started",
        "done",
    ]


def judge_of(worker):
    """The judge leads a session of its own; so does nobody else in the family."""
    return next(process for process in family(worker)[1:] if psutil.os.getsid(process.pid) == process.pid)


def test_a_worker_that_is_asked_to_stop_gives_its_grading_back(api, settings, store):
    with running_worker(settings) as first:
        submission = hand_in(api, {"do": "hang"})
        wait_until(lambda: "training_progress" in store.events(submission), "the judge")
        processes = family(first.pid)
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0
        assert_gone(processes)
    grading = store.submissions.get(submission).grading
    assert (grading.state, grading.attempts, grading.lease) == (State.QUEUED, 0, None)
    assert grading.fault is None
    assert store.events(submission)[-1] == "queued"


@pytest.mark.parametrize("order", ["die", "fault", "nonsense"])
def test_a_judge_that_fails_is_tried_again_and_in_the_end_it_is_our_fault(api, settings, store, order):
    with running_worker(settings):
        submission = hand_in(api, {"do": order})
        told = types(api, submission)
    assert [name for name in told if name not in RUN[1:]] == [
        "queued",
        *["started", "retrying"] * (settings.max_attempts - 1),
        "started",
        "faulted",
    ]
    body = api.get(f"/api/v1/submissions/{submission}").json()
    assert (body["state"], body["attempt"]) == ("faulted", 3)
    assert "costs you nothing" in body["message"]
    fault = store.submissions.get(submission).grading.fault
    assert {"die": "exit code -9", "fault": "disk full", "nonsense": "no message"}[order] in fault


def test_a_judge_that_dies_once_costs_nothing_but_time(api, settings, tmp_path):
    with running_worker(settings):
        submission = hand_in(api, {"do": "die once", "mark": str(tmp_path / "mark")})
        assert types(api, submission)[-1] == "done"
    assert api.get(f"/api/v1/submissions/{submission}").json()["attempt"] == 2


def test_a_judge_that_hangs_is_ended(api, settings, store):
    impatient = settings.model_copy(update={"judge_seconds": 0.5, "max_attempts": 1})
    with running_worker(impatient):
        submission = hand_in(api, {"do": "hang"})
        assert types(api, submission)[-1] == "faulted"
    assert "took more than 0.5 s" in store.submissions.get(submission).grading.fault


def test_what_cannot_be_read_is_rejected_with_the_reason(api, settings):
    with running_worker(settings):
        submission = hand_in(api, {"do": "reject"})
        assert events(api, submission)[-1][1]["message"] == "`a.py` is empty."
    body = api.get(f"/api/v1/submissions/{submission}").json()
    assert (body["state"], body["message"], body["attempt"]) == ("rejected", "`a.py` is empty.", 1)


def test_a_judge_has_no_secrets_in_its_environment(settings, api):
    secret = settings.model_copy(update={})
    with running_worker(secret):
        submission = hand_in(api, {"do": "environment"})
        told = events(api, submission)[-1][1]["message"].split()
    assert "PATH" in told
    assert [name for name in told if name.startswith("NOISEMARK_") and name != "NOISEMARK_DATA"] == []


def test_without_a_broker_gradings_come_by_polling(settings, store):
    with running_redis() as (url, redis):
        alone = settings.model_copy(update={"redis_url": type(settings.redis_url)(url), "poll_seconds": 0.2})
        with running_api(alone) as api, running_worker(alone) as worker:
            assert types(api, hand_in(api, {"do": "finish"}))[-1] == "done"
            redis.kill()
            redis.wait()
            assert types(api, hand_in(api, {"do": "finish", "number": 2}))[-1] == "done"
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0
