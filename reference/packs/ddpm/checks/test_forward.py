"""The forward process `q`."""

import pytest
import torch

from grading.checking import assert_close, assert_pair, assert_standard_normal, assert_tensor, assert_unrelated, require

pytestmark = pytest.mark.blank("q")


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
    assert_close(
        x_t,
        mean * x_0 + std * noise,
        "`x_t`",
        mistakes={
            "The two coefficients of `x_t` are swapped.": std * x_0 + mean * noise,
            "The noise in `x_t` is scaled by its variance; it should be scaled by its standard deviation.": (
                mean * x_0 + std**2 * noise
            ),
            "The image in `x_t` is scaled by the cumulative product; the square root is missing.": (
                mean**2 * x_0 + std * noise
            ),
            "The image in `x_t` is not scaled.": x_0 + std * noise,
            "The noise in `x_t` is not scaled.": mean * x_0 + noise,
            "Every image is treated as if it had the time step of the first one.": mean[:1] * x_0 + std[:1] * noise,
        },
        hint="It should be made of `x_0` and the noise that `q` returns.",
    )
    return noise


@pytest.fixture
def batch(rng, solution):
    """Images of several channels, taller than wide, with time steps that differ, among them the first and the last."""
    x_0 = torch.randn(6, 3, 7, 5, generator=rng)
    t = torch.randint(0, solution.T, (6,), generator=rng)
    t[:2] = torch.tensor([0, solution.T - 1])
    return x_0, t


def test_formula(student, solution, batch):
    """Mixes image and noise in the right proportions, for the time step of each image"""
    x_0, t = batch
    assert_formula(student.q(x_0, t), x_0, t, solution)


def test_time_steps_as_floats(student, solution, batch):
    """Takes time steps that arrive as floats"""
    x_0, t = batch
    assert_formula(student.q(x_0, t.float()), x_0, t, solution)


def test_single_image(student, solution, rng):
    """Takes a single image without a batch dimension"""
    x_0 = torch.randn(1, 8, 8, generator=rng)
    t = torch.randint(1, solution.T, (1,), generator=rng)
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


def test_noise(student, solution, rng):
    """Draws fresh standard normal noise for each image, each pixel and each call"""
    x_0 = torch.randn(4, 1, 64, 64, generator=rng)
    t = torch.randint(0, solution.T, (4,), generator=rng)
    noise = assert_formula(student.q(x_0, t), x_0, t, solution)
    assert_unrelated(noise[0], noise[1], "Two images of a batch got the same noise.")
    assert_unrelated(noise[0, 0, 0], noise[0, 0, 1], "Two rows of an image got the same noise.")
    assert_standard_normal(noise, "the noise")
    again = assert_formula(student.q(x_0, t), x_0, t, solution)
    assert_unrelated(noise, again, "Two calls got the same noise; it should be drawn anew each time.")


def test_arguments_stay_as_they_are(student, batch):
    """Leaves its arguments as they are"""
    x_0, t = batch
    _, (x_after, t_after) = student.q.keeping(x_0, t)
    require(torch.equal(x_after, x_0), "`q` has changed the images that it was given. It should make new ones.")
    require(torch.equal(t_after, t), "`q` has changed the time steps that it was given.")
