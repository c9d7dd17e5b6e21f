"""Can a network learn from the parameters that it starts with?"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from grading.checking import CheckFailed
from grading.student import RemoteModule

# Steps after which a gradient has come past every layer that starts at 0. One such layer lets it through after one
# step, since its own weights have moved by then; no block has more than five layers in a row.
STEPS = 5
STEP_SIZE = 0.1  # relative to the largest gradient: far enough that a weight is no longer 0


def assert_can_learn(
    module: RemoteModule,
    initial: Mapping[str, Tensor],
    used: Iterable[str],
    inputs: Sequence[Any],
    cotangent: Tensor,
    what: str,
) -> None:
    """From its initial parameters, every layer gets gradients, and no two channels of a layer start alike throughout.

    A layer that starts at 0 is right where gradients come past it: the last one of a network often does.

    Args:
        module: the student's; its parameters are changed where some of its weights start at 0.
        initial: its parameters as it was built.
        used: the names of those that the output depends on.
        inputs: what it is called with.
        cotangent: where gradients start from, shaped like its output.
        what: the network, as the student knows it.
    """
    names = list(used)
    for name in names:
        if not bool(initial[name].isfinite().all()):
            raise CheckFailed(
                f"{what} starts with values that are not finite (NaN or infinity).",
                expected="finite initial parameters",
                found=f"NaN or infinity in `{name}`",
            )
    # A vector of one number per channel, whatever its dimensions, is a scale or an offset and may start alike
    weights = {name: initial[name] for name in names if initial[name].dim() > 1 and initial[name][0].numel() > 1}
    for name, value in weights.items():
        if len(value) > 1 and value.any() and bool((value == value[:1]).all()):
            raise CheckFailed(
                expected="initial weights that differ from channel to channel",
                found=f"the same ones for each channel in `{name}`",
                misconception="initial-weights-alike",
            )
    if all(value.any() for value in weights.values()):
        return
    asleep = _without_gradient(module, initial, weights, inputs, cotangent)
    if asleep:
        raise CheckFailed(
            expected="initial weights from which every layer learns",
            found=f"no gradient for `{asleep[0]}`",
            misconception="initial-weights-zero",
        )


def _without_gradient(
    module: RemoteModule,
    initial: Mapping[str, Tensor],
    weights: Iterable[str],
    inputs: Sequence[Any],
    cotangent: Tensor,
) -> list[str]:
    """The weights that no gradient has reached after some steps of training."""
    current, asleep = dict(initial), set(weights)
    for _ in range(STEPS):
        module.set_parameters(current)
        for name, gradient in module.vjp(inputs, [cotangent]).parameters_grad.items():
            if gradient is not None and name in current and gradient.any():
                asleep.discard(name)
                current[name] = current[name] - STEP_SIZE * gradient / gradient.abs().max()
        if not asleep:
            return []
    return sorted(asleep)
