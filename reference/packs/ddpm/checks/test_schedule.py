"""The coefficients of the variance schedule."""

import pytest

from grading.checking import CheckFailed, assert_close
from grading.recognition import attempt, is_alike, recognising
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


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_value(student, solution, name):
    """Has the right value at every time step"""
    coefficient = getattr(student, name)

    def ignores_schedule():
        found = coefficient()
        under_another = attempt(lambda: coefficient(betas=solution.betas.flip(0)[:-1] / 2))
        return "hard-coded-schedule" if is_alike(found, under_another) else None

    def holds_nan():
        return next((name for name, value in student.mistaken().items() if value.isnan().any()), None)

    try:
        found = coefficient()
    except GuestFault as fault:
        name = holds_nan() if fault.exception is None and fault.message == "holds NaN" else None
        if name is None:
            raise
        raise CheckFailed(expected="finite numbers", found="NaN", misconception=name) from None
    with recognising(ignores_schedule):
        assert_close(found, getattr(solution, name), f"`{name}`", mistakes=student.mistaken)
