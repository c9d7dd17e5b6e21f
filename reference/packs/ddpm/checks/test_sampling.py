"""Sampling with guidance. The judge plays the model, so it sees every image on the way and knows every prediction.

Each check samples twice under the same seed: once with predictions that tell steps and digits apart, once with a model
that always predicts 0. The noise is the same both times, so the difference between the two is exact: it follows from
the guided prediction alone.
"""

from dataclasses import dataclass, field

import pytest
import torch

from grading.checking import (
    CheckFailed,
    assert_close,
    assert_standard_normal,
    assert_tensor,
    is_close,
    require,
    variance_is_plausible,
)

pytestmark = pytest.mark.blank("sample_w")

SEED = 1  # any: only that both ways have the same one matters
STEPS = 5
LABELS = (3, 0, 7, 3, 9, 1)  # not in order, one of them twice


@dataclass
class Step:
    """What the model was asked at one time step."""

    keep: list = field(default_factory=list)  # images asked about with context, [n, C, H, W] each
    labels: list = field(default_factory=list)  # the context that came with them
    drop: list = field(default_factory=list)  # images asked about without


class Model:
    """Predicts by time step and digit, and remembers what it was asked."""

    def __init__(self, patterns, unconditional):
        self.patterns = patterns  # [steps, 10, C, H, W]
        self.unconditional = unconditional  # [steps, C, H, W]
        self.steps = {}

    def __call__(self, *args, **kwargs):
        asked = dict(zip(("x", "t", "c", "c_mask"), args, strict=False)) | kwargs
        require(
            len(args) + len(kwargs) == 4
            and asked.keys() == {"x", "t", "c", "c_mask"}
            and all(isinstance(value, torch.Tensor) for value in asked.values()),
            "The model should be called with four tensors, as model(x, t, c, c_mask).",
        )
        return self.answer(**asked)

    def answer(self, x, t, c, c_mask):
        size = list(self.unconditional.shape[1:])
        require(
            x.dim() == 4 and list(x.shape[1:]) == size,
            "The model is called with images of the wrong shape.",
            expected=f"shape [batch, {', '.join(map(str, size))}]",
            found=f"shape {list(x.shape)}",
        )
        step = self.time_step(t)
        try:
            context = c.float() * c_mask.float()
        except RuntimeError:
            raise CheckFailed(
                "The context and the mask that the model is called with do not fit each other.",
                found=f"shapes {list(c.shape)} and {list(c_mask.shape)}",
            ) from None
        require(
            list(context.shape) == [len(x), 10],
            "The context that the model is called with does not fit the images.",
            expected=f"shape [{len(x)}, N_CLASSES] for {len(x)} images",
            found=f"shape {list(context.shape)}",
        )
        kept = context.abs().sum(1) > 0
        require(
            bool((context[kept].sum(1) == 1).all()) and bool((context[kept].amax(1) == 1).all()),
            "Some of the context that the model is called with is neither one-hot nor dropped as a whole.",
        )
        asked = self.steps.setdefault(step, Step())
        asked.keep.append(x[kept])
        asked.labels.append(context[kept].argmax(1))
        asked.drop.append(x[~kept])
        return torch.where(kept[:, None, None, None], self.patterns[step][context.argmax(1)], self.unconditional[step])

    def time_step(self, t):
        values = t.flatten().float().unique()
        require(len(values) == 1, "Within one call of the model, the images have different time steps.")
        value = float(values)
        if value != int(value):
            raise CheckFailed(
                "The model is called with a time step that is not whole, perhaps t / T. It divides by `T` itself."
            )
        require(0 <= value < STEPS, "The model is called with a time step outside 0 .. T - 1.", found=f"t = {value:g}")
        return int(value)

    def images(self, step):
        """The images at this step, [n, C, H, W]; those asked about with and without context must be the same."""
        asked = self.steps[step]
        keep, labels, drop = torch.cat(asked.keep), torch.cat(asked.labels), torch.cat(asked.drop)
        require(len(keep) > 0, "The model is never called with the context kept. Look at the mask.")
        require(
            len(drop) > 0 or labels.tolist() != 2 * list(LABELS),
            "The context is never dropped. Look at the mask of the second half of the batch.",
        )
        require(
            labels.tolist() == list(LABELS),
            "The model is not asked about each image with its own context once in each step.",
            expected="one prediction with context per image, in the order of `c`",
            found=f"{len(labels)} predictions for {len(LABELS)} images"
            if len(labels) != len(LABELS)
            else "another order of the context",
        )
        if len(drop):
            require(
                keep.shape == drop.shape and is_close(drop, keep),
                "With and without context, the model is asked about different images.",
                expected="the same x_t twice",
                found=f"{len(keep)} images with context and {len(drop)} without, which differ",
            )
        return keep


