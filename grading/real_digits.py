"""Real digits that generated ones are compared with."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reference.classifiers import Classifier
from reference.datasets import N_CLASSES, Digits, load
from reference.pack import Recipe

# Of each digit. They bound the time on MNIST, whose splits hold thousands; the digits of scikit-learn have fewer.
DIVERSITY_PER_DIGIT = 100  # a mean distance of 4,950 pairs
READING_PER_DIGIT = 1000  # the nearest neighbours among these read as docs/evaluation.md says
HELD_OUT_PER_DIGIT = 30


@dataclass(frozen=True, kw_only=True)
class RealDigits:
    """Real digits from each split."""

    training: Digits  # the generator's split: what a network may copy
    reading: Digits  # from the classifier's split: what the nearest neighbours read by
    held_out: Digits  # from the test split, which neither has seen: how real digits compare with the other two

    def of_digit(self, digit: int) -> Tensor:
        """Some images of the training split that show this digit, [N, 1, H, W] in [-1, 1]."""
        images, _ = self.training.batch(torch.nonzero(self.training.labels == digit)[:DIVERSITY_PER_DIGIT, 0])
        return images


@dataclass(frozen=True, kw_only=True)
class Equipment:
    """What the judge needs beside the pack."""

    digits: RealDigits
    classifier: Classifier


def load_real_digits(recipe: Recipe) -> RealDigits:
    """The digits of a recipe's data set, evenly over the ten digits. Raises `DataUnavailable`."""
    return RealDigits(
        training=load(recipe.dataset, "generator", recipe.image_size),
        reading=_first(load(recipe.dataset, "classifier", recipe.image_size), READING_PER_DIGIT),
        held_out=_first(load(recipe.dataset, "test", recipe.image_size), HELD_OUT_PER_DIGIT),
    )


def _first(digits: Digits, count: int) -> Digits:
    """The first `count` of each digit."""
    kept = torch.cat([torch.nonzero(digits.labels == digit)[:count, 0] for digit in range(N_CLASSES)])
    return replace(digits, images=digits.images[kept], labels=digits.labels[kept])
