"""Which parameter of one network plays the part of which in another: the ways worth trying, the likeliest first."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Trials of the last resort. UpBlock, the block with the most parts of one shape, has 4! orders of its convolutions,
# which order of registration or execution nearly always settles; 200 trials of a small block take a tenth of a second.
MAX_TRIALS = 200

Matching = dict[str, str]  # parameter of the reference -> parameter of the student


def matchings(
    reference: nn.Module, inputs: Sequence[Any], used: Mapping[str, Tensor], order: Callable[[], Sequence[str]]
) -> Iterator[Matching]:
    """Ways to give the parameters `used` to the reference: by name, in order of registration, of execution, any.

    Args:
        reference: a network in the judge, with parameters of the same shapes.
        inputs: what both are called with.
        used: the parameters by name, in order of registration.
        order: their names in order of execution; asked for only where the first ways have not been the right ones.
    """
    names = dict(reference.named_parameters())
    if names.keys() == used.keys() and all(names[name].shape == used[name].shape for name in names):
        yield {name: name for name in names}
    yield _in_order(names, used, list(names), list(used))
    if not names:
        return
    yield _in_order(names, used, execution_order(reference, inputs), order())
    yield from _permutations(names, used)


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
