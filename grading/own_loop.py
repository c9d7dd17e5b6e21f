"""The student's own `sample_w`, watched step by step.

It runs in a session of its own, on a network that the judge answers for: predictions come from the trained weights in
another session. So the judge sees every x_t that the loop makes, and compares it with what its own reverse step allows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)
from torch import Tensor

from grading.outcomes import OUTCOMES, Outcome
from grading.pipeline import PipelineFault, describe, images_of
from grading.sampling import Predict
from reference.datasets import N_CLASSES
from reference.pack import Recipe
from sandbox.faults import GuestFault
from sandbox.guest_client import Guest
from sandbox.limits import Deadline
from sandbox.program import Program
from sandbox.session import Callback, CallbackRefused

# Statistics over all pixels and steps, in standard deviations: a right loop strays further once in 10^11 gradings
MAX_DEVIATIONS = 7.0
# The last step adds no noise; single precision leaves some 1e-5 of images in [-1, 1]
LAST_STEP_TOLERANCE = 1e-3
_MODEL_ARGUMENTS = ("x", "t", "c", "c_mask")  # of the assignment's network, by which a loop may name them
MAX_ROWS = 4  # times the images, in one call: keep and drop at once are two
MAX_CALLS = 4  # times the steps: keep and drop one after the other are two
# 150 steps take some 8 s on two cores, most of it in the other session
DEADLINE = Deadline(cpu_seconds=120, wall_seconds=1200)


@dataclass(frozen=True, kw_only=True)
class OwnLoop:
    """What the student's loop came to."""

    status: Outcome
    message: str
    images: Tensor | None = field(default=None, repr=False)  # [N, 1, size, size], where it returned some
    # x_t at the start of each time step, t falling; empty where the calls are no reverse loop
    way: Mapping[int, Tensor] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One use of the network by the loop."""

    t: int
    x: Tensor  # [B, 1, size, size]
    dropped: Tensor  # bool [B]: without context
    noise: Tensor  # what the judge answered, [B, 1, size, size]


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One time step of the loop, put together from its calls."""

    t: int
    x: Tensor  # [N, 1, size, size]
    keep: Tensor  # predicted with context, like x
    drop: Tensor | None  # and without


def run_own_loop(
    program: Program, guest: Guest, recipe: Recipe, predict: Predict, classes: Tensor, guidance_weight: float, seed: int
) -> OwnLoop:
    """Let the student's `sample_w` make one image for each of `classes` [N], and verify its steps.

    `predict` is the trained network; what it raises of `PipelineFault` is told to the student's code as an error.
    """
    calls: list[_Call] = []
    context = F.one_hot(classes, N_CLASSES).float()
    model = Callback(_watch(calls, recipe, predict, context))
    try:
        with guest.session(DEADLINE, seed=seed) as session:
            session.load(program)
            found = session.call("sample_w", model, context, guidance_weight)
    except GuestFault as fault:
        return OwnLoop(status=OUTCOMES[fault.ending], message=f"sample_w does not run. {describe(fault)}")
    try:
        images = images_of(found, len(classes), recipe)
    except PipelineFault as fault:
        return OwnLoop(status=fault.outcome, message=fault.message)
    way: dict[int, Tensor] = {}
    try:
        steps = _steps(calls, len(classes), recipe.timesteps)
        way = {step.t: step.x for step in steps}
        _verify(steps, images, recipe, guidance_weight)
    except PipelineFault as fault:
        return OwnLoop(status=fault.outcome, message=fault.message, images=images, way=way)
    return OwnLoop(status=Outcome.PASSED, message="", images=images, way=way)


def _watch(calls: list[_Call], recipe: Recipe, predict: Predict, own: Tensor) -> Callable[..., Tensor]:
    """The model that the loop is given."""
    pixels = (1, recipe.image_size, recipe.image_size)

    def model(*args: Any, **kwargs: Any) -> Tensor:
        asked = dict(zip(_MODEL_ARGUMENTS, args, strict=False)) | kwargs
        if len(args) + len(kwargs) != 4 or asked.keys() != set(_MODEL_ARGUMENTS):
            raise CallbackRefused("the network takes x, t, the context and its mask, four tensors")
        x, t, context, mask = (asked[name] for name in _MODEL_ARGUMENTS)
        if not all(isinstance(value, Tensor) for value in (x, t, context, mask)):
            raise CallbackRefused("the network takes x, t, the context and its mask, four tensors")
        if x.ndim != 4 or x.shape[1:] != pixels or not 0 < len(x) <= MAX_ROWS * len(own):
            raise CallbackRefused(f"the network takes images [B, {', '.join(map(str, pixels))}], not {list(x.shape)}")
        if len(calls) >= MAX_CALLS * recipe.timesteps:
            raise CallbackRefused(f"the network was called {len(calls)} times for {recipe.timesteps} steps")
        try:
            rows = (context.float() * mask.float()).expand(len(x), N_CLASSES)
            time = t.float().reshape(-1).expand(len(x)) if t.numel() == 1 else t.float().reshape(len(x))
            noise = predict(x.float(), t, context, mask)
        except PipelineFault as fault:
            raise CallbackRefused(fault.message) from None
        except RuntimeError:
            raise CallbackRefused(
                f"t {list(t.shape)}, context {list(context.shape)} and mask {list(mask.shape)} do not fit images "
                f"{list(x.shape)}"
            ) from None
        if not bool((time == time[0]).all()) or time[0] != time[0].round():
            raise CallbackRefused("the network takes one whole number as time for all images of a step")
        calls.append(_Call(t=int(time[0]), x=x.float(), dropped=(rows == 0).all(dim=1), noise=noise))
        return noise

    return model


