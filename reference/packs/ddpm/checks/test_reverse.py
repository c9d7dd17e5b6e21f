"""One reverse step `reverse_q`.

Two calls under the same seed draw the same noise, so that the difference of their results is free of it and exact.
"""

from contextlib import contextmanager

import pytest
import torch

from grading.checking import (
    CheckFailed,
    assert_close,
    assert_standard_normal,
    assert_tensor,
    assert_unrelated,
    require,
    variance_is_plausible,
)
from grading.recognition import Raised, attempt, drawing, is_alike, recognise, recognising, tensors
from sandbox.faults import GuestFault

pytestmark = pytest.mark.blank("reverse_q")

SEED = 1  # any: only that both calls have the same one matters


def mean(solution, x_t, step, e_t):
    return solution.sqrt_recip_alphas[step] * (x_t - solution.pred_noise_coeff[step] * e_t)


def variances(solution, step):
    """Each customary variance of step t > 0, by name."""
    betas, alphas_cumprod = solution.betas, solution.alphas_cumprod
    return {
        "beta_t": float(betas[step]),
        "beta_{t-1}": float(betas[step - 1]),
        "posterior": float((1 - alphas_cumprod[step - 1]) / (1 - alphas_cumprod[step]) * betas[step]),
    }


def step_back(student, x_t, t, e_t, what="what `reverse_q` returns"):
    return assert_tensor(student.reverse_q(x_t, t, e_t), x_t.shape, what)


def assert_mean(student, solution, images, step, t):
    """Exact up to the noise, which cancels."""
    x_t, e_t, other_x, other_e = images
    student.seed(SEED)
    first = step_back(student, x_t, t, e_t)
    student.seed(SEED)
    second = step_back(student, other_x, t, other_e)
    x, e = x_t - other_x, e_t - other_e

    def without_noise(reverse_q):
        with drawing(0.0):
            return reverse_q(x_t, t, e_t) - reverse_q(other_x, t, other_e)

    assert_close(
        first - second,
        mean(solution, x, step, e),
        f"the mean of x_(t-1) at t = {step}",
        mistakes=lambda: tensors(student.mistaken(), without_noise),
    )


def trace(x_t, e_t, steps):
    """What tells mistaken answers apart: results at several steps, and for the forms in which time steps come."""
    forms = [torch.tensor([step]) for step in steps]
    forms += [torch.tensor([float(steps[1])]), torch.full((len(x_t),), steps[1])]

    def behaviour(reverse_q, seed):
        for t in forms:
            seed(SEED)
            yield attempt(lambda t=t: reverse_q(x_t, t, e_t))

    return behaviour


