"""A real worker on a real broker: how gradings go and how they end. The judge does what the hand-in says."""

import json

import pytest
from gradings import RUN, events, hand_in, types

CHECKED = ["started", "queued"]  # the checks, of which the quick judge tells nothing; then training waits


@pytest.fixture(autouse=True)
def _worker(worker):
    assert worker.poll() is None


def test_a_message_wakes_the_worker_and_all_that_it_tells_arrives(api):
    submission = hand_in(api, {"do": "finish"})
    told = events(api, submission)
    assert [name for name, _ in told] == ["queued", *CHECKED, *RUN, "stage_finished", "done"]
    own = f"/api/v1/submissions/{submission}"
    assert api.get(own).json()["state"] == "done"
    assert api.get(f"{own}/report").json()["verdict"] == "passed"
    assert api.get(f"{own}/report.html").text == "<!doctype html>"
    assert api.get(f"{own}/images/grid.png").content.startswith(b"\x89PNG")
    assert api.get(dict(told)["sample_grid"]["url"]).content.startswith(b"\x89PNG")
    assert "png" not in dict(told)["sample_grid"]


@pytest.mark.parametrize("order", ["die", "fault", "nonsense"])
def test_a_judge_that_fails_is_tried_again_and_in_the_end_it_is_our_fault(api, settings, store, order):
    submission = hand_in(api, {"do": order})
    told = types(api, submission)
    assert [name for name in told if name not in RUN[1:]] == [
        "queued",
        *CHECKED,
        *["started", "retrying"] * (settings.max_attempts - 1),
        "started",
        "faulted",
    ]
    body = api.get(f"/api/v1/submissions/{submission}").json()
    assert (body["state"], body["attempt"]) == ("faulted", 3)
    assert "costs you nothing" in body["message"]
    fault = store.submissions.get(submission).grading.fault
    assert {"die": "exit code -9", "fault": "disk full", "nonsense": "no message"}[order] in fault
    assert fault not in json.dumps(events(api, submission)) + json.dumps(body)


def test_a_judge_that_dies_once_costs_nothing_but_time(api, tmp_path):
    submission = hand_in(api, {"do": "die once", "mark": str(tmp_path / "mark")})
    assert types(api, submission)[-1] == "done"
    assert api.get(f"/api/v1/submissions/{submission}").json()["attempt"] == 2


def test_what_cannot_be_read_is_rejected_with_the_reason(api):
    submission = hand_in(api, {"do": "reject"})
    assert events(api, submission)[-1][1]["message"] == "`a.py` is empty."
    body = api.get(f"/api/v1/submissions/{submission}").json()
    assert (body["state"], body["message"], body["attempt"]) == ("rejected", "`a.py` is empty.", 1)


@pytest.mark.threat(23)
def test_a_judge_has_no_secrets_in_its_environment(api):
    told = events(api, hand_in(api, {"do": "environment"}))[-1][1]["message"].split()
    assert "PATH" in told
    assert [name for name in told if name.startswith("NOISEMARK_") and name != "NOISEMARK_DATA"] == []
