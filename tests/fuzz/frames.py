"""Fuzz target: what the judge makes of the bytes that a guest sends.

The judge's side is the real one, `Session` over `Exchange` over `Channel`, on a real socket and a real pipe; the guest
is this file, and the root process, which only says how a session's process ended, is played. A case is one request and
whatever the guest does about it. What it does is written before the judge asks, so that no thread is needed.

Allowed are a plain, finite value and a `GuestFault` whose ending is true: `_check_fault` knows what really happened.
"""

import json
import math
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from fuzz.runner import Failed

from sandbox import validation
from sandbox.channel import Channel
from sandbox.exchange import Exchange
from sandbox.faults import Ending, GuestFault
from sandbox.guest import wire
from sandbox.limits import MIB, Deadline, Limits
from sandbox.program import Program
from sandbox.session import CallbackRefused, Handle, Session, Vjp

CASES_PER_CONNECTION = 16  # a connection costs as much as a few frames; a failure is repeated with all before it
REPLY_BYTES = 1 * MIB  # small enough to go beyond it often
OUTPUT_BYTES = 32 * 1024  # less than a pipe holds, so that a flood is one write
WALL_SECONDS = 20.0  # where the guest always answers or hangs up: waiting this long is a failure
SHORT_WALL_SECONDS = 0.01  # where it may stay silent, which every such case waits for
SHORT_SHARE = 0.02  # of connections; at 10 ms for each of them a million cases wait 20 s
SLACK_SECONDS = 2.0  # between the deadline and the judge's noticing: for a busy machine
CPU_SECONDS = 10.0  # the session's limit of processor time: only the played root compares with it
LARGE_SHARE = 0.001  # of cases; a frame of a MiB takes as long as a hundred others
GROWTH_BYTES = 192 * MIB  # a header of 1 MiB takes some 50 MiB as Python objects, a reply 1 MiB, torch the rest


@dataclass(frozen=True)
class Move:
    """What the guest does about one request."""

    kind: str
    data: bytes = b""
    then: str = "stay"  # or "shut" (nothing more will come), or "close"
    printed: bytes = b""
    value: Any = None  # what must come out, where `valid`
    valid: bool = False


# What a session that is out of time may write: the truth, or anything else
_HEAD = b"Stack (most recent call first):\n"
STACKS = (
    _HEAD + b'  File "/usr/lib/x.py", line 1 in a\n  File "student.py", line 3 in f\n',
    _HEAD + b'  File "student.py", line 999999999 in ' + b"x" * 3000 + b"\n",
    _HEAD + b'  File "\x1b[31m\xff\xed\xa0\x80", line 0 in <module>\n  ...\n',
    _HEAD * 100,
    _HEAD + b'  File "' + b'a" , line 1 in ' * 200,
)


@dataclass
class Root:
    """Plays the root process of the guest."""

    end: dict[str, Any]
    kills_memory: bool = False  # the kernel has killed the session's process for want of memory
    printing: int = -1  # the guest's end of its output
    stack: bytes = b""
    dies: bool = False  # without a sandbox, student code may kill the root process
    asked: int = 0  # how often it was asked to end the session

    def end_session(self, pid: int, *, grace: float) -> dict[str, Any]:
        """Say how the session's process ended."""
        self.asked += 1
        if self.dies:
            raise GuestFault(Ending.CRASHED, "killed the process that was to run it")
        return self.end

    def drop_session(self, pid: int) -> None:
        """Nothing to end."""

    def interrupt_session(self, pid: int) -> None:
        """Have the session say where it is, as far as its pipe takes it."""
        with suppress(OSError):
            os.write(self.printing, self.stack)

    def memory_kills(self) -> int:
        """One more than before, once the session is being ended."""
        return int(self.kills_memory and self.asked > 0)


class MeasuredChannel(Channel):
    """A channel that refuses to allocate what no frame may need."""

    def receive(self, size: int) -> bytearray:
        """As `Channel`, within what the limits allow."""
        if size > max(validation.HEADER_BYTES, REPLY_BYTES):
            raise Failed(f"the judge was about to allocate {size} bytes")
        return super().receive(size)


