"""Are two networks the same? They are when, with equal parameters, outputs and gradients agree on random inputs.

The student's network gets random parameters of the judge's. Then the judge looks for a way to give those parameters to
the reference so that both compute the same: by name, in order of registration, in order of execution, and at last by
trying the permutations of parts of the same shape. All trials happen in the judge; the guest is asked once.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from grading.checking import TOLERANCE, CheckFailed, assert_close, assert_tensor, is_close
from grading.recognition import Raised, attempt, is_alike
from grading.student import RemoteModule
from sandbox.faults import GuestFault
from sandbox.session import Vjp

# Trials of the last resort. UpBlock, the block with the most parts of one shape, has 4! orders of its convolutions,
# which order of registration or execution nearly always settles; 200 trials of a small block take a tenth of a second.
MAX_TRIALS = 200
# For each misconception, after the first trial (by name): in order of registration and in order of execution
MISTAKEN_TRIALS = 2

# Gradients sum over batch and space, in an order that is not fixed, so they deviate more than outputs do.
GRADIENT_TOLERANCE = 10 * TOLERANCE

Matching = dict[str, str]  # parameter of the reference -> parameter of the student


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
) -> None:
    """The student's network computes what the reference computes, forwards and backwards, training or not.

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
        same, matching = _assert_same(observed, references, MAX_TRIALS, hint)
    except CheckFailed as failure:
        raise _named(failure, observed, mistakes) from None
    _assert_computes_anew(same, matching, observed)


@dataclass(kw_only=True)
class _Observation:
    """What the student's network did with parameters and inputs of the judge's."""

    module: RemoteModule
    inputs: Sequence[Any]
    gradients_of: list[int]
    what: str
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
    drawn = draw_parameters({name: value.shape for name, value in module.parameters().items()}, rng)
    module.set_parameters(drawn)
    output = module(*inputs)
    cotangent, result = None, None
    if isinstance(output, Tensor):
        cotangent = torch.randn(output.shape, generator=rng)
        result = module.vjp(inputs, [cotangent])
    return _Observation(
        module=module,
        inputs=inputs,
        gradients_of=gradients_of,
        what=what,
        drawn=drawn,
        output=output,
        cotangent=cotangent,
        result=result,
    )


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
    parts = sorted(tuple(value.shape) for value in module.parameters().values())
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
    return fault


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
    same, matching, expected = _match(references, found, observed, trials)
    assert_close(found, expected, f"the output of {what}", hint=hint)
    _assert_same_gradients(same, matching, observed, observed.cotangent, observed.result)
    return same, matching


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


def execution_order(module: nn.Module, inputs: Sequence[Any]) -> list[str]:
    """Names of the parameters of a network in the judge, in the order in which the forward pass uses them."""
    order: dict[str, None] = {}
    hooks = []
    for prefix, part in module.named_modules():
        own = [f"{prefix}.{name}" if prefix else name for name, _ in part.named_parameters(recurse=False)]
        hooks.append(part.register_forward_pre_hook(lambda *_, own=own: order.update(dict.fromkeys(own))))
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return list(order)


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
        for matching in _matchings(references[0], observed)
        for reference in references
    )
    first = next(trials)
    if is_close(found, first[2]):
        return first
    return next((trial for trial in itertools.islice(trials, limit) if is_close(found, trial[2])), first)


def _output(reference: nn.Module, used: Mapping[str, Tensor], matching: Matching, inputs: Sequence[Any]) -> Tensor:
    parameters = {mine: used[theirs] for mine, theirs in matching.items()}
    with torch.no_grad():
        return cast(Tensor, torch.func.functional_call(reference, parameters, tuple(inputs)))


def _matchings(reference: nn.Module, observed: _Observation) -> Iterator[Matching]:
    names, used = dict(reference.named_parameters()), observed.used
    if names.keys() == used.keys() and all(names[name].shape == used[name].shape for name in names):
        yield {name: name for name in names}
    yield _in_order(names, used, list(names), list(used))
    if not names:
        return
    yield _in_order(names, used, execution_order(reference, observed.inputs), observed.order)
    yield from _permutations(names, used)


def _in_order(
    names: Mapping[str, Tensor], used: Mapping[str, Tensor], mine: Sequence[str], theirs: Sequence[str]
) -> Matching:
    """Match parameters of the same shape in the order given."""
    queues: dict[tuple[int, ...], list[str]] = {}
    for name in theirs:
        queues.setdefault(tuple(used[name].shape), []).append(name)
    return {name: queues[tuple(names[name].shape)].pop(0) for name in mine}


def _permutations(names: Mapping[str, Tensor], used: Mapping[str, Tensor]) -> Iterator[Matching]:
    """Every way to match layers of the same shapes, or single parameters where the layers are cut differently."""
    mine, theirs = _layers(names), _layers(used)
    if {kind: len(group) for kind, group in mine.items()} != {kind: len(group) for kind, group in theirs.items()}:
        mine = _groups({(name,): (tuple(value.shape),) for name, value in names.items()})
        theirs = _groups({(name,): (tuple(value.shape),) for name, value in used.items()})
    choices = [
        [list(zip(group, permuted, strict=True)) for permuted in itertools.permutations(theirs[kind])]
        for kind, group in mine.items()
        if math.factorial(len(group)) <= MAX_TRIALS
    ]
    if len(choices) < len(mine):
        return
    for choice in itertools.product(*choices):
        yield {
            name: other
            for pairs in choice
            for layer, other_layer in pairs
            for name, other in zip(layer, other_layer, strict=True)
        }


def _layers(parameters: Mapping[str, Tensor]) -> dict[tuple[tuple[int, ...], ...], list[tuple[str, ...]]]:
    layers: dict[str, list[str]] = {}
    for name in parameters:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    return _groups({tuple(layer): tuple(tuple(parameters[name].shape) for name in layer) for layer in layers.values()})


def _groups(
    shapes: Mapping[tuple[str, ...], tuple[tuple[int, ...], ...]],
) -> dict[tuple[tuple[int, ...], ...], list[tuple[str, ...]]]:
    groups: dict[tuple[tuple[int, ...], ...], list[tuple[str, ...]]] = {}
    for names, kind in shapes.items():
        groups.setdefault(kind, []).append(names)
    return groups


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
