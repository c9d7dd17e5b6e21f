"""Figures, workers and faults, as whoever looks after the service sees them."""

from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from classroom import ASSIGNMENT, COURSE, Classroom
from prometheus_client.parser import text_string_to_metric_families
from services import open_store, running_api, running_api_process, wait_until

from records.models import Need, Role
from records.queue import NewEvent, Result
from records.settings import Settings
from records.workers import Pool, Workers

UVICORN_SECONDS = 5  # after which uvicorn, left to itself, closes an idle connection
NO_BROKER = "redis+socket:///nonexistent/redis.sock"


@pytest.fixture
def store(tmp_path):
    with open_store(Settings(data_dir=tmp_path, redis_url=NO_BROKER, max_attempts=1)) as opened:
        yield opened


@pytest.fixture
def api(store):
    with running_api(store.settings) as client:
        yield client


def metrics(api):
    answer = api.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_tell_of_queue_workers_faults_and_stages(api, store):
    room = Classroom(store)
    student = room.user("ada", COURSE)
    for number in range(3):
        room.hand_in(student, f"x = {number}".encode())
    found = metrics(api)
    assert found["noisemark_waiting", "check", "live"] == 3
    assert found["noisemark_gradings", "queued"] == 3
    lease = store.queue.claim("w")
    store.queue.record(lease, [NewEvent(type="stage_finished", data={"stage": "check", "seconds": 1.5})])
    store.queue.fail(lease, "disk full")
    workers = Workers(store.database)
    workers.tell("good", [Need.CHECK], fit=True, pool=Pool(warm=1, kept=2))
    workers.tell("bad", [Need.CHECK], fit=False, note="solution.py: alphas should be passed")
    found = metrics(api)
    assert found["noisemark_waiting", "check", "live"] == 2
    assert (found["noisemark_gradings", "faulted"], found[("noisemark_faults",)]) == (1, 1)
    assert (found["noisemark_workers", "ready"], found["noisemark_workers", "unfit"]) == (1, 1)
    guests = {tuple(labels): value for (name, *labels), value in found.items() if name == "noisemark_guests"}
    assert guests == {("good", "kept"): 2, ("good", "warm"): 1}
    assert found["noisemark_stage_seconds", "0.95", "check"] == 1.5
    assert any(name == "noisemark_request_seconds_count" and "/metrics" in labels for name, *labels in found)


def test_staff_see_what_a_fault_of_ours_ended_and_students_do_not(api, store):
    room = Classroom(store)
    ada = room.user("ada", COURSE)
    submission = room.hand_in(ada)
    store.queue.fail(store.queue.claim("w"), "disk full")
    path = f"/api/v1/assignments/{ASSIGNMENT}/faults"
    (fault,) = api.get(path, headers=room.headers(room.user("gil", COURSE, Role.GRADER))).json()
    assert (fault["submission"], fault["fault"]) == (submission, "disk full")
    assert api.get(path, headers=room.headers(ada)).status_code == 403


def test_workers_are_drained_and_go_on(api, store):
    workers = Workers(store.database)
    assert [workers.tell(name, [Need.CHECK], fit=True) for name in ("one", "two")] == [False, False]
    assert api.put("/api/v1/workers/draining", params={"draining": True, "name": "one"}).json() == {"workers": 1}
    assert [workers.tell(name, [Need.CHECK], fit=True) for name in ("one", "two")] == [True, False]
    assert {entry["name"]: entry["state"] for entry in api.get("/api/v1/workers").json()} == {
        "one": "draining",
        "two": "ready",
    }
    room = Classroom(store)
    _, waits = (room.hand_in(None, content, assignment="ddpm") for content in (b"x = 1\n", b"x = 2\n"))
    result = Result(report_sha256="0" * 64, html_sha256="0" * 64, artifacts=(), outcome={})
    store.queue.finish(store.queue.claim("one"), result)  # an estimate rests on what was graded before
    assert api.get(f"/api/v1/submissions/{waits}").json()["seconds_left"] is not None
    api.put("/api/v1/workers/draining", params={"draining": True})
    assert api.get(f"/api/v1/submissions/{waits}").json()["seconds_left"] is None  # nobody takes it
    assert api.put("/api/v1/workers/draining", params={"draining": False}).json() == {"workers": 2}
    assert workers.tell("one", [Need.CHECK], fit=True) is False
    unknown = api.put("/api/v1/workers/draining", params={"draining": True, "name": "onw"})
    assert unknown.status_code == 404
    assert "'onw'" in unknown.json()["detail"]


def test_requests_have_ids_and_logs_have_no_addresses(api, store, capsys):
    submission = Classroom(store).hand_in(None, assignment="ddpm")
    answer = api.post(f"/api/v1/submissions/{submission}/cancel")
    assert answer.status_code == 200
    assert len(answer.headers["X-Request-Id"]) == 16
    told = ""

    def logged() -> bool:  # which happens after the answer
        nonlocal told
        told += "".join(capsys.readouterr())
        return "/submissions/{submission}/cancel" in told

    wait_until(logged, "the log")
    assert submission not in told


def test_an_idle_connection_is_not_the_servers_to_close(store, tmp_path):
    """A proxy that sends a request just then would have to guess whether it came through."""
    with running_api_process(store.settings, tmp_path / "api.log") as (url, _):
        connection = HTTPConnection(urlsplit(url).netloc, timeout=UVICORN_SECONDS + 1)
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        with pytest.raises(TimeoutError):  # nothing comes, not even the end
            connection.sock.recv(1)
        connection.close()
