"""A server's API, as the commands use it. Every failure becomes a `CommandError` with the server's own words."""

import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from httpx_sse import ServerSentEvent, SSEError, connect_sse
from pydantic import BaseModel, TypeAdapter, ValidationError

from cli.errors import CommandError, Unavailable, UnusableInput
from grading.report import Report

Answer = TypeVar("Answer")
Model = TypeVar("Model", bound=BaseModel)

FINAL_STATES = ("done", "rejected", "faulted", "cancelled")
_TIMEOUT = httpx.Timeout(30.0)  # seconds; the server answers at once, and a slow line carries 16 MB in that time
_STREAM_TIMEOUT = httpx.Timeout(30.0, read=60.0)  # seconds; the server sends a sign of life every 15
_ATTEMPTS = 5  # in a row without anything new, before a broken stream is given up
_LONGEST_WAIT = 15.0  # seconds between attempts; they begin with one second and double


class Receipt(BaseModel):
    code: str
    sha256: str
    size: int
    received_at: str


class Status(BaseModel):
    """What the commands need of the server's answer; it says more."""

    id: str
    assignment: str
    recipe: str
    file_name: str
    receipt: Receipt
    state: str
    position: int | None = None  # in the queue
    stage: str | None = None
    message: str | None = None
    links: dict[str, str]


class Hint(BaseModel):
    name: str
    text: str


class BlankHints(BaseModel):
    blank: str
    title: str
    revealed: list[Hint]
    left: int
    next_cost: float | None  # points
    unavailable: str | None


class Hints(BaseModel):
    blanks: list[BlankHints]
    cost: float  # points
    score_after_hints: float | None


@dataclass(frozen=True, kw_only=True)
class StreamEvent:
    type: str
    data: dict[str, Any]


