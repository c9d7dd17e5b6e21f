"""The Celery application of a worker.

Messages only wake the grader, and are acknowledged at once: no visibility time-out of the broker can run a grading
twice, and a grading that lasts minutes occupies no slot of Celery's. So one thread is all the pool that is needed.
A pool of processes (Celery's default) would be wrong: the grader's thread lives in this process, and the children of
such a pool are daemons, which may have no children of their own, while each judge is one.
"""

import os
from typing import Any

from celery import Celery, signals

from records.broker import WAKE_TASK, make_celery
from records.settings import Settings
from worker.grader import Grader

# How long a stop may take: killing the judge and one commit. Below the 10 s that container engines wait by default.
STOP_SECONDS = 8
ARGUMENTS = (
    "--quiet",
    "worker",
    "--pool=threads",
    "--concurrency=1",
    f"--hostname=worker-{os.getpid()}@%h",  # Celery's name for it; two of the same name on a host would clash
    "--loglevel=WARNING",
    # What workers tell each other: they have nothing to say, the database knows everything.
    "--without-gossip",
    "--without-mingle",
    "--without-heartbeat",
)


def make_app(settings: Settings, grader: Grader) -> Celery:
    """A Celery application that runs `grader` as long as its worker lives, Redis or no Redis."""
    app = make_celery(settings.redis_url.get_secret_value())

    @app.task(name=WAKE_TASK)  # type: ignore[untyped-decorator]  # Celery has no types
    def wake() -> None:
        grader.wake()

    def start(**_: Any) -> None:
        grader.start()

    def stop(**_: Any) -> None:
        grader.stop()

    def wait(**_: Any) -> None:
        grader.join(STOP_SECONDS)

    # `weak=False`: nothing else refers to these functions.
    signals.worker_init.connect(start, weak=False)
    signals.worker_shutting_down.connect(stop, weak=False)
    signals.worker_shutdown.connect(wait, weak=False)
    return app
