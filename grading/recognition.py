"""Which known misconception does an answer show? Told by what it does: by doing the same with what is mistaken.

All of this happens after an answer has failed, so a right answer pays nothing for it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from grading.checking import CheckFailed, is_close_or_nan
from sandbox.faults import GuestFault

Behaviour = Callable[[Any, Callable[[int], None]], Iterable[Any]]


# Exceptions that say what is wrong and where; behind a misspelt name there is no misconception
_SAY_ENOUGH = ("NameError", "UnboundLocalError", "ImportError", "ModuleNotFoundError", "SyntaxError")


@dataclass(frozen=True)
class Raised:
    """What an attempt ended with."""

    exception: str  # class
    message: str


def attempt(call: Callable[[], Any]) -> Any:
    """What the call returns, or the `Raised` that it ends with. A guest that is gone is no answer: that is raised."""
    try:
        return call()
    except GuestFault as fault:
        if fault.exception is None:
            raise
        return Raised(fault.exception, fault.message)
    except Exception as error:
        return Raised(type(error).__name__, str(error))


def is_alike(found: Any, other: Any) -> bool:
    """Whether two results are the same: tensors to a tolerance, NaN for NaN, exceptions by class and words."""
    if isinstance(found, Tensor) and isinstance(other, Tensor):
        return found.is_floating_point() == other.is_floating_point() and is_close_or_nan(found, other)
    if isinstance(found, tuple | list) and isinstance(other, tuple | list):
        return len(found) == len(other) and all(is_alike(a, b) for a, b in zip(found, other, strict=True))
    if isinstance(found, dict) and isinstance(other, dict):
        return found.keys() == other.keys() and all(is_alike(value, other[key]) for key, value in found.items())
    if isinstance(found, Raised) and isinstance(other, Raised):
        # In any order: which of two tensors is named first depends on which side of an operator it stands on
        words = sorted(found.message.split()), sorted(other.message.split())
        return found.exception == other.exception and words[0] == words[1]
    return type(found) is type(other) and bool(found == other)


def recognise(behaviour: Behaviour, student: Any, answer: Any, right: Any) -> str | None:
    """The misconception with which the solution behaves just like the student's answer, if any does.

    Args:
        behaviour: called with an answer and with what seeds its random numbers; does something telling with the answer
            and returns what happened. The same seed gives the student and the judge the same random numbers.
        student: the `Student`.
        answer: the student's answer.
        right: the solution's.
    """
    student.close()  # a check that has failed may have left its session in the middle of a call
    found = list(behaviour(answer, student.seed))
    with torch.random.fork_rng(devices=[]):
        if is_alike(found, list(behaviour(right, _seed))):
            return None
        for misconception, mistaken in student.mistaken().items():
            if is_alike(found, list(behaviour(mistaken, _seed))):
                return str(misconception)
    return None


class Recognisable(CheckFailed):
    """A check has failed, and there is somebody to ask for the misconception behind it."""

    def __init__(self, failure: CheckFailed | GuestFault, recognisers: tuple[Callable[[], str | None], ...]) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.recognisers = recognisers


@contextmanager
def recognising(*recognisers: Callable[[], str | None]) -> Iterator[None]:
    """Where a check fails, these are asked in turn for the misconception; the first name counts, also above another.

    They are asked once nothing else is left to try, so they may change the givens of the student: what they leave
    behind meets no check. What they ask of the guest may fail too. Then the check's own words stand.

    An exception of the student's comes before a name: a recogniser may give one only where its premise holds, for
    instance that there are results at all (see `stays_the_same`).
    """
    try:
        yield
    except (CheckFailed, GuestFault) as failure:
        if isinstance(failure, GuestFault) and failure.exception is None:
            raise
        raise Recognisable(failure, recognisers) from failure


def recognised(failure: BaseException) -> BaseException:
    """The failure of a check, with the name of the misconception where it is recognised."""
    if not isinstance(failure, Recognisable):
        return failure
    first = cause(failure)
    if isinstance(first, GuestFault) and first.exception in _SAY_ENOUGH:
        return first
    name = _first_name(failure.recognisers)
    if name is None:
        return recognised(failure.failure)
    if isinstance(first, CheckFailed):
        return CheckFailed(expected=first.expected, found=first.found, misconception=name)
    assert isinstance(first, GuestFault)  # `recognising` catches nothing else
    place = f", line {first.line}" if first.line else ""
    return CheckFailed(
        expected="a result, without an error",
        found=f"{first.exception}: {first.message}{place}",
        misconception=name,
    )


def cause(failure: BaseException) -> BaseException:
    """What made a check fail, whoever there is to ask about it."""
    while isinstance(failure, Recognisable):
        failure = failure.failure
    return failure


def _first_name(recognisers: Iterable[Callable[[], str | None]]) -> str | None:
    for recogniser in recognisers:
        name = None
        with suppress(Exception):  # whatever came back from the guest, a name is only an addition
            name = recogniser()
        if name is not None:
            return name
    return None


def stays_the_same(found: Any, changed: Any) -> bool:
    """Whether two results of an answer, under inputs that should make them differ, are alike all the same.

    That says something about tensors alone: an answer that raises the same exception twice, or returns nothing twice,
    depends on its inputs in a way that nobody has seen. So there must be a tensor, and every part of the results that
    is no tensor must be an exception in both.
    """
    pairs = list(_pairs(found, changed))
    return any(isinstance(a, Tensor) for a, _ in pairs) and all(
        isinstance(a, Tensor | Raised) and is_alike(a, b) for a, b in pairs
    )


def _pairs(found: Any, changed: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(found, tuple | list) and isinstance(changed, tuple | list) and len(found) == len(changed):
        for a, b in zip(found, changed, strict=True):
            yield from _pairs(a, b)
    else:
        yield found, changed


@contextmanager
def drawing(noise: Tensor | float) -> Iterator[None]:
    """Within, what the judge's own code draws with `torch.randn_like` or `torch.randn` is this."""

    def draw(*shape: Any, **_: Any) -> Tensor:
        size = shape[0].shape if isinstance(shape[0], Tensor) else torch.Size(torch.empty(*shape, device="meta").shape)
        if not isinstance(noise, Tensor):
            return torch.full(size, float(noise))
        return noise.reshape(size) if noise.numel() == size.numel() else noise.expand(size)

    with patch.object(torch, "randn_like", draw), patch.object(torch, "randn", draw):
        yield


def outcomes(mistaken: Mapping[str, Any], use: Callable[[Any], Any]) -> dict[str, Any]:
    """What each mistaken answer gives when it is used like this, or the `Raised` that it ends with."""
    return {misconception: attempt(partial(use, wrong)) for misconception, wrong in mistaken.items()}


def tensors(mistaken: Mapping[str, Any], use: Callable[[Any], Any]) -> dict[str, Tensor]:
    """What each mistaken answer gives when it is used like this, where that is a tensor."""
    return {name: value for name, value in outcomes(mistaken, use).items() if isinstance(value, Tensor)}


def name_of(found: Any, mistaken: Mapping[str, Any]) -> str | None:
    """The first misconception that gave what was found."""
    return next((name for name, value in mistaken.items() if is_alike(found, value)), None)


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
