"""The context, its mask, and how often it is dropped."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (as everybody calls it)

from grading.checking import (
    FALSE_ALARM,
    CheckFailed,
    assert_close,
    assert_number,
    assert_pair,
    assert_type,
    assert_unchanged,
    is_close,
    require,
    share_is_plausible,
)

in_get_context_mask = pytest.mark.blank("get_context_mask")


def context_and_mask(student, labels, drop_prob):
    """Call, and check all that holds for every call. Returns the context and the mask, as floats."""
    c_hot, c_mask = assert_pair(student.get_context_mask(labels, drop_prob), "what `get_context_mask` returns")
    for name, value in (("c_hot", c_hot), ("c_mask", c_mask)):
        require(
            isinstance(value, torch.Tensor),
            f"`{name}` should be a tensor.",
            expected="a tensor",
            found=f"a {type(value).__name__}",
        )
    batch, expected = len(labels), F.one_hot(labels, 10).float()
    require(
        is_close(c_hot.float(), expected) or not is_close(c_mask.float(), expected), misconception="results-swapped"
    )
    require(c_hot.shape != labels.shape or not torch.equal(c_hot.long(), labels), misconception="labels-not-one-hot")
    guessed = c_hot.dim() == 2 and c_hot.shape[1] < 10 and torch.equal(c_hot.float(), expected[:, : c_hot.shape[1]])
    require(not guessed or c_hot.shape[1] != int(labels.max()) + 1, misconception="classes-from-the-batch")
    require(
        list(c_hot.shape) == [batch, 10],
        expected=f"shape [{batch}, N_CLASSES]",
        found=f"shape {list(c_hot.shape)}",
        misconception="one-hot-wrong-shape",
    )
    masked = not is_close(c_hot.float(), expected) and list(c_mask.shape) in ([batch, 1], [batch, 10])
    require(not masked or not is_close(c_hot.float(), expected * c_mask), misconception="context-already-masked")
    shifted = {"one-hot-shifted": F.one_hot((labels + 1) % 10, 10).float()}
    if is_close(c_hot.float(), F.one_hot((labels - 1) % 10, 10).float()):
        raise CheckFailed(misconception="one-hot-shifted")
    assert_close(c_hot.float(), expected, "`c_hot`", mistakes=shifted, hint="It should be one-hot: [B, N_CLASSES].")
    shapes = f"shape [{batch}, 1] or [{batch}, N_CLASSES]"
    require(
        list(c_mask.shape) != [batch],
        expected=shapes,
        found=f"shape [{batch}]",
        misconception="mask-without-second-dimension",
    )
    require(
        list(c_mask.shape) not in ([1, 1], [1, 10]) or batch == 1,
        expected=shapes,
        found=f"shape {list(c_mask.shape)} for {batch} images",
        misconception="one-draw-for-the-batch",
    )
    require(
        list(c_mask.shape) in ([batch, 1], [batch, 10]),
        "`c_mask` has the wrong shape.",
        expected=shapes,
        found=f"shape {list(c_mask.shape)}",
    )
    if not bool(((c_mask == 0) | (c_mask == 1)).all()):
        same = bool((c_mask == c_mask[:1, :1]).all())
        raise CheckFailed(
            expected="0 or 1",
            found="other numbers",
            misconception="mask-of-probabilities" if same else "mask-not-binary",
        )
    product = torch.result_type(c_hot, c_mask)
    require(
        product.is_floating_point,
        expected="a floating point type for one of them",
        found=f"{c_hot.dtype} and {c_mask.dtype}".replace("torch.", ""),
        misconception="mask-of-integers",
    )
    assert_type(product, "the product of `c_hot` and `c_mask`")
    return c_hot.float(), c_mask.float()


@in_get_context_mask
def test_one_hot(student, rng):
    """Returns one-hot labels and a mask that fits them, whichever digits the batch contains"""
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
    shares = float((kept == 0).float().mean()), float((dropped == 0).float().mean())
    if shares[0] > 0.9 and shares[1] < 0.1:
        raise CheckFailed(misconception="mask-inverted")
    name = None
    if (kept == 0).any() or (dropped == 1).any():
        name = misconception_about_share(student, labels)
    require(
        int((kept == 0).sum()) <= 1,
        "With `drop_prob` 0, some context is dropped.",
        expected="a mask of ones",
        found=f"{int((kept == 0).sum())} zeros",
        misconception=name,
    )
    require(
        int((dropped == 1).sum()) <= 1,
        "With `drop_prob` 1, some context is kept.",
        expected="a mask of zeros",
        found=f"{int((dropped == 1).sum())} ones",
        misconception=name,
    )


def misconception_about_share(student, labels):
    """For a share that is wrong at 0 or 1: is it the same whatever is asked for?"""
    # Three shares asked for; 4000 draws tell those that are got to 0.08 or better, with a probability of 1 - 1e-9 each
    labels = labels[torch.arange(4000) % len(labels)]
    masks = [context_and_mask(student, labels, share)[1][:, 0] for share in (0.0, 0.5, 1.0)]
    got = [float((mask == 0).float().mean()) for mask in masks]
    if max(got) - min(got) > 0.1:
        return None
    if max(got) == 0:
        return "nothing-ever-dropped"
    return "everything-dropped" if min(got) == 1 else "drop-share-ignored"


@in_get_context_mask
@pytest.mark.parametrize("drop_prob", [0.01, 0.1, 0.35])
def test_share_dropped(student, rng, drop_prob):
    """Drops context at random, with the probability asked for"""
    labels, mask = many_draws(student, rng, drop_prob)
    if is_the_same_for_all(mask):
        assert_not_per_batch(student, mask)
    per_image = is_per_image(mask)
    require(
        not per_image or not all(is_the_same_for_all(mask[labels == label]) for label in range(10)) or mask.all(),
        "All images of the same digit are dropped or kept together.",
        expected="a draw for each image by itself",
        found="one draw for each digit",
    )
    draws = mask[:, 0] if per_image else mask.flatten()
    dropped = int((draws == 0).sum())
    share, found = f"about {drop_prob:.0%} of the context dropped", f"{dropped / len(draws):.1%} of {len(draws)} draws"
    if share_is_plausible(dropped, len(draws), 1 - drop_prob):
        dropped_at_0 = int((context_and_mask(student, labels, 0.0)[1][:, 0] == 0).sum())
        ignored = share_is_plausible(dropped_at_0, len(labels), 1 - drop_prob)
        name = "drop-share-ignored" if ignored else "mask-inverted" if dropped_at_0 >= len(labels) - 1 else None
        raise CheckFailed(
            "The share of dropped context is not `drop_prob`." if name is None else "",
            expected=share,
            found=found,
            misconception=name,
        )
    if not share_is_plausible(dropped, len(draws), drop_prob):
        raise CheckFailed(
            "The share of dropped context is not `drop_prob`.",
            expected=share,
            found=found,
            misconception=misconception_about_share(student, labels),
        )
    assert_drawn_one_by_one(draws == 0, drop_prob, "image" if per_image else "number")


def many_draws(student, rng, drop_prob):
    """Labels, and a mask of 20,000 draws or more: for as many images, or for fewer where each has several draws.

    Shares of 0.3 or 0.4 in place of 0.35, or 0.02 in place of 0.01 (whole percentages, counted from the wrong end), are
    then taken for right once in a million times at most.
    """
    for batch in (2_000, 20_000):
        labels = torch.randint(0, 10, (batch,), generator=rng)
        _, mask = context_and_mask(student, labels, drop_prob)
        if not is_per_image(mask):
            break
    return labels, mask


def is_per_image(mask):
    return bool((mask == mask[:, :1]).all())


def is_the_same_for_all(mask):
    return bool((mask == mask[:1]).all())


def assert_not_per_batch(student, mask):
    """For a mask that is the same for all images: with half of the context kept, it is not."""
    masks = [context_and_mask(student, torch.arange(10), 0.5)[1] for _ in range(12)]
    if not all(is_the_same_for_all(other) for other in masks):
        return
    # By chance, one draw per batch is the same 12 times only once in 2000: then it goes without its name
    alike = all(torch.equal(other, masks[0]) for other in masks)
    names = {0.0: "everything-dropped", 1.0: "nothing-ever-dropped"}
    raise CheckFailed(
        "" if not alike or float(mask.std()) == 0 else "Every image of the batch got the same mask.",
        misconception=names.get(float(mask.mean())) if alike else "one-draw-for-the-batch",
    )


def assert_drawn_one_by_one(dropped, drop_prob, unit):
    """Draws near each other have nothing to do with each other: chance alone says how often both are dropped."""
    for distance in range(1, 21):
        whole = len(dropped) // (2 * distance) * 2 * distance
        first, second = dropped[:whole].view(-1, 2, distance).unbind(1)  # each draw in one pair
        both = int((first & second).sum())
        require(
            share_is_plausible(both, first.numel(), drop_prob**2, false_alarm=FALSE_ALARM / 20),
            f"Whether context is dropped is not drawn anew for each {unit}.",
            expected=f"both of two draws dropped in about {drop_prob**2:.2%} of all pairs",
            found=f"{both / first.numel():.2%} of those at a distance of {distance}",
        )


@in_get_context_mask
def test_small_batches(student, rng):
    """Draws for each image by itself, also where the batch is small"""
    labels = torch.randint(0, 10, (5,), generator=rng)
    # That 20 batches of 5 images, with half of the context kept, all have 2 dropped, or all 3 (which is most likely),
    # happens with a probability of 2e-10
    masks = [context_and_mask(student, labels, 0.5)[1] for _ in range(20)]
    counts = {int((mask == 0).sum()) for mask in masks}
    names = {0.0: "everything-dropped", 1.0: "nothing-ever-dropped"}
    require(
        not all(torch.equal(mask, masks[0]) for mask in masks),
        misconception=names.get(float(masks[0].mean()), "same-mask-each-call"),
    )
    require(
        len(counts) > 1,
        "Each batch has exactly as many dropped images as the next; how many there are should be left to chance.",
        expected="a draw for each image by itself",
        found=f"{min(counts)} of {masks[0].numel()} draws in each of {len(masks)} batches",
    )
    context_and_mask(student, labels[:1], 0.35)
    _, (labels_after, _) = student.get_context_mask.keeping(labels, 0.35)
    assert_unchanged({"labels": (labels, labels_after)})


@pytest.mark.blank("c_drop_prob")
def test_customary_share(student):
    """Is a small share, so that both kinds of prediction are learned"""
    found = assert_number(student.c_drop_prob(), "`c_drop_prob`")
    # Ho and Salimans (2022) found 0.1 and 0.2 equally good and 0.5 worse; under 0.05 the unconditional prediction sees
    # fewer images in a short training than it needs
    found_as = {"expected": "a small share of the batch, neither none nor nearly all", "found": f"{found:g}"}
    require(found >= 0, **found_as, misconception="drop-share-negative")
    require(found != 0, **found_as, misconception="drop-share-none")
    require(found <= 1, **found_as, misconception="drop-share-percentage")
    require(found >= 0.05, **found_as, misconception="drop-share-small")
    require(found <= 0.25, **found_as, misconception="drop-share-large")


@pytest.mark.blank("w")
def test_guidance_weight(student):
    """Is a guidance weight that one can sample with"""
    found = assert_number(student.w(), "`w`")
    # Below 0 one is guided away from the digit; above 20 the predictions leave the range that the model was trained in
    found_as = {"expected": "a number from 0 to 20", "found": f"{found:g}"}
    require(found >= 0, **found_as, misconception="weight-negative")
    require(found <= 20, **found_as, misconception="weight-large")
