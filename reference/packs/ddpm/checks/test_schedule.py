"""The coefficients of the variance schedule."""

import pytest

from grading.checking import assert_close
from grading.recognition import attempt, is_alike, recognising

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

    with recognising(ignores_schedule):
        assert_close(coefficient(), getattr(solution, name), f"`{name}`", mistakes=student.mistaken)
