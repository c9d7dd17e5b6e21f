"""Nearest neighbours and variety, on real digits and on what only looks like some."""

import pytest
import torch

from grading.diversity import COLLAPSED, DiversityMeter
from grading.integrity import COPIED, LEAST_AGREEMENT, MOST_DISTANCE
from grading.real_digits import HELD_OUT_PER_DIGIT, RealDigits, load_real_digits
from grading.report import SecondOpinion
from grading.second_opinion import second_opinion
from reference.classifiers import load_classifier
from reference.datasets import N_CLASSES
from reference.pack import load_pack

RECIPE = load_pack("ddpm").recipe("digits16")
CLASSIFIER = load_classifier("digits16")


@pytest.fixture(scope="module")
def real() -> RealDigits:
    return load_real_digits(RECIPE)


def opinion(images: torch.Tensor, real: RealDigits) -> SecondOpinion:
    found = second_opinion(images, CLASSIFIER.read(images), real)
    assert found is not None
    return found


def test_splits_are_disjoint_and_bounded(real: RealDigits) -> None:
    assert max(real.held_out.counts()) <= HELD_OUT_PER_DIGIT
    images = [set(map(bytes, part.images.flatten(1).numpy())) for part in (real.training, real.reading, real.held_out)]
    assert not images[0] & images[1]
    assert not images[0] & images[2]
    assert not images[1] & images[2]


def test_held_out_digits_are_confirmed_and_are_no_copies(real: RealDigits) -> None:
    images, _ = real.held_out.all()
    found = opinion(images, real)
    assert found.agreement > LEAST_AGREEMENT
    assert found.copied == 0
    assert found.distance == pytest.approx(found.distance_real, rel=0.1)


@pytest.mark.parametrize("noise", [0.0, 0.02], ids=["exact", "touched up"])
def test_training_images_are_copies(real: RealDigits, noise: float) -> None:
    images, _ = real.training.batch(torch.arange(100))
    images = images + noise * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    assert opinion(images, real).copied > 0.95


@pytest.mark.threat(14)
def test_a_few_copies_among_others_are_counted(real: RealDigits) -> None:
    copied, _ = real.training.batch(torch.arange(30))
    held_out, _ = real.held_out.batch(torch.arange(70))
    assert opinion(torch.cat((copied, held_out)), real).copied == pytest.approx(0.3, abs=0.02)
    assert COPIED < 0.3


@pytest.mark.threat(15)
def test_images_made_against_the_classifier_are_not_confirmed(real: RealDigits) -> None:
    """Noise, changed by the classifier's own gradient until it reads what it is asked to, as an attack would."""
    wanted = torch.arange(100) % N_CLASSES
    images = torch.randn(100, 1, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    network = CLASSIFIER._network
    for _ in range(60):
        images = images.detach().requires_grad_()
        torch.nn.functional.cross_entropy(network(images), wanted, reduction="sum").backward()
        images = (images - 0.05 * images.grad.sign()).clamp(-1, 1)
    images = images.detach()
    assert float((CLASSIFIER.read(images) == wanted).float().mean()) > 0.95
    found = second_opinion(images, wanted, real)
    assert found is not None
    assert found.agreement < LEAST_AGREEMENT * found.agreement_real
    assert found.distance > MOST_DISTANCE * found.distance_real


def test_of_no_images_there_is_no_opinion(real: RealDigits) -> None:
    assert second_opinion(torch.empty(0, 1, 16, 16), torch.empty(0, dtype=torch.int64), real) is None


def test_real_digits_are_as_various_as_real_digits(real: RealDigits) -> None:
    meter = DiversityMeter(real, CLASSIFIER)
    images, labels = real.held_out.all()
    for digit in range(N_CLASSES):
        found = meter.of_digit(images[labels == digit], digit)
        assert found.pixel_variance == pytest.approx(1, abs=0.35)
        assert found.feature_distance == pytest.approx(1, abs=0.35)
    assert meter.mean(images, labels) == pytest.approx(1, abs=0.1)


def test_one_image_over_and_over_has_collapsed(real: RealDigits) -> None:
    meter = DiversityMeter(real, CLASSIFIER)
    image = real.of_digit(3)[:1]
    same = meter.of_digit(image.repeat(20, 1, 1, 1), 3)
    assert (same.pixel_variance, same.feature_distance) == (0, 0)
    speckled = image + 0.05 * torch.randn(20, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert meter.of_digit(speckled, 3).feature_distance < COLLAPSED
    assert meter.of_digit(real.of_digit(3)[:20], 3).feature_distance > 5 * COLLAPSED
