"""The context, its mask, and how often it is dropped."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (as everybody calls it)

from grading.checking import CheckFailed, assert_close, assert_number, assert_pair, require, share_is_plausible

in_get_context_mask = pytest.mark.blank("get_context_mask")


def context_and_mask(student, labels, drop_prob):
    """Call, and check all that holds for every call. Returns the context and the mask, as floats."""
    c_hot, c_mask = assert_pair(student.get_context_mask(labels, drop_prob), "what `get_context_mask` returns")
    for name, value in (("c_hot", c_hot), ("c_mask", c_mask)):
        require(isinstance(value, torch.Tensor), f"`{name}` should be a tensor.", found=f"a {type(value).__name__}")
    batch = len(labels)
    assert_close(c_hot.float(), F.one_hot(labels, 10).float(), "`c_hot`", hint="It should be one-hot: [B, N_CLASSES].")
    require(
        list(c_mask.shape) in ([batch, 1], [batch, 10]),
        "`c_mask` has the wrong shape.",
        expected=f"shape [{batch}, 1] or [{batch}, N_CLASSES]",
        found=f"shape {list(c_mask.shape)}",
    )
    require(
        bool(((c_mask == 0) | (c_mask == 1)).all()),
        "`c_mask` holds other values than 0 and 1.",
        expected="0 or 1",
        found="other numbers",
    )
    require(
        torch.result_type(c_hot, c_mask).is_floating_point,
        "`c_hot * c_mask` is not floating point, and a linear layer takes nothing else.",
        expected="a floating point type for one of them",
        found=f"{c_hot.dtype} and {c_mask.dtype}".replace("torch.", ""),
    )
    return c_hot.float(), c_mask.float()


@in_get_context_mask
def test_one_hot(student, rng):
    """One-hot encodes labels, whichever digits the batch contains"""
    context_and_mask(student, torch.randint(0, 10, (7,), generator=rng), 0.5)
    context_and_mask(student, torch.tensor([2, 0, 2]), 0.5)
    context_and_mask(student, torch.tensor([4]), 0.5)


@in_get_context_mask
def test_never_and_always(student, rng):
    """Drops nothing with probability 0, and everything with probability 1"""
    labels = torch.randint(0, 10, (16,), generator=rng)
    # `torch.rand` draws an exact 0 once in 2**24 times, so a comparison with it may slip once; twice in 160 entries
    # happens with a probability of 5e-11
    _, kept = context_and_mask(student, labels, 0.0)
    _, dropped = context_and_mask(student, labels, 1.0)
    if float(kept.mean()) < 0.5 < float(dropped.mean()):
        raise CheckFailed("The mask is inverted: 1 should keep the context, and 0 should drop it.")
    require(
        int((kept == 0).sum()) <= 1,
        "With `drop_prob` 0, some context is dropped.",
        expected="a mask of ones",
        found=f"{int((kept == 0).sum())} zeros",
    )
    require(
        int((dropped == 1).sum()) <= 1,
        "With `drop_prob` 1, some context is kept.",
        expected="a mask of zeros",
        found=f"{int((dropped == 1).sum())} ones",
    )


@in_get_context_mask
@pytest.mark.parametrize("drop_prob", [0.1, 0.35])
def test_share_dropped(student, rng, drop_prob):
    """Drops context at random, with the probability asked for"""
    batch = 2000  # with one draw per image, 0.1 is told from 0.2
    labels = torch.randint(0, 10, (batch,), generator=rng)
    _, mask = context_and_mask(student, labels, drop_prob)
    require(
        bool((mask != mask[:1]).any()),
        "Every image of the batch got the same mask; each should have a draw of its own.",
    )
    per_image = bool((mask == mask[:, :1]).all())
    draws = mask[:, 0] if per_image else mask.flatten()
    dropped = int((draws == 0).sum())
    if share_is_plausible(dropped, len(draws), 1 - drop_prob):
        raise CheckFailed("The mask is inverted: context is dropped when it should be kept, and kept when dropped.")
    require(
        share_is_plausible(dropped, len(draws), drop_prob),
        "The share of dropped context is not `drop_prob`.",
        expected=f"about {drop_prob:.0%}",
        found=f"{dropped / len(draws):.1%} of {len(draws)} draws",
    )
    _, again = context_and_mask(student, labels, drop_prob)
    require(not torch.equal(mask, again), "Two calls got the same mask; it should be drawn anew each time.")


@pytest.mark.blank("c_drop_prob")
def test_customary_share(student):
    """Is a small share, so that both kinds of prediction are learned"""
    found = assert_number(student.c_drop_prob(), "`c_drop_prob`")
    # Ho and Salimans (2022) found 0.1 and 0.2 equally good and 0.5 worse; under 0.05 the unconditional prediction sees
    # fewer images in a short training than it needs
    require(
        0.05 <= found <= 0.25,
        "`c_drop_prob` is outside the range in which guidance is known to work well.",
        expected="a small share of the batch, neither none nor nearly all",
        found=f"{found:g}",
    )


@pytest.mark.blank("w")
def test_guidance_weight(student):
    """Is a guidance weight that one can sample with"""
    found = assert_number(student.w(), "`w`")
    # Below 0 one is guided away from the digit; above 20 the predictions leave the range that the model was trained in
    require(
        0 <= found <= 20,
        "`w` is not a sensible guidance weight.",
        expected="a number from 0 to 20",
        found=f"{found:g}",
    )
