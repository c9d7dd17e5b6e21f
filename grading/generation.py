"""Generation with a trained pipeline: how many of its digits are read as the digit asked for.

A fresh session that never sees data holds the trained weights and predicts noise. The judge drives the reverse loop and
reads the images with its own classifier, until it is clear on which side of the pass mark the pipeline is. What else
there is to know about the network is measured after that, and changes nothing of it.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from grading.diversity import COLLAPSED, DiversityMeter
from grading.events import Emit, GenerationProgress
from grading.exploration import Exploration
from grading.grid import draw_columns, draw_grid
from grading.intervals import is_decided, sequential, wilson
from grading.outcomes import OUTCOMES, Outcome
from grading.own_loop import run_own_loop
from grading.pipeline import Network, Pipeline, PipelineFault, describe
from grading.real_digits import Equipment
from grading.report import Brightness, ClassReport, GenerationRun, Misread, OwnLoopReport, SecondOpinion
from grading.sampling import ddim, start_noise
from grading.second_opinion import second_opinion
from grading.seeds import Seeds
from grading.training import Trained
from reference.datasets import N_CLASSES
from reference.pack import Accuracy
from sandbox.faults import GuestFault
from sandbox.guest_client import Guest
from sandbox.limits import Deadline
from sandbox.session import Session

BATCH = 100  # images at once: ten of each digit, and a whole number of batches at each look
OWN_LOOP_IMAGES = 50
GRID_ROWS = 10
MAX_MISREAD = 10  # images of the gallery: one row
FILM_IMAGES = 4  # rows of the filmstrip
FILM_STEPS = 8  # and its columns, before the finished images
BEYOND = 1.1  # what the last step leaves of noise keeps within a few percent of [-1, 1]
# All of it takes about 30 s on two cores for a pipeline that needs all 1,000 images; more is a guest that hangs.
WALL_SECONDS = 1800
GUIDANCE_DEADLINE = Deadline(cpu_seconds=10, wall_seconds=60)  # evaluating one number


def generate(
    pipeline: Pipeline,
    trained: Trained,
    guest: Guest,
    equipment: Equipment,
    policy: Accuracy,
    *,
    explore: bool,
    seeds: Seeds,
    emit: Emit,
) -> tuple[GenerationRun, dict[str, bytes]]:
    """Generate digits and count those that are read as what they are meant to be.

    Args:
        pipeline, trained: what was trained, and what came of it.
        guest: where the student's code runs.
        equipment: the judge's classifier, and real digits to compare with.
        policy: share of right digits that passes, and the floors of each digit.
        explore: whether to measure too what the guidance weight, the context and the batch size do, and what the
            student's own loop makes of the network.
        seeds: of the submission.
        emit: told about the count after each batch.

    Returns the report and its pictures, PNG by name. Whatever the student's code does becomes an outcome. Raises
    `SandboxError`.
    """
    guidance_weight, notice = _guidance_weight(pipeline, guest)
    run = GenerationRun(
        status=Outcome.PASSED, message=notice, guidance_weight=guidance_weight, pass_mark=policy.pass_mark
    )
    artifacts: dict[str, bytes] = {}
    deadline = Deadline(cpu_seconds=WALL_SECONDS, wall_seconds=WALL_SECONDS)
    purpose = f"generate/{pipeline.run}"
    try:
        with guest.session(deadline, seed=seeds.seed(f"{purpose}/guest")) as session:
            judge = _Generation(pipeline, trained, equipment, policy, session, seeds.seed(f"{purpose}/noise"))
            judge.load()
            run = judge.count(run, artifacts, emit)
            if explore:
                run = run.model_copy(update=judge.explore(guidance_weight))
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


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """Generated images with what the classifier makes of them."""

    images: Tensor  # [N, 1, size, size]
    asked: Tensor  # int64 [N]
    read: Tensor  # int64 [N]
    confidence: Tensor  # in what was read, [N]


class _Generation:
    def __init__(
        self,
        pipeline: Pipeline,
        trained: Trained,
        equipment: Equipment,
        policy: Accuracy,
        session: Session,
        noise_seed: int,
    ) -> None:
        self._pipeline = pipeline
        self._trained = trained
        self._equipment = equipment
        self._classifier = equipment.classifier
        self._policy = policy
        self._session = session
        self._noise_seed = noise_seed
        self._diversity = DiversityMeter(equipment.digits, equipment.classifier)
        self._network: Network
        self._drawn: _Drawn
        self._seconds = 0.0  # of the network alone, while images are counted

    def load(self) -> None:
        """Build the network and give it the trained weights."""
        self._network = Network(self._session, self._pipeline.generation, self._pipeline.recipe, self._pipeline.device)
        self._network.set_weights(self._trained.weights)

    def count(self, run: GenerationRun, artifacts: dict[str, bytes], emit: Emit) -> GenerationRun:
        """Generate batches until the sequential interval excludes the pass mark, or `MAX_IMAGES`."""
        noise = torch.Generator().manual_seed(self._noise_seed)
        digits = torch.arange(BATCH) % N_CLASSES
        images: list[Tensor] = []
        probabilities: list[Tensor] = []
        correct = 0
        while True:
            images.append(self._draw(start_noise(self._pipeline.recipe, BATCH, noise), digits, run.guidance_weight))
            probabilities.append(self._classifier.probabilities(images[-1]))
            correct += int((probabilities[-1].argmax(dim=1) == digits).sum())
            total = BATCH * len(images)
            interval = sequential(correct, total)
            emit(
                GenerationProgress(
                    run=self._pipeline.run, images=total, correct=correct, low=interval.low, high=interval.high
                )
            )
            if is_decided(correct, total, run.pass_mark):
                break
        confidence, read = torch.cat(probabilities).max(dim=1)
        self._drawn = _Drawn(
            images=torch.cat(images), asked=digits.repeat(len(images)), read=read, confidence=confidence
        )
        name = f"{self._pipeline.run}-digits.png"
        artifacts[name] = draw_grid(images[0], digits, GRID_ROWS)
        return run.model_copy(
            update={
                "images": total,
                "correct": correct,
                "accuracy": wilson(correct, total),
                "sequential": interval,
                "passed": correct / total >= run.pass_mark,
                "artifact": name,
                "classes": [self._class_report(digit) for digit in range(N_CLASSES)],
                "second_opinion": self._second_opinion(),
                "brightness": self._brightness(run.guidance_weight),
                **self._misread(artifacts),
            }
        )

    def _class_report(self, digit: int) -> ClassReport:
        chosen = self._drawn.asked == digit
        correct, images = int((self._drawn.read[chosen] == digit).sum()), int(chosen.sum())
        diversity = self._diversity.of_digit(self._drawn.images[chosen], digit)
        share = correct / images
        below: Literal["red_flag", "below_floor"] = "red_flag" if share < self._policy.class_red_flag else "below_floor"
        return ClassReport(
            label=digit,
            images=images,
            correct=correct,
            accuracy=wilson(correct, images),
            level="good" if share >= self._policy.class_floor else below,
            diversity=diversity,
            collapsed=diversity.feature_distance < COLLAPSED,
        )

    def _second_opinion(self) -> SecondOpinion | None:
        drawn = self._drawn
        right = drawn.read == drawn.asked
        return second_opinion(drawn.images[right], drawn.read[right], self._equipment.digits)

    def _brightness(self, guidance_weight: float) -> Brightness:
        real, _ = self._equipment.digits.held_out.all()
        noise = start_noise(self._pipeline.recipe, BATCH, torch.Generator().manual_seed(self._noise_seed))
        classes = self._trained.classes[self._drawn.asked[:BATCH]]
        recipe = self._pipeline.recipe
        images = ddim(self._network.predict, recipe, noise, classes, guidance_weight, clip=False)
        return Brightness(
            mean=float(images.mean()),
            mean_real=float(real.mean()),
            beyond=float((images.abs() > BEYOND).float().mean()),
        )

    def _misread(self, artifacts: dict[str, bytes]) -> dict[str, object]:
        """The misread images that the classifier is surest of, and their picture."""
        drawn = self._drawn
        wrong = torch.nonzero(drawn.read != drawn.asked)[:, 0]
        worst = wrong[drawn.confidence[wrong].argsort(descending=True, stable=True)][:MAX_MISREAD]
        if len(worst) == 0:
            return {}
        misread = [
            Misread(
                asked=int(drawn.asked[index]),
                read_as=int(drawn.read[index]),
                confidence=float(drawn.confidence[index]),
            )
            for index in worst
        ]
        name = f"{self._pipeline.run}-misread.png"
        artifacts[name] = draw_columns(
            [drawn.images[index][None] for index in worst], [f"{entry.asked} as {entry.read_as}" for entry in misread]
        )
        return {"misread": misread, "misread_artifact": name}

    def explore(self, guidance_weight: float) -> dict[str, object]:
        """What the guidance weight, the context and the batch size do."""
        drawn = self._drawn
        exploration = Exploration(
            self._network,
            self._pipeline.recipe,
            self._trained.classes,
            self._classifier,
            self._diversity,
            start_noise(self._pipeline.recipe, BATCH, torch.Generator().manual_seed(self._noise_seed)),
        )
        sweep = exploration.sweep({guidance_weight: drawn.images[:BATCH]})
        return {
            "sweep": sweep,
            "guidance": exploration.guidance(sweep),
            "conditioning": exploration.conditioning(guidance_weight),
            "production": exploration.production(len(drawn.images) / self._seconds),
        }

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
            status=loop.status,
            message=loop.message,
            images=OWN_LOOP_IMAGES,
            correct=correct,
            artifact=name,
            **self._filmstrip(loop.images, loop.way, artifacts),
        )

    def _filmstrip(self, images: Tensor, way: Mapping[int, Tensor], artifacts: dict[str, bytes]) -> dict[str, Any]:
        """A few images on their way from noise, at evenly spread times."""
        if not way:
            return {}
        last = len(way) - 1
        times = [list(way)[last * step // FILM_STEPS] for step in range(FILM_STEPS)]
        name = f"{self._pipeline.run}-filmstrip.png"
        columns = [*(way[t][:FILM_IMAGES] for t in times), images[:FILM_IMAGES]]
        artifacts[name] = draw_columns(columns, [*(str(t) for t in times), "end"])
        return {"filmstrip": name, "filmstrip_times": times}

    def _draw(self, noise: Tensor, digits: Tensor, guidance_weight: float) -> Tensor:
        classes = self._trained.classes[digits]
        return ddim(self._timed_predict, self._pipeline.recipe, noise, classes, guidance_weight)

    def _timed_predict(self, x: Tensor, t: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        began = time.monotonic()
        noise = self._network.predict(x, t, context, mask)
        self._seconds += time.monotonic() - began
        return noise
