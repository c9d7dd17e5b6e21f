"""Sampling with guidance. The judge plays the model, so it sees every image on the way and knows every prediction.

Two kinds of predictions tell two things apart. Very large ones, which differ between steps and digits, leave nothing
visible of the noise: each step follows from the guided prediction alone. Predictions of 0 leave nothing but the noise.
So no two samplings have to draw the same noise, and an answer may have random generators of its own.
"""

from dataclasses import dataclass, field

import pytest
import torch

from grading.checking import (
    CheckFailed,
    assert_close,
    assert_standard_normal,
    assert_tensor,
    assert_type,
    assert_unchanged,
    assert_unrelated,
    assert_white,
    is_close,
    require,
    variance_is_plausible,
)
from grading.recognition import Raised, attempt, recognise, recognising

pytestmark = pytest.mark.blank("sample_w")

SEED = 1  # any
STEPS = 5
LABELS = (3, 0, 7, 3, 9, 1)  # not in order, one of them twice

# Size of the predictions where noise must not show: with them the images are so large that the noise, a few units, is
# below a millionth of them, and the tolerance of a comparison a hundred times that.
LARGE = 1e6

# A schedule as steep as the course's, in four steps: small betas at the end, where noise of the wrong size shows that a
# large beta hides, and a large one, where wrong factors such as sqrt(alpha) show. No two customary variances, nor one
# of them and a known mistake, are alike in all of the steps.
NOISE_BETAS = (1e-4, 5e-4, 0.4, 0.15)
# Enough values, 73,728, for a standard deviation 3 % too small to be told nearly always
NOISE_LABELS = (3, 0, 7, 3, 9, 1, 2, 8, 4, 4, 6, 5, 0, 1, 7, 2)
NOISE_SIZE = {"IMG_CH": 2, "IMG_SIZE": 48}


@dataclass
class Step:
    """What the model was asked at one time step."""

    keep: list = field(default_factory=list)  # images asked about with context, [n, C, H, W] each
    labels: list = field(default_factory=list)  # the context that came with them
    drop: list = field(default_factory=list)  # images asked about without


