"""The loss. The judge plays the model, so it sees what the model is asked and chooses what it answers."""

import pytest
import torch

from grading.checking import CheckFailed, assert_close, assert_standard_normal, assert_tensor, is_close, require

pytestmark = pytest.mark.blank("get_loss")


class Model:
    """Answers with a prediction of its own and remembers what it was asked."""

    def __init__(self, prediction):
        self.prediction = prediction
        self.calls = []

    def __call__(self, *args, **kwargs):
        self.calls.append([*args, *kwargs.values()])
        return self.prediction


@pytest.fixture
def batch(rng, solution):
    """Images, time steps as floats, and context with its mask."""
    x_0 = torch.randn(8, 1, 12, 12, generator=rng)
    t = torch.randint(0, solution.T, (8,), generator=rng).float()
    return x_0, t, torch.eye(10)[:8], torch.randint(0, 2, (8, 10), generator=rng).float()


def assert_asked(model, x_0, t, context, solution):
    """What the model was asked is right; return x_t and the noise in it."""
    require(len(model.calls) > 0, "`get_loss` does not call the model.")
    question = model.calls[-1]
    require(
        len(question) == 2 + len(context),
        "The model is called with the wrong number of arguments.",
        expected="x_t, t and the context, as model(x_t, t, *context)",
        found=f"{len(question)} arguments",
    )
    asked_t = question[1]
    require(
        isinstance(asked_t, torch.Tensor) and asked_t.numel() == t.numel(),
        "The model does not get one time step per image.",
    )
    asked_t = asked_t.flatten().float()
    if not torch.equal(asked_t, t) and is_close(asked_t, t / solution.T):
        raise CheckFailed("The model is given t / T. It divides by `T` itself, so this would be divided twice.")
    require(torch.equal(asked_t, t), "The model is given other time steps than `get_loss` was.")
    for asked, given in zip(question[2:], context, strict=True):
        require(
            isinstance(asked, torch.Tensor) and is_close(asked, given),
            "The context does not reach the model as it was given.",
            expected="context and mask, unchanged and in the order given",
            found="something else",
        )
    x_t = assert_tensor(question[0], x_0.shape, "the image that the model is given")
    require(not is_close(x_t, x_0), "The model is given `x_0`. It should see a noisy image.")
    mean = solution.sqrt_alphas_cumprod[t.long()].view(-1, 1, 1, 1)
    std = solution.sqrt_one_minus_alphas_cumprod[t.long()].view(-1, 1, 1, 1)
    noise = (x_t - mean * x_0) / std
    assert_standard_normal(noise, "the noise in the image that the model is given")
    return x_t, noise


def test_value(student, solution, batch, rng):
    """Is the mean squared error of the predicted noise"""
    x_0, t, *context = batch
    model = Model(torch.randn(x_0.shape, generator=rng))
    found = student.get_loss(model, x_0, t, *context)
    x_t, noise = assert_asked(model, x_0, t, context, solution)
    difference = model.prediction - noise
    assert_close(
        found,
        difference.square().mean(),
        "the loss",
        tolerance=1e-3,  # the noise is computed back from x_t
        mistakes={
            "The loss is a sum; it should be a mean, which does not grow with the batch.": difference.square().sum(),
            "The loss is a sum over each image; it should be a mean over every pixel.": (
                difference.square().sum() / len(x_0)
            ),
            "The loss is the mean absolute error, not the mean squared error.": difference.abs().mean(),
            "The loss is a root of the mean squared error.": difference.square().mean().sqrt(),
            "The loss is half of the mean squared error.": difference.square().mean() / 2,
            "The loss compares the prediction with the clean image.": (model.prediction - x_0).square().mean(),
            "The loss compares the prediction with the noisy image.": (model.prediction - x_t).square().mean(),
            "The loss is a smooth absolute error, not the mean squared error.": (
                torch.nn.functional.smooth_l1_loss(model.prediction, noise)
            ),
        },
        hint="It should compare the noise that went in with the noise that the model predicts.",
    )


def test_gradient(student, solution, batch, rng):
    """Lets the model learn from it"""
    x_0, t, *context = batch
    model = Model(torch.randn(x_0.shape, generator=rng))
    result = student.get_loss.vjp([model, x_0, t, *context], [torch.tensor(1.0)])
    _, noise = assert_asked(model, x_0, t, context, solution)
    gradients = [gradient for call in result.callbacks_grad[-1:] for gradient in call]
    require(
        len(gradients) == 1 and gradients[0] is not None,
        "No gradient of the loss reaches the model, so it would not learn.",
        expected="a loss that depends on the model's prediction through differentiable operations",
        found="a loss that is detached from it",
    )
    expected = 2 * (model.prediction - noise) / noise.numel()
    assert_close(gradients[0], expected, "the gradient that reaches the model", tolerance=1e-3)