class Connection:
    """One session, both ends."""

    def __init__(self, rng: random.Random) -> None:
        judge_end, self.guest_end = socket.socketpair()
        output, self.printing = os.pipe()
        os.set_blocking(self.printing, False)
        self.short = rng.random() < SHORT_SHARE
        self.root = _root(rng)
        self.root.printing, self.root.stack = self.printing, rng.choice(STACKS)
        self.wall_left = SHORT_WALL_SECONDS if self.short else WALL_SECONDS
        limits = Limits(output_bytes=OUTPUT_BYTES, reply_bytes=REPLY_BYTES)
        deadline = Deadline(cpu_seconds=CPU_SECONDS, wall_seconds=self.wall_left)
        channel = MeasuredChannel(judge_end, output, OUTPUT_BYTES, None)
        self.exchange = Exchange(self.root, 1, channel, deadline, limits, 0)
        self.nonce = f"{rng.getrandbits(64):016x}"
        self.exchange._nonce = self.nonce  # a repeated case must meet the same one
        self.session = Session(self.exchange)
        self.printed = 0  # bytes, all cases together
        self.pending = b""  # what was sent and the judge has not taken as a frame
        self.hung_up = False
        self.feeder: threading.Thread | None = None

    @property
    def next_sequence(self) -> int:
        """The number that the answer to the judge's next request must carry."""
        return self.exchange._sequence + 1

    def make(self, move: Move) -> None:
        """Do what a move says."""
        if move.printed:
            with suppress(BlockingIOError):
                self.printed += os.write(self.printing, move.printed)
        rest = b""
        if move.data and not self.hung_up:
            self.pending += move.data
            try:
                rest = move.data[self.guest_end.send(move.data, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                rest = move.data
        self.hung_up = self.hung_up or move.then != "stay"
        if rest:
            self.feeder = threading.Thread(target=self._feed, args=(rest, move.then), daemon=True)
            self.feeder.start()
        else:
            self._then(move.then)

    def frame_taken(self) -> None:
        """The judge has gone on from a frame; what a splice left behind is what it reads next."""
        if len(self.pending) >= wire.PREFIX.size:
            self.pending = self.pending[wire.PREFIX.size + sum(wire.PREFIX.unpack_from(self.pending)) :]

    def _feed(self, rest: bytes, then: str) -> None:
        with suppress(OSError):
            self.guest_end.sendall(rest)
            self._then(then)

    def _then(self, what: str) -> None:
        if what == "shut":
            with suppress(OSError):
                self.guest_end.shutdown(socket.SHUT_WR)
        elif what == "close":
            self.guest_end.close()

    def drain(self) -> None:
        """Read what the judge has asked so far."""
        with suppress(OSError):
            while self.guest_end.recv(2**16, socket.MSG_DONTWAIT):
                pass

    def close(self) -> None:
        """Both ends."""
        self.session.close()
        if self.feeder is not None:
            self.feeder.join()
        self.guest_end.close()
        os.close(self.printing)


def _root(rng: random.Random) -> Root:
    signal_number = rng.choice([None, None, signal.SIGKILL, signal.SIGXCPU, signal.SIGSEGV, signal.SIGABRT])
    return Root(
        end={
            "killed": rng.random() < 0.4,
            "exit_code": rng.choice([0, 1, 139]) if signal_number is None else None,
            "signal_number": None if signal_number is None else int(signal_number),
            "cpu_seconds": rng.choice([0.1, CPU_SECONDS * 0.6, CPU_SECONDS]),
        },
        kills_memory=rng.random() < 0.05,
        dies=rng.random() < 0.02,
    )


# --- what a guest may say -----------------------------------------------------------------------------------------

_WORDS = ("", "value", "raised", "nan", "list", "tensor", "\x1b[2J", "\u202e", "\ud800", "\0", "é", "result", "x" * 300)
_NUMBERS = (0, 1, -1, 2, 3, 7, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 10**40, True, 0.5, 1e308, 1e999, -1e999)
_EXTENTS = (0, 1, 2, 3, 5, 2**31, 2**62, 2**63 - 1)
_DTYPES = list(wire.DTYPES)


def _scalar(rng: random.Random) -> Any:
    choice = rng.random()
    if choice < 0.3:
        return rng.choice(_WORDS)
    if choice < 0.7:
        return rng.choice(_NUMBERS)
    return rng.choice([None, True, False, math.nan, rng.random(), rng.getrandbits(20)])


def _junk(rng: random.Random, depth: int = 3) -> Any:
    """Any JSON."""
    if depth == 0 or rng.random() < 0.5:
        return _scalar(rng)
    if rng.random() < 0.5:
        return [_junk(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(_WORDS): _junk(rng, depth - 1) for _ in range(rng.randrange(4))}


def _tree(rng: random.Random, depth: int = 4) -> Any:
    """JSON that is close to a tree of the protocol."""
    choice = rng.random()
    if depth == 0 or choice < 0.3:
        return _scalar(rng)
    if choice < 0.35:
        return _junk(rng)
    if choice < 0.45:
        return {"tensor": rng.choice([0, 0, 1, -1, 99, True, None, "0"])}
    if choice < 0.5:
        return {"float": rng.choice(["nan", "inf", "-inf", "1", 1, None])}
    items = [_tree(rng, depth - 1) for _ in range(rng.randrange(4))]
    if choice < 0.8:
        return {rng.choice(["list", "tuple", "tuple", "set", "dict"]): items}
    return {"dict": [[rng.choice([*_WORDS, 1, -5, 1.0, None]), item] for item in items]}


def _value(rng: random.Random, depth: int = 3) -> Any:
    """A value that may travel."""
    choice = rng.random()
    if choice < 0.3:
        return _tensor(rng)
    if depth == 0 or choice < 0.6:
        return rng.choice([None, True, False, "text", "", 0, -3, 2**63 - 1, 0.25, -1e300])
    items = [_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if choice < 0.85:
        return items if choice < 0.7 else tuple(items)
    return {rng.choice(["a", "b", "weight", 3, -1]): item for item in items}


def _tensor(rng: random.Random) -> torch.Tensor:
    shape = [rng.randrange(4) for _ in range(rng.randrange(4))]
    dtype = wire.DTYPES[rng.choice(_DTYPES)]
    # A count of its own makes as good values as torch's generator, which would have to be seeded for each case
    return torch.arange(rng.randrange(50), dtype=torch.int64)[: math.prod(shape)].sum().expand(shape).to(dtype)


def _frame(nonce: str, sequence: int, verb: str, body: Any, tensors: list[torch.Tensor]) -> bytes:
    return b"".join(wire.pack(nonce, sequence, verb, body, tensors))


def _raw_frame(header: bytes, payload: bytes = b"") -> bytes:
    return wire.PREFIX.pack(len(header), len(payload)) + header + payload


def _header(connection: Connection, **changes: Any) -> dict[str, Any]:
    return {
        "nonce": connection.nonce,
        "sequence": connection.next_sequence,
        "verb": "result",
        "body": {"value": None},
        "tensors": [],
    } | changes


def _fault_body(rng: random.Random) -> dict[str, Any]:
    body: dict[str, Any] = {
        "ending": rng.choice(["raised", "bad_value", "out_of_memory", "crashed"]),
        "message": rng.choice(_WORDS),
        "exception": rng.choice(["ValueError", None, 5, "x" * 300]),
        "file": rng.choice(["a.py", None, 1.5]),
        "line": rng.choice([3, None, -1, 10**9, True]),
        "function": rng.choice(["q", None, []]),
    }
    for key in rng.sample(sorted(body), rng.randrange(3)):
        body[key] = _junk(rng, 1)
    return body


def _callback_body(rng: random.Random, tensors: list[torch.Tensor]) -> dict[str, Any]:
    if rng.random() < 0.3:
        return {"callback": rng.choice([0, 0, 1, -1, True, None, 2**70]), "args": _tree(rng), "kwargs": _tree(rng)}
    args = tuple(_value(rng, 1) for _ in range(rng.randrange(3)))
    kwargs = {rng.choice(["t", "c"]): _value(rng, 1) for _ in range(rng.randrange(2))}
    return {"callback": 0, "args": wire.encode(args, tensors), "kwargs": wire.encode(kwargs, tensors)}


def _plausible(rng: random.Random, connection: Connection) -> bytes:
    """A frame that says something acceptable, or nearly so."""
    tensors: list[torch.Tensor] = []
    choice = rng.random()
    if choice < 0.6:
        verb, body = "result", {"value": wire.encode(_value(rng), tensors)}
    elif choice < 0.8:
        verb, body = "fault", _plain_fault(rng)
    else:
        verb, body = "callback", _callback_body(rng, tensors)
    try:
        return _frame(connection.nonce, connection.next_sequence, verb, body, tensors)
    except ValueError:  # NaN in a tree
        return _frame(connection.nonce, connection.next_sequence, "result", {"value": 1}, [])


def _plain_fault(rng: random.Random) -> dict[str, Any]:
    return {"ending": rng.choice(["raised", "bad_value"]), "message": "went wrong", "line": rng.randrange(5)}


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        position = rng.randrange(len(changed))
        changed[position] = changed[position] ^ (1 << rng.randrange(8)) if rng.random() < 0.7 else rng.randrange(256)
    return bytes(changed)


def _end(rng: random.Random, connection: Connection) -> str:
    """What a guest does after bytes that may announce more than they are: hang up, or keep the judge waiting."""
    if connection.short and rng.random() < 0.5:
        return "stay"
    return "shut" if rng.random() < 0.9 else "close"


def result(rng: random.Random, connection: Connection) -> Move:
    """A right answer."""
    tensors: list[torch.Tensor] = []
    value = _value(rng)
    tree = wire.encode(value, tensors)
    data = _frame(connection.nonce, connection.next_sequence, "result", {"value": tree}, tensors)
    return Move("result", data, value=value, valid=True)


def fault(rng: random.Random, connection: Connection) -> Move:
    """What went wrong, in the guest's words."""
    header = _header(connection, verb="fault", body=_fault_body(rng))
    return Move("fault", _raw_frame(json.dumps(header).encode()))


def callback(rng: random.Random, connection: Connection) -> Move:
    """A call of one of the judge's functions."""
    tensors: list[torch.Tensor] = []
    header = _header(connection, verb="callback", body=_callback_body(rng, tensors))
    header["tensors"] = [[wire.DTYPE_NAMES[tensor.dtype], list(tensor.shape)] for tensor in tensors]
    return Move("callback", _raw_frame(json.dumps(header).encode(), b"".join(map(wire.raw_bytes, tensors))))


def flipped(rng: random.Random, connection: Connection) -> Move:
    """Some bits of a good frame changed."""
    return Move("flipped", _flip(rng, _plausible(rng, connection)), _end(rng, connection))


def truncated(rng: random.Random, connection: Connection) -> Move:
    """Half a frame."""
    data = _plausible(rng, connection)
    return Move("truncated", data[: rng.randrange(len(data))], _end(rng, connection))


def noise(rng: random.Random, connection: Connection) -> Move:
    """Any bytes, or none."""
    return Move("noise", rng.randbytes(rng.choice([0, 1, 11, 12, 13, 40, 200])), _end(rng, connection))


def lengths(rng: random.Random, connection: Connection) -> Move:
    """A good frame with another prefix."""
    data = _plausible(rng, connection)
    header_length, payload_length = wire.PREFIX.unpack(data[: wire.PREFIX.size])
    odd = [0, 1, 255, validation.HEADER_BYTES, validation.HEADER_BYTES + 1, REPLY_BYTES, REPLY_BYTES + 1]
    huge = [2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]
    near = [header_length, header_length - 1, header_length + 1]
    prefix = struct.pack(
        "!IQ",
        rng.choice([*near, *near, *odd, *huge[:2]]),
        rng.choice([payload_length, payload_length, payload_length + 1, payload_length + 4, *odd, *huge]),
    )
    return Move("lengths", prefix + data[wire.PREFIX.size :], _end(rng, connection))


def header(rng: random.Random, connection: Connection) -> Move:
    """A header with wrong, missing or further fields, or no table at all."""
    content: Any = _header(connection)
    choice = rng.random()
    key = rng.choice(list(content))
    if choice < 0.5:
        content[key] = _junk(rng)
    elif choice < 0.6:
        del content[key]
    elif choice < 0.7:
        content[rng.choice(_WORDS)] = _junk(rng)
    elif choice < 0.8:
        content["sequence"] += rng.choice([-1, 1, 0.0, 2**64])
    else:
        content = _junk(rng)
    raw = json.dumps(content).encode(rng.choice(["utf-8"] * 8 + ["utf-16", "utf-32", "utf-16-le", "utf-8-sig"]))
    if rng.random() < 0.2 and raw:
        position = rng.randrange(len(raw))
        odd = rng.choice([b"NaN", b"\xff", b"1" * 5000, b"//", b'"', b"\\u", b"{", b"]"])
        raw = raw[:position] + odd + raw[position:]
    return Move("header", _raw_frame(raw), _end(rng, connection))


def specs(rng: random.Random, connection: Connection) -> Move:
    """Announced tensors that are wrong, absurd, or do not have the length they say."""
    found: Any = [
        [
            rng.choice([*_DTYPES, "complex64", "", None, []]) if rng.random() < 0.3 else rng.choice(_DTYPES),
            [rng.choice(_EXTENTS) for _ in range(rng.choice([0, 1, 2, 3, 16, 17]))],
        ]
        for _ in range(rng.choice([1, 1, 2, 5]))
    ]
    if rng.random() < 0.2:
        found[0] = _junk(rng)
    elif rng.random() < 0.01:
        found *= 2500  # around what one frame may hold
    announced = sum(map(_announced, found))
    payload = rng.randbytes(announced) if 0 <= announced < 5000 else b"1234"
    body = {"value": {"list": [{"tensor": number} for number in range(min(len(found), 6))]}}
    raw = json.dumps(_header(connection, body=body, tensors=found)).encode()
    return Move("specs", _raw_frame(raw, payload), _end(rng, connection))


def _announced(spec: Any) -> int:
    """The bytes that a spec stands for, 0 where it stands for nothing."""
    name, shape = spec if isinstance(spec, list) and len(spec) == 2 else ("", [])
    if not isinstance(name, str) or not isinstance(shape, list) or not all(type(extent) is int for extent in shape):
        return 0
    return math.prod(shape) * wire.DTYPES.get(name, torch.uint8).itemsize


def deep(rng: random.Random, connection: Connection) -> Move:
    """Nested without end, in JSON's own words or in the protocol's."""
    depth = rng.choice([30, 31, 32, 33, 34, 200, 900, 990, 1010, 5000])
    opening, closing = rng.choice(
        [(b"[", b"]"), (b'{"a":', b"}"), (b'{"list":[', b"]}"), (b'{"dict":[[1,', b"]]}"), (b'{"tuple":[', b"]}")]
    )
    nested = opening * depth + b"1" + closing * (depth if rng.random() < 0.9 else 0)
    raw = json.dumps(_header(connection, body={"value": "HERE"})).encode().replace(b'"HERE"', nested)
    return Move("deep", _raw_frame(nested if rng.random() < 0.2 else raw), _end(rng, connection))


def tree(rng: random.Random, connection: Connection) -> Move:
    """A well-formed frame whose value may stand for nothing, or may not be finite."""
    numbers = [1.0, math.nan] if rng.random() < 0.3 else [1.0, 2.0]
    tensors = [torch.tensor(numbers, dtype=wire.DTYPES[rng.choice(["float32", "float64", "bfloat16", "float16"])])]
    names = rng.choice([("value",), ("value",), ("outputs", "inputs_grad", "parameters_grad", "callbacks_grad")])
    body: Any = {"value": _tree(rng)}
    if len(names) > 1:
        body = {"value": {"dict": [[name, _tree(rng, 2)] for name in names]}}
    content = _header(connection, body=body, tensors=[[wire.DTYPE_NAMES[tensors[0].dtype], [2]]])
    return Move("tree", _raw_frame(json.dumps(content).encode(), bytes(wire.raw_bytes(tensors[0]))))


def payload(rng: random.Random, connection: Connection) -> Move:
    """Any bytes as the elements of a tensor: NaN, infinities, truth values beyond 1."""
    name = rng.choice(_DTYPES)
    count = rng.randrange(1, 9)
    raw = rng.randbytes(count * wire.DTYPES[name].itemsize)
    if name == "bool" and rng.random() < 0.7:
        raw = bytes(byte & 1 for byte in raw)
    elif rng.random() < 0.3:
        raw = raw[: -wire.DTYPES[name].itemsize] + b"\xff" * wire.DTYPES[name].itemsize  # NaN, where it is a float
    content = _header(connection, body={"value": {"tensor": 0}}, tensors=[[name, [count]]])
    return Move("payload", _raw_frame(json.dumps(content).encode(), raw))


def spliced(rng: random.Random, connection: Connection) -> Move:
    """Two good frames glued together, at their seam or anywhere."""
    one, two = _plausible(rng, connection), _plausible(rng, connection)
    cut = len(one) if rng.random() < 0.5 else rng.randrange(len(one))
    return Move("spliced", one[:cut] + two[rng.randrange(len(two)) if rng.random() < 0.5 else 0 :], "shut")


def printing(rng: random.Random, connection: Connection) -> Move:
    """Much output, or output that is no text, beside a right answer."""
    answer = result(rng, connection)
    size = rng.choice([1, 100, OUTPUT_BYTES - 1, OUTPUT_BYTES, OUTPUT_BYTES + 1, 2 * OUTPUT_BYTES])
    # Whether the flood is noticed before the answer or after it, it must be
    flood = connection.printed + size > OUTPUT_BYTES
    return Move("printing", answer.data, printed=rng.randbytes(1) * size, value=answer.value, valid=not flood)


def silence(rng: random.Random, connection: Connection) -> Move:
    """Nothing at all."""
    return Move("silence", b"", _end(rng, connection))


def large(rng: random.Random, connection: Connection) -> Move:
    """As much as is allowed, or a little more."""
    if rng.random() < 0.5:
        name = rng.choice(_DTYPES)
        count = REPLY_BYTES // wire.DTYPES[name].itemsize + rng.choice([-1, 0, 1])
        raw = bytes(count * wire.DTYPES[name].itemsize)
        content = _header(connection, body={"value": {"tensor": 0}}, tensors=[[name, [count]]])
        return Move("large", _raw_frame(json.dumps(content).encode(), raw), "shut")
    item = rng.choice(['{"a":1}', "[]", '{"list":[]}', "1", '"' + "x" * 50 + '"', "{}", "0.5", '{"dict":[]}'])
    empty = json.dumps(_header(connection, body={"value": {"list": ["HERE"]}})).replace('"HERE"', "@")
    count = (validation.HEADER_BYTES - len(empty)) // (len(item) + 1) + rng.choice([-1, 0, 1])
    return Move("large", _raw_frame(empty.replace("@", ",".join([item] * count)).encode()), "shut")


Make = Callable[[random.Random, Connection], Move]
# How often each is made: mutations of good frames reach deepest
MOVES: dict[Make, int] = {
    result: 18,
    fault: 8,
    callback: 8,
    flipped: 16,
    truncated: 4,
    noise: 3,
    lengths: 6,
    header: 8,
    specs: 6,
    deep: 2,
    tree: 12,
    payload: 8,
    spliced: 4,
    printing: 2,
    silence: 1,
}
_MAKERS = [maker for maker, weight in MOVES.items() for _ in range(weight)]
_MODEL_OUTPUT = torch.zeros(2)
_ARGUMENT = torch.arange(3.0)
_LONG_ARGUMENT = torch.zeros(MIB)  # 4 MiB: more than the socket holds for a guest that does not read


# --- the target ---------------------------------------------------------------------------------------------------


class Frames:
    """Asks for something, answers like a hostile guest, and looks at what comes out."""

    name = "frames"
    step = CASES_PER_CONNECTION
    growth_bytes = GROWTH_BYTES

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._moves: list[Move] = []
        self._descriptors = _descriptors()

    def input(self) -> tuple[str, bytes]:
        """All that was sent for the last request; the kinds of the moves are in its outcome's text."""
        return ".bin", b"".join(move.data for move in self._moves)

    def close(self) -> None:
        """Raises `Failed` where descriptors have been left open."""
        self._end_connection()
        descriptors = _descriptors()
        if descriptors > self._descriptors:
            raise Failed(f"{descriptors - self._descriptors} descriptors are still open")

    def _end_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def run(self, rng: random.Random, case: int) -> str:
        """One request and what the guest does about it."""
        if case % CASES_PER_CONNECTION == 0:
            self._end_connection()
        if self._connection is None:
            self._connection = Connection(rng)
        try:
            return self._ask(rng, self._connection)
        except BaseException:
            self._end_connection()
            raise

    def _ask(self, rng: random.Random, connection: Connection) -> str:
        self._moves = []

        def move() -> None:
            maker = large if rng.random() < LARGE_SHARE else rng.choice(_MAKERS)
            made = maker(rng, connection)
            self._moves.append(replace(made, valid=made.valid and not connection.pending))
            connection.make(made)

        def model(*_: Any, **__: Any) -> torch.Tensor:
            connection.frame_taken()
            move()  # what the guest says next is there before the judge has answered
            if rng.random() < 0.1:
                raise CallbackRefused("no")
            return _MODEL_OUTPUT

        connection.drain()
        move()
        verb = rng.choice(_VERBS)
        began = time.monotonic()
        found: Any = None
        fault: GuestFault | None = None
        try:
            found = verb(connection.session, model, connection.short and rng.random() < 0.2)
        except GuestFault as raised:
            fault = raised
        seconds = time.monotonic() - began
        kinds = ", ".join(made.kind for made in self._moves)
        if seconds > connection.wall_left + SLACK_SECONDS:
            raise Failed(f"{kinds}: the judge took {seconds:.1f} s, {connection.wall_left:.2f} s were left")
        if fault is None:
            self._check_value(found, verb, kinds)
            if connection.printed > OUTPUT_BYTES:
                raise Failed(f"{kinds}: a flood of output went unnoticed")
        else:
            self._check_fault(fault, connection, verb, seconds, kinds)
        connection.wall_left -= seconds
        if connection.hung_up or connection.wall_left <= 0 or connection.exchange._ended is not None:
            self._check_end(connection)
            self._end_connection()
        else:
            connection.frame_taken()
        return "value" if fault is None else fault.ending.value

    # -- what may come out

    def _check_value(self, found: Any, verb: "Verb", kinds: str) -> None:
        if isinstance(found, Vjp):
            found = [found.outputs, found.inputs_grad, found.parameters_grad, found.callbacks_grad]
        elif isinstance(found, Handle):
            found = found.id
        elif isinstance(found, frozenset):  # names of changed values
            found = sorted(found)
        if not _plain(found):
            raise Failed(f"{kinds}: the judge took what is neither plain nor finite")
        last = self._moves[-1]
        if last.valid and verb is _call and not _same(found, last.value):
            raise Failed(f"{kinds}: the judge read another value than was sent")

    def _check_fault(self, fault: GuestFault, connection: Connection, verb: "Verb", seconds: float, kinds: str) -> None:
        """Whether the ending is true, by what this side knows."""
        last, root, end = self._moves[-1], connection.root, connection.root.end
        sent = connection.pending
        said = sent.replace(b"\0", b"")  # a header may be in UTF-16
        complete = len(sent) >= wire.PREFIX.size
        header_length, payload_length = wire.PREFIX.unpack_from(sent) if complete else (0, 0)
        went_away = connection.hung_up and root.asked > 0
        used_up = went_away and end["cpu_seconds"] >= 0.5 * CPU_SECONDS and end["signal_number"] is not None
        true = {
            Ending.RAISED: b"raised" in said,
            Ending.BAD_VALUE: complete and len(sent) >= wire.PREFIX.size + header_length + payload_length,
            Ending.CRASHED: b"crashed" in said or (went_away and not end["killed"]) or (root.dies and root.asked > 0),
            Ending.TIMED_OUT: seconds >= connection.wall_left or (used_up and not end["killed"]),
            Ending.OUT_OF_MEMORY: b"out_of_memory" in said or root.memory_kills() > 0,
            Ending.OUTPUT_LIMIT: connection.printed > OUTPUT_BYTES
            or header_length > validation.HEADER_BYTES
            or payload_length > REPLY_BYTES,
            # A right answer to one verb is none to another
            Ending.PROTOCOL: not last.valid or connection.hung_up or verb is not _call,
        }[fault.ending]
        if not true:
            raise Failed(f"{kinds}: {fault.ending.value} ({fault.message}), which is not what happened")
        if root.memory_kills() and not root.dies and fault.ending is not Ending.OUT_OF_MEMORY:
            raise Failed(f"{kinds}: {fault.ending.value}, but the process was killed for want of memory")
        texts = (fault.message, fault.exception, fault.file, fault.function)
        for text in texts:
            if text is not None and (len(text) > validation.TEXT_LENGTH or not _harmless(text)):
                raise Failed(f"{kinds}: a text of the guest's was passed on as it came: {text[:80]!r}")
        if fault.line is not None and type(fault.line) is not int:
            raise Failed(f"{kinds}: a line number is {fault.line!r}")

    def _check_end(self, connection: Connection) -> None:
        """A session that has ended says the same again, and asks nobody."""
        ended = connection.exchange._ended
        if ended is None:
            return
        try:
            connection.session.seed(1)
        except GuestFault as again:
            if again is not ended:
                raise Failed(f"a session ended by {ended.ending.value} now says {again.ending.value}") from None
        else:
            raise Failed("a session that had ended answered")


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _plain(found: Any) -> bool:
    waiting = [found]
    while waiting:
        item = waiting.pop()
        if type(item) is torch.Tensor:
            if item.device.type != "cpu" or item.numel() * item.itemsize > REPLY_BYTES:
                return False
            if item.is_floating_point() and not bool(item.isfinite().all()):
                return False
        elif type(item) in (list, tuple):
            waiting += item
        elif type(item) is dict:
            waiting += [*item.keys(), *item.values()]
        elif type(item) not in (type(None), bool, int, float, str) or (type(item) is float and not math.isfinite(item)):
            return False
    return True


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def _harmless(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


# --- what the judge asks ------------------------------------------------------------------------------------------

Model = Callable[..., torch.Tensor]
Verb = Callable[[Session, Model, bool], Any]


def _call(session: Session, model: Model, long: bool) -> Any:
    return session.call("q", _LONG_ARGUMENT if long else _ARGUMENT, callbacks={"model": model})


def _vjp(session: Session, model: Model, long: bool) -> Any:
    return session.vjp("q", [_LONG_ARGUMENT if long else _ARGUMENT], [_ARGUMENT], callbacks={"model": model})


def _load(session: Session, model: Model, long: bool) -> Any:
    return session.load(Program(chunks=(), exports={"a": "a"}))


_VERBS: list[Verb] = [
    *[_call] * 6,
    *[_vjp] * 2,
    _load,
    lambda session, model, long: session.get("alphas"),
    lambda session, model, long: session.construct("UNet", 1),
    lambda session, model, long: session.parameters(Handle(1)),
    lambda session, model, long: session.execution_order(Handle(1), _ARGUMENT),
    lambda session, model, long: session.seed(1),
    lambda session, model, long: session.changed_values(),
]
