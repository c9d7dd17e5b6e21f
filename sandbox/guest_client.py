"""A guest as the judge sees it: a sandbox with a warm root process, from which sessions are forked."""

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from sandbox.channel import Channel
from sandbox.faults import Ending, GuestFault, SandboxError, out_of_memory
from sandbox.launch import CONTROL_SECONDS, Sandbox, receive_answer, receive_end, send_request
from sandbox.limits import Deadline, Limits

if TYPE_CHECKING:
    from sandbox.session import Session

START_SECONDS = 120.0  # importing torch takes 3 s, and 30 s from a cold disk on a busy machine
TOO_OFTEN = "killed the process that runs it too often"
ENDING_SECONDS = 1.0  # for a root process that fails to end; it writes a traceback at most
RESTARTS = 3  # of a sandbox whose root process died; more would be an endless loop of imports


class Guest:
    """A sandbox with a warm root process. Starting returns at once; the first session waits until it is ready.

    Use it from the thread that started it: bubblewrap ends with the thread that started it.
    """

    def __init__(self, start: Callable[[], Sandbox], limits: Limits) -> None:
        self._start = start
        self._limits = limits
        self._restarts = 0
        self._ready = False
        self._killable = False  # whether student code can end the sandbox as a whole
        self._one_at_a_time = False  # whether sessions share folders, which are emptied between them
        self._pid: int | None = None  # of the session opened last, while it may still run
        self._second: Guest | None = None  # for a session beside another, where there may be one at a time
        self._sandbox: Sandbox | None = start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the sandbox and everything in it."""
        if self._second is not None:
            self._second.close()
            self._second = None
        self._discard()

    def _discard(self) -> None:
        self._pid = None
        if self._sandbox is not None:
            self._sandbox.discard(at_once=not self._ready)
            self._sandbox = None

    def session(self, deadline: Deadline, *, seed: int) -> "Session":
        """Open a session: a process of its own, from which nothing leaks into the next one or one beside it.

        `seed` seeds torch, numpy and random in it. Raises `SandboxError`, and `GuestFault` where student code keeps
        killing what is to run it.
        """
        if self._one_at_a_time and self._pid is not None:
            if self._second is None:
                self._second = Guest(self._start, self._limits)
            return self._second.session(deadline, seed=seed)
        said = ""
        for _ in range(RESTARTS):
            try:
                return self._open(deadline, seed)
            except GuestFault as fault:
                # No code of this session has run. An earlier one may have killed it: by a signal where sessions share
                # namespaces, or by using up memory, for which the kernel may choose the process that is forked ahead
                said = f"{fault.message}; {self.log()}"
                if self._killable:
                    self._discard()
        if self._killable:
            raise GuestFault(Ending.CRASHED, TOO_OFTEN)
        raise SandboxError(f"a session did not begin: {said}")

    def _open(self, deadline: Deadline, seed: int) -> "Session":
        """Raises `GuestFault` where the session does not begin."""
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
        channel = Channel(judge_end, output, self._limits.output_bytes, sandbox.memory.watch)
        exchange = Exchange(self, pid, channel, deadline, self._limits, memory_kills)
        try:
            exchange.ask("begin", {"cpu_seconds": deadline.cpu_seconds, "seed": seed}, [])
        except GuestFault:
            exchange.close()
            raise
        self._pid = pid
        return Session(exchange)

    def wait_until_ready(self) -> None:
        """Return once a session can be opened without waiting. Raises `SandboxError`."""
        self._alive()

    def _alive(self) -> Sandbox:
        if self._sandbox is None:
            if self._restarts >= RESTARTS:
                if self._killable:  # a student may do that; it is no fault of ours, and must not be tried again
                    raise GuestFault(Ending.CRASHED, TOO_OFTEN)
                raise SandboxError(f"the sandbox died {RESTARTS + 1} times")
            self._restarts += 1
            self._ready = False
            self._sandbox = self._start()
        if not self._ready:
            ready = self._receive(START_SECONDS)
            self._killable = not (ready["own_namespaces"] and ready["own_mounts"])
            self._one_at_a_time = ready["one_at_a_time"]
            self._ready = True
        return self._sandbox

    def _control(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        assert self._sandbox is not None
        try:
            send_request(self._sandbox.control, request, descriptors)
        except OSError as error:
            raise self._dead(str(error)) from None
        return self._receive(CONTROL_SECONDS)

    def _receive(self, seconds: float) -> dict[str, Any]:
        assert self._sandbox is not None
        try:
            return receive_answer(self._sandbox.control, seconds)
        except TimeoutError:
            raise self._dead(f"it did not answer within {seconds:.0f} s") from None
        except ConnectionError as error:
            raise self._dead(str(error)) from None

    def _dead(self, why: str) -> Exception:
        """Throw the sandbox away. Where student code cannot end it, only a fault of ours does."""
        assert self._sandbox is not None
        by_student = self._ready and self._killable
        receive_end(self._sandbox.control, ENDING_SECONDS)  # so that its complaints are complete
        log = self.log()
        for_memory = by_student and self._sandbox.died_of_memory()
        self._discard()
        if for_memory:
            return out_of_memory(self._limits.memory_bytes)
        if by_student:
            return GuestFault(Ending.CRASHED, "killed the process that was to run it")
        return SandboxError(f"the sandbox failed: {why}; {log}")

    def log(self) -> str:
        """What the root process, which runs none of the student's code, has complained of."""
        said = "" if self._sandbox is None else self._sandbox.complaints()
        return f"it said: {said}" if said else "it said nothing"

    def _forget(self, pid: int) -> None:
        if self._pid == pid:
            self._pid = None

    def memory_kills(self) -> int:
        """How many processes of the sandbox were killed for want of memory. For `Exchange`."""
        return 0 if self._sandbox is None else self._sandbox.memory_kills()

    def drop_session(self, pid: int) -> None:
        """Have the root process end a session, whatever it is doing. For `Exchange`."""
        self._forget(pid)
        if self._sandbox is not None:
            with suppress(OSError):  # a dead sandbox is noticed by the next session
                send_request(self._sandbox.control, {"op": "drop", "pid": pid})

    def interrupt_session(self, pid: int) -> None:
        """Have the root process ask a session where it is. For `Exchange`."""
        if self._sandbox is not None:
            with suppress(OSError):  # a dead sandbox is noticed when the session is ended
                send_request(self._sandbox.control, {"op": "interrupt", "pid": pid})

    def end_session(self, pid: int, *, grace: float) -> dict[str, Any]:
        """Have the root process end a session, and say how its process ended. For `Exchange`."""
        self._forget(pid)
        return self._control({"op": "end", "pid": pid, "grace": grace})
