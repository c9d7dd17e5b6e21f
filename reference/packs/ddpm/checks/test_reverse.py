"""One reverse step `reverse_q`.

Two calls under the same seed draw the same noise, so that the difference of their results is free of it and exact. For
an answer whose random numbers no seed reaches, images are so large that its noise is small beside them.
"""

from contextlib import contextmanager

import pytest
import torch

from grading.checking import (
    SIZE_TOLERANCE,
    TOLERANCE,
    CheckFailed,
    assert_close,
    assert_tensor,
    assert_unchanged,
    assert_unrelated,
    assert_white,
    is_close,
    require,
    shares,
    variance_is_plausible,
)
from grading.recognition import Raised, attempt, drawing, recognise, recognising, stays_the_same, tensors
from sandbox.faults import GuestFault

pytestmark = pytest.mark.blank("reverse_q")

SEED = 1  # any: only that both calls have the same one matters

# By how much float32 rounds an alpha close to 1. Beside 1 - alphas_cumprod, and relative to the image, an answer that
# comes from another form of the formula may deviate by as much.
ROUNDING = 2**-23
# Relative to what the predicted noise takes away. The smallest number that is added against a division by zero and does
# harm, 1e-6, makes 0.4 % at the first step.
SHARE_TOLERANCE = 2e-3
# How large images are beside which noise is smaller than any tolerance: it has a standard deviation of 0.3 at most
LARGE = 1e5


@pytest.fixture
def betas(course_betas):
    return course_betas


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
    """Exact up to the noise, which cancels, or is too small to be seen."""
    x_t, e_t, other_x, other_e = images
    student.seed(SEED)
    first = step_back(student, x_t, t, e_t)
    student.seed(SEED)
    second = step_back(student, other_x, t, other_e)
    x, e = x_t - other_x, e_t - other_e
    found = first - second
    if not has_right_shares(found, solution, step, x, e) and not repeats_itself(student, x_t, t, e_t):
        found, x, e = step_back(student, LARGE * x_t, t, LARGE * e_t) / LARGE, x_t, e_t

    def without_noise(reverse_q):
        with drawing(0.0):
            return reverse_q(x_t, t, e_t) - reverse_q(other_x, t, other_e)

    assert_result(
        found,
        solution,
        step,
        x,
        e,
        f"the mean of x_(t-1) at t = {step}",
        mistakes=lambda: tensors(student.mistaken(), without_noise),
    )


def assert_result(found, solution, step, x, e, what, **mistakes):
    """The result of a step without its noise is the formula's, in its share of the image and of the predicted noise."""
    if has_right_shares(found, solution, step, x, e):
        return
    assert_close(found, mean(solution, x, step, e), what, **mistakes)
    numbers, _ = shares(found, x, e)
    raise CheckFailed(
        f"{what[:1].upper()}{what[1:]} is not exact.",
        expected="the formula, with nothing added to its coefficients",
        found=f"{float(numbers[0, 0]):.5g} times the image and {float(numbers[0, 1]):.4g} times the predicted noise",
    )


def has_right_shares(found, solution, step, x, e):
    right = torch.stack((solution.sqrt_recip_alphas, -solution.sqrt_recip_alphas * solution.pred_noise_coeff))[:, step]
    rounding = ROUNDING / float(1 - solution.alphas_cumprod[step])
    allowed = right.abs() * torch.tensor([TOLERANCE + rounding, SHARE_TOLERANCE + rounding])
    numbers, left = shares(found, x, e)
    return bool(((numbers - right).abs() <= allowed).all() and (left <= TOLERANCE * x.flatten(1).abs().amax(1)).all())


def repeats_itself(student, x_t, t, e_t):
    """Whether the same seed makes the same noise."""
    results = []
    for _ in range(2):
        student.seed(SEED)
        results.append(step_back(student, x_t, t, e_t))
    return is_close(*results)


def trace(x_t, e_t, steps):
    """What tells mistaken answers apart: results at several steps, and for the forms in which time steps come."""
    forms = [torch.tensor([step]) for step in steps]
    forms += [torch.tensor([float(steps[1])]), *(torch.full((len(x_t),), step) for step in steps[:2])]

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
        under_another = list(behaviour(student.reverse_q, student.seed))
        return "hard-coded-schedule" if stays_the_same(first, under_another) else None

    with recognising(
        lambda: recognise(trace(x_t, e_t, steps), student, student.reverse_q, solution.reverse_q), ignores_schedule
    ):
        yield


def by_size_of_noise(student, noises, images):
    """The misconception under which the noise, by time step, has the sizes that were seen."""
    for misconception, mistaken in student.mistaken().items():
        if all(size_fits(mistaken, noise, step, *images) for step, noise in noises.items()):
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
    with recognised(student, *images[:2]):
        for t in (torch.tensor([0]), torch.tensor([0.0])):
            assert_without_noise(student, solution, images, t)


