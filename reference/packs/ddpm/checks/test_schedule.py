"""The coefficients of the variance schedule."""

import pytest
import torch

from grading.checking import TOLERANCE, CheckFailed, assert_close, is_close, require
from grading.recognition import attempt, recognising, stays_the_same
from sandbox.faults import GuestFault

NAMES = (
    "alphas",
    "alphas_cumprod",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "sqrt_recip_alphas",
    "pred_noise_coeff",
)
COEFFICIENTS = [pytest.param(name, id=name, marks=pytest.mark.blank(name)) for name in NAMES]

# The coefficient that each is computed from
FROM = {
    "alphas_cumprod": "alphas",
    "sqrt_alphas_cumprod": "alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod": "alphas_cumprod",
    "sqrt_recip_alphas": "alphas",
    "pred_noise_coeff": "alphas_cumprod",
}

# What float32 makes of an alpha close to 1: it is rounded by 3e-8, and once more wherever it is computed anew. Eight
# times as much also lets a small number of 1e-7 or less pass that is added to keep from dividing by zero.
ROUNDING = 2**-22


@pytest.fixture
def betas(course_betas):
    return course_betas


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_value(student, betas, name):
    """Has the right value at every time step"""
    coefficient = getattr(student, name)
    # Where the solution's values depend on the last digits of the alphas, so may the student's
    least, most = (getattr(student.given(betas=betas + change), name) for change in (ROUNDING, -ROUNDING))
    expected = getattr(student.given(betas=betas), name)
    allowed = TOLERANCE * expected.abs() + (most - least).abs() / 2

    def ignores_schedule():
        found = coefficient()
        under_another = attempt(lambda: coefficient(betas=betas.flip(0) / 2))
        return "hard-coded-schedule" if stays_the_same(found, under_another) else None

    def holds_nan():
        return next((name for name, value in student.mistaken().items() if value.isnan().any()), None)

    try:
        found = coefficient()
    except GuestFault as fault:
        name = holds_nan() if fault.exception is None and fault.message == "holds NaN" else None
        if name is None:
            raise
        raise CheckFailed(expected="finite numbers", found="NaN", misconception=name) from None
    wrong = wrong_entries(found, expected, allowed)
    if (
        isinstance(found, torch.Tensor)
        and (wrong or not is_close(found, expected))
        and follows_from_own(student, name, found)
    ):
        return
    with recognising(ignores_schedule):
        small = wrong == list(range(len(wrong))) and 0 < len(wrong) < len(expected)
        hint = f"From t = {len(wrong)} on it is right; before, where the betas are small, it is not." if small else ""
        assert_close(found, expected, f"`{name}`", mistakes=student.mistaken, hint=hint)
        require(
            not wrong,
            hint or f"`{name}` is not exact: {len(wrong)} of its {len(expected)} values deviate.",
            expected="the formula at every time step, also of a schedule that begins with betas of 0.0001",
            found=", ".join(f"{float(found[place]):.4g} at [{place}]" for place in wrong[:1]),
        )


def follows_from_own(student, name, found):
    """Whether it is the right formula of the student's own coefficient that is wrong, and has lost its own points.

    Where all coefficients are made in one function or object, the right one cannot be put in its place.
    """
    if name not in FROM:
        return False
    right = getattr(student.solution(), FROM[name])
    own = student.own_tensors(FROM[name]).get(FROM[name])
    if own is None or (own.shape, own.dtype) != (right.shape, right.dtype) or not bool(own.isfinite().all()):
        return False
    if is_close(own, right):
        return False  # then it explains nothing
    followed = getattr(student.solution(**{FROM[name]: own}), name)
    return bool(followed.isfinite().all()) and is_close(found, followed)


def wrong_entries(found, expected, allowed):
    """Time steps at which the value is wrong, be it small beside the largest; none where there is no value for each."""
    if not isinstance(found, torch.Tensor) or found.shape != expected.shape:
        return []
    return (~((found - expected).abs() <= allowed)).nonzero().flatten().tolist()
