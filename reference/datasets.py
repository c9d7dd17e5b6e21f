"""Real handwritten digits, split by fixed rules between the generator, the classifiers and their test.

The three splits are disjoint: a classifier that had seen the training images of a generator would
read copies of them too kindly, and a figure measured on images that it was trained on says nothing.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)

Name = Literal["digits", "mnist"]
Split = Literal["generator", "classifier", "test"]

N_CLASSES = 10  # the digits 0 to 9

# digits: by index modulo 11. The data set counts 0 to 9 over and over for long stretches, so a modulus with a factor in
# common with 10 would give a split too many of one digit. Two residues of 11 (326 images) test the classifier to about
# +-1.3 points; the classifier has more than the generator because it must generalise, the generator need not.
DIGITS_MODULUS = 11
DIGITS_RESIDUES: dict[Split, tuple[int, ...]] = {
    "generator": (0, 2, 4, 6),
    "classifier": (1, 3, 5, 7, 8),
    "test": (9, 10),
}
# mnist: the official test set tests; the official training set is halved by index.
MNIST_RESIDUES: dict[Split, tuple[int, ...]] = {"generator": (0,), "classifier": (1,)}

DIGITS_MAX = 16  # load_digits counts the set pixels of a 4x4 block
ENVIRONMENT_VARIABLE = "NOISEMARK_DATA"
_SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"  # beside the checkout


class DataUnavailable(Exception):  # noqa: N818  (what it says, not what went wrong inside)
    """A data set is not on this machine. The message names every place that was tried, and the way out."""


@dataclass(frozen=True, kw_only=True)
class Digits:
    """One split of a data set."""

    name: str
    split: Split
    images: torch.Tensor  # uint8 [N, 1, size, size], 0 is background
    labels: torch.Tensor  # int64 [N], 0..9

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images float32 [B, 1, size, size] in [-1, 1] and labels int64 [B]."""
        return as_float(self.images[indices]), self.labels[indices]

    def all(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Every image and label, as `batch` gives them."""
        return as_float(self.images), self.labels

    def counts(self) -> list[int]:
        """How many images each digit has."""
        return [int(count) for count in torch.bincount(self.labels, minlength=N_CLASSES)]


def as_float(images: torch.Tensor) -> torch.Tensor:
    """From uint8 0..255 to float32 in [-1, 1], the range that diffusion works in."""
    return images.float().div(127.5).sub(1.0)


def load(name: Name, split: Split, size: int) -> Digits:
    """One split of a data set, resized to `size` pixels.

    Raises `DataUnavailable` where the machine does not have it and cannot get it.
    """
    images, labels = _digits(split) if name == "digits" else _mnist(split)
    return Digits(name=name, split=split, images=_resize(images, size), labels=labels)


def split_rule(name: Name) -> str:
    """The rule in words, for metadata and reports."""
    if name == "digits":
        residues = "; ".join(f"{split}: {list(values)}" for split, values in DIGITS_RESIDUES.items())
        return f"scikit-learn's load_digits, by index modulo {DIGITS_MODULUS}: {residues}"
    return "MNIST: official training set, even indices: generator, odd ones: classifier; official test set: test"


def _digits(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits  # here: the import takes a second or two

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float().mul(255 / DIGITS_MAX).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    keep = torch.isin(torch.arange(len(labels)) % DIGITS_MODULUS, torch.tensor(DIGITS_RESIDUES[split]))
    return images[keep], labels[keep]


def _mnist(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    data = _mnist_files(train=split != "test")
    images, labels = data.data.float().unsqueeze(1), data.targets.long()
    if split in MNIST_RESIDUES:
        (residue,) = MNIST_RESIDUES[split]
        images, labels = images[residue::2], labels[residue::2]
    return images, labels


def _resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Grey values 0..255, float [N, 1, h, w], to uint8 [N, 1, size, size]."""
    if images.shape[-1] != size:
        images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    return images.round().clamp(0, 255).to(torch.uint8)


def _mnist_files(train: bool) -> Any:
    """torchvision's MNIST from the first place that has it."""
    mnist = import_torchvision_mnist()
    configured = os.environ.get(ENVIRONMENT_VARIABLE)
    cache = _user_data_directory()
    for root in mnist_places():
        try:
            return mnist(root, train=train)
        except RuntimeError:  # torchvision's "Dataset not found"
            continue
    tried = f"{ENVIRONMENT_VARIABLE}={configured}" if configured else f"{ENVIRONMENT_VARIABLE} is not set"
    reason = "no download is tried while it is set"
    if not configured:
        try:
            return mnist(cache, train=train, download=True)
        except (RuntimeError, OSError) as error:
            reason = f"the download into {cache} failed ({error})"
    raise DataUnavailable(
        f"MNIST is not on this machine: {tried}; {'' if _SHARED.is_dir() else 'there is no '}{_SHARED}"
        f"{' holds no MNIST' if _SHARED.is_dir() else ''}; {reason}. "
        f"Set {ENVIRONMENT_VARIABLE} to a folder that holds MNIST/raw as torchvision lays it out, or give the machine "
        "network once, or choose the recipe digits16, which needs no data set."
    )


def mnist_places() -> list[Path]:
    """The folders in which MNIST is looked for, the first one first."""
    configured = os.environ.get(ENVIRONMENT_VARIABLE)
    # A place that was named on purpose is the only one looked at: falling through would hide a typing mistake
    return [Path(configured)] if configured else [_SHARED, _user_data_directory()]


def _user_data_directory() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "noisemark"


def import_torchvision_mnist() -> Any:
    """torchvision.datasets.MNIST, also where torchvision's binary extension does not fit the torch beside it.

    The wheel of torchvision on the Python package index is built for CUDA. Beside a CPU build of torch its extension
    does not load, and the import fails because the operators that it would have declared are missing; data sets need
    none of them, so declaring their schemas is enough.
    """
    try:
        from torchvision.datasets import MNIST
    except RuntimeError:
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]  # half imported
        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        from torchvision.datasets import MNIST
    return MNIST
