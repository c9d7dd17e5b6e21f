"""A judge for tests of the worker: it does at once what the hand-in says, and grades nothing."""

import json
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

from grading.events import SampleGrid, StageFinished, StageStarted, TrainingProgress
from worker.channel import send
from worker.judge import Job, die_with_worker

PNG = b"\x89PNG\r\n\x1a\n"


def run(connection: Connection, job: Job) -> None:
    """The hand-in is JSON: {"do": ..., "mark": a file that tells what was done before, "scores": by version}."""
    die_with_worker(connection)
    order = json.loads(job.content)
    if not job.train:  # the checks, after which it is asked again to train
        if order["do"] == "reject":
            send(connection, "rejected", {"message": "`a.py` is empty."})
        else:
            _done(connection, job, [])
        return
    send(connection, "event", StageStarted(stage="train").model_dump(mode="json"))
    grid = SampleGrid(run="submitted", images_seen=100, png=PNG)
    send(connection, "event", grid.model_dump(mode="json", exclude={"png"}), [grid.png])
    progress = TrainingProgress(
        run="submitted", images_seen=100, images_total=200, loss=0.5, images_per_second=10.0, seconds_left=10.0
    )
    send(connection, "event", progress.model_dump(mode="json"))
    match order["do"]:
        case "hang":
            time.sleep(3600)
        case "hang once" if not Path(order["mark"]).exists():
            Path(order["mark"]).touch()
            time.sleep(3600)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die once" if not Path(order["mark"]).exists():
            Path(order["mark"]).touch()
            os._exit(0)
        case "fault":
            send(connection, "fault", {"message": "disk full"})
            return
        case "nonsense":
            connection.send_bytes(b"\xff")
            time.sleep(3600)
        case "environment":
            send(connection, "rejected", {"message": " ".join(sorted(os.environ))})
            return
    send(connection, "event", StageFinished(stage="train", seconds=1.0).model_dump(mode="json"))
    _done(connection, job, ["grid.png"])


def _done(connection: Connection, job: Job, artifacts: list[str]) -> None:
    score = json.loads(job.content).get("scores", {}).get(job.pack.name, 1.0)
    outcome = {"verdict": "passed", "score": score, "max_score": score, "summary": "", "blanks": {}}
    outcome |= {"tier": None, "accuracy": None, "accuracy_points": score, "accuracy_max": score, "flags": []}
    data = {"outcome": outcome, "needs_gpu": False, "artifacts": artifacts}
    # No two gradings say quite the same
    report = json.dumps(outcome | {"version": job.pack.name, "mark": os.urandom(8).hex()}).encode()
    send(connection, "done", data, [report, b"<!doctype html>", *(PNG for _ in artifacts)])


def known(connection: Connection, job: Job) -> None:
    """For canaries: a solution passes and a starter is not attempted, unless the file says that it is wrong."""
    die_with_worker(connection)
    right = "passed" if job.file_name == "solution.py" else "not_attempted"
    status = "failed" if job.content.startswith(b"# wrong") else right
    data = {"outcome": {"blanks": {"alphas": {"status": status}}}, "needs_gpu": False, "artifacts": []}
    send(connection, "done", data, [b"{}", b""])
