"""How a session can go wrong.

GuestFault            what the guest did; becomes an outcome of the student's check
SandboxError          what we failed to do; never scores a student
 +- SandboxUnavailable    this machine cannot run the backend asked for
"""

from enum import StrEnum

from sandbox.limits import MIB


class Ending(StrEnum):
    """Why a request got no proper answer."""

    RAISED = "raised"  # student code raised an exception; the session goes on
    BAD_VALUE = "bad_value"  # answered with NaN, a tensor subclass, an unknown type ...; the session goes on
    CRASHED = "crashed"  # the process died or called exit
    TIMED_OUT = "timed_out"  # processor time or time on the clock is used up; the session is dead
    OUT_OF_MEMORY = "out_of_memory"  # killed for it (the session is dead), or an allocation was refused
    OUTPUT_LIMIT = "output_limit"  # printed or returned more than is allowed; the session is dead
    PROTOCOL = "protocol"  # sent something that is no answer to what was asked; the session is dead


class GuestFault(Exception):  # noqa: N818  (an outcome, not an error of ours)
    """The guest did not answer a request as it should; says why in words for the student.

    `exception` is the class name of what was raised; `file`, `line` and `function` say where in the student's files.
    All of it comes from the guest, is capped and free of control characters, and is no more to be trusted than that.
    """

    def __init__(
        self,
        ending: Ending,
        message: str,
        *,
        exception: str | None = None,
        file: str | None = None,
        line: int | None = None,
        function: str | None = None,
    ) -> None:
        super().__init__(message)
        self.ending = ending
        self.message = message
        self.exception = exception
        self.file = file
        self.line = line
        self.function = function


def out_of_memory(limit_bytes: int) -> GuestFault:
    """The fault of a guest that was stopped at its limit of memory."""
    return GuestFault(Ending.OUT_OF_MEMORY, f"took more than {limit_bytes // MIB} MiB of memory")


class SandboxError(Exception):
    """The sandbox itself failed: a fault of ours or of the machine."""


class SandboxUnavailable(SandboxError):  # noqa: N818  (pairs with `BackendStatus.available`)
    """The backend cannot run on this machine; the message names the way out."""
