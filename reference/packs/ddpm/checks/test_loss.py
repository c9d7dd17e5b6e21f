"""The loss. The judge plays the model, so it sees what the model is asked and chooses what it answers."""

from contextlib import contextmanager

import pytest
import torch

from grading.checking import (
    CheckFailed,
    assert_close,
    assert_one_per_image,
    assert_standard_normal,
    assert_tensor,
    assert_type,
    assert_unrelated,
    assert_white,
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


def a_batch(solution, rng, *shape):
    """Images of this shape, a prediction for them, time steps as floats, and context with its mask.

    Predictions reach beyond 5, and images beyond the range that pictures have, so that what is cut off shows. The first
    time step is the last one of the schedule, the second is 0.
    """
    x_0 = 2 * torch.randn(shape, generator=rng)
    prediction = 11 * torch.rand(shape, generator=rng) - 5.5
    t = torch.randint(0, solution.T, shape[:1], generator=rng).float()
    t[:2] = torch.tensor([solution.T - 1, 0])[: len(t)]
    labels = torch.randint(0, 10, shape[:1], generator=rng)
    return prediction, x_0, t, torch.eye(10)[labels], torch.randint(0, 2, (len(labels), 10), generator=rng).float()


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
    asked_t = assert_one_per_image(question[1], len(t), "the time step that the model is given")
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
    assert_type(torch.result_type(*question[2:]), "the product of context and mask that the model is given")
    x_t = assert_tensor(question[0], x_0.shape, "the image that the model is given")
    require(not is_close(x_t, x_0), misconception="loss-clean-image-goes-in")
    return noise_in(x_t, x_0, t, solution)


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
        assert_standard_normal(noise, "the noise")
        with drawing(noise):
            if is_close(found, use(solution.get_loss), 1e-3):
                return None  # then what is wrong with it is no formula
            mistaken = tensors(student.mistaken(), use)
        # Less exact, since the noise is computed back from x_t
        return next((name for name, loss in mistaken.items() if is_close(found, loss, 1e-3)), None)

    with recognising(lambda: recognise(behaviour, student, student.get_loss, solution.get_loss), by_noise):
        yield


def test_value(student, solution, rng):
    """Is the mean squared error of the predicted noise"""
    # A batch that is smaller than BATCH_SIZE, as the last one of an epoch may be, and a single image; none of IMG_SIZE
    for shape in ((5, 3, 72, 64), (1, 1, 14, 10)):
        prediction, x_0, t, *context = a_batch(solution, rng, *shape)
        model = Model(prediction)
        few = [values[..., :7, :5] for values in (x_0, prediction)]  # enough to recognise a misconception by
        what = "the noise in the image that the model is given"
        with recognised(student, solution, (few[0], t, *context), few[1]):
            found = student.get_loss(model, x_0, t, *context)
            noise = assert_asked(model, x_0, t, context, solution)
            assert_standard_normal(noise, what)
            # In double precision it trains the network all the same
            assert_close(
                found.float() if getattr(found, "dtype", None) == torch.float64 else found,
                (prediction - noise).square().mean(),
                "the loss",
                tolerance=1e-3,  # the noise is computed back from x_t
                hint="It should compare the noise that went in with the noise that the model predicts.",
            )
        student.get_loss(model, x_0, t, *context)
        again = assert_asked(model, x_0, t, context, solution)
        assert_unrelated(noise, again, misconception="fixed-seed")
        assert_white(torch.cat((noise, again)), what)


def test_gradient(student, solution, rng):
    """Lets the model learn from it"""
    prediction, x_0, t, *context = a_batch(solution, rng, 5, 3, 12, 12)
    model = Model(prediction)
    with recognised(student, solution, (x_0, t, *context), prediction):
        result = student.get_loss.vjp([model, x_0, t, *context], [torch.tensor(1.0)])
        noise = assert_asked(model, x_0, t, context, solution)
    gradients = [gradient for call in result.callbacks_grad[-1:] for gradient in call]
    require(
        len(gradients) == 1 and gradients[0] is not None,
        expected="a loss that depends on the model's prediction through differentiable operations",
        found="a loss that is detached from it",
        misconception="loss-no-gradient",
    )
    expected = 2 * (prediction - noise) / noise.numel()
    assert_close(gradients[0], expected, "the gradient that reaches the model", tolerance=1e-3)
