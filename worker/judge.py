"""The judge's process: one grading, in a process of its own, without database and without the server's secrets.

It is forked from a server that has imported everything (`worker.preload`), and dies with the worker that started it.
"""

import os
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from grading.events import Event, SampleGrid
from grading.outcomes import BadInput, InfrastructureFault
from sandbox.faults import SandboxError
from worker.channel import send


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a judge is told."""

    file_name: str
    content: bytes
    pack: Path  # folder of the version
    recipe: str
    sandbox: str
    device: str
    train: bool
    key: bytes  # for seeds, and for nothing else
    trace: str = ""  # what logs call the submission
    checks: bytes | None = None  # report of an earlier grading, whose checks are taken over
    training: bytes | None = None  # likewise, its training and generation
    artifacts: Mapping[str, bytes] = field(default_factory=dict)  # the pictures that belong to `training`
    corrections_off: frozenset[str] = frozenset()  # of what editions of the course give wrong, by name


Entry = Callable[[Connection, Job], None]


def run(connection: Connection, job: Job) -> None:
    """Grade, and tell the worker what happens through `connection`."""
    die_with_worker(connection)
    try:
        _grade(connection, job)
    except BadInput as error:
        send(connection, "rejected", {"message": str(error)})
    except (InfrastructureFault, SandboxError) as error:
        send(connection, "fault", {"message": str(error)})
    except Exception:  # whatever else goes wrong here is ours, and is tried again
        send(connection, "fault", {"message": traceback.format_exc()})


def probe(connection: Connection, job: Job) -> None:
    """Find out whether student code can be run here at all, before any student asks."""
    from sandbox.backends import choose_backend

    die_with_worker(connection)
    try:
        backend = choose_backend(job.sandbox)
    except SandboxError as error:
        send(connection, "fault", {"message": str(error)})
    else:
        import torch

        cuda = torch.cuda.is_available()
        send(connection, "ready", {"backend": backend.name, "isolation": backend.isolation, "cuda": cuda})


def die_with_worker(connection: Connection) -> None:
    """End this process, and what it started, when the worker is gone or closes its end."""
    os.setsid()

    def watch() -> None:
        try:
            connection.recv_bytes()  # the worker never says anything: this returns when it hangs up
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _grade(connection: Connection, job: Job) -> None:
    # Here, and not above: the worker imports this module too, and has no need of torch.
    import torch

    from grading.grade import Known, grade
    from grading.hand_in import read_hand_in
    from grading.page import render
    from grading.report import Report, outcome
    from reference.pack import Pack
    from sandbox.backends import choose_backend

    def emit(event: Event) -> None:
        if isinstance(event, SampleGrid):
            send(connection, "event", event.model_dump(mode="json", exclude={"png"}), [event.png])
        else:
            send(connection, "event", event.model_dump(mode="json"))

    def read(report: bytes | None) -> Report | None:
        return None if report is None else Report.model_validate_json(report)

    pack = Pack(job.pack)
    recipe = pack.recipe(job.recipe)
    device = job.device if job.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    grading = grade(
        read_hand_in(job.file_name, job.content),
        pack,
        recipe,
        backend=choose_backend(job.sandbox, job.trace),
        key=job.key,
        train=job.train,
        device=device,
        emit=emit,
        known=Known(checks=read(job.checks), training=read(job.training), artifacts=job.artifacts),
        corrections_off=job.corrections_off,
    )
    report = grading.report
    html = render(report, grading.artifacts, pack.file.title)
    data = {
        "outcome": outcome(report),
        "needs_gpu": recipe.gpu,
        "artifacts": list(grading.artifacts),
    }
    blobs = [report.model_dump_json().encode(), html.encode(), *grading.artifacts.values()]
    send(connection, "done", data, blobs)
