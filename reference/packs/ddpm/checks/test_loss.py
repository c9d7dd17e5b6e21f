"""The loss. The judge plays the model, so it sees what the model is asked and chooses what it answers."""

from contextlib import contextmanager

import pytest
import torch

from grading.checking import (
    CheckFailed,
    assert_close,
    assert_standard_normal,
    assert_tensor,
    assert_unrelated,
    is_close,
    require,
)
from grading.recognition import attempt, drawing, recognise, recognising, tensors

pytestmark = pytest.mark.blank("get_loss")

SEED = 1  # any: the judge draws with the same one


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
    """What the model was asked is right; return the noise in the image."""
    require(len(model.calls) > 0, misconception="loss-model-not-called")
    question = model.calls[-1]
    require(
        len(question) == 2 + len(context),
        "The model is called with the wrong number of arguments.",
        expected="x_t, t and the context, as model(x_t, t, *context)",
        found=f"{len(question)} arguments",
        misconception="loss-context-forgotten" if len(question) == 2 else None,
    )
    asked_t = question[1]
    require(
        isinstance(asked_t, torch.Tensor) and asked_t.numel() == t.numel(),
        "The model does not get one time step per image.",
    )
    asked_t = asked_t.flatten().float()
    if not torch.equal(asked_t, t):
        divided = is_close(asked_t, t / solution.T)
        raise CheckFailed(misconception="loss-time-divided" if divided else "loss-other-time-steps")
    for asked, given in zip(question[2:], context, strict=True):
        require(
            isinstance(asked, torch.Tensor) and is_close(asked, given),
            expected="context and mask, unchanged and in the order given",
            found="something else",
            misconception="loss-context-changed",
        )
    x_t = assert_tensor(question[0], x_0.shape, "the image that the model is given")
    require(not is_close(x_t, x_0), misconception="loss-clean-image-goes-in")
    noise = noise_in(x_t, x_0, t, solution)
    assert_standard_normal(noise, "the noise in the image that the model is given")
    return noise


def noise_in(x_t, x_0, t, solution):
    mean = solution.sqrt_alphas_cumprod[t.long()].view(-1, 1, 1, 1)
    std = solution.sqrt_one_minus_alphas_cumprod[t.long()].view(-1, 1, 1, 1)
    return (x_t - mean * x_0) / std


@contextmanager
def recognised(student, solution, batch, prediction):
    """Name the misconception that `get_loss` shows on this batch."""
    x_0, t, *context = batch

    def behaviour(get_loss, seed):
        model = Model(prediction)
        seed(SEED)
        loss = attempt(lambda: get_loss(model, x_0, t, *context))
        return [loss, [list(call) for call in model.calls]]

    def use(get_loss):
        return get_loss(Model(prediction), x_0, t, *context)

    def by_noise():
        """For an answer that draws its noise in another way: what would be wrong with the same noise?"""
        model = Model(prediction)
        found = student.get_loss(model, x_0, t, *context)
        noise = assert_asked(model, x_0, t, context, solution)
        with drawing(noise):
            mistaken = tensors(student.mistaken(), use)
        # Less exact, since the noise is computed back from x_t
        return next((name for name, loss in mistaken.items() if is_close(found, loss, 1e-3)), None)

    with recognising(lambda: recognise(behaviour, student, student.get_loss, solution.get_loss), by_noise):
        yield


def test_value(student, solution, batch, rng):
    """Is the mean squared error of the predicted noise"""
    x_0, t, *context = batch
    model = Model(torch.randn(x_0.shape, generator=rng))
    with recognised(student, solution, batch, model.prediction):
        found = student.get_loss(model, x_0, t, *context)
        noise = assert_asked(model, x_0, t, context, solution)
        assert_close(
            found,
            (model.prediction - noise).square().mean(),
            "the loss",
            tolerance=1e-3,  # the noise is computed back from x_t
            hint="It should compare the noise that went in with the noise that the model predicts.",
        )
    student.get_loss(model, x_0, t, *context)
    again = assert_asked(model, x_0, t, context, solution)
    assert_unrelated(noise, again, misconception="fixed-seed")


def test_gradient(student, solution, batch, rng):
    """Lets the model learn from it"""
    x_0, t, *context = batch
    model = Model(torch.randn(x_0.shape, generator=rng))
    with recognised(student, solution, batch, model.prediction):
        result = student.get_loss.vjp([model, x_0, t, *context], [torch.tensor(1.0)])
        noise = assert_asked(model, x_0, t, context, solution)
    gradients = [gradient for call in result.callbacks_grad[-1:] for gradient in call]
    require(
        len(gradients) == 1 and gradients[0] is not None,
        expected="a loss that depends on the model's prediction through differentiable operations",
        found="a loss that is detached from it",
        misconception="loss-no-gradient",
    )
    expected = 2 * (model.prediction - noise) / noise.numel()
    assert_close(gradients[0], expected, "the gradient that reaches the model", tolerance=1e-3)
