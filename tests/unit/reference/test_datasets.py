"""The splits of the data sets."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from reference import datasets
from reference.datasets import DataUnavailable, Digits, Split


def load_or_skip(name: datasets.Name, split: Split, size: int) -> Digits:
    try:
        return datasets.load(name, split, size)
    except DataUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_splits_share_no_image(name, no_download):
    splits = {split: load_or_skip(name, split, size=28 if name == "mnist" else 8) for split in get_args(Split)}
    seen: dict[bytes, Split] = {}
    shared = []
    for split, digits in splits.items():
        for image in digits.images:
            other = seen.setdefault(image.numpy().tobytes(), split)
            if other != split:
                shared.append((other, split))
    assert shared == []


def test_digits_are_used_up_and_balanced():
    splits = [datasets.load("digits", split, 8) for split in get_args(Split)]
    assert sum(map(len, splits)) == 1797
    for digits in splits:
        share = torch.tensor(digits.counts()) / len(digits)
        assert share.min() > 0.07, digits.split  # a tenth each, give or take
        assert share.max() < 0.13, digits.split


@pytest.mark.parametrize("size", [8, 16])
def test_images_fill_the_range(size):
    digits = datasets.load("digits", "test", size)
    images, labels = digits.all()
    assert images.shape == (326, 1, size, size)
    assert images.dtype == torch.float32
    assert images.min() == -1
    assert images.max() == 1
    assert images.median() < -0.5  # most of it is background
    assert labels.dtype == torch.int64
    some, some_labels = digits.batch(torch.tensor([3, 1]))
    assert torch.equal(some, images[[3, 1]])
    assert torch.equal(some_labels, labels[[3, 1]])


def test_missing_mnist_names_every_way_out(no_download, monkeypatch, tmp_path: Path):
    monkeypatch.delenv(datasets.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(datasets, "_SHARED", tmp_path / "shared")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(DataUnavailable) as error:
        datasets.load("mnist", "test", 16)
    for words in ("NOISEMARK_DATA", str(tmp_path / "shared"), "download", "no network", "digits16"):
        assert words in str(error.value)


def test_a_wrong_folder_is_not_papered_over(monkeypatch, tmp_path: Path):
    monkeypatch.setenv(datasets.ENVIRONMENT_VARIABLE, str(tmp_path / "typing-mistake"))
    with pytest.raises(DataUnavailable, match="typing-mistake"):
        datasets.load("mnist", "test", 16)
