"""The coefficients of the variance schedule."""

import pytest
import torch

from grading.checking import assert_close

MISTAKES = {
    "alphas": {
        "These are the betas themselves.": lambda s: s.betas,
        "These are square roots of the alphas.": lambda s: s.alphas.sqrt(),
        "This is already the cumulative product.": lambda s: s.alphas_cumprod,
        "The sign is wrong: alphas are smaller than 1.": lambda s: 1 + s.betas,
    },
    "alphas_cumprod": {
        "This is a cumulative sum, not a product.": lambda s: s.alphas.cumsum(0),
        "This is the cumulative product of the betas.": lambda s: s.betas.cumprod(0),
        "This is shifted by one step: entry t should include the alpha of step t.": lambda s: torch.cat(
            (torch.ones(1), s.alphas_cumprod[:-1])
        ),
        "These are the alphas, not yet multiplied up.": lambda s: s.alphas,
    },
    "sqrt_alphas_cumprod": {
        "The square root is missing.": lambda s: s.alphas_cumprod,
        "This is taken from the alphas; it should be taken from their cumulative product.": lambda s: s.alphas.sqrt(),
        "This is the standard deviation of the noise, not the factor of the image.": (
            lambda s: s.sqrt_one_minus_alphas_cumprod
        ),
    },
    "sqrt_one_minus_alphas_cumprod": {
        "The square root is missing: this is the variance.": lambda s: 1 - s.alphas_cumprod,
        "This is taken from the alphas; it should be taken from their cumulative product.": (
            lambda s: (1 - s.alphas).sqrt()
        ),
        "The root and the difference are the wrong way round.": lambda s: 1 - s.alphas_cumprod.sqrt(),
    },
    "sqrt_recip_alphas": {
        "The square root is missing.": lambda s: 1 / s.alphas,
        "The fraction is upside down.": lambda s: s.alphas.sqrt(),
        "This is taken from the cumulative product; one step back needs the alphas.": (
            lambda s: s.alphas_cumprod.rsqrt()
        ),
    },
    "pred_noise_coeff": {
        "The square root below the fraction is missing.": lambda s: s.betas / (1 - s.alphas_cumprod),
        "This has the alphas where the cumulative product belongs.": lambda s: s.betas / (1 - s.alphas).sqrt(),
        "The root and the difference below the fraction are the wrong way round.": (
            lambda s: s.betas / (1 - s.alphas_cumprod.sqrt())
        ),
        "There should be betas above the fraction, not alphas.": lambda s: s.alphas / (1 - s.alphas_cumprod).sqrt(),
    },
}
COEFFICIENTS = [pytest.param(name, id=name, marks=pytest.mark.blank(name)) for name in MISTAKES]


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_value(student, solution, name):
    """Has the right value at every time step"""
    mistakes = {message: formula(solution) for message, formula in MISTAKES[name].items()}
    assert_close(getattr(student, name)(), getattr(solution, name), f"`{name}`", mistakes=mistakes)
