"""Asks every route of a running API for all that its OpenAPI document allows, and for what it does not.

schemathesis makes the requests, as the operator. No answer may be a 5xx; each has a status, a media type and a form
that the document names; every error is told as RFC 9457 says (`fuzz.api_hooks`).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import sample_reports
from classroom import ASSIGNMENT, COURSE, SERVER_TOKEN, Classroom, bearer
from pydantic import SecretStr
from services import PATIENCE, ROOT, TESTS, Store, open_store, running_api_process, running_postgres, running_redis

from grading.report import outcome
from records.manual import Manual
from records.models import Need, Role
from records.queue import NewArtifact, NewEvent, Result
from records.settings import Settings

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 130  # of each operation; with 74 of them, and what coverage adds, 10,000 cases


def fill(store: Store) -> dict[str, list[str | int]]:
    """Something of everything; returns what exists, by placeholder."""
    room, manual = Classroom(store), Manual(store.database)
    students = [room.user(f"student{number}", COURSE) for number in range(20)]
    grader = room.user("greta", COURSE, Role.GRADER)
    finished = [room.hand_in(student, f"x = {student}\n".encode()) for student in students]
    report = sample_reports.four_mistakes()
    while (lease := store.queue.claim("worker", [*Need])) is not None:
        store.queue.record(lease, [NewEvent(type="stage_started", data={"stage": "check"})], stage="check")
        image = NewArtifact(
            name=sample_reports.GRID, media_type="image/png", sha256=store.blobs.put(sample_reports.grid_png())
        )
        stored = [store.blobs.put(content) for content in (report.model_dump_json().encode(), b"<!doctype html>")]
        result = Result(report_sha256=stored[0], html_sha256=stored[1], artifacts=(image,), outcome=outcome(report))
        store.queue.finish(lease, result)
    for submission, student in zip(finished, students, strict=True):
        manual.override(None, submission, "alphas", 1, "shown on paper")
        manual.request(student, submission, None, "Please look.")
    waiting = [room.hand_in(student, f"y = {student}\n".encode()) for student in students]
    tokens = [room.tokens.issue(None, grader, "test", ["read"]).token.id for _ in range(20)]
    return {
        "assignment": [ASSIGNMENT],
        "course": [COURSE],
        "submission": [*finished, *waiting],
        "finished": finished,
        "blank": ["alphas", "q", "accuracy"],
        "name": [sample_reports.GRID],
        "flag": [flag.id for flag in report.flags] or ["odd"],
        "login": ["student0", "greta"],
        "user": [*students[10:], grader],
        "token": tokens,
        "override": list(range(1, 21)),
        "request": list(range(1, 21)),
        "regrade": list(range(1, 11)),
        "suffix": ["py", "ipynb"],
    }


def start_regrades(url: str) -> None:
    with httpx.Client(base_url=url, headers=bearer(SERVER_TOKEN), timeout=PATIENCE, trust_env=False) as client:
        for mode in ("rescore", "recheck", "full") * 4:
            body = {"mode": mode, "reason": "because", "anew": True}
            client.post(f"/api/v1/assignments/{ASSIGNMENT}/regrades", json=body).raise_for_status()


@contextmanager
def prepared(folder: Path, database: str) -> Iterator[tuple[str, dict[str, list[str | int]]]]:
    """The URL of a running API with something of everything in it, and the ids that exist."""
    with ExitStack() as stack:
        redis_url, _ = stack.enter_context(running_redis())
        chosen: dict[str, object] = {}
        if database == "postgresql":
            chosen["database_url"] = SecretStr(stack.enter_context(running_postgres()))
        settings = Settings(
            data_dir=folder / "var",
            redis_url=SecretStr(redis_url),
            api_token=SecretStr(SERVER_TOKEN),
            max_waiting=10**6,  # nothing is graded here, and much is handed in
            **chosen,
        )
        store = stack.enter_context(open_store(settings))
        url, _ = stack.enter_context(running_api_process(settings, folder / "api.log"))
        known = fill(store)
        start_regrades(url)
        yield url, known


def ask(database: str, examples: int, phases: str, *more: str) -> int:
    """Run schemathesis, and return its exit code. `more`: further options of `st run`."""
    with tempfile.TemporaryDirectory(prefix="noisemark-") as folder, prepared(Path(folder), database) as (url, known):
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}:{TESTS}",
            "SCHEMATHESIS_HOOKS": "fuzz.api_hooks",
            "TRY_API_KNOWN": json.dumps(known),
        }
        program = [str(Path(sys.executable).with_name("st")), "--config-file", str(CONFIGURATION), "run"]
        options = ["--header", f"Authorization:Bearer {SERVER_TOKEN}", "--max-examples", str(examples)]
        options += ["--phases", phases, *more, f"{url}/api/v1/openapi.json"]
        return subprocess.run([*program, *options], env=environment, cwd=folder, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/try-api", description=__doc__)
    parser.add_argument("--max-examples", type=int, default=EXAMPLES, help="of each operation (%(default)s)")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="sqlite", help="(%(default)s)")
    parser.add_argument("--phases", default="coverage,fuzzing", help="of schemathesis (%(default)s)")
    options, more = parser.parse_known_args()  # what is left goes to schemathesis
    return ask(options.database, options.max_examples, options.phases, *more)


if __name__ == "__main__":
    sys.exit(main())
