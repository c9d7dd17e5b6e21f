"""The values that the assignment's names have in a check, other ones in each grading."""

import pytest
import torch


@pytest.fixture
def betas(rng):
    """A variance schedule [T] that no hard-coded answer fits.

    Betas of 0.01 and more keep 1 - alphas_cumprod away from 0, where float32 has few digits left; at most 40 steps of
    at most 0.1 keep alphas_cumprod away from 0 too.
    """
    steps = int(torch.randint(20, 41, (), generator=rng))
    return 0.01 + 0.09 * torch.rand(steps, generator=rng)


@pytest.fixture
def givens(betas):
    """Every given by its canonical name."""
    return {
        "betas": betas,
        "T": len(betas),
        "device": torch.device("cpu"),
        "IMG_CH": 1,
        "IMG_SIZE": 12,  # of no recipe
        "N_CLASSES": 10,
        "BATCH_SIZE": 8,
    }
