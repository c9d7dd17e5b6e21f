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
    assert_unrelated,
    is_close,
    require,
    variance_is_plausible,
)
from grading.recognition import Raised, attempt, recognise, recognising

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
                expected=f"a context of shape [{len(x)}, N_CLASSES] and a mask of that shape, or [{len(x)}, 1]",
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
            misconception="context-dropped-in-part",
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
        found_as = {"expected": f"a whole number from 0 to {STEPS - 1}, as T = {STEPS}", "found": f"t = {value:g}"}
        require(value == int(value), **found_as, misconception="sampling-time-divided")
        require(0 <= value < STEPS, "The model is called with a time step outside 0 .. T - 1.", **found_as)
        return int(value)

    def images(self, step):
        """The images at this step, [n, C, H, W]; those asked about with and without context must be the same."""
        asked = self.steps[step]
        keep, labels, drop = torch.cat(asked.keep), torch.cat(asked.labels), torch.cat(asked.drop)
        require(len(keep) > 0, misconception="context-never-kept")
        require(len(drop) > 0 or labels.tolist() != 2 * list(LABELS), misconception="context-never-dropped")
        require(
            labels.tolist() == list(LABELS),
            "The model is not asked about each image with its own context once in each step.",
            misconception=misconception_about_labels(labels, drop),
            expected="one prediction with context per image, in the order of `c`",
            found=f"{len(labels)} predictions for {len(LABELS)} images"
            if len(labels) != len(LABELS)
            else "another order of the context",
        )
        if len(drop):
            require(
                keep.shape == drop.shape and is_close(drop, keep),
                misconception="images-differ",
                expected="the same x_t twice",
                found=f"{len(keep)} images with context and {len(drop)} without, which differ",
            )
        return keep


class Recorder:
    """Answers whatever it is asked, and remembers what it was asked: for comparing a wrong answer with known ones."""

    def __init__(self, size):
        self.size = size  # of its predictions; 0: it always predicts 0
        self.calls = []  # images, time, context

    def __call__(self, x, t, c, *rest):
        t, digits = t.flatten().float().unique(), torch.arange(10)
        try:
            context = c.float() * torch.stack([mask.float() for mask in rest]).sum(0) if rest else c.float()
            answer = (context @ (digits + 1.0).sin() + 0.5).view(-1, 1, 1, 1) * (1 + t[0]).cos()
            answer = self.size * answer.expand_as(x)
        except RuntimeError:  # they do not fit each other
            context, answer = c.float(), 0 * x
        self.calls.append([x.clone(), t, context.clone(), len(rest)])
        return answer


def misconception_about_labels(labels, drop):
    """For labels that are not those asked for: in another order, or some missing although each image came twice?"""
    if sorted(labels.tolist()) == sorted(LABELS):
        return "context-order"
    return "context-dropped-in-part" if len(labels) + len(drop) == 2 * len(LABELS) and len(drop) else None


def run(sample_w, seed, size):
    """What the model is asked, and the result, whatever becomes of it."""
    recorder = Recorder(size)
    seed(SEED)
    result = attempt(lambda: sample_w(recorder, torch.eye(10)[list(LABELS)], 0.7))
    return recorder.calls, result


def with_noise(sample_w, seed):
    """All that happens, for an answer that draws its noise as the solution does."""
    return run(sample_w, seed, 1.0)


def without_noise(sample_w, seed):
    """What happens but for the noise, and in however many calls the model is asked."""
    (calls, result), (blank_calls, blank) = run(sample_w, seed, 1.0), run(sample_w, seed, 0.0)
    if isinstance(result, Raised) or len(calls) != len(blank_calls):
        return [result, len(calls)]
    steps = {}
    for (x, t, context, _), (blank_x, *_) in zip(calls, blank_calls, strict=True):
        kept = context.abs().flatten(1).sum(1) > 0 if len(context) == len(x) else torch.ones(len(x), dtype=torch.bool)
        moved = x - blank_x if x.shape == blank_x.shape else x
        steps.setdefault(float(t[0]), []).append((kept, moved, context))
    rows = []
    for step, parts in steps.items():
        rows += [step, *(torch.cat([moved[kept] for kept, moved, _ in parts]),)]
        rows.append(torch.cat([moved[~kept] for kept, moved, _ in parts]))
        rows.append(torch.cat([context.flatten(1).sum(1) for _, _, context in parts]).sort().values)
    return [rows, result - blank if result is not None and result.shape == blank.shape else result]


def recognised(student):
    """Name the misconception that `sample_w` shows."""

    def by(behaviour):
        return recognise(behaviour, student, student.sample_w, student.solution().sample_w)

    def has_fixed_size():
        first, _ = run(student.sample_w, student.seed, 1.0)
        student.given(IMG_SIZE=8)
        other, _ = run(student.sample_w, student.seed, 1.0)
        return "hard-coded-size" if first and other and first[0][0].shape == other[0][0].shape else None

    return recognising(lambda: by(with_noise), lambda: by(without_noise), has_fixed_size)


def sample(student, solution, rng, w, *, keyword=False, seed=SEED):
    """Sample both ways. Returns the model of the first, and for each way the images from x_{T-1} to the result."""
    size = (1, solution.IMG_SIZE, solution.IMG_SIZE)
    patterns, unconditional = torch.randn(STEPS, 10, *size, generator=rng), torch.randn(STEPS, *size, generator=rng)
    c = torch.eye(10)[list(LABELS)]
    models = Model(patterns, unconditional), Model(0 * patterns, 0 * unconditional)
    ways = []
    for model in models:
        student.seed(seed)
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
            misconception="guidance-not-used",
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
                "guidance-shifted": (back(drop + w * (keep - drop))),
                "guidance-swapped": (back((1 + w) * drop - w * keep)),
                "guidance-added": (back((1 + w) * keep + w * drop)),
                "guidance-not-used": back(keep),
                "guidance-context-not-used": back(drop),
                "guidance-signs": back((1 - w) * keep + w * drop),
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
    with recognised(student):
        assert_guided(student, solution, rng, w)


def test_weight_as_an_integer(student, solution, rng):
    """Takes `w` by keyword and as an integer"""
    with recognised(student):
        assert_guided(student, solution, rng, 3, keyword=True)


def test_weight_zero(student, solution, rng):
    """Is the plain conditional model at w = 0"""
    with recognised(student):
        assert_guided(student, solution, rng, 0)


def test_noise(student, solution, rng):
    """Starts from noise, and adds fresh noise in every step but the last"""
    with recognised(student):
        assert_noise(student, solution, rng)


def assert_noise(student, solution, rng):
    _, guided, blank = sample(student, solution, rng, 1.0)
    start = guided[0]
    require(is_close(blank[0], start), "Two samplings under the same seed start from different images.")
    assert_standard_normal(start, "the image to start from")
    assert_unrelated(start[0], start[1], misconception="starts-alike")
    _, others, _ = sample(student, solution, rng, 1.0, seed=SEED + 1)
    assert_unrelated(start, others[0], misconception="fixed-seed")
    steps = [blank[index + 1] - solution.sqrt_recip_alphas[STEPS - 1 - index] * blank[index] for index in range(2)]
    assert_unrelated(steps[0], steps[1], misconception="fixed-seed")
    for index, step in enumerate(reversed(range(STEPS))):
        noise = blank[index + 1] - solution.sqrt_recip_alphas[step] * blank[index]
        if step == 0:
            require(
                float(noise.abs().max()) < 1e-3,
                misconception="sampling-extra-noise-at-end",
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
