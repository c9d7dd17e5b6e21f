"""Handing in to the quick judge (`quick_judge.py`), and listening."""

import json
from typing import Any

import httpx
from httpx_sse import connect_sse

RUN = ["started", "stage_started", "sample_grid", "training_progress"]  # what every judge tells first


def hand_in(api: httpx.Client, order: dict[str, Any]) -> str:
    """Returns the submission's id."""
    files = {"files": ("orders.py", json.dumps(order).encode())}
    submission: str = api.post("/api/v1/assignments/ddpm/submissions", files=files).json()["id"]
    return submission


def events(api: httpx.Client, submission: str) -> list[tuple[str, dict[str, Any]]]:
    """All events up to the final one: type and data."""
    with connect_sse(api, "GET", f"/api/v1/submissions/{submission}/events") as source:
        return [(event.event, json.loads(event.data)) for event in source.iter_sse()]


def types(api: httpx.Client, submission: str) -> list[str]:
    return [name for name, _ in events(api, submission)]
