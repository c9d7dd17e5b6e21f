"""Training of a student's pipeline: the judge keeps the data and streams it, the guest computes.

Two sessions. The first has no data: the network is built there, says what it consists of, is measured untrained, and
trains on a batch of noise, so that whatever does not run is found within seconds. The second is fed with images whose
labels are permuted secretly, and has to return exactly the weights that the first one announced.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)
from torch import Tensor

from grading.events import Emit, SampleGrid, TrainingProgress
from grading.grid import draw_grid
from grading.intervals import wilson
from grading.outcomes import OUTCOMES, Outcome
from grading.pipeline import Network, Pipeline, PipelineFault, count_parameters, describe
from grading.report import Denoising, Evaluation, Gradients, LossPoint, TrainingRun
from grading.sampling import LARGEST, alphas_cumprod, ddim, start_noise
from grading.seeds import Seeds
from grading.text import neutralise
from reference.classifiers import Classifier
from reference.datasets import N_CLASSES, Digits
from reference.pack import Recipe
from sandbox.faults import GuestFault
from sandbox.guest_client import Guest
from sandbox.limits import Deadline

MAX_PARAMETERS = 10_000_000  # four times the course's own network at its full width
# Building, 100 images, one batch: about 3 s. A network at the course's full width without a GPU takes a minute.
REHEARSAL = Deadline(cpu_seconds=300, wall_seconds=900)
INITIAL_IMAGES = 100  # enough to tell chance (10 %) from a network that can draw before it has seen anything
EVALUATIONS = 5  # quick looks in the course of training, evenly spread: what they cost stands in docs/evaluation.md
# Half of the steps of the images that count read as well within a point (docs/evaluation.md), in half of the time
EVALUATION_STEPS = 5
EVALUATION_IMAGES = 100  # of each look; their standard error at 95 % is two points
GRID_ROWS = 3  # of them that are shown
DENOISED_IMAGES = 200  # on which the trained network's prediction of noise is measured
ZERO_NAMES = 8  # parameters without a gradient that a report names; more would say no more
NAME_LENGTH = 60  # characters of such a name: students choose them
GUIDANCE_WEIGHT = 2.0  # shows digits early; the student's own w comes into play when the images count
PROGRESS_SECONDS = 1.0  # between two events
# The budget is in images; the deadline is only a guard against a guest that hangs. Ten times what the rehearsal
# promises, and in any case what a machine forty times slower than two ordinary cores would take.
SLOWDOWN = 10
SLOWEST_IMAGES_PER_SECOND = 20
GRACE_SECONDS = 120  # start-up and grids, on top of either


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training came to. `weights` are there only where `status` is passed."""

    status: Outcome
    message: str
    report: TrainingRun
    weights: dict[str, Tensor] = field(default_factory=dict, repr=False)
    manifest: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    # classes[digit]: what the network was taught to call this digit, int64 [10]
    classes: Tensor = field(default_factory=lambda: torch.arange(N_CLASSES), repr=False)


def train(
    pipeline: Pipeline,
    guest: Guest,
    digits: Digits,
    classifier: Classifier,
    *,
    seeds: Seeds,
    emit: Emit,
    enough: float = math.inf,
) -> Trained:
    """Train a pipeline for as many images as its recipe says.

    Args:
        pipeline: what to train.
        guest: where the student's code runs.
        digits: the generator's split.
        classifier: reads what the untrained network draws.
        seeds: of the submission.
        emit: told about progress once a second, and shown a grid now and then.
        enough: share of right digits; training ends once two quick looks in a row read so many.

    Whatever the student's code does becomes an outcome. Raises `SandboxError`.
    """
    return _Training(pipeline, guest, digits, classifier, seeds, emit, enough).run()


