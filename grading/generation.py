"""Generation with a trained pipeline: how many of its digits are read as the digit asked for.

A fresh session that never sees data holds the trained weights and predicts noise. The judge drives the reverse loop and
reads the images with its own classifier, until it is clear on which side of the pass mark the pipeline is.
"""

import math

import torch
from torch import Tensor

from grading.events import Emit, GenerationProgress
from grading.grid import draw_grid
from grading.intervals import is_decided, sequential, wilson
from grading.outcomes import OUTCOMES, Outcome
from grading.own_loop import run_own_loop
from grading.pipeline import Network, Pipeline, PipelineFault, describe
from grading.report import ClassReport, GenerationRun, OwnLoopReport, SweepPoint
from grading.sampling import ddim, start_noise
from grading.seeds import Seeds
from grading.training import Trained
from reference.classifiers import Classifier
from reference.datasets import N_CLASSES
from sandbox.faults import GuestFault
from sandbox.guest_client import Guest
from sandbox.limits import Deadline
from sandbox.session import Session

BATCH = 100  # images at once: ten of each digit, and a whole number of batches at each look
SWEEP = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0)  # guidance weights of the sweep
SWEEP_IMAGES = 100  # of each weight: enough for the shape of the curve
OWN_LOOP_IMAGES = 50
GRID_ROWS = 10
# All of it takes about 30 s on two cores for a pipeline that needs all 1,000 images; more is a guest that hangs.
WALL_SECONDS = 1800
GUIDANCE_DEADLINE = Deadline(cpu_seconds=10, wall_seconds=60)  # evaluating one number


def generate(
    pipeline: Pipeline,
    trained: Trained,
    guest: Guest,
    classifier: Classifier,
    *,
    pass_mark: float,
    sweep: bool,
    seeds: Seeds,
    emit: Emit,
) -> tuple[GenerationRun, dict[str, bytes]]:
    """Generate digits and count those that are read as what they are meant to be.

    Args:
        pipeline, trained: what was trained, and what came of it.
        guest: where the student's code runs.
        classifier: the judge's.
        pass_mark: share of right digits that passes.
        sweep: whether to try other guidance weights too.
        seeds: of the submission.
        emit: told about the count after each batch.

    Returns the report and its pictures, PNG by name. Whatever the student's code does becomes an outcome. Raises
    `SandboxError`.
    """
    guidance_weight, notice = _guidance_weight(pipeline, guest)
    run = GenerationRun(status=Outcome.PASSED, message=notice, guidance_weight=guidance_weight, pass_mark=pass_mark)
    artifacts: dict[str, bytes] = {}
    deadline = Deadline(cpu_seconds=WALL_SECONDS, wall_seconds=WALL_SECONDS)
    purpose = f"generate/{pipeline.run}"
    try:
        with guest.session(deadline, seed=seeds.seed(f"{purpose}/guest")) as session:
            judge = _Generation(pipeline, trained, classifier, session, seeds.seed(f"{purpose}/noise"))
            judge.load()
            run = judge.count(run, artifacts, emit)
            if sweep:
                run = run.model_copy(update={"sweep": judge.sweep()})
            own_loop = judge.own_loop(guest, guidance_weight, seeds.seed(f"{purpose}/own_loop"), artifacts)
            run = run.model_copy(update={"own_loop": own_loop})
    except PipelineFault as fault:
        # A count that was completed before stays what it is
        run = run.model_copy(update={"status": fault.outcome, "message": fault.message})
    except GuestFault as fault:  # no session could be opened for it
        run = run.model_copy(update={"status": OUTCOMES[fault.ending], "message": describe(fault)})
    return run, artifacts


def _guidance_weight(pipeline: Pipeline, guest: Guest) -> tuple[float, str]:
    """The student's w, and what there is to say about it."""
    default = pipeline.default_guidance_weight
    if pipeline.guidance is None:
        return default, f"There is no guidance weight w of yours; {default:g} is used."
    try:
        with guest.session(GUIDANCE_DEADLINE, seed=0) as session:
            session.load(pipeline.guidance)
            found = session.get("w")
    except GuestFault as fault:
        return default, f"Your guidance weight w cannot be used: {describe(fault)} {default:g} is used instead."
    if isinstance(found, Tensor) and found.numel() != 1:
        return default, f"Your guidance weight w holds {found.numel()} numbers; {default:g} is used."
    weight = float(found)
    if isinstance(found, bool) or not math.isfinite(weight):
        return default, f"Your guidance weight w is no number; {default:g} is used."
    return weight, ""


