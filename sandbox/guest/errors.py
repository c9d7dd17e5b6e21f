"""What went wrong in student code, in words and with its place in the student's files."""

import traceback
from types import TracebackType
from typing import Any

MESSAGE_LENGTH = 2000  # characters of an exception's message that are passed on; a person reads the first lines
NAME_LENGTH = 200  # characters of a class, function or file name


class BadValue(Exception):  # noqa: N818
    """What the program holds or returned is not what was asked for. The message completes "it ..."."""


def _place(error: BaseException, files: frozenset[str]) -> dict[str, Any]:
    """The innermost line of the student's that the exception passed through."""
    if isinstance(error, SyntaxError) and error.filename in files:
        return {"file": error.filename, "line": error.lineno, "function": None}
    found: dict[str, Any] = {"file": None, "line": None, "function": None}
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename in files:
            function = None if code.co_name == "<module>" else code.co_name[:NAME_LENGTH]
            found = {"file": code.co_filename, "line": trace.tb_lineno, "function": function}
        trace = trace.tb_next
    return found


def _message(error: BaseException) -> str:
    try:
        if isinstance(error, SyntaxError):
            return str(error.msg)
        text = str(error)
        return text if type(text) is str else ""
    except BaseException:
        return "(its message cannot be read)"


def _ending(error: BaseException, message: str) -> str:
    # torch has no exception class for an allocation that the system refuses
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in message):
        return "out_of_memory"
    if isinstance(error, SystemExit):
        return "crashed"
    return "raised"


def fault_from(error: BaseException, files: frozenset[str]) -> dict[str, Any]:
    """The body of a `fault` frame for an exception that came out of a request."""
    if isinstance(error, BadValue):
        return {"ending": "bad_value", "message": _message(error)[:MESSAGE_LENGTH]}
    message = _message(error)
    ending = _ending(error, message)
    if ending == "crashed":
        message = f"called exit({message})"
    fault = {
        "ending": ending,
        "message": message[:MESSAGE_LENGTH],
        "exception": type.__getattribute__(type(error), "__name__")[:NAME_LENGTH],
        **_place(error, files),
    }
    # The frames hold tensors of the failed call; the session goes on without them
    traceback.clear_frames(error.__traceback__)
    return fault
