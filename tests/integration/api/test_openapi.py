"""The short form of `scripts/try-api`: what the OpenAPI document says is what the API does."""

import httpx
import pytest
from classroom import ASSIGNMENT, COURSE, SERVER_TOKEN, bearer
from fuzz import api as fuzz

API = "/api/v1"
HUGE = 2**40  # beyond an integer column of PostgreSQL


def test_every_answer_is_as_documented(capfd):
    assert fuzz.ask("sqlite", 4, "fuzzing", "--seed", "1", "--no-color") == 0, capfd.readouterr().out


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request, tmp_path_factory):
    with fuzz.prepared(tmp_path_factory.mktemp("api"), request.param) as (url, known):
        yield url, known["finished"][0]


@pytest.mark.parametrize(
    ("method", "path", "sent", "statuses"),
    [
        ("GET", "/submissions/%00", {}, {404, 422}),
        ("GET", "/users?login=%00", {}, {200, 422}),
        ("GET", f"/users?after={HUGE}", {}, {422}),
        ("DELETE", f"/users/{HUGE}", {}, {422}),
        ("GET", f"/regrades/{HUGE}", {}, {422}),
        ("GET", "/submissions/{submission}/events", {"headers": {"Last-Event-ID": str(HUGE)}}, {422}),
        ("POST", "/submissions/{submission}/comments", {"json": {"body": "a\0b"}}, {422}),
        ("POST", "/submissions/{submission}/comments", {"content": b'{"body": "\xff"}'}, {422}),
        ("POST", "/submissions/{submission}/comments", {"content": rb'{"body": "\ud800"}'}, {422}),
        (
            "POST",
            f"/assignments/{ASSIGNMENT}/regrades/plan",
            {"json": {"mode": "full", "reason": "because", "selection": {"submissions": ["\0"]}}},
            {200, 422},
        ),
        ("POST", "/assignments", {"data": {"course": "nowhere", "id": "new", "pack": "ddpm"}}, {404}),
        ("POST", "/assignments", {"data": {"course": COURSE, "id": "new", "pack": "ddpm", "title": "\0"}}, {422}),
    ],
    ids=str,
)
def test_values_that_databases_do_not_take_are_told_as_such(place, method, path, sent, statuses):
    url, submission = place
    sent = sent | {"headers": bearer(SERVER_TOKEN) | {"Content-Type": "application/json"} | sent.get("headers", {})}
    if "data" in sent:
        del sent["headers"]["Content-Type"]
    answer = httpx.request(method, url + API + path.format(submission=submission), trust_env=False, **sent)
    assert answer.status_code in statuses
    if answer.is_error:
        assert answer.headers["content-type"] == "application/problem+json"
