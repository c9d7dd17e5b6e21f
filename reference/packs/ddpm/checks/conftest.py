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
def course_betas(rng):
    """A variance schedule [T] of the range and the length of the course's, each beta changed by up to 40 %.

    At its small betas it shows what a bound or a small number "for safety" does, and at its end what holds for few
    steps only, such as counting them in 8 bits. A module's checks run under it where its `betas` are these.
    """
    steps = int(torch.randint(150, 171, (), generator=rng))
    return torch.linspace(1e-4, 0.05, steps) * (0.6 + 0.8 * torch.rand(steps, generator=rng))


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
