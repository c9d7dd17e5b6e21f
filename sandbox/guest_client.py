"""A guest as the judge sees it: a sandbox with a warm root process, from which sessions are forked."""

import json
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from sandbox.channel import Channel
from sandbox.faults import Ending, GuestFault, SandboxError
from sandbox.launch import send_request
from sandbox.limits import Deadline, Limits

if TYPE_CHECKING:
    from sandbox.session import Session

START_SECONDS = 120.0  # importing torch takes 3 s, and 30 s from a cold disk on a busy machine
CONTROL_SECONDS = 30.0  # the root process answers within milliseconds; past this something of ours hangs
RESTARTS = 3  # of a sandbox whose root process died; more would be an endless loop of imports
LOG_BYTES = 4000  # of the root process's complaints that go into a message: a traceback


class Sandbox(Protocol):
    """A started sandbox, whatever the backend: a process that speaks the control protocol, and how to get rid of it."""

    control: socket.socket
    process: subprocess.Popen[bytes]
    log: IO[bytes]  # what the root process wrote to its standard error
    sandboxed: bool

    def memory_kills(self) -> int:
        """How many processes have been killed for want of memory so far."""

    @property
    def watch(self) -> Callable[[], None] | None:
        """Raises `MemoryError` where the sandbox takes more than its limit; None where the kernel watches."""

    def discard(self, *, at_once: bool) -> None:
        """End every process of it and remove what it left; it may be dead already.

        `at_once`: it has not yet said that it is ready.
        """


class Guest:
    """A sandbox with a warm root process. Starting returns at once; the first session waits until it is ready.

    Use it from the thread that started it: bubblewrap ends with the thread that started it.
    """

    def __init__(self, start: Callable[[], Sandbox], limits: Limits) -> None:
        self._start = start
        self._limits = limits
        self._restarts = 0
        self._ready = False
        self._sandbox: Sandbox | None = start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the sandbox and everything in it."""
        if self._sandbox is not None:
            self._sandbox.discard(at_once=not self._ready)
            self._sandbox = None

    def session(self, deadline: Deadline, *, seed: int) -> "Session":
        """Open a session: a process of its own, from which nothing leaks into the next one.

        `seed` seeds torch, numpy and random in it. Raises `SandboxError`.
        """
        # Only here: these import torch, which takes the judge as long as it takes the guest that has just been started
        from sandbox.exchange import Exchange
        from sandbox.session import Session

        sandbox = self._alive()
        judge_end, guest_end = socket.socketpair()
        output, guest_output = os.pipe()
        memory_kills = sandbox.memory_kills()
        try:
            pid = self._control({"op": "open"}, [guest_end.fileno(), guest_output])["pid"]
        except BaseException:
            judge_end.close()
            os.close(output)
            raise
        finally:
            guest_end.close()
            os.close(guest_output)
        channel = Channel(judge_end, output, self._limits.output_bytes, sandbox.watch)
        exchange = Exchange(self, pid, channel, deadline, self._limits, memory_kills)
        try:
            exchange.ask("begin", {"cpu_seconds": deadline.cpu_seconds, "seed": seed}, [])
        except GuestFault as fault:  # no student code has reached it yet
            exchange.close()
            raise SandboxError(f"a session did not begin: {fault.message}; {self.log()}") from None
        return Session(exchange)

    def wait_until_ready(self) -> None:
        """Return once a session can be opened without waiting. Raises `SandboxError`."""
        self._alive()

    def _alive(self) -> Sandbox:
        if self._sandbox is None:
            if self._restarts >= RESTARTS:
                raise SandboxError(f"the sandbox died {RESTARTS + 1} times")
            self._restarts += 1
            self._ready = False
            self._sandbox = self._start()
        if not self._ready:
            self._receive_control(START_SECONDS)
            self._ready = True
        return self._sandbox

    def _control(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        assert self._sandbox is not None
        try:
            send_request(self._sandbox.control, request, descriptors)
        except OSError as error:
            raise self._dead(str(error)) from None
        return self._receive_control(CONTROL_SECONDS)

    def _receive_control(self, seconds: float) -> dict[str, Any]:
        """The root process's next line. It is ours and trusted: student code cannot write to it."""
        assert self._sandbox is not None
        line = b""
        self._sandbox.control.settimeout(seconds)
        try:
            while not line.endswith(b"\n"):
                part = self._sandbox.control.recv(4096)
                if not part:
                    raise self._dead("it ended")
                line += part
        except TimeoutError:
            raise self._dead(f"it did not answer within {seconds:.0f} s") from None
        except ConnectionError as error:
            raise self._dead(str(error)) from None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _dead(self, why: str) -> Exception:
        """Throw the sandbox away. In a real sandbox only a fault of ours kills the root process."""
        assert self._sandbox is not None
        sandboxed, was_ready = self._sandbox.sandboxed, self._ready
        with suppress(subprocess.TimeoutExpired):
            self._sandbox.process.wait(1.0)
        log = self.log()
        self.close()
        if was_ready and not sandboxed:
            return GuestFault(Ending.CRASHED, "killed the process that was to run it")
        return SandboxError(f"the sandbox failed: {why}; {log}")

    def log(self) -> str:
        """What the root process, which runs none of the student's code, has complained of."""
        if self._sandbox is None:
            return "it said nothing"
        said = os.pread(self._sandbox.log.fileno(), LOG_BYTES, 0).decode(errors="replace").strip()
        return f"it said: {said}" if said else "it said nothing"

    def memory_kills(self) -> int:
        """How many processes of the sandbox were killed for want of memory. For `Exchange`."""
        return 0 if self._sandbox is None else self._sandbox.memory_kills()

    def drop_session(self, pid: int) -> None:
        """Have the root process end a session, whatever it is doing. For `Exchange`."""
        if self._sandbox is not None:
            with suppress(OSError):  # a dead sandbox is noticed by the next session
                send_request(self._sandbox.control, {"op": "drop", "pid": pid})

    def end_session(self, pid: int, *, grace: float) -> dict[str, Any]:
        """Have the root process end a session, and say how its process ended. For `Exchange`."""
        return self._control({"op": "end", "pid": pid, "grace": grace})
