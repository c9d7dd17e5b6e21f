"""Whether this machine can run student code at all: asked once, when a worker starts."""

from pathlib import Path

import structlog

from records.settings import Settings
from worker.judge import Job, probe
from worker.judges import JudgeDied, Judges

log = structlog.get_logger()

# Importing torch, pytest and the rest takes 5 s; a machine that needs twenty times that is of no use.
PROBE_SECONDS = 100


class SandboxMissing(Exception):  # noqa: N818  (what is the matter)
    """There is no sandbox to run student code in. The message names the way out."""


def check_sandbox(judges: Judges, settings: Settings) -> bool:
    """Choose a backend as a judge would, and say whether guests have a GPU. Also warms the fork server up.

    Raises `SandboxMissing`.
    """
    job = Job(
        file_name="",
        content=b"",
        pack=Path(),
        recipe="",
        sandbox=settings.backend,
        device=settings.device,
        train=settings.train,
        key=b"",
    )
    with judges.start(job, probe) as judge:
        try:
            message = judge.receive(PROBE_SECONDS)
        except JudgeDied as error:
            raise SandboxMissing(f"A judge could not be started: {error}") from error
    if message is None:
        raise SandboxMissing(f"A judge did not start within {PROBE_SECONDS} s.")
    if message.kind != "ready":
        raise SandboxMissing(message.data["message"])
    log.info("ready", **message.data)
    return bool(message.data["cuda"])
