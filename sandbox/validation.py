"""What the judge checks of a frame before it allocates anything, and of a value before it uses it.

Whatever the guest sends, these functions return something harmless or raise `Violation` or `Unfit`.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import torch

from sandbox.guest import wire

HEADER_BYTES = 2**20  # a network with 2,000 parameters needs some 200 kB
TENSORS = 10_000  # in one frame; the largest network of the course has some 200
DIMENSIONS = 16  # torch itself allows 64; nothing in the course has more than 8
TEXT_LENGTH = 2000  # characters of a text for people
NAME_LENGTH = 200  # characters of a name
KINDS = ("result", "fault", "callback", "ready")


class Violation(Exception):  # noqa: N818
    """The frame breaks the protocol; the session cannot go on. The message completes "the guest ..."."""


class Oversized(Violation):
    """The frame announces more than is allowed."""


class Unfit(Exception):  # noqa: N818
    """A well-formed frame holds a value that no check can use, such as NaN. Completes "returned ..."."""


@dataclass(frozen=True)
class Header:
    """A header that has passed every check that can be made before its tensors are read."""

    verb: str
    body: Any
    specs: tuple[tuple[torch.dtype, tuple[int, ...], int], ...]  # data type, shape, bytes of each tensor


def check_lengths(prefix: bytes, reply_bytes: int) -> tuple[int, int]:
    """The lengths that a frame's prefix announces. Raises `Oversized`."""
    header_length, payload_length = wire.PREFIX.unpack(prefix)
    if header_length > HEADER_BYTES or payload_length > reply_bytes:
        raise Oversized(f"announced {header_length + payload_length} bytes, {reply_bytes} are allowed")
    return header_length, payload_length


def _spec(spec: Any) -> tuple[torch.dtype, tuple[int, ...], int]:
    if not isinstance(spec, list) or len(spec) != 2:
        raise Violation("sent a malformed tensor")
    name, shape = spec
    if not isinstance(name, str) or name not in wire.DTYPES:
        raise Violation("sent a tensor of unknown type")
    if not isinstance(shape, list) or len(shape) > DIMENSIONS:
        raise Violation("sent a tensor of malformed shape")
    if not all(type(extent) is int and 0 <= extent < wire.MAX_INTEGER for extent in shape):
        raise Violation("sent a tensor of malformed shape")
    dtype = wire.DTYPES[name]
    return dtype, tuple(shape), math.prod(shape) * dtype.itemsize


def parse_header(raw: bytes | bytearray, payload_length: int, nonce: str, sequence: int) -> Header:
    """Check a header against what was asked and what its prefix announced. Raises `Violation`."""
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        raise Violation("sent a header that is no JSON") from None
    if not isinstance(header, dict) or header.keys() != {"nonce", "sequence", "verb", "body", "tensors"}:
        raise Violation("sent a malformed header")
    if header["nonce"] != nonce or type(header["sequence"]) is not int or header["sequence"] != sequence:
        raise Violation("answered out of turn")
    if header["verb"] not in KINDS or not isinstance(header["body"], dict):
        raise Violation("sent a malformed answer")
    if not isinstance(header["tensors"], list) or len(header["tensors"]) > TENSORS:
        raise Violation("sent too many tensors")
    specs = tuple(_spec(spec) for spec in header["tensors"])
    if sum(size for _, _, size in specs) != payload_length:
        raise Violation("sent tensors that do not have the length they announce")
    return Header(header["verb"], header["body"], specs)


def make_tensor(buffer: bytearray, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """The tensor over received bytes. Raises `Violation`, and `Unfit` where not every value is finite."""
    try:
        # By torch: Python takes 5 s for a reply of 256 MiB, and no deadline counts the judge's own time
        if dtype is torch.bool and buffer and int(torch.frombuffer(buffer, dtype=torch.uint8).max()) > 1:
            raise Violation("sent truth values that are neither true nor false")
        tensor = wire.tensor_from(buffer, dtype, list(shape))
    except (RuntimeError, ValueError, TypeError, OverflowError):  # no elements, but absurd extents
        raise Violation("sent a tensor of malformed shape") from None
    if dtype.is_floating_point and not bool(torch.isfinite(tensor).all()):
        raise Unfit("NaN" if bool(torch.isnan(tensor).any()) else "an infinite value")
    return tensor


def value(tree: Any, tensors: list[torch.Tensor]) -> Any:
    """The plain value that a tree stands for. Raises `Violation`, and `Unfit` for NaN and infinite numbers."""
    try:
        found = wire.decode(tree, tensors)
        _check_finite(found)
    except wire.WireError as error:
        raise Violation(f"sent {error}") from None
    return found


def _check_finite(found: Any) -> None:
    if isinstance(found, float) and not math.isfinite(found):
        raise Unfit("NaN" if math.isnan(found) else "an infinite value")
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list | tuple):
        for item in found:
            _check_finite(item)


def text(found: Any, length: int = TEXT_LENGTH) -> str | None:
    """A text of the guest's, capped and free of what would move a terminal's cursor or turn the reading direction."""
    if not isinstance(found, str):
        return None
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in found[:length])


def line_number(found: Any) -> int | None:
    """A line number of the guest's."""
    return found if type(found) is int and 0 < found < 10**7 else None
