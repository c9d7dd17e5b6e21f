"""The runs of a grading: the pipeline as submitted, which counts, and perhaps a repaired one, which explains."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from grading.events import Emit, Run
from grading.generation import generate
from grading.grade import Clock
from grading.harvest import Harvest, closure
from grading.outcomes import InfrastructureFault, Outcome
from grading.pipeline import GUIDANCE_ROOTS, TRAINING_ROOTS, build_pipeline
from grading.real_digits import Equipment, load_real_digits
from grading.reference import Reference
from grading.report import BlankReport, Generation, GenerationRun, Training, TrainingRun
from grading.seeds import Seeds
from grading.training import train
from reference.classifiers import ClassifierUnavailable, load_classifier
from reference.datasets import DataUnavailable
from reference.pack import Recipe
from sandbox import gpus
from sandbox.backend import Backend
from sandbox.limits import Limits

# Share of a quick look's digits at which a run that only explains has been trained enough: nobody waits for more. Of a
# pipeline at the pass mark one look in four reads so well, and it takes two in a row; what it reaches is counted on
# images that are drawn later (docs/evaluation.md).
ENOUGH = 0.97


def load_equipment(recipe: Recipe) -> Equipment:
    """Raises `InfrastructureFault` where a data set or a classifier is missing, with the way out."""
    try:
        return Equipment(digits=load_real_digits(recipe), classifier=load_classifier(recipe.name))
    except (DataUnavailable, ClassifierUnavailable) as error:
        raise InfrastructureFault(str(error)) from error


def run_pipelines(
    harvest: Harvest,
    blanks: Sequence[BlankReport],
    reference: Reference,
    recipe: Recipe,
    equipment: Equipment,
    *,
    backend: Backend,
    device: str,
    seeds: Seeds,
    clock: Clock,
    emit: Emit,
) -> tuple[Training, Generation, dict[str, bytes]]:
    """Train and generate with the pipeline as submitted, and where it does not pass, with a repaired one.

    The repaired run takes place where the pack asks for it and blanks that the training needs have not passed; these
    are replaced by stand-ins. Returns both reports, and pictures by name. Raises `SandboxError`.
    """
    policy = reference.pack.file.accuracy
    artifacts: dict[str, bytes] = {}

    # Two sandboxes: what generates must never have been where training images are. They take turns on one GPU.
    with (
        _gpu(device) as gpu,
        backend.start(Limits(gpu=gpu)) as training_guest,
        backend.start(Limits(gpu=gpu)) as generation_guest,
    ):

        def run(name: Run, replaced: frozenset[str]) -> tuple[TrainingRun, GenerationRun | None]:
            pipeline = build_pipeline(harvest, reference, recipe, run=name, replaced=replaced, device=device)
            with clock.stage("train"):
                trained = train(
                    pipeline,
                    training_guest,
                    equipment.digits.training,
                    equipment.classifier,
                    seeds=seeds,
                    emit=emit,
                    enough=ENOUGH if name == "repaired" and not policy.repaired_points else math.inf,
                )
            if trained.status is not Outcome.PASSED:
                return trained.report, None
            with clock.stage("generate"):
                generated, pictures = generate(
                    pipeline,
                    trained,
                    generation_guest,
                    equipment,
                    policy,
                    explore=name == "submitted",  # what else there is to know is about the student's own network
                    seeds=seeds,
                    emit=emit,
                )
            artifacts.update(pictures)
            return trained.report, generated

        training, generation = run("submitted", frozenset())
        repaired_training, repaired_generation = None, None
        to_repair = _to_repair(harvest, blanks)
        passed = generation is not None and generation.passed
        if policy.repaired_run and to_repair and not passed:
            repaired_training, repaired_generation = run("repaired", to_repair)
    return (
        Training(submitted=training, repaired=repaired_training),
        Generation(submitted=generation, repaired=repaired_generation),
        artifacts,
    )


def _gpu(device: str) -> AbstractContextManager[str | None]:
    """A lease of a GPU where one is to be trained on, and of nothing otherwise."""
    return gpus.lease(gpus.devices()) if device == "cuda" else nullcontext()


def _to_repair(harvest: Harvest, blanks: Sequence[BlankReport]) -> frozenset[str]:
    """The blanks that have not passed and that the accuracy depends on."""
    roots = {*TRAINING_ROOTS, *GUIDANCE_ROOTS}
    return frozenset(blank.id for blank in blanks if blank.status is not Outcome.PASSED) & (
        closure(harvest, roots) | roots
    )