class _Generation:
    def __init__(
        self, pipeline: Pipeline, trained: Trained, classifier: Classifier, session: Session, noise_seed: int
    ) -> None:
        self._pipeline = pipeline
        self._trained = trained
        self._classifier = classifier
        self._session = session
        self._noise_seed = noise_seed
        self._network: Network

    def load(self) -> None:
        """Build the network and give it the trained weights."""
        self._network = Network(self._session, self._pipeline.generation, self._pipeline)
        self._network.set_weights(self._trained.weights)

    def count(self, run: GenerationRun, artifacts: dict[str, bytes], emit: Emit) -> GenerationRun:
        """Generate batches until the sequential interval excludes the pass mark, or `MAX_IMAGES`."""
        noise = torch.Generator().manual_seed(self._noise_seed)
        digits = torch.arange(BATCH) % N_CLASSES
        read: list[Tensor] = []
        while True:
            images = self._draw(start_noise(self._pipeline.recipe, BATCH, noise), digits, run.guidance_weight)
            if not read:
                run = run.model_copy(update={"artifact": f"{self._pipeline.run}-digits.png"})
                artifacts[f"{self._pipeline.run}-digits.png"] = draw_grid(images, digits, GRID_ROWS)
            read.append(self._classifier.read(images) == digits)
            right = torch.stack(read)  # [batches, BATCH]
            total, correct = right.numel(), int(right.sum())
            interval = sequential(correct, total)
            emit(
                GenerationProgress(
                    run=self._pipeline.run, images=total, correct=correct, low=interval.low, high=interval.high
                )
            )
            if is_decided(correct, total, run.pass_mark):
                break
        return run.model_copy(
            update={
                "images": total,
                "correct": correct,
                "accuracy": wilson(correct, total),
                "sequential": interval,
                "passed": correct / total >= run.pass_mark,
                "classes": [_class_report(digit, right[:, digits == digit]) for digit in range(N_CLASSES)],
            }
        )

    def sweep(self) -> list[SweepPoint]:
        """The accuracy at other guidance weights, from the same noise each time."""
        points = []
        digits = torch.arange(SWEEP_IMAGES) % N_CLASSES
        for weight in SWEEP:
            noise = start_noise(self._pipeline.recipe, SWEEP_IMAGES, torch.Generator().manual_seed(self._noise_seed))
            correct = int((self._classifier.read(self._draw(noise, digits, weight)) == digits).sum())
            points.append(
                SweepPoint(guidance_weight=weight, images=SWEEP_IMAGES, accuracy=wilson(correct, SWEEP_IMAGES))
            )
        return points

    def own_loop(self, guest: Guest, guidance_weight: float, seed: int, artifacts: dict[str, bytes]) -> OwnLoopReport:
        """Images from the student's own `sample_w`."""
        if self._pipeline.own_loop is None:
            return OwnLoopReport(status=Outcome.SKIPPED, message="There is no sample_w of yours to generate with.")
        digits = torch.arange(OWN_LOOP_IMAGES) % N_CLASSES
        loop = run_own_loop(
            self._pipeline.own_loop,
            guest,
            self._pipeline.recipe,
            self._network.predict,
            self._trained.classes[digits],
            guidance_weight,
            seed,
        )
        if loop.images is None:
            return OwnLoopReport(status=loop.status, message=loop.message)
        name = f"{self._pipeline.run}-own-loop.png"
        artifacts[name] = draw_grid(loop.images, digits, OWN_LOOP_IMAGES // N_CLASSES)
        correct = int((self._classifier.read(loop.images) == digits).sum())
        return OwnLoopReport(
            status=loop.status, message=loop.message, images=OWN_LOOP_IMAGES, correct=correct, artifact=name
        )

    def _draw(self, noise: Tensor, digits: Tensor, guidance_weight: float) -> Tensor:
        classes = self._trained.classes[digits]
        return ddim(self._network.predict, self._pipeline.recipe, noise, classes, guidance_weight)


def _class_report(digit: int, right: Tensor) -> ClassReport:
    correct, images = int(right.sum()), right.numel()
    return ClassReport(label=digit, images=images, correct=correct, accuracy=wilson(correct, images))