def _steps(calls: list[_Call], count: int, timesteps: int) -> list[_Step]:
    """Put the calls of each time step together. Raises `PipelineFault` where they are no reverse loop."""
    by_time: dict[int, list[_Call]] = {}
    for call in calls:
        by_time.setdefault(call.t, []).append(call)
    if list(by_time) != list(range(timesteps))[::-1]:
        raise PipelineFault(
            Outcome.FAILED, f"sample_w does not call the network at each time from {timesteps - 1} down to 0."
        )
    steps = []
    for t, group in by_time.items():
        x, dropped, noise = (torch.cat([getattr(call, name) for call in group]) for name in ("x", "dropped", "noise"))
        kept = ~dropped
        if int(kept.sum()) != count or int(dropped.sum()) not in (0, count):
            raise PipelineFault(
                Outcome.FAILED,
                f"At time {t} sample_w asks for {int(kept.sum())} predictions with context and {int(dropped.sum())} "
                f"without, for {count} images.",
            )
        if bool(dropped.any()) and not torch.equal(x[kept], x[dropped]):
            raise PipelineFault(
                Outcome.FAILED, f"At time {t} sample_w asks with and without context about different images."
            )
        drop = noise[dropped] if bool(dropped.any()) else None
        steps.append(_Step(t=t, x=x[kept], keep=noise[kept], drop=drop))
    return steps


def _verify(steps: list[_Step], images: Tensor, recipe: Recipe, guidance_weight: float) -> None:
    """Compare each step's result with the mean and the variance of the reverse step (Ho et al. 2020, algorithm 2).

    With e the guided noise, x_{t-1} is to be normal with mean sqrt(1/alpha_t) (x_t - beta_t / sqrt(1 - abar_t) e) and
    variance beta_t, beta_{t-1} or the posterior's. So what is left of it, in standard deviations, must be neither
    correlated with x_t or with the predictions, whose share would be wrong, nor of another variance than one.
    Raises `PipelineFault` that says what strays.
    """
    betas = torch.linspace(recipe.beta_start, recipe.beta_end, recipe.timesteps)
    abar = torch.cumprod(1 - betas, 0)
    before = torch.cat((torch.ones(1), abar[:-1]))
    variances = {
        "beta_t": betas,
        "beta_{t-1}": torch.cat((betas[:1], betas[:-1])),
        "the posterior variance": betas * (1 - before) / (1 - abar),
    }
    if guidance_weight != 0 and any(step.drop is None for step in steps):
        raise PipelineFault(Outcome.FAILED, "sample_w never asks the network without context, so nothing is guided.")
    results = [step.x for step in steps[1:]] + [images]
    left, directions = [], []
    for step, result in zip(steps, results, strict=True):
        scale = (1 / (1 - betas[step.t])).sqrt()
        share = scale * betas[step.t] / (1 - abar[step.t]).sqrt()
        guidance = step.keep - (step.keep if step.drop is None else step.drop)
        e_t = step.keep + guidance_weight * guidance
        left.append(result - (scale * step.x - share * e_t))
        directions.append({"x_t": scale * step.x, "the predicted noise": share * e_t, "guidance": share * guidance})
    last = left.pop()  # at t = 0, where nothing is random
    squares = torch.stack([part.square().mean() for part in left])
    times = torch.tensor([step.t for step in steps[:-1]])
    # Standard deviation of the mean of n squares of standard normals is sqrt(2 / n)
    spread = (2 / (images.numel() * len(times))) ** 0.5
    strays = {name: abs(float((squares / variance[times]).mean()) - 1) / spread for name, variance in variances.items()}
    closest = min(strays, key=strays.__getitem__)
    sigma = variances[closest][times].sqrt()
    deviations = {}
    for name in directions[0]:
        parts = [direction[name] / s for direction, s in zip(directions[:-1], sigma, strict=True)]
        products = sum(float((part * rest / s).sum()) for part, rest, s in zip(parts, left, sigma, strict=True))
        length = sum(float(part.square().sum()) for part in parts) ** 0.5
        deviations[name] = products / length if length > 0 else 0.0
    blamed = max(deviations, key=lambda name: abs(deviations[name]))  # the three are correlated; the cause strays most
    if abs(deviations[blamed]) > MAX_DEVIATIONS:
        raise PipelineFault(
            Outcome.FAILED,
            f"The steps of sample_w have another mean than the reverse step: the share of {blamed} strays by "
            f"{abs(deviations[blamed]):.0f} standard deviations.",
        )
    if float(last.abs().max()) > LAST_STEP_TOLERANCE * max(1.0, float(images.abs().max())):
        raise PipelineFault(
            Outcome.FAILED, "The last step of sample_w is not the mean of the reverse step; at t = 0 no noise is added."
        )
    if strays[closest] > MAX_DEVIATIONS:
        raise PipelineFault(
            Outcome.FAILED,
            f"The noise that sample_w adds has none of the customary variances ({', '.join(variances)}); on average it "
            f"is {float((squares / variances[closest][times]).mean()):.2f} times {closest}.",
        )