class Client:
    """A server at `url`, as https://grader.example.org. The token is that of the environment, NOISEMARK_TOKEN."""

    def __init__(self, url: str) -> None:
        headers = {"User-Agent": "noisemark"}
        if token := os.environ.get("NOISEMARK_TOKEN"):
            if not (token.isascii() and token.isprintable()):
                raise UnusableInput("NOISEMARK_TOKEN holds characters that no token has.")
            headers["Authorization"] = f"Bearer {token}"
        try:
            base = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise UnusableInput(f"{url!r} is no address of a server: {error}.") from error
        if base.scheme not in ("http", "https") or not base.host:
            raise UnusableInput(f"{url!r} is no address of a server; it looks like http://127.0.0.1:8000.")
        self.url = str(base).rstrip("/")
        self._http = httpx.Client(base_url=base, headers=headers, timeout=_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def submit(
        self,
        assignment: str,
        files: Sequence[tuple[str, bytes]],
        recipe: str | None,
        improves_on: str | None = None,
    ) -> Status:
        """Hand in. A connection that breaks on the way is tried once more; the server counts it once."""
        path = f"/api/v1/assignments/{quote(assignment, safe='')}/submissions"
        parts = [("files", file) for file in files]
        data = {name: value for name, value in (("recipe", recipe), ("improves_on", improves_on)) if value is not None}
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        try:
            response = self._request("POST", path, files=parts, data=data, headers=headers)
        except _BrokenConnection:
            response = self._request("POST", path, files=parts, data=data, headers=headers)
        return _parse(Status, response.content)

    def status(self, submission: str) -> Status:
        return _parse(Status, self._request("GET", _path(submission)).content)

    def report(self, submission: str) -> bytes:
        """The report as JSON, byte for byte as the server holds it."""
        return self._request("GET", _path(submission, "/report")).content

    def report_page(self, submission: str) -> bytes:
        return self._request("GET", _path(submission, "/report.html")).content

    def hints(self, submission: str) -> Hints:
        return _parse(Hints, self._request("GET", _path(submission, "/hints")).content)

    def next_hint(self, submission: str, blank: str) -> BlankHints:
        """Reveal the next hint for a blank; the server records it."""
        return _parse(BlankHints, self._request("POST", _path(submission, f"/hints/{quote(blank, safe='')}")).content)

    def starter(self, assignment: str, suffix: str) -> bytes:
        return self._request("GET", f"/api/v1/assignments/{quote(assignment, safe='')}/starter.{suffix}").content

    def blanks(self, assignment: str) -> int:
        """How many blanks the assignment has."""
        content = self._request("GET", f"/api/v1/assignments/{quote(assignment, safe='')}").content
        return len(_parse(_Assignment, content).blanks)

    def download(self, path: str) -> bytes:
        """A file: `path` is what follows /api/v1."""
        return self._request("GET", f"/api/v1{path}").content

    def ask(self, method: str, path: str, form: TypeAdapter[Answer], **arguments: Any) -> Answer:
        """Any other request: `path` is what follows /api/v1, and the answer has to be of that form."""
        response = self._request(method, f"/api/v1{path}", **arguments)
        try:
            return form.validate_json(response.content or b"null")
        except ValidationError as error:
            raise _senseless() from error

    def events(self, submission: str) -> Iterator[StreamEvent]:
        """Everything that happens, from the first event to the final one.

        A connection that breaks is taken up where it broke. Raises `Unavailable` once that fails several times in a
        row without anything new.
        """
        last_id = ""
        failures = 0
        while True:
            try:
                for event in self._stream(submission, last_id):
                    failures = 0
                    last_id = event.id or last_id
                    if not event.data:
                        continue  # a keep-alive; the standard does not dispatch these, httpx-sse does
                    data = _event_data(event)
                    yield StreamEvent(type=event.event, data=data)
                    if event.event in FINAL_STATES:
                        return
            except _BrokenConnection as error:
                failures += 1
                if failures >= _ATTEMPTS:
                    raise Unavailable(
                        f"The connection to {self.url} broke {failures} times in a row: {error}"
                    ) from error
            else:  # an orderly end without the final event: the server was shut down, or we came after the end
                if (status := self.status(submission)).state in FINAL_STATES:
                    yield StreamEvent(type=status.state, data={"message": status.message})
                    return
                failures += 1
                if failures >= _ATTEMPTS:
                    raise Unavailable(f"{self.url} ended the stream of events {failures} times without an end to tell.")
            time.sleep(min(2.0 ** (failures - 1), _LONGEST_WAIT))

    def _stream(self, submission: str, last_id: str) -> Iterator[ServerSentEvent]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with connect_sse(
                self._http, "GET", _path(submission, "/events"), headers=headers, timeout=_STREAM_TIMEOUT
            ) as source:
                if source.response.is_error:
                    source.response.read()
                    raise _refused(source.response)
                yield from source.iter_sse()
        except (httpx.TransportError, SSEError) as error:
            raise _BrokenConnection(_in_words(error)) from error

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.ConnectError as error:
            raise Unavailable(
                f"No server answers at {self.url} ({_in_words(error)}). Is it running? --server and NOISEMARK_SERVER "
                "name another one."
            ) from error
        except httpx.TransportError as error:
            raise _BrokenConnection(f"The connection to {self.url} broke: {_in_words(error)}") from error
        if not response.is_success:
            raise _refused(response)
        return response


class _BrokenConnection(Unavailable):
    """The server was reached, and then no longer."""


class _Assignment(BaseModel):
    blanks: list[Any]


def _path(submission: str, rest: str = "") -> str:
    return f"/api/v1/submissions/{quote(submission, safe='')}{rest}"


def _refused(response: httpx.Response) -> CommandError:
    """What the server said (RFC 9457), or at least its status."""
    try:
        problem = response.json()
        parts = dict.fromkeys((problem["title"], problem["detail"]))  # the same for what no route knows
        message = ". ".join(parts)
    except (ValueError, KeyError, TypeError):
        phrase = (
            HTTPStatus(response.status_code).phrase if response.status_code in set(HTTPStatus) else "no such status"
        )
        message = f"The server at {response.url.host} answered {response.status_code} ({phrase})."
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        message += " The environment variable NOISEMARK_TOKEN is the place for it."
    ours = response.is_server_error or response.status_code == HTTPStatus.TOO_MANY_REQUESTS or not response.is_error
    return Unavailable(message) if ours else UnusableInput(message)


def _parse(model: type[Model], content: bytes) -> Model:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise _senseless() from error


def _senseless() -> Unavailable:
    return Unavailable("The server's answer makes no sense here. Is it Noisemark, and of this version?")


def parse_report(content: bytes) -> Report:
    """Raises `Unavailable` where the server speaks another version of the format."""
    return _parse(Report, content)


def _event_data(event: ServerSentEvent) -> dict[str, Any]:
    try:
        data = json.loads(event.data)
    except ValueError as error:
        raise Unavailable("The server's events make no sense here. Is it Noisemark, and of this version?") from error
    return data if isinstance(data, dict) else {}


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__
