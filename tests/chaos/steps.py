"""The steps of the pipeline at which a process kills itself, each time one is armed. Product code knows nothing of it.

The supervisor arms a step by a file; the first process that comes to it takes the file away and dies.
"""

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine, event

from records.blobs import BlobStore
from records.queue import Queue
from records.regrades import Regrades
from records.submissions import Submissions


@dataclass(frozen=True)
class Step:
    """Where to die: before a method, after it, or when all it wrote is in the database, but not committed."""

    name: str
    owner: type
    method: str
    moment: Literal["before", "after", "commit"]
    holds: Callable[..., bool] = lambda *_, **__: True  # given the arguments, and the result where there is one


def _notes(action: str) -> Callable[..., bool]:
    return lambda _self, _session, _regrade, noted, *_, **__: noted == action


def _tells_something(_queue: Queue, _lease: object, events: object = (), *_: object, **__: object) -> bool:
    return bool(events)


API = (
    Step("intake: bytes stored, no row yet", BlobStore, "put", "after"),
    Step("intake: rows written, not committed", Submissions, "_insert", "commit"),
    Step("intake: committed, not answered", Submissions, "take_in", "after"),
    Step("regrade start: written, not committed", Regrades, "_note", "commit", _notes("regrade started")),
    Step("regrade start: committed, not answered", Regrades, "start", "after"),
    Step("regrade apply: written, not committed", Regrades, "_note", "commit", _notes("regrade applied")),
    Step("regrade apply: committed, not answered", Regrades, "apply", "after"),
)
WORKER = (
    Step("claim: committed, nothing done", Queue, "claim", "after", lambda *found, **_: found[-1] is not None),
    Step("events: before they are stored", Queue, "record", "before", _tells_something),
    Step("events: stored", Queue, "record", "after", _tells_something),
    Step("checks done: training not yet queued", Queue, "train_next", "commit"),
    Step("checks done: training queued", Queue, "train_next", "after"),
    Step("finish: report stored, nothing told", Queue, "finish", "before"),
    Step("finish: written, not committed", Queue, "finish", "commit"),
    Step("finish: committed, nothing else done", Queue, "finish", "after"),
    Step("reap: written, not committed", Queue, "_retry_or_give_up", "commit"),
)


class Steps:
    """A folder with a file for each step that is armed, and one for each time that somebody died there."""

    def __init__(self, folder: Path) -> None:
        self._armed, self._taken = folder / "armed", folder / "taken"
        for place in (self._armed, self._taken):
            place.mkdir(parents=True, exist_ok=True)
        self._at_commit = threading.local()

    def arm(self, name: str) -> None:
        (self._armed / name).touch()

    def armed(self) -> set[str]:
        return {path.name for path in self._armed.iterdir()}

    def times(self, name: str) -> int:
        return len(list(self._taken.glob(f"{name} *")))

    def install(self, steps: tuple[Step, ...]) -> None:
        """Let this process die at these steps."""
        for step in steps:
            setattr(step.owner, step.method, self._wrap(step, getattr(step.owner, step.method)))
        # Called when everything has been written, before the COMMIT
        event.listen(Engine, "commit", lambda _: self._commit())
        event.listen(Engine, "rollback", lambda _: self._at_commit.__dict__.clear())

    def _wrap(self, step: Step, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if step.moment == "before" and step.holds(*arguments, **options):
                self._die_here(step.name)
            if step.moment == "commit" and step.holds(*arguments, **options):
                self._at_commit.name = step.name  # of the next transaction of this thread that commits
            result = method(*arguments, **options)
            if step.moment == "after" and step.holds(*arguments, result, **options):
                self._die_here(step.name)
            return result

        return wrapped

    def _commit(self) -> None:
        if (name := self._at_commit.__dict__.pop("name", None)) is not None:
            self._die_here(name)

    def _die_here(self, name: str) -> None:
        try:
            (self._armed / name).rename(self._taken / f"{name} {time.time_ns()}")
        except FileNotFoundError:  # not armed, or somebody else was faster
            return
        os.kill(os.getpid(), signal.SIGKILL)
