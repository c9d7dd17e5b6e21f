"""A deadline: hundreds of students hand in within seconds (scripts/load).

Requests come when they come, whether or not the earlier ones have been answered, and every second of waiting counts.
The API is a process of its own on 127.0.0.1. First everything is taken in; then few may wait, and whoever is told to
come back does, while workers with the quick judge drain the queue. Exit code 1 where anything else happens than 202 and
429.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from classroom import ASSIGNMENT, COURSE, Classroom, bearer
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from services import (
    PATIENCE,
    Store,
    open_store,
    running_api_process,
    running_postgres,
    running_redis,
    running_worker,
)
from sqlalchemy import func, select

from records.models import Grading, State, Submission
from records.settings import Settings
from reference.pack import load_pack

STUDENTS = 100
BACK_SECONDS = 600  # until everybody who was sent away has been taken in
JITTER_SECONDS = 1.0  # after Retry-After: not all clocks strike at once
PATH = f"/api/v1/assignments/{ASSIGNMENT}/submissions"


@dataclass
class Answers:
    """What came of one round."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # from the planned arrival to the receipt, of the first tries
    first: Counter[str] = field(default_factory=Counter)  # statuses of the first tries
    retry_after: set[str] = field(default_factory=set)


async def come(url: str, tokens: list[str], contents: list[bytes], *, per_second: float, come_back: bool) -> Answers:
    """Everybody hands in, `per_second` of them each second."""
    answers = Answers()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=PATIENCE, trust_env=False) as client:
        begun = time.monotonic()

        async def hand_in(number: int) -> None:
            arrival = begun + number / per_second
            await asyncio.sleep(arrival - time.monotonic())
            headers = bearer(tokens[number % len(tokens)]) | {"Idempotency-Key": f"hand-in number {number:06}"}
            first = True
            while True:
                try:
                    answer = await client.post(PATH, files={"files": ("answers.py", contents[number])}, headers=headers)
                    status = str(answer.status_code)
                except httpx.TransportError as error:
                    status = type(error).__name__
                answers.statuses[status] += 1
                if first:
                    answers.seconds.append(time.monotonic() - arrival)
                    answers.first[status] += 1
                if status != "429" or not come_back:
                    return
                first = False
                answers.retry_after.add(answer.headers["Retry-After"])
                await asyncio.sleep(int(answer.headers["Retry-After"]) + JITTER_SECONDS * number / len(contents))

        await asyncio.wait_for(asyncio.gather(*map(hand_in, range(len(contents)))), BACK_SECONDS)
    return answers


def tokens_of(store: Store) -> list[str]:
    room = Classroom(store)
    return [room.token(room.user(f"student{number:03}", COURSE)) for number in range(STUDENTS)]


def stored(store: Store, state: State | None = None) -> int:
    with store.database.read() as session:
        found = select(func.count(Submission.id)).join(Submission.grading)
        return session.scalars(found if state is None else found.where(Grading.state == state)).one()


def drain(store: Store, submissions: int) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while stored(store, State.DONE) < submissions and time.monotonic() < deadline:
        time.sleep(1)
    if (done := stored(store, State.DONE)) < submissions:
        with store.database.read() as session:
            left = session.scalars(select(Grading).where(Grading.state != State.DONE)).all()
        lines = (f"{one.state} for {one.need}, attempts {one.attempts}, {one.fault or 'no fault'}" for one in left)
        raise SystemExit("\n".join((f"After {BACK_SECONDS} s {done} of {submissions} are graded.", *lines)))


def measure(database: str, submissions: int, per_second: float, waiting: int, table: Table) -> bool:
    """Both rounds on one kind of database. Returns whether everything was as it has to be."""
    solution = load_pack("ddpm").solution.read_text(encoding="utf-8")
    plain = [f"{solution}\n# {number}\n".encode() for number in range(submissions)]
    # What the quick judge understands, as long as a solution
    orders = [
        json.dumps({"do": "finish", "solution": solution, "by": number}).encode() for number in range(submissions)
    ]
    well = True
    for contents, most in ((plain, submissions), (orders, waiting)):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="noisemark-")))
            redis_url, _ = stack.enter_context(running_redis())
            chosen: dict[str, object] = {}
            if database == "postgresql":
                chosen["database_url"] = SecretStr(stack.enter_context(running_postgres()))
            settings = Settings(
                data_dir=folder / "var",
                redis_url=SecretStr(redis_url),
                secret_key=SecretStr("the same for API and worker"),
                max_waiting=most,
                **chosen,
            )
            store = stack.enter_context(open_store(settings))
            tokens = tokens_of(store)
            url, process = stack.enter_context(running_api_process(settings, folder / "api.log"))
            limited = most < submissions
            if limited:
                for _ in range(2):
                    stack.enter_context(running_worker(settings, folder / "worker.log"))
            before = process.cpu_times()
            answers = asyncio.run(come(url, tokens, contents, per_second=per_second, come_back=limited))
            after = process.cpu_times()
            spent = after.user + after.system - before.user - before.system
            well &= set(answers.statuses) <= {"202", "429"} and answers.statuses["202"] == submissions == stored(store)
            if limited:
                well &= "429" in answers.statuses
                drain(store, stored(store))  # what was not taken in shows in the table
            p50, p95 = (statistics.quantiles(answers.seconds, n=100)[percent - 1] * 1000 for percent in (50, 95))
            table.add_row(
                database,
                str(most),
                f"{1000 * spent / answers.statuses.total():.0f}",
                *(f"{value:.0f}" for value in (p50, p95, max(answers.seconds) * 1000)),
                ", ".join(f"{number} x {status}" for status, number in sorted(answers.first.items())),
                ", ".join(f"{number} x {status}" for status, number in sorted(answers.statuses.items())),
                ", ".join(answers.retry_after),
            )
    return well


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/load", description=__doc__)
    parser.add_argument("--submissions", type=int, default=500, help="(%(default)s)")
    parser.add_argument("--per-second", type=float, default=50, help="(%(default)s)")
    parser.add_argument("--waiting", type=int, default=200, help="that may wait in the second round (%(default)s)")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], help="(both)")
    options = parser.parse_args()
    columns = (
        "database",
        "may wait",
        "CPU each, ms",
        "p50, ms",
        "p95, ms",
        "max, ms",
        "first answers",
        "all answers",
        "Retry-After, s",
    )
    submissions, per_second = options.submissions, options.per_second
    table = Table(*columns, title=f"{submissions} hand-ins, {per_second:g} a second, {STUDENTS} students")
    databases = [options.database] if options.database else ["sqlite", "postgresql"]
    well = [measure(database, submissions, per_second, options.waiting, table) for database in databases]
    console = Console(width=150)
    console.print(table)
    console.print("Everything was taken in." if all(well) else "NOT AS PROMISED.")
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
