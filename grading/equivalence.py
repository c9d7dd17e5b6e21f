"""Are two networks the same? They are when, with equal parameters, outputs and gradients agree on random inputs.

The student's network gets random parameters of the judge's. Then the judge looks for a way to give those parameters to
the reference so that both compute the same: by name, in order of registration, in order of execution, and at last by
trying the permutations of parts of the same shape (`grading.matching`). All trials happen in the judge; the guest is
asked once.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from grading.checking import CheckFailed, assert_close, assert_tensor, assert_unchanged, is_close
from grading.learning import assert_can_learn
from grading.matching import MAX_TRIALS, Matching, matchings
from grading.misfits import plainly
from grading.recognition import Raised, attempt, is_alike
from grading.student import RemoteModule
from sandbox.faults import Ending, GuestFault
from sandbox.session import Vjp

# For each misconception, after the first trial (by name): in order of registration and in order of execution
MISTAKEN_TRIALS = 2

# Of outputs, relative to the largest one. Over 1,000 draws the approximation of GELU by tanh, the smallest mistake that
# is meant to be told, deviates by 4.6e-5 or more; a GroupNorm with an eps of 1e-6, which does no harm, by 1.3e-5 at
# most; right answers that compute in another order by 2e-6 in a block, and by 3e-6 in the U-Net.
OUTPUT_TOLERANCE = 2e-5
# Gradients sum over batch and space, in an order that is not fixed, so they deviate more than outputs do.
GRADIENT_TOLERANCE = 1e-3
# Where activations and weights are large, the scale of the largest hides more rounding.
LARGE_TOLERANCE = 1e-4

# Weights of this standard deviation, and inputs so many times as large, take activations far beyond whatever somebody
# may have cut them off at (6 in ReLU6) without a loss of precision.
LARGE_WEIGHTS, LARGE_INPUTS = 5.0, 20.0


@dataclass(frozen=True, kw_only=True)
class Same:
    """Which of the networks that are right the student's is the same as, and which parameters belong together."""

    index: int
    matching: Matching


def assert_same_module(
    module: RemoteModule,
    reference: nn.Module | Sequence[nn.Module],
    inputs: Sequence[Any],
    *,
    rng: torch.Generator,
    what: str,
    gradients_of: Iterable[int] = (0,),
    mistakes: Iterable[tuple[str, Sequence[nn.Module]]] = (),
    hint: str = "",
) -> Same:
    """The student's network computes what the reference computes, forwards and backwards, training or not.

    It also has to start with parameters that it can learn from, and to leave its inputs as they are.

    Args:
        module: the student's.
        reference: the solution's, built with the same arguments; where several are right, all of them, with parameters
            of the same names and shapes.
        inputs: positional arguments of both.
        rng: draws parameters and cotangents.
        what: the network, as the student knows it.
        gradients_of: positions among `inputs` whose gradients must agree.
        mistakes: the id of each known misconception with the networks that it leads to; asked for only where the
            student's network is wrong. The first one that does the same says what is wrong with it.
        hint: said where outputs differ and no known misconception fits.
    """
    references = [reference] if isinstance(reference, nn.Module) else list(reference)
    try:
        observed = _observe(module, inputs, rng, what, list(gradients_of))
    except GuestFault as fault:
        raise _named_fault(fault, module, inputs, mistakes) from None
    try:
        reference, matching = _assert_same(observed, references, MAX_TRIALS, hint)
    except CheckFailed as failure:
        raise _named(failure, observed, mistakes) from None
    assert observed.cotangent is not None  # there was an output
    _assert_computes_anew(reference, matching, observed)
    assert_same_when_large(module, reference, matching, _large(inputs, observed.gradients_of), rng=rng, what=what)
    assert_can_learn(module, observed.initial, matching.values(), inputs, observed.cotangent, what)
    return Same(index=references.index(reference), matching=matching)


