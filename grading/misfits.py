"""Sizes and types that do not fit, in plain words: torch says them in terms of its kernels."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from grading.student import RemoteModule
from sandbox.faults import GuestFault

# What torch says where a layer is given something that it cannot take, and the same about "it".
_LAYERS = (
    (
        r"to have (?P<wanted>\d+) channels, but got (?P<found>\d+) channels",
        "gets {found} channels and expects {wanted}",
    ),
    (
        r"mat1 and mat2 shapes cannot be multiplied \(\d+x(?P<found>\d+) and (?P<wanted>\d+)x\d+\)",
        "gets vectors of {found} numbers and expects {wanted}",
    ),
    (
        r"got weight of shape \[(?P<wanted>\d+)\] and input of shape \[\d+, (?P<found>\d+)[,\]]",
        "gets {found} channels and expects {wanted}",
    ),
    (
        r"divisible by num_groups, but got input of shape \[\d+, (?P<found>\d+)[,\]].* and num_groups=(?P<wanted>\d+)",
        "gets {found} channels, which cannot be divided into {wanted} groups",
    ),
    (
        r"mat1 and mat2 must have the same dtype, but got (?P<found>\w+) and (?P<wanted>\w+)",
        "gets {found} and computes in {wanted}",
    ),
    (
        r"Input type \((?:torch\.)?(?P<found>\w+)\) and (?:bias|weight) type \((?:torch\.)?(?P<wanted>\w+)\)",
        "gets {found} and computes in {wanted}",
    ),
)
# Types as torch names them in errors, and as students know them
_TYPES = {"long": "integers", "int": "integers", "bool": "booleans", "half": "float16", "float": "float32"}
_TYPES |= {"double": "float64"}
# The same for operations that no layer does
_OPERATIONS = (
    (
        r"Sizes of tensors must match except in dimension (?P<dim>\d+)\. "
        r"Expected size (?P<one>\d+) but got size (?P<two>\d+)",
        "Two tensors are joined along dimension {dim}, and in another one their sizes differ: {one} and {two}",
    ),
    (
        r"The size of tensor a \((?P<one>\d+)\) must match the size of tensor b \((?P<two>\d+)\) at non-singleton "
        r"dimension (?P<dim>\d+)",
        "Two tensors that are computed with differ in size along dimension {dim}: {one} and {two}",
    ),
    (
        r"shape '\[(?P<shape>[-\d, ]+)\]' is invalid for input of size (?P<size>\d+)",
        "{size} numbers cannot be arranged as [{shape}]",
    ),
)


@dataclass(frozen=True)
class Layer:
    """A layer of a network, by its place and the shapes of its parameters."""

    place: str  # as the student knows it: `up1`
    shapes: frozenset[tuple[int, ...]]


def call_plainly(module: RemoteModule, *inputs: Any) -> Any:
    """The output of the student's network. A fault about sizes or types that do not fit is told in plain words."""
    try:
        return module(*inputs)
    except GuestFault as fault:
        raise plainly(fault, module, inputs) from None


def plainly(fault: GuestFault, module: RemoteModule, inputs: Sequence[Any]) -> GuestFault:
    """The fault of a call of the student's network, in plain words where it is about sizes or types."""

    def layer() -> Layer | None:
        with suppress(GuestFault):  # it may be gone by now
            return last_layer(module.execution_order(*inputs), module.parameters())
        return None

    words = in_plain_words(fault.message, layer)
    if fault.exception is None or words is None:
        return fault
    return GuestFault(
        fault.ending,
        f"{words}. In torch's words: {fault.message}",
        exception=fault.exception,
        file=fault.file,
        line=fault.line,
        function=fault.function,
    )


def in_plain_words(message: str, layer: Callable[[], Layer | None]) -> str | None:
    """What torch says about sizes or types that do not fit, in plain words; None where it says something else.

    Args:
        message: torch's.
        layer: the one that was at work, so far as is known; asked for only where it matters.
    """
    for pattern, words in _OPERATIONS:
        if found := re.search(pattern, message):
            return words.format(**found.groupdict())
    for pattern, words in _LAYERS:
        if found := re.search(pattern, message):
            at_work = layer()
            is_it = at_work is not None and _speaks_of(message, at_work)
            who = f"`{at_work.place}`" if at_work is not None and is_it else "A layer"
            parts = {name: _TYPES.get(part.lower(), part) for name, part in found.groupdict().items()}
            return f"{who} {words.format(**parts)}"
    return None


def last_layer(order: Sequence[str], parameters: Mapping[str, Tensor]) -> Layer | None:
    """The layer that began last, by the names of parameters in the order of their use."""
    known = [name for name in order if name in parameters]
    if not known:
        return None
    prefix = known[-1].rpartition(".")[0]
    own = [tuple(value.shape) for name, value in parameters.items() if name.rpartition(".")[0] == prefix]
    first, _, rest = prefix.partition(".")
    index = rest.partition(".")[0]
    return Layer(f"{first}[{index}]" if index.isdigit() and first == "model" else first, frozenset(own))


def _speaks_of(message: str, layer: Layer) -> bool:
    """Whether a message can be about this layer: where it says the size of a weight, the layer has such a weight."""
    if sizes := re.search(r"weight of (?:size|shape) \[(?P<sizes>[\d, ]+)\]", message):
        return tuple(int(size) for size in sizes["sizes"].split(",")) in layer.shapes
    if product := re.search(r"multiplied \(\d+x\d+ and (?P<rows>\d+)x(?P<columns>\d+)\)", message):
        return (int(product["columns"]), int(product["rows"])) in layer.shapes
    return True
