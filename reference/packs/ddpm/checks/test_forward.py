"""The forward process `q`."""

from contextlib import contextmanager

import pytest
import torch

from grading.checking import (
    TOLERANCE,
    assert_pair,
    assert_tensor,
    assert_unchanged,
    assert_unrelated,
    assert_white,
    is_close,
    require,
    shares,
)
from grading.recognition import (
    Raised,
    attempt,
    drawing,
    is_alike,
    name_of,
    outcomes,
    recognise,
    recognising,
    stays_the_same,
)

pytestmark = pytest.mark.blank("q")

SEED = 1  # any: the judge draws with the same one

# Relative to what an image or its noise adds to `x_t`. The alphas are rounded by 3e-8, so who computes the coefficients
# anew has noise that is off by 0.05 % at the first step; the smallest number that is added against a division by zero
# and does harm, 1e-6, makes 0.4 % there.
SHARE_TOLERANCE = 2e-3


@pytest.fixture
def betas(course_betas):
    return course_betas


def coefficients(solution, t):
    """Mean factor and standard deviation for each image of a batch."""
    t = t.long()
    return (
        solution.sqrt_alphas_cumprod[t].view(-1, 1, 1, 1),
        solution.sqrt_one_minus_alphas_cumprod[t].view(-1, 1, 1, 1),
    )


def assert_formula(result, x_0, t, solution):
    x_t, noise = assert_pair(result, "what `q` returns")
    noise = assert_tensor(noise, x_0.shape, "the noise that `q` returns")
    mean, std = coefficients(solution, t)
    if isinstance(x_t, torch.Tensor) and x_t.shape == x_0.shape:
        require(
            is_close(x_t, mean * x_0 + std * noise) or not is_close(noise, mean * x_0 + std * x_t),
            misconception="results-swapped",
        )
    x_t = assert_tensor(x_t, x_0.shape, "`x_t`")
    numbers, left = shares(x_t, x_0, noise)
    require(
        bool((left <= TOLERANCE * x_t.flatten(1).abs().amax(1)).all()),
        "`x_t` is not made of `x_0` and the noise that `q` returns.",
        expected="for each image, one share of it and one share of the noise that is returned with it",
        found="something that is no sum of these two",
    )
    for position, (what, right) in enumerate({"image": mean, "noise": std}.items()):
        off = (numbers[:, position] / right.flatten() - 1).abs()
        worst = int(off.argmax())
        require(
            bool(off[worst] <= SHARE_TOLERANCE),
            f"The share of the {what} in `x_t` is not what it should be, for {int((off > SHARE_TOLERANCE).sum())} of "
            f"{len(off)} images.",
            expected="the formula's, for the time step of each image",
            found=f"{float(numbers[worst, position]):.4g} times the {what} at t = {int(t[worst])}",
        )
    return noise


@contextmanager
def recognised(student, solution, x_0, t):
    """Name the misconception that `q` shows with these arguments."""

    def behaviour(q, seed):
        seed(SEED)
        return [attempt(lambda: q(x_0, t))]

    def by_noise():
        """For an answer that draws its noise in another way: what would be wrong with the same noise?"""
        x_t, noise = student.q(x_0, t)

        def use(q):
            with drawing(noise):
                return q(x_0, t)

        if is_alike((x_t, noise), use(solution.q)):
            return None  # then what is wrong with it is no formula
        name = name_of((x_t, noise), outcomes(student.mistaken(), use))
        return other_noise(x_t, noise, x_0, *coefficients(solution, t)) if name is None else name

    with recognising(
        lambda: recognise(behaviour, student, student.q, solution.q),
        by_noise,
        lambda: ignores_schedule(student, x_0, t),
    ):
        yield


def other_noise(x_t, noise, x_0, mean, std):
    """The misconception where `x_t` has the right share of the image, and noise that is not what is returned."""
    drawn = (x_t - mean * x_0) / std
    if is_close(drawn, noise.broadcast_to(drawn.shape), 1e-2):  # drawn once and used several times
        return sharing(drawn, 1e-2)
    assert_unrelated(drawn, x_0)
    assert_unrelated(drawn, noise.broadcast_to(drawn.shape))
    assert_white(drawn, "the noise in x_t")
    return "q-other-noise" if not is_close(noise, x_0) else None


