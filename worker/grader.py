"""One grading after the other: claim it, let a judge do it, store what it says."""

import math
import os
import socket
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from records.blobs import BlobError, BlobStore
from records.database import Database
from records.logs import trace_of
from records.models import Mode, Need
from records.queue import PROGRESS_PREFIX, Lease, LostLease, NewArtifact, NewEvent, Queue, Result
from records.settings import Settings
from records.versions import Versions
from records.workers import TELL_SECONDS, Pool, Workers
from reference.pack import PackError
from sandbox.faults import SandboxError
from sandbox.launched import Launched
from worker.canary import Canary
from worker.channel import Message
from worker.judge import Job
from worker.judges import Judge, JudgeDied, Judges

log = structlog.get_logger()

LISTEN_SECONDS = 0.1  # how late a stop is noticed
BATCH_SECONDS = 0.25  # events wait this long for company: one commit for all of them
PNG = "image/png"


@dataclass
class _Batch:
    """What the judge told since the last commit."""

    events: list[NewEvent] = field(default_factory=list)
    artifacts: list[NewArtifact] = field(default_factory=list)
    stage: str | None = None


class Grader:
    """Works off the queue in a thread of its own. Celery's messages only wake it; a lost one costs `poll_seconds`."""

    def __init__(
        self, settings: Settings, database: Database, judges: Judges, needs: Collection[Need], canary: Canary | None
    ) -> None:
        """`needs`: what it takes. `canary`: finds out now and then whether it grades as it should; None: it does."""
        self._settings = settings
        self._queue = Queue(database, settings)
        self._blobs = BlobStore(settings.blob_dir)
        self._versions = Versions(database, self._blobs, settings.version_dir)
        self._workers = Workers(database)
        self._judges = judges
        self._needs = needs
        self._canary = canary
        self._told = -math.inf  # when it last told of itself
        self._draining = False
        self._fit, self._note = True, ""  # as the canaries have it
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="grader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        """Give back what is being graded, and begin nothing more. Returns at once; `join` waits."""
        self._stopping.set()
        self._woken.set()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                self._queue.reap()
                while (lease := self._claim()) is not None:
                    self.grade(lease)
            except Exception:  # the database may come back; a worker that no longer looks is worse than any error
                log.exception("the queue could not be worked off; trying again")
            self._woken.wait(self._settings.poll_seconds)
        with suppress(SQLAlchemyError):
            self._workers.leave(self._name)

    def _claim(self) -> Lease | None:
        """The next grading, if this worker is to take one."""
        faults, self._fit = self._canary.faults() if self._canary else ({}, True)
        self._note = "; ".join(faults.values())
        self._tell()
        if not self._fit or self._draining or self._stopping.is_set():
            return None
        return self._queue.claim(self._name, self._needs, without=faults)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told > TELL_SECONDS:
            self._told = now
            self._draining = self._workers.tell(
                self._name, self._needs, fit=self._fit, note=self._note, pool=self._pool()
            )

    def _pool(self) -> Pool | None:
        if self._settings.launcher is None:
            return None
        try:
            return Pool(**Launched(self._settings.launcher).pool)
        except SandboxError:  # it is gone, which a grading finds out; here it is only counted
            return None

    def grade(self, lease: Lease) -> None:
        """Work on one grading until it is finished, rejected, failed, given back or lost."""
        told = log.bind(trace=trace_of(lease.submission_id), grading=lease.grading_id, attempt=lease.attempt)
        told.info("grading begins")
        try:
            with self._judges.start(self._job(lease)) as judge:
                outcome = self._follow(lease, judge)
            self._end(lease, outcome)
        except LostLease:
            told.warning("the lease was lost; somebody else has the grading")
        except (JudgeDied, BlobError, LookupError, PackError) as error:
            told.error("grading failed", fault=str(error))
            self._fail(lease, str(error))
        else:
            told.info("grading ends", outcome=outcome.kind if outcome else "given back")

    def _job(self, lease: Lease) -> Job:
        checks, training, artifacts = None, None, {}
        if lease.checked_sha256 is not None:
            checks = self._blobs.get(lease.checked_sha256)
        if lease.basis is not None:
            training = self._blobs.get(lease.basis.report_sha256)
            artifacts = {name: self._blobs.get(sha256) for name, sha256 in lease.basis.artifacts.items()}
            if lease.mode is Mode.RESCORE:
                checks = training
        return Job(
            file_name=lease.file_name,
            content=self._blobs.get(lease.sha256),
            pack=self._versions.root(lease.version_id),
            recipe=lease.recipe,
            sandbox=self._settings.backend,
            device=self._settings.device,
            train=lease.need is not Need.CHECK,
            key=self._settings.derived_key("seeds"),
            trace=trace_of(lease.submission_id),
            checks=checks,
            training=training,
            artifacts=artifacts,
            corrections_off=lease.corrections_off,
        )

    def _follow(self, lease: Lease, judge: Judge) -> Message | None:
        """Store events as they come; return the last message, or None where this worker is to stop."""
        begun = committed = time.monotonic()
        batch = _Batch()
        while not self._stopping.is_set():
            self._tell()
            message = judge.receive(LISTEN_SECONDS)
            now = time.monotonic()
            if message is not None and message.kind == "event":
                self._add(batch, message)
            ended = message is not None and message.kind != "event"
            waited = now - committed
            if (batch.events and (ended or waited > BATCH_SECONDS)) or waited > self._settings.lease_seconds / 3:
                self._queue.record(lease, batch.events, stage=batch.stage, artifacts=batch.artifacts)
                batch, committed = _Batch(), now
            if ended:
                return message
            if now - begun > self._settings.judge_seconds:
                raise JudgeDied(f"the judge took more than {self._settings.judge_seconds:g} s")
        return None

    def _add(self, batch: _Batch, message: Message) -> None:
        data = {name: value for name, value in message.data.items() if name != "type"}
        if message.blobs:  # the image becomes an artefact, the event carries its name
            name = f"{PROGRESS_PREFIX}{data['run']}-{data['images_seen']:08}.png"
            batch.artifacts.append(NewArtifact(name=name, media_type=PNG, sha256=self._blobs.put(message.blobs[0])))
            data["image"] = name
        batch.events.append(NewEvent(type=message.data["type"], data=data))
        if message.data["type"] == "stage_started":
            batch.stage = data["stage"]

    def _end(self, lease: Lease, message: Message | None) -> None:
        if message is None:
            self._queue.release(lease)
            return
        data: dict[str, Any] = message.data
        match message.kind:
            case "done" if self._settings.train and lease.mode is Mode.FULL and lease.need is Need.CHECK:
                need = Need.TRAIN_GPU if data["needs_gpu"] else Need.TRAIN_CPU
                self._queue.train_next(lease, self._blobs.put(message.blobs[0]), need)
            case "done":
                report, html, *images = (self._blobs.put(blob) for blob in message.blobs)
                artifacts = tuple(
                    NewArtifact(name=name, media_type=PNG, sha256=sha256)
                    for name, sha256 in zip(data["artifacts"], images, strict=True)
                )
                result = Result(
                    report_sha256=report,
                    html_sha256=html,
                    artifacts=artifacts,
                    outcome=data["outcome"],
                )
                self._queue.finish(lease, result)
            case "rejected":
                self._queue.reject(lease, data["message"])
            case _:
                raise JudgeDied(data["message"])

    def _fail(self, lease: Lease, fault: str) -> None:
        try:
            self._queue.fail(lease, fault)
        except LostLease:
            log.warning("the lease was lost; somebody else has the grading", grading=lease.grading_id)
