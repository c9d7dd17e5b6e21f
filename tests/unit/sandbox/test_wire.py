"""What is packed on one side comes out the same on the other."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sandbox import validation
from sandbox.guest import wire

scalars = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text() | st.floats(allow_nan=False)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(values)
def test_values_survive(value: Any) -> None:
    tensors: list[torch.Tensor] = []
    tree = json.loads(json.dumps(wire.encode(value, tensors), allow_nan=False))
    assert wire.decode(tree, tensors) == value


@given(
    st.sampled_from([*wire.DTYPES]),
    st.lists(st.integers(0, 3), max_size=4),
    st.booleans(),
)
def test_tensors_survive(name: str, shape: list[int], transposed: bool) -> None:
    tensor = torch.randint(0, 2, shape).to(wire.DTYPES[name])
    if transposed and tensor.dim() >= 2:
        tensor = tensor.transpose(0, -1)
    assert_survives(tensor)


@pytest.mark.parametrize("shape", [[1], [0], [1, 1], [3]])
def test_tensors_that_were_expanded_survive(shape: list[int]) -> None:
    assert_survives(torch.tensor(2.5).expand(shape))


def assert_survives(tensor: torch.Tensor) -> None:
    buffers = wire.pack("n", 1, "result", {"value": {"tensor": 0}}, [tensor])
    raw = b"".join(buffers)
    header_length, payload_length = validation.check_lengths(raw[: wire.PREFIX.size], 10_000)
    head = wire.PREFIX.size + header_length
    header = validation.parse_header(raw[wire.PREFIX.size : head], payload_length, "n", 1)
    ((dtype, found_shape, size),) = header.specs
    found = validation.make_tensor(bytearray(raw[head : head + size]), dtype, found_shape)
    assert torch.equal(found, tensor)
    assert found.dtype == tensor.dtype


class Plain(torch.nn.Parameter):
    pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "an object"),
        (Plain(torch.ones(1)), "a test_wire.Plain"),
        ([{1: {2, 3}}], "a set"),
        (2**63, "an integer beyond 64 bits"),
        (b"", "a bytes"),
        (torch.zeros(1, dtype=torch.complex64), "a tensor of type torch.complex64"),
    ],
)
def test_what_cannot_travel_is_named(value: Any, words: str) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.encode(value, [])
    assert str(caught.value).split(".")[-1] == words.split(".")[-1]


def test_a_parameter_travels_as_a_tensor() -> None:
    tensors: list[torch.Tensor] = []
    assert wire.encode(torch.nn.Parameter(torch.ones(2)), tensors) == {"tensor": 0}
    assert bytes(wire.raw_bytes(tensors[0])) == b"\x00\x00\x80?" * 2
