"""What happens to a grading when its worker or the broker is lost, or its judge hangs."""

import os
import signal

import pytest
from gradings import events, hand_in, types
from services import PATIENCE, assert_gone, family, open_store, running_api, running_redis, running_worker, wait_until

from records.models import State
from records.settings import Settings
from reference.pack import load_pack
from worker.judge import Job
from worker.judges import Judges


@pytest.fixture
def settings(tmp_path, redis_url):
    return Settings(data_dir=tmp_path / "var", redis_url=redis_url, backoff_seconds=0, poll_seconds=0.2)


@pytest.fixture
def store(settings):
    with open_store(settings) as opened:
        yield opened


@pytest.fixture
def api(settings, store):
    with running_api(settings) as client:
        yield client


def test_a_worker_killed_in_the_middle_costs_nothing_but_time(api, settings, store, tmp_path):
    quick = settings.model_copy(update={"lease_seconds": 2.0})
    mark = tmp_path / "mark"
    waiting = [hand_in(api, {"do": "finish", "number": number}) for number in range(2)]
    with running_worker(quick) as first, running_worker(quick):
        assert [types(api, submission)[-1] for submission in waiting] == ["done", "done"]
        first.send_signal(signal.SIGSTOP)  # so that the other worker takes the next one
        submission = hand_in(api, {"do": "hang once", "mark": str(mark)})
        wait_until(mark.exists, "the judge")
        first.send_signal(signal.SIGCONT)
        worker = int(store.submissions.get(submission).grading.worker.rpartition(":")[2])
        processes = family(worker)
        assert any(os.getsid(process.pid) == process.pid for process in processes[1:])  # its judge
        processes[0].kill()
        told = types(api, submission)
        assert_gone(processes)
    assert [name for name in told if name in ("started", "retrying", "done")] == [
        "started",  # the checks
        "started",
        "retrying",
        "started",
        "done",
    ]
    assert store.submissions.get(submission).grading.attempts == 2


def test_a_worker_that_is_asked_to_stop_gives_its_grading_back(api, settings, store):
    with running_worker(settings) as worker:
        submission = hand_in(api, {"do": "hang"})
        wait_until(lambda: "training_progress" in store.events(submission), "the judge")
        processes = family(worker.pid)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0
        assert_gone(processes)
    grading = store.submissions.get(submission).grading
    assert (grading.state, grading.attempts, grading.lease, grading.fault) == (State.QUEUED, 0, None, None)
    assert store.events(submission)[-1] == "queued"


def test_a_judge_that_hangs_is_ended(api, settings, store):
    impatient = settings.model_copy(update={"judge_seconds": 0.5, "max_attempts": 1})
    with running_worker(impatient):
        submission = hand_in(api, {"do": "hang"})
        assert types(api, submission)[-1] == "faulted"
    assert "took more than 0.5 s" in store.submissions.get(submission).grading.fault


def test_without_a_broker_gradings_come_by_polling(settings, store):
    with running_redis() as (url, redis):
        alone = Settings(**settings.model_dump(exclude_unset=True) | {"redis_url": url})
        with running_api(alone) as api, running_worker(alone) as worker:
            assert types(api, hand_in(api, {"do": "finish"}))[-1] == "done"
            redis.kill()
            redis.wait()
            final = events(api, hand_in(api, {"do": "finish", "number": 2}))[-1]
            assert final[0] == "done"
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE) == 0


def test_a_launcher_that_is_gone_is_named_for_staff(tmp_path):
    pack = load_pack("ddpm")
    job = Job(
        file_name="solution.py",
        content=pack.solution.read_bytes(),
        pack=pack.root,
        recipe=pack.file.default_recipe,
        sandbox=f"launcher:{tmp_path / 'gone'}",
        device="cpu",
        train=False,
        key=b"",
    )
    with Judges(preload=()).start(job) as judge:
        message = judge.receive(PATIENCE)
    assert message is not None
    assert message.kind == "fault"
    assert message.data["message"].startswith("no launcher listens at")