def sharing(noise, tolerance=TOLERANCE):
    """The misconception where images, or parts of them, have the same noise; not where it is one number everywhere."""
    shared = [is_close(noise, noise.narrow(dim, 0, 1).expand_as(noise), tolerance) for dim in range(noise.dim())]
    several = [same and size > 1 for same, size in zip(shared, noise.shape, strict=True)]
    if all(shared) or not any(several):
        return None
    return "one-draw-for-the-batch" if several[0] else "noise-shared-within-image"


def ignores_schedule(student, x_0, t):
    """Whether another schedule makes no difference."""
    solution = student.solution()
    student.seed(SEED)
    first = attempt(lambda: student.q(x_0, 0 * t))
    student.given(betas=solution.betas.flip(0))
    student.seed(SEED)
    return "hard-coded-schedule" if stays_the_same(first, attempt(lambda: student.q(x_0, 0 * t))) else None


def time_steps(solution, number, rng):
    """Time steps that differ: the last one, the first one, one that 8 bits do not hold, and others."""
    t = torch.randint(0, solution.T, (number,), generator=rng)
    t[:3] = torch.tensor([solution.T - 1, 0, int(torch.randint(128, solution.T, (), generator=rng))])
    return t


@pytest.fixture
def batch(rng, solution):
    """Images of several channels, taller than wide, with their time steps."""
    return torch.randn(6, 3, 7, 5, generator=rng), time_steps(solution, 6, rng)


def test_formula(student, solution, batch):
    """Mixes image and noise in the right proportions, for the time step of each image"""
    x_0, t = batch
    with recognised(student, solution, x_0, t):
        assert_formula(student.q(x_0, t), x_0, t, solution)


def test_time_steps_as_floats(student, solution, batch):
    """Takes time steps that arrive as floats"""
    x_0, t = batch
    with recognised(student, solution, x_0, t.float()):
        assert_formula(student.q(x_0, t.float()), x_0, t, solution)


def test_single_image(student, solution, rng):
    """Takes a single image, without a batch dimension or with one"""
    x_0 = torch.randn(1, 8, 8, generator=rng)
    step = torch.randint(1, solution.T, (1,), generator=rng)
    for t in (step, step.float()):
        with recognised(student, solution, x_0, t), recognising(lambda t=t: takes_batches_only(student, x_0, t)):
            x_t, noise = assert_pair(student.q(x_0, t), "what `q` returns")
        for name, value in (("x_t", x_t), ("noise", noise)):
            shape = list(getattr(value, "shape", ()))
            require(
                shape in ([1, 8, 8], [1, 1, 8, 8]),
                f"For a single image, `{name}` has the wrong shape.",
                expected="shape [1, 8, 8], that of the image",
                found=f"shape {shape}",
            )
        # An answer that adds the batch dimension is at peace with everything that follows
        assert_formula((x_t.reshape(1, 1, 8, 8), noise.reshape(1, 1, 8, 8)), x_0[None], step, solution)
        with recognised(student, solution, x_0[None], t):
            assert_formula(student.q(x_0[None], t), x_0[None], step, solution)


def takes_batches_only(student, x_0, t):
    """Whether the same image is fine with a batch dimension."""
    both = attempt(lambda: student.q(x_0, t)), attempt(lambda: student.q(x_0[None], t))
    return "q-batch-only" if isinstance(both[0], Raised) and not isinstance(both[1], Raised) else None


def test_noise(student, solution, rng):
    """Draws fresh standard normal noise for each image, each pixel and each call"""
    x_0 = torch.randn(8, 3, 72, 64, generator=rng)
    t = time_steps(solution, len(x_0), rng)
    noise = assert_formula(student.q(x_0, t), x_0, t, solution)
    shared = sharing(noise)
    require(shared is None, misconception=shared)
    again = assert_formula(student.q(x_0, t), x_0, t, solution)
    assert_unrelated(noise, again, misconception="fixed-seed")
    assert_white(torch.cat((noise, again)), "the noise")


def test_arguments_stay_as_they_are(student, batch):
    """Leaves its arguments as they are"""
    for x_0, t in (batch, (batch[0][0], batch[1][:1])):
        _, (x_after, t_after) = student.q.keeping(x_0, t)
        assert_unchanged({"images": (x_0, x_after), "time steps": (t, t_after)})