class Model:
    """Predicts by time step and digit, remembers what it was asked, and takes only what the U-Net takes."""

    def __init__(self, patterns, unconditional, labels):
        self.patterns = patterns  # [steps, 10, C, H, W]
        self.unconditional = unconditional  # [steps, C, H, W]
        self.labels = list(labels)  # digits asked for
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
        assert_type(x.dtype, "the image that the model is called with")
        step = self.time_step(t, len(x))
        context = self.context(c, c_mask, len(x))
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

    def time_step(self, t, images):
        one_each = t.shape[:1] == (images,) and t.numel() == images
        require(
            t.dim() > 0 and (one_each or t.numel() == 1),
            "The time steps that the model is called with do not fit the images.",
            expected=f"one for each of {images} images, as a tensor of shape [{images}]",
            found=f"shape {list(t.shape)}",
        )
        values = t.flatten().float().unique()
        require(len(values) == 1, "Within one call of the model, the images have different time steps.")
        value, steps = float(values), len(self.unconditional)
        found_as = {"expected": f"a whole number from 0 to {steps - 1}, as T = {steps}", "found": f"t = {value:g}"}
        require(value == int(value), **found_as, misconception="sampling-time-divided")
        require(0 <= value < steps, "The model is called with a time step outside 0 .. T - 1.", **found_as)
        return int(value)

    def context(self, c, c_mask, images):
        """What the U-Net makes of context and mask, [images, 10]."""
        try:
            context = c * c_mask
        except RuntimeError:
            raise CheckFailed(
                "The context and the mask that the model is called with do not fit each other.",
                expected=f"a context of shape [{images}, N_CLASSES] and a mask of that shape, or [{images}, 1]",
                found=f"shapes {list(c.shape)} and {list(c_mask.shape)}",
            ) from None
        require(
            context.dim() == 2 and context.shape[0] in (1, images) and context.shape[1] == 10,
            "The context that the model is called with does not fit the images.",
            expected=f"shape [{images}, N_CLASSES] for {images} images",
            found=f"shape {list(context.shape)}",
        )
        assert_type(context.dtype, "the product of the context and the mask that the model is called with")
        return context.expand(images, 10)

    def order(self):
        """The digits in the order in which images are asked about: the same in each step, but not always that of `c`.

        Somebody may sample the images of one digit after those of another, and put the results in order at the end.
        """
        return torch.cat(next(iter(self.steps.values())).labels).tolist()

    def images(self, step):
        """The images at this step, [n, C, H, W]; those asked about with and without context must be the same."""
        asked = self.steps[step]
        keep, labels, drop = torch.cat(asked.keep), torch.cat(asked.labels).tolist(), torch.cat(asked.drop)
        require(len(keep) > 0, misconception="context-never-kept")
        require(len(drop) > 0 or sorted(labels) != sorted(2 * self.labels), misconception="context-never-dropped")
        require(
            sorted(labels) == sorted(self.labels) and labels == self.order(),
            "The model is not asked about each image with its own context once in each step.",
            misconception=self.misconception_about_labels(labels, drop),
            expected="one prediction with context per image, in the same order in each step",
            found=f"{len(labels)} predictions for {len(self.labels)} images"
            if len(labels) != len(self.labels)
            else "other context",
        )
        if len(drop):
            require(
                keep.shape == drop.shape and is_close(drop, keep),
                misconception="images-differ",
                expected="the same x_t twice",
                found=f"{len(keep)} images with context and {len(drop)} without, which differ",
            )
        return keep

    def misconception_about_labels(self, labels, drop):
        """For labels that are not those asked for: in another order, or some missing although each image came twice?"""
        if sorted(labels) == sorted(self.labels):
            return "context-order"
        return "context-dropped-in-part" if len(labels) + len(drop) == 2 * len(self.labels) and len(drop) else None


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
    if result is None or result.shape != blank.shape:
        return [rows, result]
    # The noise cancels, and with it whether the images change at all
    start = calls[0][0] if calls else None
    unchanged = start is not None and torch.equal(result, start[: len(result)])
    return [rows, result - blank, unchanged]


def recognised(student):
    """Name the misconception that `sample_w` shows."""

    def by(behaviour):
        return recognise(behaviour, student, student.sample_w, student.solution().sample_w)

    def has_fixed_size():
        now = student.setting.givens
        shapes = []
        for size in ({}, {"IMG_SIZE": now["IMG_SIZE"] + 4}, {"IMG_CH": now["IMG_CH"] + 1}):
            student.given(**size)
            calls, result = run(student.sample_w, student.seed, 1.0)
            if not calls or isinstance(result, Raised):
                return None
            shapes.append(calls[0][0].shape)
        first, larger, deeper = shapes
        return "hard-coded-size" if first[2:] == larger[2:] or first[1:2] == deeper[1:2] else None

    return recognising(lambda: by(with_noise), lambda: by(without_noise), has_fixed_size)


def sample(student, solution, w, predictions, labels=LABELS, *, keyword=False):
    """Sample with a model of these predictions. Returns the model and the images from x_{T-1} to x_0.

    predictions: with context, [steps, 10, C, H, W], and without, [steps, C, H, W]
    """
    model = Model(*predictions, labels)
    c = torch.eye(10)[list(labels)]
    if keyword:
        found = student.sample_w(model, c, w=w)
    else:
        found, (_, after, _) = student.sample_w.keeping(model, c, w)
        assert_unchanged({"context": (c, after)})
    shape = (len(labels), solution.IMG_CH, solution.IMG_SIZE, solution.IMG_SIZE)
    result = assert_tensor(found, shape, "what `sample_w` returns")
    steps = range(solution.T)
    require(
        list(model.steps) == list(steps)[::-1],
        "`sample_w` should go through the time steps T - 1, T - 2, ..., 0.",
        expected=f"{', '.join(map(str, reversed(steps)))} for T = {len(steps)}",
        found=", ".join(map(str, model.steps)) or "no call of the model",
    )
    images = [model.images(step) for step in model.steps]
    require(
        w == 0 or all(len(torch.cat(asked.drop)) > 0 for asked in model.steps.values()),
        misconception="guidance-not-used",
    )
    return model, [*images, result]


