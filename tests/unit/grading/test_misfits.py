"""Torch's words about sizes and types that do not fit, in plain ones. The words are those of the torch in use."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from grading.misfits import Layer, in_plain_words, last_layer

IMAGES = torch.ones(2, 6, 4, 4)


def nothing() -> None:
    return None


def words_of_torch(call: Callable[[], object]) -> str:
    with pytest.raises((RuntimeError, ValueError)) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nn.Conv2d(8, 4, 3)(IMAGES), "gets 6 channels and expects 8"),
        (lambda: nn.ConvTranspose2d(8, 4, 2, 2)(IMAGES), "gets 6 channels and expects 8"),
        (lambda: nn.GroupNorm(2, 8)(IMAGES), "gets 6 channels and expects 8"),
        (lambda: nn.functional.group_norm(IMAGES, 4), "gets 6 channels, which cannot be divided into 4 groups"),
        (lambda: nn.Linear(5, 3)(torch.ones(2, 6)), "gets vectors of 6 numbers and expects 5"),
        (lambda: nn.Linear(6, 3)(torch.ones(2, 6).long()), "gets integers and computes in float32"),
        (lambda: nn.Linear(6, 3)(torch.ones(2, 6).double()), "gets float64 and computes in float32"),
        (lambda: nn.Conv2d(6, 4, 3)(IMAGES.double()), "gets float64 and computes in float32"),
        (lambda: torch.cat((IMAGES, IMAGES[..., :2]), 1), "in another one their sizes differ: 4 and 2"),
        (lambda: torch.ones(2, 6).view(-1, 7), "12 numbers cannot be arranged as [-1, 7]"),
        (lambda: IMAGES + IMAGES[:, :3], "differ in size along dimension 1: 6 and 3"),
    ],
)
def test_words_of_torch_become_plain(call: Callable[[], object], words: str) -> None:
    plain = in_plain_words(words_of_torch(call), nothing)
    assert plain is not None
    assert plain.endswith(words)


def test_other_words_stay() -> None:
    assert in_plain_words("name 'x' is not defined", nothing) is None


def test_the_layer_is_named_where_it_can_be_the_one() -> None:
    message = words_of_torch(lambda: nn.Conv2d(8, 4, 3)(IMAGES))
    right, other = Layer("up1", frozenset({(4, 8, 3, 3)})), Layer("down1", frozenset({(4, 4, 3, 3)}))
    assert in_plain_words(message, lambda: right) == "`up1` gets 6 channels and expects 8"
    assert in_plain_words(message, lambda: other) == "A layer gets 6 channels and expects 8"


def test_the_layer_that_began_last() -> None:
    parameters: dict[str, Tensor] = {"up1.model.0.weight": torch.ones(2, 3), "model.1.weight": torch.ones(2)}
    assert last_layer(["model.1.weight", "up1.model.0.weight"], parameters) == Layer("up1", frozenset({(2, 3)}))
    assert last_layer(["model.1.weight", "made up"], parameters) == Layer("model[1]", frozenset({(2,)}))
    assert last_layer([], parameters) is None
