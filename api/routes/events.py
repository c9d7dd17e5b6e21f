"""What a grading tells while it runs, as Server-Sent Events.

Events are rows, so a listener that comes late, or comes back with `Last-Event-ID`, misses nothing.
"""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header
from sse_starlette import EventSourceResponse, ServerSentEvent

from api.dependencies import Services, ServicesDep
from api.links import image_link
from api.problems import NotFound, describe
from api.schemas import MAX_ID
from api.views import View, ViewDep
from records.models import FINAL_STATES, Event

router = APIRouter(tags=["events"])

POLL_SECONDS = 0.3  # what an event may come late; people notice nothing below that
STAGE_EVENTS = ("stage_started", "stage_finished")
LONGEST = 100_000  # events that anybody resumes after: far more than a grading has
BATCH = 200  # events per query: bounds memory, and a whole grading takes only a few
KEEP_ALIVE_SECONDS = 15.0  # proxies close connections that are silent for 30 or 60

EXAMPLE = """id: 41
event: stage_started
data: {"type": "stage_started", "stage": "check", "at": "2026-03-02T10:15:31.020000+00:00"}

id: 42
event: done
data: {"type": "done", "verdict": "passed", "score": 100.0, "max_score": 100.0, "at": "2026-03-02T10:16:40+00:00"}

"""


class KeepAlive(ServerSentEvent):
    """A comment and nothing after it: an empty line would make some clients (httpx-sse) see an event without data."""

    def encode(self) -> bytes:
        return b":\r\n"


@router.get(
    "/submissions/{submission}/events",
    response_class=EventSourceResponse,
    responses=describe(NotFound)
    | {200: {"description": "the stream", "content": {"text/event-stream": {"example": EXAMPLE}}}},
)
async def stream_events(
    view: ViewDep,
    services: ServicesDep,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=MAX_ID, description="resume after this event; browsers send it by themselves")
    ] = None,
) -> EventSourceResponse:
    """Everything from the first event on, or after `Last-Event-ID`, as it happens; ends after the final event.

    Types: `queued`, `started`, `retrying` (our fault, it is tried again), the events of the grading (`stage_started`,
    `stage_finished`, `check_finished`, `blank_finished`, `training_progress`, `sample_grid`, `generation_progress`),
    and as the last one `done`, `rejected` or `faulted`. Students hear nothing of checks that are hidden from them.
    """
    stream = _events(view, services, last_event_id or 0)
    return EventSourceResponse(stream, ping=KEEP_ALIVE_SECONDS, ping_message_factory=KeepAlive)


async def _events(view: View, services: Services, after: int) -> AsyncIterator[ServerSentEvent]:
    submission, submissions = view.submission, services.submissions
    grading = submission.grading
    stages: set[tuple[str, str]] = set()

    def tell(event: Event) -> ServerSentEvent | None:
        if event.type in STAGE_EVENTS and not view.whole:
            stage = (event.type, event.data["stage"])
            if stage in stages:  # the second time around it is that of the repaired run
                return None
            stages.add(stage)
        told = view.event(event.type, event.data, services)
        if told is None:
            return None
        return ServerSentEvent(id=str(event.id), event=event.type, data=json.dumps(_data(submission.id, event, told)))

    def read(after: int) -> tuple[bool, list[tuple[Event, ServerSentEvent | None]]]:
        # The state first: one that is final by then has told all its events.
        current = submissions.get(submission.id)
        found = submissions.events(grading, after=after, limit=BATCH)
        return current is None or current.grading.state.final, [(event, tell(event)) for event in found]

    def catch_up() -> None:
        for event in submissions.events(grading, after=0, limit=LONGEST) if after and not view.whole else ():
            if event.id <= after and event.type in STAGE_EVENTS:
                stages.add((event.type, event.data["stage"]))

    await run_sync(catch_up)
    while True:
        ended, events = await run_sync(read, after)
        for event, told in events:
            if told is not None:
                yield told
            if event.type in FINAL_STATES:
                return
            after = event.id
        if not events:
            if ended:  # resumed after the final event
                return
            await anyio.sleep(POLL_SECONDS)


def _data(submission_id: str, event: Event, told: Mapping[str, Any]) -> dict[str, Any]:
    data = {"type": event.type} | dict(told) | {"at": event.created_at.isoformat()}
    if "image" in data:  # the name of a stored image
        data["url"] = image_link(submission_id, data["image"])
    return data