def assert_same_when_large(
    module: RemoteModule,
    reference: nn.Module,
    matching: Matching,
    inputs: Sequence[Any],
    *,
    rng: torch.Generator,
    what: str,
) -> None:
    """With large weights, too, the student's network computes what the reference does: nothing is cut off.

    Args:
        module: the student's, in either mode.
        reference: the network that it is the same as.
        matching: of their parameters.
        inputs: positional arguments of both.
        rng: draws the weights.
        what: the network, as the student knows it.
    """
    shapes = {theirs: dict(reference.named_parameters())[mine].shape for mine, theirs in matching.items()}
    for name, value in module.parameters().items():
        if name in shapes and value.shape != shapes[name]:
            raise CheckFailed(
                f"A part of {what} has the wrong size: `{name}`.",
                expected="a size that follows from the arguments of the network",
                found=f"shape {list(value.shape)}",
            )
    drawn = {name: LARGE_WEIGHTS * torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    module.set_parameters(drawn)
    assert_close(
        module(*inputs),
        _output(reference, drawn, matching, inputs),
        f"the output of {what} for large weights and activations",
        tolerance=LARGE_TOLERANCE,
        hint="For smaller ones it is right. Look for something that cuts numbers off.",
    )


@dataclass(kw_only=True)
class _Observation:
    """What the student's network did with parameters and inputs of the judge's."""

    module: RemoteModule
    inputs: Sequence[Any]
    gradients_of: list[int]
    what: str
    initial: dict[str, Tensor]  # parameters as it was built, in order of registration
    drawn: dict[str, Tensor]  # parameters, in order of registration
    output: Any
    cotangent: Tensor | None  # None where the output is no tensor
    result: Vjp | None
    whole: bool = False  # whether parameters that no gradient reaches count

    @property
    def used(self) -> dict[str, Tensor]:
        """The parameters that count: those that a gradient reaches, or all."""
        if self.whole:
            return self.drawn
        gradients = self.result.parameters_grad if self.result else {}
        return {name: value for name, value in self.drawn.items() if gradients.get(name) is not None}

    @cached_property
    def order(self) -> list[str]:
        """The parameters in the order of their use, as the guest has it: a hint, not to be trusted."""
        used = self.used
        order = [name for name in self.module.execution_order(*self.inputs) if name in used]
        return order + [name for name in used if name not in order]


def _observe(
    module: RemoteModule, inputs: Sequence[Any], rng: torch.Generator, what: str, gradients_of: list[int]
) -> _Observation:
    initial = parameters_of(module)
    drawn = draw_parameters({name: value.shape for name, value in initial.items()}, rng)
    module.set_parameters(drawn)
    output, inputs_after = module.keeping(*inputs)
    assert_unchanged({f"argument {i}": pair for i, pair in enumerate(zip(inputs, inputs_after, strict=True), 1)})
    cotangent, result = None, None
    if isinstance(output, Tensor):
        cotangent = torch.randn(output.shape, generator=rng)
        result = module.vjp(inputs, [cotangent])
    return _Observation(
        module=module,
        inputs=inputs,
        gradients_of=gradients_of,
        what=what,
        initial=initial,
        drawn=drawn,
        output=output,
        cotangent=cotangent,
        result=result,
    )


def parameters_of(module: RemoteModule) -> dict[str, Tensor]:
    """The parameters of the student's network, in order of registration."""
    try:
        return module.parameters()
    except GuestFault as fault:
        if fault.ending is Ending.BAD_VALUE and "Uninitialized" in fault.message:
            raise CheckFailed(
                expected="layers that are built with their sizes",
                found="a lazy layer, which has no weights before the first call",
                misconception="lazy-layer",
            ) from None
        raise


def _named(
    failure: CheckFailed, observed: _Observation, mistakes: Iterable[tuple[str, Sequence[nn.Module]]]
) -> CheckFailed:
    """The failure, by its name where a known misconception leads to the very network that was observed."""
    for misconception, mistaken in mistakes:
        unused = sum(1 for _ in mistaken[0].parameters()) > len(observed.used)  # a misconception may leave parts unused
        with suppress(Exception):  # what is mistaken may fail in any way on inputs that are right
            _assert_same(replace(observed, whole=True) if unused else observed, mistaken, MISTAKEN_TRIALS, hint="")
            return CheckFailed(expected=failure.expected, found=failure.found, misconception=misconception)
    again = attempt(lambda: observed.module(*observed.inputs))
    if failure.misconception is None and not isinstance(again, Raised) and not is_alike(again, observed.output):
        return CheckFailed(
            expected="the same output for the same input", found="another output", misconception="random-layer"
        )
    return failure


def _named_fault(
    fault: GuestFault,
    module: RemoteModule,
    inputs: Sequence[Any],
    mistakes: Iterable[tuple[str, Sequence[nn.Module]]],
) -> Exception:
    """The fault, by its name where a known misconception, with the same parts, leads to the very same words."""
    if fault.exception is None:
        return fault
    parts = sorted(tuple(value.shape) for value in parameters_of(module).values())
    for misconception, mistaken in mistakes:
        for network in mistaken:
            if sorted(tuple(value.shape) for value in network.parameters()) == parts:
                ended = attempt(partial(network, *inputs))
                if is_alike(ended, Raised(fault.exception, fault.message)):
                    return CheckFailed(
                        expected="an output, without an error",
                        found=f"{fault.exception}: {fault.message}",
                        misconception=misconception,
                    )
    return plainly(fault, module, inputs)


def _assert_same(
    observed: _Observation, references: Sequence[nn.Module], trials: int, hint: str
) -> tuple[nn.Module, Matching]:
    """The network that was observed is one of `references`. Returns which, and how their parameters match."""
    what = observed.what
    with torch.no_grad():
        shape = references[0](*observed.inputs).shape
    found = assert_tensor(observed.output, shape, f"the output of {what}")
    assert observed.cotangent is not None
    assert observed.result is not None
    used = observed.used
    names = dict(references[0].named_parameters())
    if observed.drawn and not used and names:
        raise CheckFailed(
            f"No gradient reaches the parameters of {what}, so it would not learn.",
            expected="an output that depends on the parameters through differentiable operations",
            found="an output that is detached from them",
            misconception="detached",
        )
    if sorted(tuple(v.shape) for v in used.values()) != sorted(tuple(v.shape) for v in names.values()):
        raise CheckFailed(
            f"{what} does not have the parts that it should have: its trainable parameters do not fit.",
            expected=_inventory(names),
            found=_inventory(used),
            misconception=_misconception_about_parts(observed.drawn, used, names),
        )
    reference, matching, expected = _match(references, found, observed, trials)
    assert_close(found, expected, f"the output of {what}", tolerance=OUTPUT_TOLERANCE, hint=hint)
    _assert_same_gradients(reference, matching, observed, observed.cotangent, observed.result)
    return reference, matching


def _assert_computes_anew(reference: nn.Module, matching: Matching, observed: _Observation) -> None:
    """In evaluation mode, and on other inputs, the network is still the same: nothing is kept from the first call."""
    module, inputs = observed.module, observed.inputs
    others = [value.flip(0) for value in inputs]
    others[0] = 0.5 * others[0]
    module.eval()
    found = module(*others)
    try:
        assert_close(
            found,
            _output(reference, observed.used, matching, others),
            f"the output of {observed.what} in evaluation mode",
            tolerance=OUTPUT_TOLERANCE,
            hint="It should be the same as in training mode.",
        )
    except CheckFailed as failure:
        if is_alike(found, observed.output):
            failure.misconception = "remembers-first-answer"
        elif not is_alike(module(*inputs), observed.output):
            failure.misconception = "differs-in-evaluation"
        if failure.misconception:
            failure.message = ""
        raise


def _large(inputs: Sequence[Any], positions: Iterable[int]) -> list[Any]:
    """The inputs, with those at these positions many times as large."""
    return [LARGE_INPUTS * value if index in positions else value for index, value in enumerate(inputs)]


def draw_parameters(shapes: Mapping[str, Sequence[int]], rng: torch.Generator) -> dict[str, Tensor]:
    """Random parameters that keep activations near size 1, so that no layer saturates or vanishes.

    Weights of layers are scaled by their fan-in; scales of normalisations are around 1, everything else around 0.
    """
    drawn = {}
    for name, shape in shapes.items():
        value = torch.randn(tuple(shape), generator=rng)
        if len(shape) > 1:
            value = value / math.sqrt(max(math.prod(shape[1:]), 1))
        elif name.endswith("weight"):
            value = 1 + 0.3 * value
        else:
            value = 0.3 * value
        drawn[name] = value
    return drawn


def _assert_same_gradients(
    reference: nn.Module, matching: Matching, observed: _Observation, cotangent: Tensor, result: Vjp
) -> None:
    used, gradients_of = observed.used, observed.gradients_of
    inputs = list(observed.inputs)
    for position in gradients_of:
        inputs[position] = inputs[position].clone().requires_grad_()
    parameters = {mine: used[theirs].clone().requires_grad_() for mine, theirs in matching.items()}
    leaves = [*(inputs[position] for position in gradients_of), *parameters.values()]
    found = [
        *(result.inputs_grad[position] for position in gradients_of),
        *(result.parameters_grad[theirs] for theirs in matching.values()),
    ]
    output = torch.func.functional_call(reference, parameters, tuple(inputs))
    # Of a sum of products: given the cotangent itself, torch would import sympy to compare shapes (1 s)
    gradients = torch.autograd.grad((output * cotangent).sum(), leaves, allow_unused=True, materialize_grads=True)
    # Some gradients are 0 but for rounding, such as a bias's before a normalisation; 1 % keeps those in proportion
    least = 0.01 * max(float(gradient.abs().max()) for gradient in gradients)
    for expected, gradient in zip(gradients, found, strict=True):
        if gradient is None and not expected.any():
            continue
        if gradient is None or not is_close(gradient, expected, GRADIENT_TOLERANCE, least_scale=least):
            raise CheckFailed(
                f"{observed.what} computes the right output, but its gradients are wrong, so it would not learn well.",
                expected="the gradients of the operations asked for",
                found="no gradient" if gradient is None else "other gradients: something is detached or done in place",
            )


def _match(
    references: Sequence[nn.Module], found: Tensor, observed: _Observation, limit: int
) -> tuple[nn.Module, Matching, Tensor]:
    """The reference and the matching that agree with what was found, and what they compute; else the first ones."""
    used, inputs = observed.used, observed.inputs
    trials = (
        (reference, matching, _output(reference, used, matching, inputs))
        for matching in matchings(references[0], inputs, used, lambda: observed.order)
        for reference in references
    )
    first = next(trials)
    if is_close(found, first[2], OUTPUT_TOLERANCE):
        return first
    others = itertools.islice(trials, limit)
    return next((trial for trial in others if is_close(found, trial[2], OUTPUT_TOLERANCE)), first)


def _output(reference: nn.Module, used: Mapping[str, Tensor], matching: Matching, inputs: Sequence[Any]) -> Tensor:
    parameters = {mine: used[theirs] for mine, theirs in matching.items()}
    with torch.no_grad():
        return cast(Tensor, torch.func.functional_call(reference, parameters, tuple(inputs)))


def _misconception_about_parts(
    drawn: Mapping[str, Tensor], used: Mapping[str, Tensor], names: Mapping[str, Tensor]
) -> str | None:
    """What is wrong with the parts of a network, where they differ in number."""
    weights, expected = (sum(value.dim() > 1 for value in group.values()) for group in (used, names))
    if weights < expected:
        return "part-unused" if sum(value.dim() > 1 for value in drawn.values()) >= expected else "part-missing"
    if weights > expected:
        return "part-too-many"
    return "bias-missing" if len(used) < len(names) else None


def _inventory(parameters: Mapping[str, Tensor]) -> str:
    return f"{len(parameters)} tensors with {sum(value.numel() for value in parameters.values()):,} numbers in all"
