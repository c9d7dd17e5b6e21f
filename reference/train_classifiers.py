"""Trains the judge's classifiers and writes them to `weights/`, each with the figures that it reached.

`scripts/train-classifiers [RECIPE ...]` runs it; without a recipe it trains all of them.
"""

import argparse
import hashlib
import sys

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)
from safetensors.torch import save
from scipy.stats import binomtest

from reference import datasets
from reference.classifiers import WEIGHTS, DigitNet, Metadata, class_probabilities
from reference.datasets import Digits
from reference.pack import Recipe, load_pack

SEED = 20  # any: fixed so that the weights can be made again
BATCH = 128  # images
PEAK_LEARNING_RATE = 1e-2  # of a one-cycle schedule; batch normalisation bears it
WEIGHT_DECAY = 1e-2
LABEL_SMOOTHING = 0.05  # keeps the network from being sure of everything
CONFIDENCE = 0.95  # of the interval in the metadata

# Images seen in training: digits has 817 of them, so 240 epochs; mnist 30,000, so 8. Longer gains nothing.
IMAGES = {"digits": 200_000, "mnist": 240_000}
# What held-out real digits must be read with before the weights are accepted
REQUIRED_ACCURACY = {"digits": 0.98, "mnist": 0.985}

# Augmentation, so that a digit is still read where it is drawn a little off: half-ranges of uniform distributions
ROTATION = 0.25  # rad, 14 degrees: beyond that 6 and 9 suffer
SHEAR = 0.15
SCALE = 0.15  # of the size
SHIFT = 0.2  # of half the size: about 1.5 pixels of 16
NOISE = 0.3  # largest standard deviation, in the units of [-1, 1]: what a short reverse loop may leave


def train_classifier(digits: Digits, images_seen: int, seed: int = SEED) -> DigitNet:
    """A classifier trained on `images_seen` augmented images."""
    torch.manual_seed(seed)
    network = DigitNet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    steps = images_seen // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps)
    for step in range(steps):
        images, labels = digits.batch(torch.randint(len(digits), (BATCH,)))
        loss = F.cross_entropy(network(augment(images)), labels, label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"{digits.name}: {step * BATCH:>7,} of {images_seen:,} images, loss {loss.item():.3f}", flush=True)
    return network


def augment(images: torch.Tensor) -> torch.Tensor:
    """Turn, shear, scale, shift and roughen each image [B, 1, H, W] by random amounts."""

    def uniform(half_range: float) -> torch.Tensor:
        return (2 * torch.rand(len(images)) - 1) * half_range

    angle, scale = uniform(ROTATION), 1 + uniform(SCALE)
    top = torch.stack((angle.cos() * scale, uniform(SHEAR) - angle.sin() * scale, uniform(SHIFT)), dim=1)
    bottom = torch.stack((angle.sin() * scale, angle.cos() * scale, uniform(SHIFT)), dim=1)
    grid = F.affine_grid(torch.stack((top, bottom), dim=1), list(images.shape), align_corners=False)
    # Shifted by one, so that what comes in from outside is background
    moved = F.grid_sample(images + 1, grid, align_corners=False) - 1
    return moved + torch.rand(len(images), 1, 1, 1) * NOISE * torch.randn_like(moved)


def measure(network: DigitNet, recipe: Recipe, trained_on: Digits, sha256: str) -> Metadata:
    """The figures of a trained network on the held-out split."""
    images, labels = datasets.load(recipe.dataset, "test", recipe.image_size).all()
    correct = int((class_probabilities(network, images).argmax(dim=1) == labels).sum())
    interval = binomtest(correct, len(labels)).proportion_ci(CONFIDENCE, method="wilson")
    return Metadata(
        name=recipe.name,
        dataset=recipe.dataset,
        image_size=recipe.image_size,
        split=datasets.split_rule(recipe.dataset),
        seed=SEED,
        training_images=len(trained_on),
        images_seen=IMAGES[recipe.dataset] // BATCH * BATCH,
        test_images=len(labels),
        test_correct=correct,
        accuracy=correct / len(labels),
        low=float(interval.low),
        high=float(interval.high),
        confidence=CONFIDENCE,
        sha256=sha256,
    )


def main() -> int:
    recipes = load_pack("ddpm").recipes
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", choices=[*recipes, []], metavar="RECIPE", help=", ".join(recipes))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    WEIGHTS.mkdir(exist_ok=True)
    refused = 0
    for name in arguments.recipes or recipes:
        recipe = recipes[name]
        digits = datasets.load(recipe.dataset, "classifier", recipe.image_size)
        network = train_classifier(digits, IMAGES[recipe.dataset])
        content = save({key: value.contiguous() for key, value in network.state_dict().items()})
        metadata = measure(network, recipe, digits, hashlib.sha256(content).hexdigest())
        reached = f"{metadata.test_correct} of {metadata.test_images} held-out digits read, {metadata.accuracy:.2%}"
        if metadata.accuracy < REQUIRED_ACCURACY[recipe.dataset]:
            print(f"{name}: refused, {reached}", file=sys.stderr)
            refused += 1
            continue
        (WEIGHTS / f"{name}.safetensors").write_bytes(content)
        (WEIGHTS / f"{name}.json").write_text(metadata.model_dump_json(indent=2) + "\n", encoding="utf-8")
        print(f"{name}: {reached}, {len(content) / 1000:.0f} kB")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
