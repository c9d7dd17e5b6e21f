"""The client against servers that misbehave, which the real one cannot be made to do."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cli.client import Client
from cli.errors import Unavailable, UnusableInput

Respond = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Answers each request with the next of `script`, and remembers the requests."""

    def __init__(self) -> None:
        self.script: list[Respond] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        self.server.script.pop(0)(self)

    do_GET = do_POST = _answer

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def answer(status: int, body: object, media_type: str = "application/json") -> Respond:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", media_type)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return respond


def problem(status: int, title: str, detail: str) -> Respond:
    return answer(status, {"title": title, "detail": detail, "status": status}, "application/problem+json")


def stream(*events: tuple[int, str, dict[str, object]], torn: bool = False) -> Respond:
    text = "".join(f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" for number, kind, data in events)

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        # A length that is not reached is what a connection that breaks looks like
        handler.send_header("Content-Length", str(len(text) + (100 if torn else 0)))
        handler.end_headers()
        handler.wfile.write(text.encode())

    return respond


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


STATUS = {
    "id": "s1",
    "assignment": "ddpm",
    "recipe": "digits16",
    "file_name": "a.py",
    "receipt": {"code": "c", "sha256": "5", "size": 1, "received_at": "2026-03-02T10:15:30Z"},
    "state": "running",
    "links": {"page": "/submissions/s1"},
}


def test_a_broken_stream_is_taken_up_where_it_broke(server: Server) -> None:
    server.script = [
        stream((1, "queued", {}), (2, "stage_started", {"stage": "inspect"}), torn=True),
        hang_up,
        stream((3, "done", {"score": 100.0})),
    ]
    with Client(server.url) as client:
        types = [event.type for event in client.events("s1")]
    assert types == ["queued", "stage_started", "done"]
    assert [headers.get("Last-Event-ID") for _, _, headers in server.requests] == [None, "2", "2"]


def test_a_stream_that_ends_in_order_without_an_end_is_taken_up(server: Server) -> None:
    server.script = [stream((1, "queued", {})), answer(200, STATUS), stream((2, "done", {}))]
    with Client(server.url) as client:
        assert [event.type for event in client.events("s1")] == ["queued", "done"]


def test_an_end_that_was_missed_is_asked_for(server: Server) -> None:
    server.script = [stream(), answer(200, STATUS | {"state": "rejected", "message": "not Python"})]
    with Client(server.url) as client:
        [event] = client.events("s1")
    assert (event.type, event.data) == ("rejected", {"message": "not Python"})


def test_a_stream_that_keeps_breaking_is_given_up(server: Server) -> None:
    server.script = [hang_up] * 5
    with Client(server.url) as client, pytest.raises(Unavailable, match="5 times in a row"):
        list(client.events("s1"))


def test_a_refused_stream_is_not_tried_again(server: Server) -> None:
    server.script = [problem(404, "There is no such thing", "There is no submission with this id.")]
    with Client(server.url) as client, pytest.raises(UnusableInput, match="no submission with this id"):
        list(client.events("s1"))


def test_handing_in_again_after_a_broken_connection_uses_the_same_key(server: Server) -> None:
    server.script = [hang_up, answer(202, STATUS)]
    with Client(server.url) as client:
        assert client.submit("ddpm", [("a.py", b"x = 1")], None).id == "s1"
    first, second = (headers["Idempotency-Key"] for _, _, headers in server.requests)
    assert first == second


@pytest.mark.parametrize(
    ("respond", "error", "message"),
    [
        (problem(422, "Cannot be worked with", "'a.docx' is neither."), UnusableInput, "'a.docx' is neither."),
        (problem(413, "Too large", "More than 16 MB."), UnusableInput, "Too large. More than 16 MB."),
        (problem(401, "A token is needed", "This server asks for it."), UnusableInput, "NOISEMARK_TOKEN"),
        (problem(429, "Slow down", "In a minute."), Unavailable, "In a minute."),
        (problem(500, "Internal", "Something of ours failed."), Unavailable, "Something of ours failed."),
        (answer(502, b"<html>bad gateway</html>", "text/html"), Unavailable, "answered 502 (Bad Gateway)"),
        (answer(302, b""), Unavailable, "answered 302"),
        (answer(200, b"<html>hello</html>", "text/html"), Unavailable, "makes no sense here"),
        (answer(404, {"detail": ["a", "list"]}), UnusableInput, "answered 404"),
        (hang_up, Unavailable, "broke"),
    ],
)
def test_every_failure_is_told_in_words(server: Server, respond: Respond, error: type[Exception], message: str) -> None:
    server.script = [respond]
    with Client(server.url) as client, pytest.raises(error) as raised:
        client.status("s1")
    assert message in str(raised.value)


def test_the_token_and_the_id_go_where_they_belong(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISEMARK_TOKEN", "a-token-of-some-length")
    server.script = [answer(200, STATUS)]
    with Client(server.url + "/") as client:
        client.status("../admin?x=1")
    [(_, path, headers)] = server.requests
    assert headers["Authorization"] == "Bearer a-token-of-some-length"
    assert path == "/api/v1/submissions/..%2Fadmin%3Fx%3D1"


def test_a_token_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISEMARK_TOKEN", "two\nlines")
    with pytest.raises(UnusableInput, match="NOISEMARK_TOKEN"):
        Client("http://127.0.0.1:1")
