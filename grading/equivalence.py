"""Are two networks the same? They are when, with equal parameters, outputs and gradients agree on random inputs.

The student's network gets random parameters of the judge's. Then the judge looks for a way to give those parameters to
the reference so that both compute the same: by name, in order of registration, in order of execution, and at last by
trying the permutations of parts of the same shape. All trials happen in the judge; the guest is asked once.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from grading.checking import TOLERANCE, CheckFailed, assert_close, assert_tensor, is_close
from grading.student import RemoteModule
from sandbox.session import Vjp

# Trials of the last resort. UpBlock, the block with the most parts of one shape, has 4! orders of its convolutions,
# which order of registration or execution nearly always settles; 200 trials of a small block take a tenth of a second.
MAX_TRIALS = 200

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
    mistakes: Mapping[str, Sequence[Any]] | None = None,
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
        mistakes: inputs with which the reference would compute what a known mistake computes, by what to say about it.
        hint: said where outputs differ and no known mistake fits.
    """
    references = [reference] if isinstance(reference, nn.Module) else list(reference)
    with torch.no_grad():
        shape = references[0](*inputs).shape
    drawn = draw_parameters({name: value.shape for name, value in module.parameters().items()}, rng)
    module.set_parameters(drawn)
    found = assert_tensor(module(*inputs), shape, f"the output of {what}")
    cotangent = torch.randn(shape, generator=rng)
    result = module.vjp(inputs, [cotangent])
    used = {name: value for name, value in drawn.items() if result.parameters_grad.get(name) is not None}
    if drawn and not used:
        raise CheckFailed(
            f"No gradient reaches the parameters of {what}, so it would not learn.",
            expected="an output that depends on the parameters through differentiable operations",
            found="an output that is detached from them",
        )
    names = dict(references[0].named_parameters())
    if sorted(tuple(v.shape) for v in used.values()) != sorted(tuple(v.shape) for v in names.values()):
        raise CheckFailed(
            f"{what} does not have the parts that it should have: its trainable parameters do not fit.",
            expected=_inventory(names),
            found=_inventory(used),
        )
    same, matching, expected = _match(references, found, used, inputs, module)
    if not is_close(found, expected):
        mistaken = {message: _output(same, used, matching, wrong) for message, wrong in (mistakes or {}).items()}
        assert_close(found, expected, f"the output of {what}", mistakes=mistaken, hint=hint)
    _assert_same_gradients(same, used, matching, inputs, cotangent, result, list(gradients_of), what)
    module.eval()
    assert_close(
        module(*inputs),
        expected,
        f"the output of {what} in evaluation mode",
        hint="It should be the same as in training mode; batch normalisation and dropout are not.",
    )


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
    reference: nn.Module,
    used: Mapping[str, Tensor],
    matching: Matching,
    inputs: Sequence[Any],
    cotangent: Tensor,
    result: Vjp,
    gradients_of: Sequence[int],
    what: str,
) -> None:
    inputs = list(inputs)
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
    gradients = torch.autograd.grad((output * cotangent).sum(), leaves)
    # Some gradients are 0 but for rounding, such as a bias's before a normalisation; 1 % keeps those in proportion
    least = 0.01 * max(float(gradient.abs().max()) for gradient in gradients)
    for expected, gradient in zip(gradients, found, strict=True):
        if gradient is None or not is_close(gradient, expected, GRADIENT_TOLERANCE, least_scale=least):
            raise CheckFailed(
                f"{what} computes the right output, but its gradients are not right, so it would not learn well.",
                expected="the gradients of the operations asked for",
                found="no gradient" if gradient is None else "other gradients: something is detached or done in place",
            )


def _match(
    references: Sequence[nn.Module],
    found: Tensor,
    used: Mapping[str, Tensor],
    inputs: Sequence[Any],
    module: RemoteModule,
) -> tuple[nn.Module, Matching, Tensor]:
    """The reference and the matching that agree with what was found, and what they compute; else the first ones."""
    trials = (
        (reference, matching, _output(reference, used, matching, inputs))
        for matching in _matchings(references[0], used, inputs, module)
        for reference in references
    )
    first = next(trials)
    if is_close(found, first[2]):
        return first
    return next((trial for trial in itertools.islice(trials, MAX_TRIALS) if is_close(found, trial[2])), first)


def _output(reference: nn.Module, used: Mapping[str, Tensor], matching: Matching, inputs: Sequence[Any]) -> Tensor:
    parameters = {mine: used[theirs] for mine, theirs in matching.items()}
    with torch.no_grad():
        return cast(Tensor, torch.func.functional_call(reference, parameters, tuple(inputs)))


def _matchings(
    reference: nn.Module, used: Mapping[str, Tensor], inputs: Sequence[Any], module: RemoteModule
) -> Iterator[Matching]:
    names = dict(reference.named_parameters())
    if names.keys() == used.keys() and all(names[name].shape == used[name].shape for name in names):
        yield {name: name for name in names}
    yield _in_order(names, used, list(names), list(used))
    if not names:
        return
    hint = [name for name in module.execution_order(*inputs) if name in used]
    hint += [name for name in used if name not in hint]
    yield _in_order(names, used, execution_order(reference, inputs), hint)
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


def _inventory(parameters: Mapping[str, Tensor]) -> str:
    return f"{len(parameters)} tensors with {sum(value.numel() for value in parameters.values()):,} numbers in all"