def places(order, labels):
    """For each image, in the order in which the model was asked, where it stands in the result."""
    free = list(enumerate(labels))
    found = []
    for digit in order:
        place = next(entry for entry in free if entry[1] == digit)
        free.remove(place)
        found.append(place[0])
    return found


def assert_guided(student, solution, rng, w, labels=LABELS, *, keyword=False, seen=None):
    """Each step follows from the guided prediction. `seen`: a weight with which it does already."""
    size = (solution.IMG_CH, solution.IMG_SIZE, solution.IMG_SIZE)
    patterns = LARGE * torch.randn(solution.T, 10, *size, generator=rng)
    unconditional = LARGE * torch.randn(solution.T, *size, generator=rng)
    model, images = sample(student, solution, w, (patterns, unconditional), labels, keyword=keyword)
    require(not all(torch.equal(image, images[0]) for image in images), misconception="sampling-returns-start")
    order = model.order()
    place = places(order, labels)
    for index, step in enumerate(reversed(range(solution.T))):
        keep = patterns[step][order]
        drop = unconditional[step].expand_as(keep)
        x, moved = images[index], images[index + 1]

        def back(e_t, x=x, step=step):
            return solution.sqrt_recip_alphas[step] * (x - solution.pred_noise_coeff[step] * e_t)

        guided = (1 + w) * keep - w * drop
        expected, in_order = back(guided), {}
        if step == 0:
            moved = moved[place]
            in_order["context-order"] = expected[place]
        if seen is not None:
            hint = f"With w = {seen:.2f} it is right."
            assert_close(moved, expected, f"the step back from t = {step} with w = {w:.2f}", hint=hint)
            continue
        assert_close(
            moved,
            expected,
            f"the step back from t = {step}",
            mistakes={
                **in_order,
                "guidance-shifted": back(drop + w * (keep - drop)),
                "guidance-swapped": back((1 + w) * drop - w * keep),
                "guidance-added": back((1 + w) * keep + w * drop),
                "guidance-not-used": back(keep),
                "guidance-context-not-used": back(drop),
                "guidance-signs": back((1 - w) * keep + w * drop),
                "sampling-prediction-ignored": back(0),
                "sampling-reverse-arguments-swapped": solution.sqrt_recip_alphas[step]
                * (guided - solution.pred_noise_coeff[step] * x),
            },
            hint="Look at how the two predictions are combined, and at what is handed to `reverse_q`.",
        )


@pytest.fixture
def solution(student, rng):
    """Under a short schedule, so that few calls are needed."""
    return student.given(betas=0.05 + 0.2 * torch.rand(STEPS, generator=rng))


def test_guidance(student, solution, rng):
    """Combines the predictions with and without context as guidance does, whatever the weight"""
    share = float(torch.rand((), generator=rng))
    with recognised(student):
        assert_guided(student, solution, rng, 0.5 + share)
        for w in (-0.3 - share, 8 + share):  # the course samples with negative ones too
            assert_guided(student, solution, rng, w, seen=0.5 + share)


def test_weight_as_an_integer(student, solution, rng):
    """Takes `w` by keyword and as an integer, and images with several channels"""
    solution = student.given(IMG_CH=3, IMG_SIZE=20)
    with recognised(student):
        assert_guided(student, solution, rng, 3, keyword=True)


def test_weight_zero(student, solution, rng):
    """Is the plain conditional model at w = 0"""
    with recognised(student):
        assert_guided(student, solution, rng, 0)