def sample(student, solution, rng, w, *, keyword=False):
    """Sample both ways. Returns the model of the first, and for each way the images from x_{T-1} to the result."""
    size = (1, solution.IMG_SIZE, solution.IMG_SIZE)
    patterns, unconditional = torch.randn(STEPS, 10, *size, generator=rng), torch.randn(STEPS, *size, generator=rng)
    c = torch.eye(10)[list(LABELS)]
    models = Model(patterns, unconditional), Model(0 * patterns, 0 * unconditional)
    ways = []
    for model in models:
        student.seed(SEED)
        found = student.sample_w(model, c, w=w) if keyword else student.sample_w(model, c, w)
        result = assert_tensor(found, (len(LABELS), *size), "what `sample_w` returns")
        require(
            list(model.steps) == list(range(STEPS))[::-1],
            "`sample_w` should go through the time steps T - 1, T - 2, ..., 0.",
            expected=f"{', '.join(map(str, reversed(range(STEPS))))} for T = {STEPS}",
            found=", ".join(map(str, model.steps)) or "no call of the model",
        )
        ways.append([*(model.images(step) for step in model.steps), result])
        require(
            w == 0 or all(len(torch.cat(asked.drop)) > 0 for asked in model.steps.values()),
            "The model is never asked without context. Guidance compares predictions with and without it.",
        )
    return models[0], *ways


def assert_guided(student, solution, rng, w, *, keyword=False):
    """Each step follows from the guided prediction."""
    model, guided, blank = sample(student, solution, rng, w, keyword=keyword)
    for index, step in enumerate(reversed(range(STEPS))):
        keep = model.patterns[step][list(LABELS)]
        drop = model.unconditional[step].expand_as(keep)
        x, moved = guided[index] - blank[index], guided[index + 1] - blank[index + 1]

        def back(e_t, x=x, step=step):
            return solution.sqrt_recip_alphas[step] * (x - solution.pred_noise_coeff[step] * e_t)

        assert_close(
            moved,
            back((1 + w) * keep - w * drop),
            f"the step back from t = {step}",
            mistakes={
                "Guidance is shifted by one: this is the formula with w - 1 in place of w, unconditional at w = 0.": (
                    back(drop + w * (keep - drop))
                ),
                "The predictions with and without context are swapped, in the guidance or by the mask.": (
                    back((1 + w) * drop - w * keep)
                ),
                "The weighted prediction without context is added; it should be subtracted.": (
                    back((1 + w) * keep + w * drop)
                ),
                "The prediction without context is not used.": back(keep),
                "The prediction with context is not used.": back(drop),
                "The signs of `w` in the guidance are the wrong way round.": back((1 - w) * keep + w * drop),
            },
            hint="Look at how the two predictions are combined, and at what is handed to `reverse_q`.",
        )


@pytest.fixture
def solution(student, rng):
    """Under a short schedule, so that few calls are needed."""
    return student.given(betas=0.05 + 0.2 * torch.rand(STEPS, generator=rng))


def test_guidance(student, solution, rng):
    """Combines the predictions with and without context as guidance does"""
    w = 0.5 + float(torch.rand((), generator=rng))
    assert_guided(student, solution, rng, w)


def test_weight_as_an_integer(student, solution, rng):
    """Takes `w` by keyword and as an integer"""
    assert_guided(student, solution, rng, 3, keyword=True)


def test_weight_zero(student, solution, rng):
    """Is the plain conditional model at w = 0"""
    assert_guided(student, solution, rng, 0)


def test_noise(student, solution, rng):
    """Starts from noise, and adds fresh noise in every step but the last"""
    _, guided, blank = sample(student, solution, rng, 1.0)
    start = guided[0]
    require(is_close(blank[0], start), "Two samplings under the same seed start from different images.")
    assert_standard_normal(start, "the image to start from")
    for index, step in enumerate(reversed(range(STEPS))):
        noise = blank[index + 1] - solution.sqrt_recip_alphas[step] * blank[index]
        if step == 0:
            require(
                float(noise.abs().max()) < 1e-3,
                "Noise is added in the last step.",
                expected="the mean, at t = 0",
                found=f"noise of variance {float(noise.var()):.3g}",
            )
            return
        alphas_cumprod = solution.alphas_cumprod
        posterior = (1 - alphas_cumprod[step - 1]) / (1 - alphas_cumprod[step]) * solution.betas[step]
        customary = [float(v) for v in (solution.betas[step], solution.betas[step - 1], posterior)]
        require(
            variance_is_plausible(noise, min(customary), max(customary)),
            f"The noise added at t = {step} has the wrong size.",
            expected="that of `reverse_q`",
            found=f"variance {float(noise.var()):.3g}",
        )
