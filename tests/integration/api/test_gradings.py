"""What can be seen of a grading: status, events, report, images. The worker's part is played by hand."""

import itertools
import json
from datetime import timedelta

import httpx
import pytest
import sample_reports
from httpx_sse import connect_sse
from services import PATIENCE

from records.models import utc_now
from records.queue import NewArtifact, NewEvent, Queue, Result

PNG = b"\x89PNG\r\n\x1a\n"
REPORT = sample_reports.passing().model_dump_json().encode()


@pytest.fixture
def graded(store):
    submission = store.hand_in()
    lease = claim(store, submission)
    image = store.blobs.put(PNG)
    artifact = NewArtifact(name="progress-submitted-00000100.png", media_type="image/png", sha256=image)
    event = NewEvent(type="sample_grid", data={"run": "submitted", "images_seen": 100, "image": artifact.name})
    store.queue.record(lease, [event], stage="train", artifacts=[artifact])
    finish(store, lease)
    return f"/api/v1/submissions/{submission}"


def claim(store, submission):
    while (lease := store.queue.claim("w")).submission_id != submission:
        finish(store, lease)
    return lease


def finish(store, lease):
    result = Result(
        report_sha256=store.blobs.put(REPORT),
        html_sha256=store.blobs.put(b"<!doctype html><title>report</title>"),
        artifacts=(NewArtifact(name="grid.png", media_type="image/png", sha256=store.blobs.put(PNG)),),
        outcome={"verdict": "passed", "score": 100.0},
    )
    store.queue.finish(lease, result)


def listen(api, own, last_event_id=None):
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    with connect_sse(api, "GET", f"{own}/events", headers=headers) as source:
        return list(source.iter_sse())


def test_the_report_and_its_images(api, graded):
    assert api.get(graded).json()["state"] == "done"
    assert api.get(f"{graded}/report").content == REPORT
    page = api.get(f"{graded}/report.html")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script-src" not in policy  # so that default-src holds: no script at all
    for name in ("grid.png", "progress-submitted-00000100.png"):
        image = api.get(f"{graded}/images/{name}")
        assert (image.content, image.headers["content-type"]) == (PNG, "image/png")
    assert api.get(f"{graded}/images/secret.key").status_code == 404
    assert api.get(f"{graded}/images/..%2f..%2fsecret.key").status_code == 404


def test_events_come_from_the_first_on_and_end_after_the_final_one(api, graded):
    events = listen(api, graded)
    assert [event.event for event in events] == ["queued", "started", "sample_grid", "done"]
    grid = json.loads(events[2].data)
    assert grid["type"] == "sample_grid"
    assert api.get(grid["url"]).content == PNG
    assert json.loads(events[3].data)["score"] == 100.0


def test_events_resume_where_the_listener_was_cut_off(api, graded):
    events = listen(api, graded)
    for position, event in enumerate(events):
        assert [later.id for later in listen(api, graded, event.id)] == [later.id for later in events[position + 1 :]]
    assert listen(api, graded, "9999999") == []


def test_a_listener_hears_of_events_while_they_happen(api, store):
    submission = store.hand_in()
    with connect_sse(api, "GET", f"/api/v1/submissions/{submission}/events") as source:
        heard = source.iter_sse()
        assert next(heard).event == "queued"
        lease = claim(store, submission)
        assert next(heard).event == "started"
        store.queue.fail(lease, "secret path")
        retrying = next(heard)
        assert (retrying.event, "secret" in retrying.data) == ("retrying", False)
        lease = claim_later(store, submission)
        assert next(heard).event == "started"
        store.queue.reject(lease, "`a.py` is empty.")
        final = next(heard)
        assert (final.event, json.loads(final.data)["message"]) == ("rejected", "`a.py` is empty.")
        with pytest.raises(StopIteration):
            next(heard)


def test_keep_alives_are_no_events(api, store, monkeypatch):
    monkeypatch.setattr("api.routes.events.KEEP_ALIVE_SECONDS", 0.05)
    submission = store.hand_in()
    with api.stream("GET", f"/api/v1/submissions/{submission}/events") as response:
        lines = list(itertools.islice(response.iter_lines(), 8))
    assert lines[3:] == ["", ":", ":", ":", ":"]  # the event's three lines and its end, then nothing but comments
    finish(store, claim(store, submission))


def claim_later(store, submission):
    later = Queue(store.database, store.settings, lambda: utc_now() + timedelta(hours=1))
    while (lease := later.claim("w")).submission_id != submission:
        finish(store, lease)
    return lease


def test_without_a_report_it_says_why(api, store):
    submission = store.hand_in()
    own = f"/api/v1/submissions/{submission}"
    for path in ("report", "report.html"):
        response = api.get(f"{own}/{path}")
        assert (response.status_code, response.json()["state"]) == (409, "queued")
        assert int(response.headers["retry-after"]) > 0
    store.queue.reject(claim(store, submission), "`a.py` is empty.")
    response = api.get(f"{own}/report")
    assert (response.status_code, response.json()["detail"]) == (409, "`a.py` is empty.")
    assert "retry-after" not in response.headers
    assert api.get(own).json()["message"] == "`a.py` is empty."


def test_progress_is_told(api, store):
    submission = store.hand_in()
    assert api.get(f"/api/v1/submissions/{submission}").json()["position"] >= 1
    lease = claim(store, submission)
    store.queue.record(lease, [NewEvent(type="training_progress", data={"images_seen": 100})], stage="train")
    body = api.get(f"/api/v1/submissions/{submission}").json()
    assert (body["state"], body["stage"], body["attempt"], body["position"]) == ("running", "train", 1, None)
    assert body["progress"] == {"type": "training_progress", "data": {"images_seen": 100}}
    finish(store, lease)


@pytest.mark.threat(46)
def test_somebody_elses_submission_is_not_there(api, graded):
    stranger = f"/api/v1/submissions/{'0' * 32}"
    routes = api.get("/api/v1/openapi.json").json()["paths"]
    own = {path.partition("{submission}")[2]: methods for path, methods in routes.items() if "{submission}" in path}
    requests = [
        (method, path.replace("{name}", "grid.png").replace("{blank}", "no-such-blank"))
        for path, methods in own.items()
        for method in methods
    ]
    reads = {"", "/hand-in", "/report", "/report.html", "/images/grid.png", "/events", "/hints"}
    assert {path for method, path in requests if method == "get"} >= reads
    for method, path in requests:
        if method == "get" and path in reads:
            assert api.get(graded + path).status_code == 200
        response = api.request(method, stranger + path)
        assert (response.status_code, response.json()["detail"]) == (404, "There is no submission with this id.")
    assert api.get(f"/submissions/{'0' * 32}").status_code == 404
    for listing in (
        "/api/v1/submissions",
        "/api/v1/submissions/",
        "/submissions",
        "/api/v1/assignments/ddpm/submissions",
    ):
        assert api.get(listing).status_code in (404, 405)


@pytest.mark.threat(50)
def test_a_listener_who_leaves_leaves_nothing_open(api, store):
    submission = store.hand_in()
    events = f"/api/v1/submissions/{submission}/events"
    with (
        httpx.Client(base_url=api.base_url, timeout=PATIENCE, trust_env=False) as other,
        connect_sse(other, "GET", events) as source,
    ):
        assert next(source.iter_sse()).event == "queued"
    finish(store, claim(store, submission))
    assert [event.event for event in listen(api, f"/api/v1/submissions/{submission}")][-1] == "done"
