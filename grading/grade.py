"""One grading, from a hand-in to a report: inspect, check, train, generate, score.

This module starts without torch. The guest is started first, and what needs torch is imported while the guest imports
it too: each takes seconds, and a student waits for the longer one instead of for both.
"""

import gc
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from grading.events import Emit, Stage, StageFinished, StageStarted
from grading.hand_in import HandIn
from grading.harvest import harvest
from grading.hyperparameters import read_hyperparameters
from grading.outcomes import InfrastructureFault
from grading.report import Classifier, Interval, Provenance, Report
from grading.scoring import rescored, reused, score_report
from grading.seeds import Seeds
from reference.pack import Pack, Recipe
from sandbox.backend import Backend
from sandbox.faults import SandboxError
from sandbox.limits import Limits

if TYPE_CHECKING:
    from grading.real_digits import Equipment
    from grading.reference import Reference
    from reference.classifiers import Metadata

# The parts whose version can change what a grading says
PARTS = ("noisemark", "torch", "einops", "numpy", "pytest")


@dataclass(frozen=True, kw_only=True)
class Known:
    """What earlier gradings of the same hand-in found out, and what need not be found out again."""

    checks: Report | None = None  # the checks as this one has them; None: check
    training: Report | None = None  # training and generation as this one has them; None: train, where that is asked for
    artifacts: Mapping[str, bytes] = field(default_factory=dict)  # the pictures that `training` refers to


@dataclass(frozen=True, kw_only=True)
class Grading:
    """What comes out of `grade`."""

    report: Report
    artifacts: Mapping[str, bytes]  # name -> PNG; the report refers to them by name


def grade(
    hand_in: HandIn,
    pack: Pack,
    recipe: Recipe,
    *,
    backend: Backend,
    key: bytes,
    train: bool,
    device: str,
    emit: Emit,
    known: Known = Known(),
) -> Grading:
    """Grade a hand-in, computing with one thread from then on.

    Networks this small gain next to nothing from a second thread (docs/benchmarks.md), gradings side by side lose much
    by it, and sums that are split otherwise on a machine with more cores would give other images there.

    Args:
        hand_in: what the student handed in.
        pack, recipe: what it is graded against.
        backend: where student code runs.
        key: the server's secret that seeds are derived from; the same key and hand-in give the same inputs.
        train: whether to train and generate, or to stop after the checks.
        device: where the guest trains, "cpu" or "cuda".
        emit: called with each event, from this thread.
        known: results that are taken over. With checks and training both known no guest is started: what remains are
            points, tiers and words by this pack.

    Raises:
        InfrastructureFault: something of ours failed, or a data set is missing. Nothing a student does leads there.
    """
    try:
        return _grade(hand_in, pack, recipe, backend, key, train, device, emit, known)
    except SandboxError as error:
        raise InfrastructureFault(str(error)) from error


def _grade(
    hand_in: HandIn,
    pack: Pack,
    recipe: Recipe,
    backend: Backend,
    key: bytes,
    train: bool,
    device: str,
    emit: Emit,
    known: Known,
) -> Grading:
    clock = Clock(emit)
    seeds = Seeds(key, hand_in.sha256)
    equipment: Equipment | None = None
    # Started first where it is needed, see above
    with nullcontext() if known.checks is not None else backend.start(Limits()) as guest:
        with clock.stage("inspect"):
            answers = harvest(hand_in, pack)
        if guest is not None or train:
            reference = _load_reference(pack)
        if train:
            from grading.runs import load_equipment

            # Before the student waits for checks, so that a missing data set is known at once
            equipment = load_equipment(recipe)
        if known.checks is not None:
            blanks = rescored(known.checks, pack)
        else:
            from grading.check import run_checks

            assert guest is not None  # by the choice above
            with clock.stage("check"):
                blanks = run_checks(answers, pack, reference, guest, seeds, emit)

    training, generation, classifier = None, None, None
    artifacts = dict(known.artifacts)
    if known.training is not None:
        training, generation = reused(known.training, blanks, pack)
        classifier, device = known.training.provenance.classifier, known.training.provenance.device
    elif equipment is not None:
        from grading.runs import run_pipelines

        classifier = _classifier(equipment.classifier.metadata)
        training, generation, artifacts = run_pipelines(
            answers,
            blanks,
            reference,
            recipe,
            equipment,
            backend=backend,
            device=device,
            seeds=seeds,
            clock=clock,
            emit=emit,
        )

    with clock.stage("score"):
        provenance = Provenance(
            submission_sha256=hand_in.sha256,
            pack=pack.id,
            pack_version=pack.version,
            recipe=recipe.name,
            dataset=recipe.dataset,
            classifier=classifier,
            seed=seeds.fingerprint,
            backend=backend.name,
            isolation=backend.isolation,
            image=backend.image,
            sandboxed=backend.sandboxed,
            device=device,
            versions={"python": platform.python_version()} | {part: version(part) for part in PARTS},
            seconds=dict(clock.seconds),
            reused=[name for name, report in (("check", known.checks), ("train", known.training)) if report],
            graded_at=datetime.now(UTC),
        )
        submitted = generation.submitted if generation else None
        hyperparameters = read_hyperparameters(hand_in, answers.answers, pack, submitted)
        report = score_report(pack, blanks, training, generation, answers.notices, provenance, hyperparameters)
    return Grading(report=report, artifacts=artifacts)


def _load_reference(pack: Pack) -> "Reference":
    """The solution, and with it torch, which comes in only here."""
    with _no_garbage_collection():
        import torch

        import grading.check  # noqa: F401  (the rest of what takes long)
        from grading.reference import Reference

    torch.set_num_threads(1)
    return Reference(pack)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """For imports, which make a million objects that stay.

    Searching them for garbage takes 0.3 s of torch's 2.3 s, and another 0.45 s when the process ends.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class Clock:
    """Tells the listener when a stage begins and ends, and adds up the seconds of each."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        self._emit(StageStarted(stage=stage))
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self._emit(StageFinished(stage=stage, seconds=seconds))


def _classifier(metadata: "Metadata") -> Classifier:
    accuracy = Interval(
        estimate=metadata.accuracy, low=metadata.low, high=metadata.high, confidence=metadata.confidence
    )
    return Classifier(name=metadata.name, sha256=metadata.sha256, accuracy=accuracy)
