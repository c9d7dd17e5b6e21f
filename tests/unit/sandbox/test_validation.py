"""Whatever bytes a guest sends, the judge gets a harmless value or one of the two exceptions that mean "no"."""

import json
import math
import time
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sandbox import validation
from sandbox.guest import wire
from sandbox.validation import Oversized, Unfit, Violation

NONCE = "n"
LIMIT = 1000  # bytes of a reply

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
# Trees that come close to what is meant
trees = st.recursive(
    json_values,
    lambda inner: st.one_of(
        st.builds(lambda tag, items: {tag: items}, st.sampled_from(["list", "tuple", "dict"]), st.lists(inner)),
        st.builds(lambda pairs: {"dict": pairs}, st.lists(st.tuples(st.text() | st.integers(), inner).map(list))),
        st.builds(lambda number: {"tensor": number}, st.integers(-2, 3) | json_values),
        st.builds(lambda content: {"float": content}, st.sampled_from(["nan", "inf", "-inf", "1"])),
    ),
    max_leaves=12,
)


def header(**changes: Any) -> bytes:
    content = {"nonce": NONCE, "sequence": 1, "verb": "result", "body": {}, "tensors": []} | changes
    return json.dumps(content).encode()


@given(st.binary(min_size=wire.PREFIX.size, max_size=wire.PREFIX.size))
def test_no_prefix_makes_the_judge_allocate_more_than_the_limit(prefix: bytes) -> None:
    try:
        header_length, payload_length = validation.check_lengths(prefix, LIMIT)
    except Oversized:
        return
    assert header_length <= validation.HEADER_BYTES
    assert payload_length <= LIMIT


@given(st.binary(max_size=200))
def test_bytes_are_no_header(raw: bytes) -> None:
    with pytest.raises(Violation):
        validation.parse_header(raw, 0, NONCE, 1)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "nonce": json_values,
            "sequence": json_values,
            "verb": json_values,
            "body": json_values,
            "tensors": json_values,
            "more": json_values,
        },
    ),
    st.integers(0, LIMIT),
)
def test_a_header_is_accepted_whole_or_refused(changes: dict[str, Any], length: int) -> None:
    try:
        found = validation.parse_header(header(**changes), length, NONCE, 1)
    except Violation:
        return
    assert found.verb in validation.KINDS
    assert isinstance(found.body, dict)
    assert sum(size for _, _, size in found.specs) == length


@given(st.lists(st.tuples(st.sampled_from([*wire.DTYPES]) | st.text(), st.lists(st.integers(-1, 2**64))), max_size=3))
def test_announced_tensors_have_the_announced_length(specs: list[tuple[str, list[int]]]) -> None:
    try:
        found = validation.parse_header(header(tensors=specs), 24, NONCE, 1)
    except Violation:
        return
    assert sum(math.prod(shape) * dtype.itemsize for dtype, shape, _ in found.specs) == 24


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"1" * 10_000,
        header(nonce="other"),
        header(sequence=0),
        header(sequence=True),
        header(sequence=1.0),
        header(verb="passed"),
        header(tensors=[["float32", [3]]]),
        header(tensors=[["float32", [-1, -1]]]),
        header(tensors=[["float32", [True]]]),
        header(tensors=[["float32", [1] * 17]]),
        header(tensors=[["float32"]] * 1),
        header(tensors=[["uint8", [0]]] * 10_001),
    ],
)
def test_deceptive_headers_are_refused(raw: bytes) -> None:
    with pytest.raises(Violation):
        validation.parse_header(raw, 4, NONCE, 1)


@given(trees)
def test_a_tree_becomes_a_plain_finite_value_or_is_refused(tree: Any) -> None:
    try:
        found = validation.value(tree, [torch.ones(1)])
    except (Violation, Unfit):
        return
    waiting = [found]
    while waiting:
        item = waiting.pop()
        assert type(item) in (type(None), bool, int, float, str, list, tuple, dict, torch.Tensor)
        if isinstance(item, float):
            assert math.isfinite(item)
        waiting += item.values() if isinstance(item, dict) else item if isinstance(item, list | tuple) else []


@given(st.sampled_from([*wire.DTYPES.values()]), st.lists(st.integers(0, 4), max_size=4), st.data())
def test_any_bytes_make_a_finite_tensor_of_the_announced_shape(
    dtype: torch.dtype, shape: list[int], data: st.DataObject
) -> None:
    size = math.prod(shape) * dtype.itemsize
    raw = data.draw(st.binary(min_size=size, max_size=size))
    try:
        tensor = validation.make_tensor(bytearray(raw), dtype, tuple(shape))
    except Unfit:
        assert dtype.is_floating_point
        return
    except Violation:
        assert dtype is torch.bool
        return
    assert (tensor.dtype, list(tensor.shape)) == (dtype, shape)
    assert bytes(wire.raw_bytes(tensor)) == raw
    assert not dtype.is_floating_point or bool(torch.isfinite(tensor).all())


def test_a_tensor_of_absurd_extent_without_elements_is_refused() -> None:
    with pytest.raises(Violation):
        validation.make_tensor(bytearray(), torch.float32, (2**62, 2**62, 0))


def test_many_truth_values_are_not_looked_at_one_by_one_in_python() -> None:
    buffer = bytearray(2**24)
    began = time.process_time()
    max(buffer)
    one_by_one = time.process_time() - began
    began = time.process_time()
    validation.make_tensor(buffer, torch.bool, (2**24,))
    assert time.process_time() - began < one_by_one / 2


def test_texts_are_capped_and_lose_what_steers_a_terminal() -> None:
    assert validation.text("a\x1b[2J\u202eb\nc\ud800") == "a�[2J�b\nc�"
    assert validation.text("x" * 5000) == "x" * validation.TEXT_LENGTH
    assert validation.text(5) is None
    assert [validation.line_number(found) for found in (3, 0, -1, True, "3", 10**9)] == [
        3,
        None,
        None,
        None,
        None,
        None,
    ]
