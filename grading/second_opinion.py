"""A second opinion on generated images: their nearest neighbours among real digits.

A reader of another make than the judge's network: no weights and no gradients that somebody could draw against, and
nothing in common with it but the data (k-nearest neighbours, Cover & Hart 1967).
"""

from torch import Tensor, cdist

from grading.real_digits import RealDigits
from grading.report import SecondOpinion
from reference.datasets import N_CLASSES, Digits

NEIGHBOURS = 5
# Generated images that are looked at; with 30,000 images to compare with they take half a second
MAX_IMAGES = 300
# An image is a copy where its nearest training image is closer than this share of the median of held-out digits. None
# of these is, on any recipe: the closest lies at 0.21 of it; copies lie at 0.05 (docs/evaluation.md)
COPY_SHARE = 0.15


def second_opinion(images: Tensor, read: Tensor, real: RealDigits) -> SecondOpinion | None:
    """Compare images [N, 1, H, W] in [-1, 1] that the classifier read as `read` [N] with real digits.

    Only images that were read as asked should be given: what shows no digit has no second reading. None where there
    are none.
    """
    if len(images) == 0:
        return None
    images, read = images[:MAX_IMAGES].clamp(-1, 1), read[:MAX_IMAGES]
    held_out, labels = real.held_out.all()
    found, distance = _neighbours(images, real.reading)
    found_real, distance_real = _neighbours(held_out, real.reading)
    to_training = _nearest(images, real.training)
    to_training_real = _nearest(held_out, real.training)
    limit = COPY_SHARE * to_training_real.median()
    return SecondOpinion(
        images=len(images),
        agreement=_share(found == read),
        agreement_real=_share(found_real == labels),
        distance=float(distance.median()),
        distance_real=float(distance_real.median()),
        training_distance=float(to_training.median()),
        training_distance_real=float(to_training_real.median()),
        copied=_share(to_training < limit),
    )


def _share(hits: Tensor) -> float:
    return float(hits.float().mean())


def _neighbours(images: Tensor, digits: Digits) -> tuple[Tensor, Tensor]:
    """What most of the nearest neighbours show, int64 [N], and the distance of the nearest one, [N]."""
    known, labels = digits.all()
    distances, indices = cdist(images.flatten(1), known.flatten(1)).topk(NEIGHBOURS, largest=False)
    votes = labels[indices].unsqueeze(2).eq(labels.new_tensor(range(N_CLASSES))).sum(dim=1)
    return votes.argmax(dim=1), distances[:, 0]


def _nearest(images: Tensor, digits: Digits) -> Tensor:
    """Euclidean distance of each image to the nearest of `digits`, [N]."""
    known, _ = digits.all()
    return cdist(images.flatten(1), known.flatten(1)).min(dim=1).values
