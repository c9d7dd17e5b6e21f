"""Those who use the service while its parts die: students, somebody who watches, an instructor.

They know what the documentation says: a request without an answer is sent again, with the same Idempotency-Key; an
event stream is resumed after the last event. Nothing else helps them.
"""

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
from classroom import bearer
from httpx_sse import SSEError, connect_sse

ASSIGNMENT, COURSE = "final", "chaos"
API = "/api/v1"
REQUEST_SECONDS = 30  # longer than SQLite waits for a writer; a dead server's requests wait for the next one
PAUSE_SECONDS = (0.05, 0.3)  # before a request is sent again
WATCH_SECONDS = 0.2  # between two looks at everything
REASON = "the second version counts"


class OutOfTime(Exception):
    """The deadline passed. The message says what was being waited for."""


@dataclass
class Record:
    """What the people saw, for the checks afterwards."""

    deadline: float
    handed_in: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # key -> login, bytes
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)  # key -> answer to handing in
    reports: dict[str, str] = field(default_factory=dict)  # submission -> SHA-256 of its report when first seen
    heard: dict[str, list[int]] = field(default_factory=dict)  # submission -> ids of the events in its stream
    wrong: list[str] = field(default_factory=list)
    again: int = 0  # requests sent again
    resumed: int = 0  # event streams resumed
    applying: threading.Event = field(default_factory=threading.Event)  # from here on reports may change
    over: threading.Event = field(default_factory=threading.Event)


class Person:
    """Sends requests until they are answered."""

    def __init__(self, url: str, token: str, record: Record) -> None:
        self.http = httpx.Client(
            base_url=url, headers=bearer(token), timeout=REQUEST_SECONDS, trust_env=False, transport=None
        )
        self.record = record

    def insist(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """The answer to a request that may be repeated. A 5xx is none."""
        while True:
            self.check_time(f"{method} {path}")
            try:
                answer = self.http.request(method, API + path, **arguments)
            except httpx.TransportError:
                pass
            else:
                if not answer.is_server_error:
                    return answer
            self.record.again += 1
            self.pause()

    def ask(self, path: str) -> Any:
        return self.insist("GET", path).raise_for_status().json()

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        while not holds():
            self.check_time(what)
            time.sleep(WATCH_SECONDS)

    def check_time(self, what: str) -> None:
        if self.record.over.is_set() or time.monotonic() > self.record.deadline:
            raise OutOfTime(what)

    def pause(self) -> None:
        time.sleep(random.uniform(*PAUSE_SECONDS))


class Student(Person):
    """Hands in, and listens to what becomes of it, in two threads."""

    def __init__(self, url: str, token: str, login: str, record: Record, hand_ins: list[bytes], seconds: float) -> None:
        """`seconds`: over which the hand-ins are spread."""
        super().__init__(url, token, record)
        self.login, self._hand_ins, self._seconds = login, hand_ins, seconds
        self._taken_in: SimpleQueue[str | None] = SimpleQueue()
        self.threads = [threading.Thread(target=guard(record, run)) for run in (self._hand_in, self._listen)]

    def _hand_in(self) -> None:
        try:
            for number, content in enumerate(self._hand_ins):
                key = f"{self.login}, hand-in {number:04}"
                self.record.handed_in[key] = (self.login, content)
                answer = self.send(key)
                if answer.status_code != 202:
                    self.record.wrong.append(f"{key}: {answer.status_code} {answer.text}")
                    continue
                self.record.receipts[key] = answer.json()
                self._taken_in.put(answer.json()["id"])
                self.record.over.wait(random.uniform(0, 2) * self._seconds / len(self._hand_ins))
        finally:
            self._taken_in.put(None)

    def send(self, key: str) -> httpx.Response:
        files = {"files": ("answers.py", self.record.handed_in[key][1])}
        return self.insist(
            "POST", f"/assignments/{ASSIGNMENT}/submissions", files=files, headers={"Idempotency-Key": key}
        )

    def _listen(self) -> None:
        while (submission := self._taken_in.get()) is not None:
            ids = self.record.heard.setdefault(submission, [])
            while not self._heard_the_end(submission, ids):
                self.check_time(f"the events of {submission}")
                self.record.resumed += 1
                self.pause()

    def _heard_the_end(self, submission: str, ids: list[int]) -> bool:
        headers = {"Last-Event-ID": str(ids[-1])} if ids else {}
        try:
            with connect_sse(self.http, "GET", f"{API}/submissions/{submission}/events", headers=headers) as source:
                for event in source.iter_sse():
                    ids.append(int(event.id))
                    if event.event in ("done", "rejected", "faulted"):
                        return True
        except (httpx.HTTPError, SSEError):
            pass
        return False


class Watcher(Person):
    """Reads every report as soon as it is there, and again and again: it must not change."""

    def __init__(self, url: str, token: str, record: Record) -> None:
        super().__init__(url, token, record)
        self.looks = 0
        self.thread = threading.Thread(target=guard(record, self._watch))

    def _watch(self) -> None:
        while not self.record.applying.is_set():
            for receipt in list(self.record.receipts.values()):
                self._look(receipt["id"])
            self.record.applying.wait(WATCH_SECONDS)

    def _look(self, submission: str) -> None:
        report = self.insist("GET", f"/submissions/{submission}/report")
        if report.status_code != 200 or self.record.applying.is_set():
            return
        self.looks += 1
        seen = hashlib.sha256(report.content).hexdigest()
        if self.record.reports.setdefault(submission, seen) != seen:
            self.record.wrong.append(f"the report of {submission} changed while it was watched")


class Instructor(Person):
    """Regrades everything, and applies that."""

    def states(self, regrade: int) -> dict[str, int]:
        found: dict[str, int] = self.ask(f"/regrades/{regrade}")["gradings"]
        return found

    def start(self, version: str) -> int:
        """Without an answer: look whether it was begun, before it is begun again."""
        path = f"/assignments/{ASSIGNMENT}/regrades"
        body = {"mode": "full", "reason": REASON, "version": version, "anew": True}
        while True:
            for regrade in self.ask(path):
                return int(regrade["id"])
            self.check_time("the begin of the regrade")
            try:
                answer = self.http.post(API + path, json=body)
            except httpx.TransportError:
                continue
            if not answer.is_server_error:
                return int(answer.raise_for_status().json()["id"])

    def apply(self, regrade: int) -> None:
        """A second time is refused, so it can be insisted on."""
        self.record.applying.set()
        answer = self.insist("POST", f"/regrades/{regrade}/apply")
        if answer.status_code not in (200, 409):
            self.record.wrong.append(f"apply: {answer.status_code} {answer.text}")
        state = self.ask(f"/regrades/{regrade}")["state"]
        if state != "applied":
            self.record.wrong.append(f"the regrade is {state} after it was applied")


def guard(record: Record, run: Callable[[], None]) -> Callable[[], None]:
    """What a thread runs: whatever goes wrong in it is a finding."""

    def guarded() -> None:
        try:
            run()
        except OutOfTime as error:
            if not record.over.is_set():
                record.wrong.append(f"out of time: {error}")
        except Exception as error:
            record.wrong.append(f"{type(error).__name__}: {error}")

    return guarded


def quick_hand_in(login: str, number: int, scores: dict[str, float]) -> bytes:
    """An order for the quick judge. No two are the same."""
    return json.dumps({"do": "finish", "scores": scores, "by": login, "number": number}).encode()


def real_hand_in(solution: Path, login: str, number: int) -> bytes:
    return solution.read_bytes() + f"\n# {login} {number}\n".encode()
