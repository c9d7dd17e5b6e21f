"""Comparisons and statistics that pack authors assert with."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grading.checking import (
    CheckFailed,
    assert_close,
    assert_number,
    assert_one_per_image,
    assert_pair,
    assert_standard_normal,
    assert_tensor,
    assert_unchanged,
    assert_unrelated,
    assert_white,
    is_close,
    share_is_plausible,
    shares,
    variance_is_plausible,
)

EXPECTED = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def test_assert_close_takes_rounding() -> None:
    assert_close(EXPECTED + 1e-6, EXPECTED, "the result")


def test_double_precision_has_a_name_of_its_own() -> None:
    with pytest.raises(CheckFailed) as caught:
        assert_close(EXPECTED.double(), EXPECTED, "the result")
    assert caught.value.misconception == "double-precision"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (EXPECTED + torch.tensor([[0.0, 0.0], [0.5, 0.0]]), r"^The result .*25% .*0\.5 at \[1, 0\]"),
        (EXPECTED[0], r"^The result has the wrong shape"),
        (EXPECTED.half(), r"^The result has the wrong type"),
        (EXPECTED.long(), r"^The result has the wrong type"),
        (torch.full((2, 2), math.nan), r"not finite"),
        ([[1.0, 2.0], [3.0, 4.0]], r"should be a tensor"),
    ],
)
def test_assert_close_says_what_is_wrong(found: object, words: str) -> None:
    with pytest.raises(CheckFailed, match=words):
        assert_close(found, EXPECTED, "the result")


def test_assert_close_names_a_known_mistake() -> None:
    mistakes = {"Upside down.": 1 / EXPECTED, "Doubled.": 2 * EXPECTED}
    with pytest.raises(CheckFailed, match=r"^Doubled\.$"):
        assert_close(2 * EXPECTED, EXPECTED, "the result", mistakes=mistakes)


def test_assert_close_takes_scalars_and_zeros() -> None:
    assert_close(torch.tensor(2.0), torch.tensor(2.0), "the result")
    assert_close(torch.zeros(3), torch.zeros(3), "the result")
    with pytest.raises(CheckFailed):
        assert_close(torch.tensor(2.1), torch.tensor(2.0), "the result")
    with pytest.raises(CheckFailed):
        assert_close(torch.full((3,), 1e-3), torch.zeros(3), "the result")


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e3))
def test_is_close_does_not_depend_on_scale(value: float, factor: float) -> None:
    expected = torch.tensor([value, 1.0], dtype=torch.float64)
    found = expected * (1 + 3e-4)
    assert is_close(found, expected) == is_close(factor * found, factor * expected) is False


def test_assert_tensor_returns_integers_where_they_are_asked_for() -> None:
    labels = torch.tensor([1, 2])
    assert assert_tensor(labels, [2], "labels", floating=False) is labels


@pytest.mark.parametrize("found", [3, 2.5, torch.tensor([1.5])])
def test_assert_number_takes(found: object) -> None:
    assert assert_number(found, "w") > 0


@pytest.mark.parametrize("found", [True, "3", None, math.inf, math.nan, torch.ones(2)])
def test_assert_number_refuses(found: object) -> None:
    with pytest.raises(CheckFailed, match=r"^W "):
        assert_number(found, "w")


@pytest.mark.parametrize("found", [torch.ones(2, 3), (1,), None, [1, 2, 3]])
def test_assert_pair_refuses(found: object) -> None:
    with pytest.raises(CheckFailed, match="two values"):
        assert_pair(found, "the result")


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [64, 1536, 16384])
def test_normal_noise_passes(size: int) -> None:
    for seed in range(200):
        assert_standard_normal(draw(seed, size), "the noise")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda noise: noise + 0.1,
        lambda noise: 1.1 * noise,
        lambda noise: 0.9 * noise,
        lambda noise: (torch.special.ndtr(noise) - 0.5) * math.sqrt(12),  # uniform, of the same mean and spread
        lambda noise: noise.sign(),
        torch.zeros_like,
    ],
)
def test_other_noise_fails(spoil: "torch.nn.Module") -> None:
    with pytest.raises(CheckFailed):
        assert_standard_normal(spoil(draw(1, 16384)), "the noise")


NOISE = (8, 3, 48, 32)


def test_noise_drawn_one_by_one_is_white() -> None:
    for seed in range(100):
        assert_white(draw(seed, *NOISE), "the noise")
        assert_white(draw(seed, 3, 1, 8, 8), "the noise")


@pytest.mark.parametrize(
    ("spoil", "misconception"),
    [
        (lambda z: z[:1].expand_as(z), "one-draw-for-the-batch"),
        (lambda z: torch.cat((z[:4], z[:4])), "one-draw-for-the-batch"),
        (lambda z: z[:, :1].expand_as(z), "noise-shared-within-image"),
        (lambda z: z[..., :1].expand_as(z), "noise-shared-within-image"),
        (lambda z: z[..., torch.arange(48) % 4, :], "noise-shared-within-image"),
        (lambda z: torch.cat((z[:4], -z[:4])), None),  # the second half negates the first
        (lambda z: torch.cat((z[:7], z[:1])), None),  # two images of eight are alike
        (lambda z: torch.cat((z[..., :16], z[..., :16].flip(-1)), -1), None),  # mirrored
        (lambda z: (z + z.roll(1, -1)) / math.sqrt(2), None),  # smoothed along rows
        (lambda z: (z + z.roll((5, 3), (-1, -2))) / math.sqrt(2), None),
        (lambda z: z + 0.2 * draw(7, 8, 3, 1, 1), None),  # one draw is added to all pixels of an image
        (lambda z: z + 0.2 * draw(7, 8, 3, 48, 1), None),  # ... or to a row
        (lambda z: z * (torch.arange(8) != 2).view(-1, 1, 1, 1), None),  # an image without noise
        (lambda z: z.clamp(-2.5, 2.5), None),
        (lambda z: z.clamp(-3, 3), None),
        (lambda z: 0.9 * z, "noise-scaled"),
        (torch.zeros_like, "no-noise"),
    ],
)
def test_noise_that_is_not_white_fails(
    spoil: Callable[[torch.Tensor], torch.Tensor], misconception: str | None
) -> None:
    for seed in range(20):
        with pytest.raises(CheckFailed) as caught:
            assert_white(spoil(draw(seed, *NOISE)), "the noise")
        assert caught.value.misconception == misconception
        assert caught.value.message or misconception


def test_no_key_decides_whether_noise_is_a_little_too_small() -> None:
    for seed in range(30):
        noise = draw(seed, 16, 3, 72, 64)
        assert_white(0.99 * noise, "the noise")
        with pytest.raises(CheckFailed):
            assert_white(0.97 * noise, "the noise")


def test_shares_of_images() -> None:
    parts = draw(1, 3, 2, 5, 5), draw(2, 3, 2, 5, 5)
    numbers = torch.tensor([[1.0, 0.01], [0.5, 0.5], [0.0, 1.0]])
    found, left = shares(numbers[:, 0].view(3, 1, 1, 1) * parts[0] + numbers[:, 1].view(3, 1, 1, 1) * parts[1], *parts)
    assert is_close(found, numbers.double())
    assert float(left.max()) < 1e-6
    _, left = shares(draw(3, 3, 2, 5, 5), *parts)
    assert float(left.min()) > 0.1


def test_parts_that_are_alike_have_no_shares_but_a_sum() -> None:
    part = draw(1, 2, 9)
    _, left = shares(3 * part, part, part)
    assert float(left.max()) < 1e-6


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 1, 1)])
def test_one_number_for_each_image(shape: tuple[int, ...]) -> None:
    assert_one_per_image(torch.ones(shape), 4, "t")


@pytest.mark.parametrize("found", [torch.ones(1, 4), torch.ones(2, 2), torch.tensor(1.0), torch.ones(8), 3, None])
def test_anything_else_is_not_one_number_for_each_image(found: object) -> None:
    with pytest.raises(CheckFailed, match=r"^T should be one number for each image\.$"):
        assert_one_per_image(found, 4, "t")


def test_arguments_changed_in_values_or_shape() -> None:
    image = draw(1, 3, 4)
    assert_unchanged({"images": (image, image.clone())})
    for after in (image + 1, image[None]):
        with pytest.raises(CheckFailed) as caught:
            assert_unchanged({"images": (image, after)})
        assert caught.value.misconception == "changed-argument"


def test_related_noise_fails() -> None:
    for seed in range(200):
        assert_unrelated(draw(seed, 64), draw(1000 + seed, 64), "related")
        # Neither are these; what they have in common is only their mean
        assert_unrelated(draw(seed, 64) + 5, draw(1000 + seed, 64) + 5, "related")
    for related in (draw(1, 64), -draw(1, 64), draw(1, 64) + 0.1 * draw(2, 64)):
        with pytest.raises(CheckFailed, match="related"):
            assert_unrelated(draw(1, 64), related, "related")


def test_shares() -> None:
    assert share_is_plausible(200, 2000, 0.1)
    assert share_is_plausible(700, 2000, 0.35)
    assert not share_is_plausible(400, 2000, 0.1)
    assert not share_is_plausible(0, 2000, 0.1)
    assert share_is_plausible(0, 10, 0.0)
    assert not share_is_plausible(1, 10, 0.0)
    assert share_is_plausible(10, 10, 1.0)


@given(st.integers(0, 50), st.floats(0.01, 0.99))
def test_shares_keep_their_false_alarm_rate(hits: int, probability: float) -> None:
    """What is called implausible has, with everything more extreme on its side, less probability than allowed."""
    if share_is_plausible(hits, 50, probability):
        return
    side = range(hits, 51) if hits > 50 * probability else range(hits + 1)
    tail = sum(math.comb(50, k) * probability**k * (1 - probability) ** (50 - k) for k in side)
    assert tail <= 1e-9 / 2


def test_variances() -> None:
    for seed in range(100):
        assert variance_is_plausible(0.3 * draw(seed, 4096), 0.09, 0.09)
    assert not variance_is_plausible(0.3 * draw(0, 4096), 0.3, 0.3)
    assert not variance_is_plausible(0.3 * draw(0, 4096), 0.01, 0.05)
