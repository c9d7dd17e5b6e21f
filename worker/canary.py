"""Canaries: gradings whose verdict is known. Where one comes out wrong, nothing of that version is graded.

The solution of each version in force must pass every blank, and what students start from must count as not attempted.
Where no version comes out right, it is the worker that is broken; where one does, the others' packs are.
"""

import time
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import select

from records.blobs import BlobError
from records.database import Database
from records.models import Assignment
from records.settings import Settings
from records.versions import Versions
from reference.pack import Pack, PackError
from worker.judge import Job
from worker.judges import JudgeDied, Judges

log = structlog.get_logger()

EVERY_SECONDS = 3600.0  # what breaks while a worker runs (disk, driver, memory) shows within the hour
AGAIN_SECONDS = 60.0  # after a wrong verdict: a passing trouble shall not cost an hour
PATIENCE_SECONDS = 120.0  # checks take seconds, on a machine that is busy otherwise half a minute


class Canary:
    """Grades what is known, when it is time to."""

    def __init__(self, settings: Settings, database: Database, versions: Versions, judges: Judges) -> None:
        self._settings = settings
        self._database = database
        self._versions = versions
        self._judges = judges
        self._due: dict[str, float] = {}  # version -> when it is looked at again
        self._faults: dict[str, str] = {}

    def faults(self) -> tuple[dict[str, str], bool]:
        """What is wrong, by version in force, and whether this worker grades any of them as it must."""
        with self._database.read() as session:
            versions = set(session.scalars(select(Assignment.version_id).distinct()))
        for version in versions:
            if self._due.get(version, 0.0) <= time.monotonic():
                self._look(version)
        faults = {version: fault for version, fault in self._faults.items() if version in versions}
        return faults, not faults or len(faults) < len(versions)

    def _look(self, version: str) -> None:
        try:
            fault = self._grade(self._versions.root(version))
        except (JudgeDied, BlobError, PackError, LookupError, OSError) as error:
            fault = str(error)
        if fault is None:
            self._faults.pop(version, None)
            log.info("canary graded rightly", version=version)
        else:
            self._faults[version] = fault
            log.error("canary graded wrongly; nothing of this version is taken", version=version, fault=fault)
        self._due[version] = time.monotonic() + (EVERY_SECONDS if fault is None else AGAIN_SECONDS)

    def _grade(self, root: Path) -> str | None:
        pack = Pack(root)
        for path, expected in ((pack.solution, "passed"), (pack.starter(".py"), "not_attempted")):
            blanks = self._outcome(path, pack)["blanks"]
            wrong = [blank for blank, found in blanks.items() if found["status"] != expected]
            if wrong:
                return f"{path.name} of {pack.id}: {', '.join(wrong)} should be {expected}"
        return None

    def _outcome(self, path: Path, pack: Pack) -> dict[str, Any]:
        """Raises `JudgeDied`."""
        job = Job(
            file_name=path.name,
            content=path.read_bytes(),
            pack=pack.root,
            recipe=pack.file.default_recipe,
            sandbox=self._settings.backend,
            device=self._settings.device,
            train=False,
            key=self._settings.derived_key("seeds"),
            trace="canary",
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._judges.start(job) as judge:
            while (left := deadline - time.monotonic()) > 0:
                message = judge.receive(left)
                if message is None or message.kind == "event":
                    continue
                if message.kind != "done":
                    raise JudgeDied(f"{path.name}: {message.data['message']}")
                outcome: dict[str, Any] = message.data["outcome"]
                return outcome
        raise JudgeDied(f"{path.name} was not graded within {PATIENCE_SECONDS:g} s")