def test_single_image(student, solution, rng):
    """Draws a single image"""
    with recognised(student):
        assert_guided(student, solution, rng, 1.5, LABELS[:1])


def test_noise(student, rng):
    """Starts from noise, and adds fresh noise in every step but the last"""
    # Other betas in each grading, but none so far off that customary variances would come together
    betas = torch.tensor(NOISE_BETAS) * (0.95 + 0.1 * torch.rand(len(NOISE_BETAS), generator=rng))
    solution = student.given(betas=betas, **NOISE_SIZE)
    with recognised(student):
        assert_noise(student, solution)


def noise_of(student, solution, seed):
    """What a sampling begins with, and the noise of each step, by time step, where the model always predicts 0."""
    size = (solution.IMG_CH, solution.IMG_SIZE, solution.IMG_SIZE)
    nothing = torch.zeros(()).expand(solution.T, 10, *size), torch.zeros(()).expand(solution.T, *size)
    student.seed(seed)
    model, images = sample(student, solution, 1.0, nothing, NOISE_LABELS)
    images[-1] = images[-1][places(model.order(), NOISE_LABELS)]
    steps = list(reversed(range(solution.T)))
    noise = {
        step: images[index + 1] - solution.sqrt_recip_alphas[step] * images[index] for index, step in enumerate(steps)
    }
    return images[0], noise


def assert_noise(student, solution):
    start, noise = noise_of(student, solution, SEED)
    assert_standard_normal(start, "the image to start from")
    require(not is_close(start[0], start[1]), misconception="starts-alike")
    assert_white(start, "the image to start from")
    # Noise at the end: 1e-4 is far above what rounding makes of images of size 1, and far below any noise
    last = noise.pop(0)
    require(
        float(last.abs().max()) < 1e-4,
        misconception="sampling-extra-noise-at-end",
        expected="the mean, at t = 0",
        found=f"noise of variance {float(last.var()):.3g}",
    )
    others_start, others = noise_of(student, solution, SEED + 1)
    assert_unrelated(start, others_start, misconception="fixed-seed")
    before = start
    for step, values in noise.items():
        size = float(values.square().mean().sqrt())
        if size > 1e-9:  # there is some, whatever its size
            assert_white(values / size, f"the noise added at t = {step}")
            assert_unrelated(values, before, misconception="fixed-seed")
            assert_unrelated(values, others[step], misconception="fixed-seed")
        before = values
    for step, size in sizes_of(noise, solution).items():
        assert_standard_normal(noise[step] / size**0.5, f"the noise added at t = {step}")


def sizes_of(noise, solution):
    """The variance of the noise by time step, which has to follow one of the rules that are in use."""
    rules = None
    for step, values in noise.items():
        customary = variances(solution, step)
        fitting = {name for name, variance in customary.items() if variance_is_plausible(values, variance, variance)}
        found = float(values.square().mean())
        too = "much" if found > max(customary.values()) else "little" if found < min(customary.values()) else None
        require(
            bool(fitting),
            f"Too {too} noise is added at t = {step}." if too else f"The noise added at t = {step} has the wrong size.",
            expected="that of `reverse_q`",
            found=f"noise of variance {found:.3g} where beta_t is {float(solution.betas[step]):.3g}",
        )
        rules = fitting if rules is None else rules & fitting
    require(
        bool(rules),
        "The noise added in one step has another size, for its time step, than in the others.",
        expected="that of `reverse_q` in every step",
        found="sizes that follow different rules",
    )
    return {step: variances(solution, step)[sorted(rules)[0]] for step in noise}


def variances(solution, step):
    """Each customary variance of step t > 0, by name."""
    betas, alphas_cumprod = solution.betas, solution.alphas_cumprod
    return {
        "beta_t": float(betas[step]),
        "beta_{t-1}": float(betas[step - 1]),
        "posterior": float((1 - alphas_cumprod[step - 1]) / (1 - alphas_cumprod[step]) * betas[step]),
    }
