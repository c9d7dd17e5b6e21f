"""Requests and answers of one session, and what it means when an answer does not come."""

import re
import secrets
import signal
import time
from contextlib import suppress
from typing import Any, Protocol

from torch import Tensor

from sandbox import validation
from sandbox.channel import Channel, Closed, DeadlinePassed, OutputFlood
from sandbox.faults import Ending, GuestFault, out_of_memory
from sandbox.guest import wire
from sandbox.limits import Deadline, Limits

DYING_SECONDS = 2.0  # between the last descriptor closed and the process gone; long for one with much memory to free
# The kernel kills by the ticks that it counts and reports by a precise clock. On a busy machine the two differ by 15 %,
# so that a process killed after this share of its time was killed for it
SHARE_USED_UP = 0.5
# For a session to write down where it is; it takes microseconds where there is a processor to be had
WITNESS_SECONDS = 0.25
# What Python's faulthandler writes
_STACK = re.compile(r"^Stack \(most recent call first\):\n(?:  File .*\n|  \.\.\.\n)*", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?P<file>[^"]*)", line (?P<line>\d{1,9}) in (?P<function>.*)$', re.MULTILINE)
# What a guest may say of itself; of the other endings the judge is its own witness
SELF_REPORTED = (Ending.RAISED, Ending.BAD_VALUE, Ending.OUT_OF_MEMORY, Ending.CRASHED)


class Root(Protocol):
    """The trusted root process of the guest, which ends sessions."""

    def end_session(self, pid: int, *, grace: float) -> dict[str, Any]:
        """End a session, unless it ends by itself within `grace` seconds, and say how its process ended."""

    def drop_session(self, pid: int) -> None:
        """End a session."""

    def interrupt_session(self, pid: int) -> None:
        """Have a session write down where it is."""

    def memory_kills(self) -> int:
        """How many processes have been killed for want of memory so far."""


class Exchange:
    """The judge's side of one session."""

    def __init__(
        self, root: Root, pid: int, channel: Channel, deadline: Deadline, limits: Limits, memory_kills: int
    ) -> None:
        """`memory_kills`: of the guest, before the session began."""
        self._root = root
        self._pid = pid
        self._channel = channel
        self._deadline = deadline
        self._limits = limits
        self._memory_kills = memory_kills
        self._nonce = secrets.token_hex(8)
        self._sequence = 0
        self._wall_left = deadline.wall_seconds
        self._ended: GuestFault | None = None
        self._closed = False

    @property
    def output(self) -> str:
        """What student code has printed so far, capped."""
        return _STACK.sub("", self._channel.output.decode(errors="replace"))

    def close(self) -> None:
        """End the session, if it has not ended yet."""
        if self._closed:
            return
        self._closed = True
        self._channel.close()
        if self._ended is None:
            self._ended = GuestFault(Ending.CRASHED, "the session is over")
            self._root.drop_session(self._pid)

    def ask(self, verb: str, body: dict[str, Any], tensors: list[Tensor]) -> tuple[validation.Header, list[Tensor]]:
        """Send one frame and receive the answer to it, with its tensors. Raises `GuestFault`."""
        if self._ended is not None:
            raise self._ended
        self._sequence += 1
        began = time.monotonic()
        self._channel.until = began + self._wall_left
        try:
            self._channel.send(wire.pack(self._nonce, self._sequence, verb, body, tensors))
            header, buffers = self._receive()
            self._channel.drain()
        except Closed:
            raise self._ended_by_itself() from None
        except DeadlinePassed:
            self._root.interrupt_session(self._pid)
            self._channel.listen(WITNESS_SECONDS)
            seconds = f"{self._deadline.wall_seconds:g} s"
            raise self.end(self._timed_out(f"did not answer within {seconds}")) from None
        except OutputFlood:
            limit = f"printed more than {self._limits.output_bytes} bytes"
            raise self.end(GuestFault(Ending.OUTPUT_LIMIT, limit)) from None
        except MemoryError:
            raise self.end(out_of_memory(self._limits.memory_bytes)) from None
        except validation.Oversized as violation:
            raise self.end(GuestFault(Ending.OUTPUT_LIMIT, f"the guest {violation}")) from None
        except validation.Violation as violation:
            raise self.violated(str(violation)) from None
        finally:
            self._wall_left -= time.monotonic() - began
        if header.verb == "fault":
            raise self._reported(header.body)
        return header, self._tensors(header, buffers)

    def _receive(self) -> tuple[validation.Header, list[bytearray]]:
        prefix = self._channel.receive(wire.PREFIX.size)
        header_length, payload_length = validation.check_lengths(bytes(prefix), self._limits.reply_bytes)
        raw = self._channel.receive(header_length)
        header = validation.parse_header(raw, payload_length, self._nonce, self._sequence)
        return header, [self._channel.receive(size) for _, _, size in header.specs]

    def _tensors(self, header: validation.Header, buffers: list[bytearray]) -> list[Tensor]:
        try:
            return [
                validation.make_tensor(buffer, dtype, shape)
                for buffer, (dtype, shape, _) in zip(buffers, header.specs, strict=True)
            ]
        except validation.Violation as violation:
            raise self.violated(str(violation)) from None
        except validation.Unfit as unfit:
            if header.verb == "callback":  # the guest waits for an answer that will not come
                raise self.end(GuestFault(Ending.BAD_VALUE, f"called the model with {unfit}")) from None
            raise GuestFault(Ending.BAD_VALUE, f"returned {unfit}") from None

    def _reported(self, body: dict[str, Any]) -> GuestFault:
        """The fault that the guest reports of itself."""
        ending = next((ending for ending in SELF_REPORTED if ending == body.get("ending")), None)
        if ending is None:
            return self.violated("sent a malformed fault")
        fault = GuestFault(
            ending,
            validation.text(body.get("message")) or "",
            exception=validation.text(body.get("exception"), validation.NAME_LENGTH),
            file=validation.text(body.get("file"), validation.NAME_LENGTH),
            line=validation.line_number(body.get("line")),
            function=validation.text(body.get("function"), validation.NAME_LENGTH),
        )
        return self.end(fault) if ending is Ending.CRASHED else fault

    def violated(self, how: str) -> GuestFault:
        """End the session for what it sent; `how` completes "the guest ..."."""
        return self.end(GuestFault(Ending.PROTOCOL, f"the guest {how}"))

    def end(self, fault: GuestFault) -> GuestFault:
        """End the session for `fault`, and return the fault to raise: the kernel may know a deeper cause."""
        try:
            self._root.end_session(self._pid, grace=0)
        except GuestFault as death:
            fault = death
        if self._root.memory_kills() > self._memory_kills:
            fault = out_of_memory(self._limits.memory_bytes)
        self._ended = fault
        return fault

    def _ended_by_itself(self) -> GuestFault:
        """The fault for a connection that the guest closed, by the word of the root process and the kernel."""
        try:
            end = self._root.end_session(self._pid, grace=DYING_SECONDS)
        except GuestFault as death:
            self._ended = death
            return death
        with suppress(OutputFlood):
            self._channel.drain()
        self._ended = self._cause(**end)
        return self._ended

    def _cause(
        self, *, killed: bool, exit_code: int | None, signal_number: int | None, cpu_seconds: float
    ) -> GuestFault:
        if self._root.memory_kills() > self._memory_kills:
            return out_of_memory(self._limits.memory_bytes)
        if killed:
            return GuestFault(Ending.PROTOCOL, "the guest closed its connection")
        used_up = cpu_seconds >= SHARE_USED_UP * self._deadline.cpu_seconds
        if used_up and signal_number in (signal.SIGKILL, signal.SIGXCPU):
            return self._timed_out(f"took more than {self._deadline.cpu_seconds:g} s of processor time")
        if signal_number is not None:
            return GuestFault(Ending.CRASHED, f"its process was ended by {signal.Signals(signal_number).name}")
        return GuestFault(Ending.CRASHED, f"its process ended itself (exit code {exit_code})")

    def _timed_out(self, message: str) -> GuestFault:
        """With the innermost place in a file of the student's, where the guest could still say: his have no paths."""
        stacks = _STACK.findall(self._channel.output.decode(errors="replace"))
        frames = list(_FRAME.finditer(stacks[-1])) if stacks else []
        own = next((frame for frame in frames if not frame["file"].startswith(("/", "<"))), None)
        if own is None:
            return GuestFault(Ending.TIMED_OUT, message)
        function = None if own["function"] == "<module>" else own["function"]
        return GuestFault(
            Ending.TIMED_OUT,
            message,
            file=validation.text(own["file"], validation.NAME_LENGTH),
            line=validation.line_number(int(own["line"])),
            function=validation.text(function, validation.NAME_LENGTH),
        )
