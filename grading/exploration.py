"""What a trained network makes of other guidance weights, of other contexts and of other batch sizes."""

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from grading.diversity import DiversityMeter
from grading.intervals import wilson
from grading.pipeline import Network
from grading.report import Conditioning, Guidance, Production, Speed, SweepPoint
from grading.sampling import DDIM_STEPS, NO_CONTEXT, ddim
from reference.classifiers import Classifier
from reference.datasets import N_CLASSES
from reference.pack import Recipe

SWEEP = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0)  # guidance weights
CONDITIONING_IMAGES = 50  # of each kind: 10 % and 90 % are told apart by far
SPEED_BATCHES = (1, 10, 100)  # images, from one at a time to as many as the judge draws


class Exploration:
    """Draws from the same noise [N, 1, size, size] each time. Every method raises `PipelineFault`."""

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        classes: Tensor,
        classifier: Classifier,
        diversity: DiversityMeter,
        noise: Tensor,
    ) -> None:
        self._network = network
        self._recipe = recipe
        self._classes = classes  # classes[digit]: what the network was taught to call this digit
        self._classifier = classifier
        self._diversity = diversity
        self._noise = noise
        self._digits = torch.arange(len(noise)) % N_CLASSES

    def sweep(self, known: Mapping[float, Tensor]) -> list[SweepPoint]:
        """Accuracy and diversity at each weight of `SWEEP`. `known`: images from this noise that are there already."""
        points = []
        for weight in SWEEP:
            images = known[weight] if weight in known else self._draw(self._digits, weight)
            correct = int((self._classifier.read(images) == self._digits).sum())
            points.append(
                SweepPoint(
                    guidance_weight=weight,
                    images=len(images),
                    accuracy=wilson(correct, len(images)),
                    diversity=self._diversity.mean(images, self._digits),
                )
            )
        return points

    def guidance(self, sweep: Sequence[SweepPoint]) -> Guidance:
        """Which weight reads best, and from which one on more guidance brings nothing that could be told."""
        best = max(sweep, key=lambda point: point.accuracy.estimate)
        first = next(point for point in sweep if point.accuracy.estimate >= best.accuracy.low)
        return Guidance(best_weight=best.guidance_weight, saturates_at=first.guidance_weight)

    def conditioning(self, guidance_weight: float) -> Conditioning:
        """Ask for another digit than before from the same noise, and for none."""
        digits = self._digits[:CONDITIONING_IMAGES]
        others = (digits + 1) % N_CLASSES
        read = self._classifier.read(self._draw(others, guidance_weight))
        freely = self._classifier.read(self._draw(digits, NO_CONTEXT))
        return Conditioning(
            images=len(digits),
            followed=float((read == others).float().mean()),
            stayed=float((read == digits).float().mean()),
            unconditional=(torch.bincount(freely, minlength=N_CLASSES) / len(digits)).tolist(),
        )

    def production(self, images_per_second: float) -> Production:
        """Speed by batch size, with guidance, and memory."""
        return Production(
            images_per_second=images_per_second,
            batches=[Speed(batch=batch, images_per_second=self._speed(batch)) for batch in SPEED_BATCHES],
            memory_bytes=self._network.peak_memory(),
        )

    def _speed(self, batch: int) -> float:
        """Images per second at the steps of the judge's loop, from the shorter of two calls."""
        x = self._noise[:1].repeat(2 * batch, 1, 1, 1)  # with and without context
        context = torch.zeros(2 * batch, N_CLASSES)
        seconds = []
        for _ in range(2):  # the first one may have to ask for memory
            began = time.monotonic()
            self._network.predict(x, torch.zeros(2 * batch, dtype=torch.int64), context, context)
            seconds.append(time.monotonic() - began)
        return batch / (DDIM_STEPS * min(seconds))

    def _draw(self, digits: Tensor, guidance_weight: float) -> Tensor:
        noise = self._noise[: len(digits)]
        return ddim(self._network.predict, self._recipe, noise, self._classes[digits], guidance_weight)