class _Training:
    def __init__(
        self,
        pipeline: Pipeline,
        guest: Guest,
        digits: Digits,
        classifier: Classifier,
        seeds: Seeds,
        emit: Emit,
        enough: float,
    ) -> None:
        self._pipeline = pipeline
        self._recipe: Recipe = pipeline.recipe
        self._guest = guest
        self._digits = digits
        self._classifier = classifier
        self._emit = emit
        self._enough = enough
        purpose = f"train/{pipeline.run}"
        self._guest_seed = seeds.seed(f"{purpose}/guest")
        self._order = torch.Generator().manual_seed(seeds.seed(f"{purpose}/order"))
        self._noise = torch.Generator().manual_seed(seeds.seed(f"{purpose}/noise"))
        labels = torch.Generator().manual_seed(seeds.seed(f"{purpose}/labels"))
        self._classes = torch.randperm(N_CLASSES, generator=labels)
        self._manifest: dict[str, tuple[int, ...]] = {}
        self._initial_accuracy: float | None = None
        self._curve: list[LossPoint] = []
        self._images = 0
        self._evaluations: list[Evaluation] = []
        self._gradients: list[Gradients] = []
        self._denoising: Denoising | None = None
        self._training_seconds = 0.0  # in the guest, without the evaluations

    def run(self) -> Trained:
        if self._pipeline.missing:
            names = ", ".join(self._pipeline.missing)
            return self._outcome(Outcome.NOT_ATTEMPTED, f"The pipeline cannot be trained without {names}.")
        try:
            deadline = self._rehearse()
            weights = self._train(deadline)
        except PipelineFault as fault:
            return self._outcome(fault.outcome, fault.message)
        except GuestFault as fault:  # no session could be opened for it
            return self._outcome(OUTCOMES[fault.ending], describe(fault))
        return self._outcome(Outcome.PASSED, "", weights)

    def _outcome(self, status: Outcome, message: str, weights: dict[str, Tensor] | None = None) -> Trained:
        report = TrainingRun(
            status=status,
            message=message,
            repaired_blanks=list(self._pipeline.repaired),
            images=self._images,
            seconds=self._training_seconds,
            images_per_second=self._images / self._training_seconds if self._training_seconds else 0.0,
            budget=self._recipe.images,
            parameters=count_parameters(self._manifest),
            solution_parameters=self._pipeline.solution_parameters,
            loss=self._curve,
            initial_accuracy=self._initial_accuracy,
            evaluations=self._evaluations,
            images_to_90=self._images_to(0.90),
            images_to_95=self._images_to(0.95),
            gradients=self._gradients,
            denoising=self._denoising,
            weight_rms=_root_mean_square(weights) if weights else None,
        )
        return Trained(
            status=status,
            message=message,
            report=report,
            weights=weights or {},
            manifest=self._manifest,
            classes=self._classes,
        )

    def _images_to(self, accuracy: float) -> int | None:
        reached = (look.images_seen for look in self._evaluations if look.accuracy.estimate >= accuracy)
        return next(reached, None)

    def _rehearse(self) -> Deadline:
        """Build, announce, draw untrained, train on noise. Returns the deadline for the real training."""
        batch = self._recipe.batch_size
        with self._guest.session(REHEARSAL, seed=self._guest_seed) as session:
            network = Network(session, self._pipeline.training, self._recipe, self._pipeline.device)
            self._manifest = network.manifest()
            size = count_parameters(self._manifest)
            if size > MAX_PARAMETERS:
                raise PipelineFault(
                    Outcome.FAILED, f"The network consists of {size:,} numbers; {MAX_PARAMETERS:,} are allowed."
                )
            images, digits = self._draw(network, INITIAL_IMAGES, average=False)
            self._initial_accuracy = float((self._classifier.read(images) == digits).float().mean())
            noise = start_noise(self._recipe, batch, self._noise)
            began = time.monotonic()
            loss = network.train(noise, torch.arange(batch) % N_CLASSES)
            rate = batch / (time.monotonic() - began)
        if loss is None:
            raise PipelineFault(Outcome.FAILED, "The loss of the very first batch is not a finite number.")
        seconds = min(SLOWDOWN * self._recipe.images / rate, self._recipe.images / SLOWEST_IMAGES_PER_SECOND)
        wall = GRACE_SECONDS + seconds
        return Deadline(cpu_seconds=wall, wall_seconds=wall)

    def _train(self, deadline: Deadline) -> dict[str, Tensor]:
        batch, total = self._recipe.batch_size, self._recipe.images // self._recipe.batch_size
        indices = self._indices()
        with self._guest.session(deadline, seed=self._guest_seed) as session:
            network = Network(session, self._pipeline.training, self._recipe, self._pipeline.device)
            done, burst = 0, 1
            looks = [total * part // (EVALUATIONS + 1) for part in range(1, EVALUATIONS + 1)]
            while done < total and not self._reads_enough():
                burst = min(burst, min(stop for stop in (*looks, total) if stop > done) - done)
                images, labels = self._digits.batch(torch.cat([next(indices) for _ in range(burst)]))
                began = time.monotonic()
                loss = network.train(images, self._classes[labels])
                seconds = time.monotonic() - began
                if loss is None:
                    raise PipelineFault(
                        Outcome.FAILED,
                        f"The loss stopped being a finite number after {self._images + burst * batch:,} images.",
                    )
                done += burst
                self._note(burst * batch, loss, seconds, (total - done) * batch)
                if len(self._gradients) == 0 or done in looks:
                    self._note_gradients(network)
                if done in looks:
                    self._evaluate(network)
                burst = max(1, min(2 * burst, round(burst * PROGRESS_SECONDS / seconds)))
            weights = network.weights(self._manifest)
            with suppress(PipelineFault):  # of use for advice alone
                self._denoising = self._measure_denoising(network)
            return weights

    def _note(self, images: int, loss: float, seconds: float, left: int) -> None:
        self._images += images
        self._training_seconds += seconds
        self._curve.append(LossPoint(images_seen=self._images, loss=loss))
        rate = self._images / self._training_seconds
        self._emit(
            TrainingProgress(
                run=self._pipeline.run,
                images_seen=self._images,
                images_total=self._images + left,
                loss=loss,
                images_per_second=images / seconds,
                seconds_left=left / rate,
            )
        )

    def _note_gradients(self, network: Network) -> None:
        norms = network.gradient_norms()
        norm = math.hypot(*norms.values())
        if norms and math.isfinite(norm):  # a guest may tell numbers whose sum is none
            zero = [neutralise(name)[:NAME_LENGTH] for name, norm in norms.items() if norm == 0]
            self._gradients.append(
                Gradients(
                    images_seen=self._images,
                    norm=norm,
                    zero=zero[:ZERO_NAMES],
                )
            )

    def _reads_enough(self) -> bool:
        last = self._evaluations[-2:]
        return len(last) == 2 and all(look.accuracy.estimate >= self._enough for look in last)

    def _evaluate(self, network: Network) -> None:
        images, digits = self._draw(network, EVALUATION_IMAGES, average=True)
        correct = int((self._classifier.read(images) == digits).sum())
        self._evaluations.append(
            Evaluation(images_seen=self._images, images=EVALUATION_IMAGES, accuracy=wilson(correct, EVALUATION_IMAGES))
        )
        png = draw_grid(images, digits, GRID_ROWS)
        self._emit(SampleGrid(run=self._pipeline.run, images_seen=self._images, png=png))

    def _measure_denoising(self, network: Network) -> Denoising:
        """The error of the predicted noise, in images that this guest has seen anyway and the judge has noised."""
        count = DENOISED_IMAGES
        images, labels = self._digits.batch(torch.randperm(len(self._digits), generator=self._noise)[:count])
        t = torch.arange(len(images)) * self._recipe.timesteps // len(images)
        noise = start_noise(self._recipe, len(images), self._noise)
        signal = alphas_cumprod(self._recipe)[t].view(-1, 1, 1, 1)
        x_t = signal.sqrt() * images + (1 - signal).sqrt() * noise  # Ho et al. 2020, eq. 4

        def error(shown: Tensor, share: float) -> float:
            context = F.one_hot(self._classes[shown], N_CLASSES).float()
            found = network.predict(x_t, t, context, torch.full_like(context, share), average=True)
            return float((found.clamp(-LARGEST, LARGEST) - noise).square().mean())

        return Denoising(
            right_context=error(labels, 1.0),
            wrong_context=error((labels + 1) % N_CLASSES, 1.0),
            no_context=error(labels, 0.0),
        )

    def _draw(self, network: Network, count: int, *, average: bool) -> tuple[Tensor, Tensor]:
        """Images, equally many of each digit, and the digits that they are meant to show."""
        digits = torch.arange(count) % N_CLASSES

        def predict(x: Tensor, t: Tensor, context: Tensor, mask: Tensor) -> Tensor:
            return network.predict(x, t, context, mask, average=average)

        noise = start_noise(self._recipe, count, self._noise)
        images = ddim(predict, self._recipe, noise, self._classes[digits], GUIDANCE_WEIGHT, EVALUATION_STEPS)
        return images, digits

    def _indices(self) -> Iterator[Tensor]:
        """Indices of one batch after the other; every image comes once before any comes again."""
        left = torch.empty(0, dtype=torch.int64)
        while True:
            while len(left) < self._recipe.batch_size:
                left = torch.cat((left, torch.randperm(len(self._digits), generator=self._order)))
            yield left[: self._recipe.batch_size]
            left = left[self._recipe.batch_size :]


def _root_mean_square(weights: Mapping[str, Tensor]) -> float:
    squares = sum(float(tensor.double().square().sum()) for tensor in weights.values())
    return math.sqrt(squares / sum(tensor.numel() for tensor in weights.values()))
