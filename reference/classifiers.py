"""The judge's own classifiers: one small convolutional network per recipe, with the figures that it was accepted on.

The weights and their metadata lie in `weights/`; `reference.train_classifiers` makes both.
"""

import hashlib
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load as load_tensors
from torch import nn

from reference.datasets import N_CLASSES

WEIGHTS = Path(__file__).parent / "weights"
WIDTH = 24  # channels of the first level: 58 k parameters, 230 kB, small enough to commit
BATCH = 500  # images read at once: a few dozen MB of activations at 28x28


class ClassifierUnavailable(Exception):  # noqa: N818  (what it says, not what went wrong inside)
    """There is no classifier of that name, or its files do not fit together. The message says which and the way out."""


class Metadata(BaseModel):
    """What is known of one classifier; `weights/NAME.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # of the recipe
    dataset: str
    image_size: int  # height and width in pixels
    split: str  # the rule in words
    seed: int
    training_images: int  # different ones in the split
    images_seen: int  # in training, each augmented afresh
    test_images: int  # held-out real digits
    test_correct: int
    accuracy: float  # test_correct / test_images
    low: float  # Wilson interval of the accuracy
    high: float
    confidence: float
    sha256: str  # of NAME.safetensors


class DigitNet(nn.Module):
    """Five 3x3 convolutions with batch normalisation, halving the size twice; mean over space; a linear layer.

    Images [B, 1, H, W] in [-1, 1] to logits [B, 10], for any H and W of at least 8.
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(1, width),
            *_convolution(width, width),
            nn.MaxPool2d(2),
            *_convolution(width, 2 * width),
            *_convolution(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *_convolution(2 * width, 2 * width),
        )
        self.head = nn.Linear(2 * width, N_CLASSES)

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """What the last layer decides by, [B, 2 * width]."""
        features: torch.Tensor = self.features(images)
        return features.mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.pooled(images))
        return logits


class Classifier:
    """Reads digits. Trusted, deterministic, on the CPU."""

    def __init__(self, network: DigitNet, metadata: Metadata) -> None:
        self._network = network.eval()
        self.metadata = metadata

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Images float [N, 1, H, W] in [-1, 1] (values beyond are clipped) to probabilities [N, 10]."""
        return class_probabilities(self._network, images)

    def read(self, images: torch.Tensor) -> torch.Tensor:
        """Images float [N, 1, H, W] in [-1, 1] to the digits read, int64 [N]."""
        return self.probabilities(images).argmax(dim=1)

    @torch.inference_mode()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the last layer decides by, float [N, 48], of images as `probabilities` takes them."""
        clipped = images.float().clamp(-1, 1)
        return torch.cat([self._network.pooled(part) for part in torch.split(clipped, BATCH)])


@torch.inference_mode()
def class_probabilities(network: DigitNet, images: torch.Tensor) -> torch.Tensor:
    """Images float [N, 1, H, W] in [-1, 1] (values beyond are clipped) to probabilities [N, 10]."""
    network.eval()
    clipped = images.float().clamp(-1, 1)
    return torch.cat([network(part).softmax(dim=1) for part in torch.split(clipped, BATCH)])


def load_classifier(recipe_name: str, weights: Path = WEIGHTS) -> Classifier:
    """The classifier of that recipe. Raises `ClassifierUnavailable`."""
    path = weights / f"{recipe_name}.safetensors"
    try:
        content = path.read_bytes()
        metadata = Metadata.model_validate_json(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ClassifierUnavailable(
            f"There is no classifier for the recipe {recipe_name!r}: {error}. scripts/train-classifiers makes it."
        ) from error
    if hashlib.sha256(content).hexdigest() != metadata.sha256:
        raise ClassifierUnavailable(f"{path} is not the file that {recipe_name}.json describes: another SHA-256.")
    network = DigitNet()
    network.load_state_dict(load_tensors(content))
    return Classifier(network, metadata)


def _convolution(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    # No bias: batch normalisation has one of its own
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()