@contextmanager
def recognised(student, x_t, e_t):
    """Name the misconception that `reverse_q` shows on these images."""
    solution = student.solution()
    steps = [0, 1, solution.T // 2, solution.T - 1]

    def ignores_schedule():
        behaviour = trace(x_t, e_t, [0, 1, 2])
        first = list(behaviour(student.reverse_q, student.seed))
        student.given(betas=solution.betas.flip(0))
        return "hard-coded-schedule" if is_alike(first, list(behaviour(student.reverse_q, student.seed))) else None

    with recognising(
        lambda: recognise(trace(x_t, e_t, steps), student, student.reverse_q, solution.reverse_q), ignores_schedule
    ):
        yield


def by_size_of_noise(student, noises, images):
    """The misconception under which the noise, by time step, has the sizes that were seen."""
    x_t, e_t = images
    for misconception, mistaken in student.mistaken().items():
        if all(size_fits(mistaken, noise, step, x_t, e_t) for step, noise in noises.items()):
            return misconception
    return None


def size_fits(mistaken, noise, step, x_t, e_t):
    def with_noise(value):
        with drawing(value):
            return mistaken(x_t, torch.tensor([step]), e_t)

    scale = attempt(lambda: with_noise(1.0) - with_noise(0.0))
    if isinstance(scale, Raised) or not float(scale.std()) < 1e-6:
        return False
    variance = float(scale.mean()) ** 2
    return variance > 0 and variance_is_plausible(noise, variance, variance)


@pytest.fixture
def images(rng):
    return torch.randn(4, 3, 2, 7, 5, generator=rng)


def test_mean(student, solution, images):
    """Has the right mean at every time step"""
    with recognised(student, *images[:2]):
        for step in (1, solution.T // 2, solution.T - 1):
            assert_mean(student, solution, images, step, torch.tensor([step]))


def test_last_step_adds_no_noise(student, solution, images):
    """Adds no noise at t = 0"""
    x_t, e_t = images[:2]
    expected = mean(solution, x_t, 0, e_t)
    with recognised(student, x_t, e_t):
        found = step_back(student, x_t, torch.tensor([0]), e_t)
        again = step_back(student, x_t, torch.tensor([0]), e_t)
        require(
            torch.equal(found, again),
            expected="the same result in every call",
            found="two results that differ",
            misconception="reverse-noise-at-zero",
        )
        assert_close(found, expected, "the result at t = 0")


def test_noise(student, rng):
    """Adds fresh normal noise of a customary variance at t > 0"""
    # Large jumps from step to step tell the customary variances apart
    betas = torch.tensor([0.1, 0.02, 0.2, 0.05, 0.3, 0.03, 0.1, 0.02]) * (1 + 0.2 * torch.rand(8, generator=rng))
    solution = student.given(betas=betas)
    x_t, e_t = torch.randn(2, 4, 1, 64, 64, generator=rng)
    drawn, noises, fitting = {}, {}, None
    with recognised(student, x_t, e_t):
        for step in (1, 2, 4, 7):
            found = step_back(student, x_t, torch.tensor([step]), e_t)
            drawn[step] = found - mean(solution, x_t, step, e_t)
        assert_noise_at_all(drawn, solution)
    for step, noise in drawn.items():
        noises[step] = noise
        fits = {
            name: variance
            for name, variance in variances(solution, step).items()
            if variance_is_plausible(noise, variance, variance)
        }
        assert_unrelated(noise[0], noise[1], misconception="one-draw-for-the-batch")
        with (
            recognised(student, x_t, e_t),
            recognising(lambda: by_size_of_noise(student, noises, (x_t, e_t))),
        ):
            assert_standard_normal(noise / max(float(noise.square().mean().sqrt()), 1e-9), "the noise that is added")
            require(
                bool(fits),
                f"The noise added at t = {step} has the wrong size.",
                expected="one of the three customary variances, multiplied in as a standard deviation",
                found=f"noise of variance {float(noise.var()):.3g} where beta_t is {float(betas[step]):.3g}",
            )
        fitting = set(fits) if fitting is None else fitting & set(fits)
    require(bool(fitting), misconception="reverse-mixed-rules")
    again = step_back(student, x_t, torch.tensor([step]), e_t) - mean(solution, x_t, step, e_t)
    assert_unrelated(noise, again, misconception="fixed-seed")


def assert_noise_at_all(drawn, solution):
    """No step t > 0 goes without noise; which ones do says what is wrong."""
    silent = [step for step, noise in drawn.items() if not float(noise.abs().max()) > 1e-4]
    names = {(1,): "reverse-no-noise-at-one", (solution.T - 1,): "reverse-no-noise-at-start"}
    at = "t = " + " and ".join(map(str, silent))
    require(
        not silent,
        "" if len(silent) == len(drawn) or tuple(silent) in names else f"No noise is added at {at}.",
        expected="noise at every t > 0",
        found=f"none at {at}",
        misconception="reverse-no-noise" if len(silent) == len(drawn) else names.get(tuple(silent)),
    )


@pytest.mark.parametrize("kind", ["integer", "float"])
def test_one_time_step_per_image(student, solution, images, kind):
    """Takes one time step per image, all of them equal, as integers or floats"""
    step = solution.T // 2
    t = torch.full((3,), step)
    t = t.float() if kind == "float" else t
    with recognised(student, *images[:2]):
        assert_mean(student, solution, images, step, t[:1])
        try:
            assert_mean(student, solution, images, step, t)
        except (CheckFailed, GuestFault):
            # Both shapes are in use; an answer may know either
            assert_mean(student, solution, images, step, t.view(3, 1, 1, 1))


def test_arguments_stay_as_they_are(student, images):
    """Leaves its arguments as they are"""
    x_t, e_t = images[:2]
    _, (x_after, _, e_after) = student.reverse_q.keeping(x_t, torch.tensor([3]), e_t)
    for name, same in {"images": torch.equal(x_after, x_t), "noise": torch.equal(e_after, e_t)}.items():
        require(
            same,
            expected=f"the same {name} as before the call",
            found=f"other {name}",
            misconception="changed-argument",
        )
