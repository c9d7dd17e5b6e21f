"""The forward process `q`."""

from contextlib import contextmanager

import pytest
import torch

from grading.checking import (
    TOLERANCE,
    assert_close,
    assert_pair,
    assert_standard_normal,
    assert_tensor,
    assert_unrelated,
    is_close,
    require,
)
from grading.recognition import Raised, attempt, drawing, is_alike, name_of, outcomes, recognise, recognising

pytestmark = pytest.mark.blank("q")

SEED = 1  # any: the judge draws with the same one


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
    assert_close(
        x_t,
        mean * x_0 + std * noise,
        "`x_t`",
        hint="It should be made of `x_0` and the noise that `q` returns.",
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

        name = name_of((x_t, noise), outcomes(student.mistaken(), use))
        if name is None:
            mean, std = coefficients(solution, t)
            drawn = (x_t - mean * x_0) / std
            if is_close(drawn, noise.broadcast_to(drawn.shape), 1e-2):  # drawn once and used several times
                return sharing(drawn, 1e-2)
            assert_standard_normal(drawn, "the noise in x_t")
            return "q-other-noise" if not is_close(noise, x_0) else None
        return name

    with recognising(
        lambda: recognise(behaviour, student, student.q, solution.q),
        by_noise,
        lambda: ignores_schedule(student, x_0, t),
    ):
        yield


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
    first = student.q(x_0, 0 * t)
    student.given(betas=solution.betas.flip(0))
    student.seed(SEED)
    return "hard-coded-schedule" if is_alike(first, student.q(x_0, 0 * t)) else None


@pytest.fixture
def batch(rng, solution):
    """Images of several channels, taller than wide, with time steps that differ, among them the first and the last."""
    x_0 = torch.randn(6, 3, 7, 5, generator=rng)
    t = torch.randint(0, solution.T, (6,), generator=rng)
    t[:2] = torch.tensor([solution.T - 1, 0])
    return x_0, t


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
    """Takes a single image without a batch dimension"""
    x_0 = torch.randn(1, 8, 8, generator=rng)
    t = torch.randint(1, solution.T, (1,), generator=rng)
    with recognised(student, solution, x_0, t), recognising(lambda: takes_batches_only(student, x_0, t)):
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
    assert_formula((x_t.reshape(1, 1, 8, 8), noise.reshape(1, 1, 8, 8)), x_0[None], t, solution)


def takes_batches_only(student, x_0, t):
    """Whether the same image is fine with a batch dimension."""
    both = attempt(lambda: student.q(x_0, t)), attempt(lambda: student.q(x_0[None], t))
    return "q-batch-only" if isinstance(both[0], Raised) and not isinstance(both[1], Raised) else None


def test_noise(student, solution, rng):
    """Draws fresh standard normal noise for each image, each pixel and each call"""
    x_0 = torch.randn(4, 1, 64, 64, generator=rng)
    t = torch.randint(0, solution.T, (4,), generator=rng)
    noise = assert_formula(student.q(x_0, t), x_0, t, solution)
    shared = sharing(noise)
    require(shared is None, misconception=shared)
    assert_unrelated(noise[0], noise[1], misconception="one-draw-for-the-batch")
    assert_unrelated(noise[0, 0, 0], noise[0, 0, 1], "Two rows of an image got the same noise.")
    assert_standard_normal(noise, "the noise")
    again = assert_formula(student.q(x_0, t), x_0, t, solution)
    assert_unrelated(noise, again, misconception="fixed-seed")


def test_arguments_stay_as_they_are(student, batch):
    """Leaves its arguments as they are"""
    x_0, t = batch
    _, (x_after, t_after) = student.q.keeping(x_0, t)
    found = {"images": torch.equal(x_after, x_0), "time steps": torch.equal(t_after, t)}
    for name, same in found.items():
        require(
            same,
            expected=f"the same {name} as before the call",
            found=f"other {name}",
            misconception="changed-argument",
        )
