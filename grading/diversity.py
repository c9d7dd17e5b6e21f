"""How different the generated images of one digit are from each other, beside real ones of that digit."""

import torch
from torch import Tensor

from grading.real_digits import RealDigits
from grading.report import Diversity
from reference.classifiers import Classifier
from reference.datasets import N_CLASSES

# Trained reference networks have a mean of 0.86 or more at any w up to 12, and single digits above 0.5; networks that
# draw one image for each digit have 0.00 (docs/evaluation.md)
COLLAPSED = 0.1


class DiversityMeter:
    """Measures diversity against real digits, whose own is measured once."""

    def __init__(self, real: RealDigits, classifier: Classifier) -> None:
        self._classifier = classifier
        self._real = [self._spread(real.of_digit(digit)) for digit in range(N_CLASSES)]

    def of_digit(self, images: Tensor, digit: int) -> Diversity:
        """Of images [N, 1, H, W] that were asked to show this digit, N at least 2."""
        (variance, distance), (real_variance, real_distance) = self._spread(images), self._real[digit]
        return Diversity(pixel_variance=variance / real_variance, feature_distance=distance / real_distance)

    def mean(self, images: Tensor, digits: Tensor) -> float:
        """The mean feature distance over the ten digits, of images [N, 1, H, W] asked to show `digits` [N]."""
        found = [self.of_digit(images[digits == digit], digit).feature_distance for digit in range(N_CLASSES)]
        return sum(found) / N_CLASSES

    def _spread(self, images: Tensor) -> tuple[float, float]:
        """Mean over pixels of the variance over images, and the mean distance of two images in feature space."""
        variance = images.clamp(-1, 1).var(dim=0).mean()
        return float(variance), float(torch.pdist(self._classifier.features(images)).mean())
