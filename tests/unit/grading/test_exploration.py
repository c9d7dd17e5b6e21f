"""Exploration of networks whose answers are known: one draws what it is asked for, and one does not listen."""

from typing import Any

import pytest
import torch

from grading.diversity import DiversityMeter
from grading.exploration import CONDITIONING_IMAGES, SWEEP, Exploration
from grading.intervals import wilson
from grading.real_digits import RealDigits, load_real_digits
from grading.report import SweepPoint
from grading.sampling import alphas_cumprod, start_noise
from reference.classifiers import load_classifier
from reference.pack import load_pack

RECIPE = load_pack("ddpm").recipe("digits16")
CLASSIFIER = load_classifier("digits16")
CLASSES = torch.arange(10).flip(0)  # digit 3 is taught as class 6


class Drawing:
    """Knows one image of each class, and one for where it is not told any."""

    def __init__(self, images: torch.Tensor, otherwise: torch.Tensor, *, listens: bool = True) -> None:
        self.images = images
        self.otherwise = otherwise
        self.listens = listens
        self.calls = 0

    def predict(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        told = (context * mask).sum(dim=1).view(-1, 1, 1, 1) if self.listens else 0
        x_0 = torch.where(torch.as_tensor(told) == 1, self.images[context.argmax(dim=1)], self.otherwise)
        now = alphas_cumprod(RECIPE)[t].view(-1, 1, 1, 1)
        return (x - now.sqrt() * x_0) / (1 - now).sqrt()

    def peak_memory(self) -> int:
        return 1234


@pytest.fixture(scope="module")
def real() -> RealDigits:
    return load_real_digits(RECIPE)


@pytest.fixture
def explore(real: RealDigits) -> Any:
    # One image of each digit that is read as what it is, in the order of the classes
    known = {digit: real.of_digit(digit) for digit in range(10)}
    images = torch.stack([known[digit][CLASSIFIER.read(known[digit]) == digit][0] for digit in CLASSES.tolist()])

    def make(**changes: Any) -> tuple[Exploration, Drawing]:
        network = Drawing(images, otherwise=images[CLASSES[8]], **changes)
        noise = start_noise(RECIPE, 50, torch.Generator().manual_seed(0))
        exploration = Exploration(network, RECIPE, CLASSES, CLASSIFIER, DiversityMeter(real, CLASSIFIER), noise)  # type: ignore[arg-type]
        return exploration, network

    return make


def test_a_network_that_listens_follows_and_draws_freely_without_context(explore: Any) -> None:
    found = explore()[0].conditioning(0.0)
    assert (found.images, found.followed, found.stayed) == (CONDITIONING_IMAGES, 1.0, 0.0)
    assert found.unconditional == [0, 0, 0, 0, 0, 0, 0, 0, 1, 0]


def test_a_network_that_does_not_listen_draws_the_same_whatever_is_asked(explore: Any) -> None:
    found = explore(listens=False)[0].conditioning(0.0)
    assert found.followed == found.stayed == pytest.approx(0.1)
    assert found.unconditional[8] == 1


def test_each_weight_is_tried_and_what_is_there_is_not_drawn_again(explore: Any) -> None:
    exploration, network = explore()
    points = exploration.sweep({})
    assert [point.guidance_weight for point in points] == list(SWEEP)
    assert points[0].accuracy.estimate == 1  # without guidance it draws its images as they are
    assert points[0].diversity == pytest.approx(0, abs=1e-3)  # one of each digit
    every = network.calls
    network.calls = 0
    known = exploration.sweep({SWEEP[3]: torch.zeros(50, 1, 16, 16)})
    assert network.calls == every * (len(SWEEP) - 1) / len(SWEEP)
    assert known[3].accuracy.estimate == pytest.approx(0.1)


def test_the_best_weight_and_where_more_brings_nothing(explore: Any) -> None:
    def points(*correct: int) -> list[SweepPoint]:
        return [
            SweepPoint(guidance_weight=weight, images=100, accuracy=wilson(count, 100))
            for weight, count in zip(SWEEP, correct, strict=True)
        ]

    guidance = explore()[0].guidance(points(50, 70, 94, 97, 98, 98, 90))
    assert (guidance.best_weight, guidance.saturates_at) == (3.0, 1.0)
    guidance = explore()[0].guidance(points(10, 10, 10, 10, 10, 50, 90))
    assert (guidance.best_weight, guidance.saturates_at) == (7.0, 7.0)


def test_speed_is_told_for_each_batch_size(explore: Any) -> None:
    found = explore()[0].production(12.5)
    assert (found.images_per_second, found.memory_bytes) == (12.5, 1234)
    assert [speed.batch for speed in found.batches] == [1, 10, 100]
    assert all(speed.images_per_second > 0 for speed in found.batches)