def assert_without_noise(student, solution, images, t):
    """At t = 0 every call gives the formula's result; noise far below what a pixel can show counts as none."""
    x_t, e_t = images[:2]
    found, again = (step_back(student, x_t, t, e_t) for _ in range(2))
    require(
        is_close(again, found, 1e-6),
        ""
        if t.numel() == 1
        else "Noise is added in the last step where `t` holds one time step per image, all of them 0.",
        expected="the same result in every call",
        found="two results that differ",
        misconception="reverse-noise-at-zero",
    )
    assert_result(found, solution, 0, x_t, e_t, "the result at t = 0")


def test_noise(student, course_betas, rng):
    """Adds fresh normal noise of a customary variance at t > 0"""
    # Small betas at first, as in the course; later two large jumps, which tell the customary variances apart
    last = len(course_betas) - 1
    betas = course_betas.clone()
    betas[[last // 2, last]] = torch.tensor([0.2, 0.3])
    solution = student.given(betas=betas)
    x_t, e_t = torch.randn(2, 4, 3, 72, 64, generator=rng)
    few = x_t[..., :7, :5], e_t[..., :7, :5]  # enough to recognise a misconception by
    drawn = {}

    def draw(step):
        return step_back(student, x_t, torch.tensor([step]), e_t) - mean(solution, x_t, step, e_t)

    with recognised(student, *few), recognising(lambda: by_size_of_noise(student, drawn, few)):
        for step in (1, 2, last // 2, last):
            drawn[step] = draw(step)
        assert_noise_at_all(drawn, solution)
        again = draw(last)
        assert_unrelated(drawn[last], again, misconception="fixed-seed")
        assert_white(torch.cat([of_size_1(noise) for noise in (*drawn.values(), again)]), "the noise that is added")
        assert_customary_size(drawn, solution)


def of_size_1(noise):
    return noise / max(float(noise.square().mean().sqrt()), 1e-9)


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


def assert_customary_size(drawn, solution):
    """The noise, by time step, has the same one of the customary variances at each of them."""
    fitting = None
    for step, noise in drawn.items():
        customary = variances(solution, step)
        fits = {name for name, variance in customary.items() if variance_is_plausible(noise, variance, variance)}
        found = float(noise.square().mean())
        require(
            bool(fits),
            f"{how_much(found, customary.values())} noise is added at t = {step}.",
            expected="one of the three customary variances, multiplied in as a standard deviation",
            found=f"noise of variance {found:.3g} where beta_t is {float(solution.betas[step]):.3g}",
        )
        fitting = fits if fitting is None else fitting & fits
    require(bool(fitting), misconception="reverse-mixed-rules")
    # All steps together show a smaller factor than each of them
    sizes = [
        sum(float(noise.square().mean()) / variances(solution, step)[name] for step, noise in drawn.items())
        / len(drawn)
        for name in fitting
    ]
    closest = min(sizes, key=lambda size: abs(size - 1))
    require(
        abs(closest - 1) <= SIZE_TOLERANCE,
        f"{how_much(closest, [1])} noise is added.",
        expected="one of the three customary variances, multiplied in as a standard deviation",
        found=f"noise whose variance is {closest:.3f} times that",
    )


def how_much(found, customary):
    if found > max(customary):
        return "Too much"
    return "Too little" if found < min(customary) else "The wrong amount of"


@pytest.mark.parametrize("kind", ["integer", "float"])
def test_one_time_step_per_image(student, solution, images, rng, kind):
    """Takes one time step per image, all of them equal, as integers or floats"""
    step = solution.T // 2
    x_t, e_t = torch.randn(2, 3, 3, 72, 64, generator=rng)

    def at(step, *shape):
        t = torch.full(shape, step)
        return t.float() if kind == "float" else t

    def assert_right(*shape):
        assert_mean(student, solution, images, step, at(step, *shape))
        assert_without_noise(student, solution, images, at(0, *shape))
        noise = step_back(student, x_t, at(step, *shape), e_t) - mean(solution, x_t, step, e_t)
        assert_noise_at_all({step: noise}, solution)
        assert_white(of_size_1(noise), "the noise that is added")
        assert_customary_size({step: noise}, solution)

    with recognised(student, *images[:2]):
        assert_mean(student, solution, images, step, at(step, 1))
        try:
            assert_right(3)
        except (CheckFailed, GuestFault) as failure:
            # Both shapes are in use; an answer may know either
            try:
                assert_right(3, 1, 1, 1)
            except (CheckFailed, GuestFault):
                raise failure from None


def test_arguments_stay_as_they_are(student, images):
    """Leaves its arguments as they are"""
    x_t, e_t = images[:2]
    for t in (torch.tensor([3]), torch.tensor([3.0]), torch.tensor([0])):
        _, (x_after, t_after, e_after) = student.reverse_q.keeping(x_t, t, e_t)
        assert_unchanged({"images": (x_t, x_after), "time step": (t, t_after), "noise": (e_t, e_after)})
