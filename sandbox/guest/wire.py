"""The frames that judge and guest exchange, and how values become frames.

A frame is a length prefix, a JSON header and the raw bytes of its tensors. The header's `body` holds trees: plain JSON
scalars, and objects with one key that tags what JSON has no word for. No pickle in either direction.

This module serves both sides. It trusts nothing: whatever does not fit raises `WireError`.
"""

import json
import math
import struct
from collections.abc import Callable
from typing import Any

import torch

PREFIX = struct.Struct("!IQ")  # bytes of the header, bytes of all tensors

DTYPES: dict[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "bool": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)  # compared by identity: a subclass may lie about everything
LAZY_TENSORS = (torch.nn.UninitializedParameter, torch.nn.UninitializedBuffer)
MAX_DEPTH = 32  # of nested lists; nothing honest nests deeper than the arguments of a network, some 3
MAX_INTEGER = 2**63  # what torch can hold

Tree = Any  # what `json.loads` yields
# Turns a value that is not plain into a tree, or None where it cannot
Special = Callable[[Any], Tree | None]


class WireError(ValueError):
    """A value that cannot travel, or a tree that stands for none. The message completes "it sent ..."."""


# What the guest calls the program and what it is given, and where built-in types are
OWN_MODULES = ("builtins", "submission", "stand_ins")
WHERE = "which exists only where the course runs"


class Absent:
    """Something that comes from a module which the guest does not have."""

    origin: str  # the name of that module


def describe(value: object) -> str:
    """`a numpy.ndarray`: the type of a value in words, without running any code of the value's."""
    kind = type(value)
    if Absent in kind.__mro__:
        return f"something that comes from `{value.origin}`, {WHERE}"  # type: ignore[attr-defined]
    if kind in LAZY_TENSORS:
        return "a parameter of a lazy layer, whose size is only known once the layer has run"
    module = kind.__module__ if type(kind.__module__) is str else "?"
    name = kind.__qualname__ if type(kind.__qualname__) is str else "?"
    full = name if module in OWN_MODULES else f"{module}.{name}"
    vowel = full[:1].lower() in "aeiou" and not full.lower().startswith(("unet", "uni", "use"))  # "a UNet"
    return f"{'an' if vowel else 'a'} {full[:200]}"


def nothing_special(_: Any) -> None:
    """A `Special` for values that are all plain."""


def encode(value: Any, tensors: list[torch.Tensor], special: Special = nothing_special, depth: int = MAX_DEPTH) -> Tree:
    """Turn a value into a tree; the tensors in it are appended to `tensors`. Raises `WireError`."""
    if depth == 0:
        raise WireError(f"something nested more than {MAX_DEPTH} deep")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        if abs(value) >= MAX_INTEGER:
            raise WireError("an integer beyond 64 bits")
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind in PLAIN_TENSORS:
        if value.layout is not torch.strided or value.is_quantized or value.device.type == "meta":
            raise WireError("a tensor that is not dense")
        if value.dtype not in DTYPE_NAMES:
            raise WireError(f"a tensor of type {value.dtype}")
        tensors.append(value)
        return {"tensor": len(tensors) - 1}
    # Subclasses too, such as named tuples and ordered dictionaries: as what they are at bottom
    if issubclass(kind, list | tuple):
        items = list.__iter__(value) if issubclass(kind, list) else tuple.__iter__(value)
        tag = "list" if issubclass(kind, list) else "tuple"
        return {tag: [encode(item, tensors, special, depth - 1) for item in items]}
    if issubclass(kind, dict):
        pairs = list(dict.items(value))
        if not all(type(key) in (str, int) for key, _ in pairs):
            raise WireError("a dictionary whose keys are neither texts nor integers")
        return {"dict": [[key, encode(item, tensors, special, depth - 1)] for key, item in pairs]}
    if (tree := special(value)) is not None:
        return tree
    raise WireError(describe(value))


def decode(
    tree: Tree,
    tensors: list[torch.Tensor],
    specials: dict[str, Callable[[Any], Any]] | None = None,
    depth: int = MAX_DEPTH,
) -> Any:
    """Turn a tree back into the value. `specials` maps further tags to what makes the value. Raises `WireError`."""
    if depth == 0:
        raise WireError(f"something nested more than {MAX_DEPTH} deep")
    if tree is None or isinstance(tree, bool | str):
        return tree
    if isinstance(tree, int):
        if abs(tree) >= MAX_INTEGER:
            raise WireError("an integer beyond 64 bits")
        return tree
    if isinstance(tree, float):
        return tree
    if not isinstance(tree, dict) or len(tree) != 1:
        raise WireError("a malformed value")
    ((tag, content),) = tree.items()
    if tag == "float" and content in ("nan", "inf", "-inf"):
        return float(content)
    if tag == "tensor" and type(content) is int and 0 <= content < len(tensors):
        return tensors[content]
    if tag in ("list", "tuple") and isinstance(content, list):
        items = [decode(item, tensors, specials, depth - 1) for item in content]
        return items if tag == "list" else tuple(items)
    if tag == "dict" and isinstance(content, list):
        result = {}
        for pair in content:
            if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) not in (str, int):
                raise WireError("a malformed dictionary")
            result[pair[0]] = decode(pair[1], tensors, specials, depth - 1)
        return result
    if specials and tag in specials:
        return specials[tag](content)
    raise WireError("a malformed value")


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The elements in row-major order, as bytes of this machine's order (both sides run on the same one)."""
    # Not `reshape(-1)`: what has one element or none counts as contiguous with any stride, and keeps it
    flat = tensor.detach().to("cpu").contiguous().as_strided((tensor.numel(),), (1,))
    buffer: Any = flat.view(torch.uint8).numpy()
    return memoryview(buffer)


def pack(nonce: str, sequence: int, verb: str, body: Tree, tensors: list[torch.Tensor]) -> list[bytes | memoryview]:
    """The buffers that make up a frame, in order."""
    payload = [raw_bytes(tensor) for tensor in tensors]
    header = json.dumps(
        {
            "nonce": nonce,
            "sequence": sequence,
            "verb": verb,
            "body": body,
            "tensors": [[DTYPE_NAMES[tensor.dtype], list(tensor.shape)] for tensor in tensors],
        },
        allow_nan=False,
        separators=(",", ":"),
    ).encode()
    return [PREFIX.pack(len(header), sum(map(len, payload))) + header, *payload]


def tensor_from(buffer: bytearray, dtype: torch.dtype, shape: list[int]) -> torch.Tensor:
    """A tensor over `buffer`, which it keeps alive. The caller has checked that the length fits."""
    if not buffer:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(buffer, dtype=dtype).reshape(shape)
