"""How a check is tried: with stand-ins for the other blanks, then perhaps with the student's own definitions."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch

from grading.checking import CheckFailed
from grading.recognition import cause, recognised
from grading.student import LoadFault, Student
from sandbox.faults import Ending, GuestFault

FAILURES = (AssertionError, GuestFault, LoadFault)  # what becomes of an answer; anything else is a fault of ours

CHANGED_VALUE = "changed-value"  # id of the misconception

# Python's words where a function or class does not take what it is called with
_REFUSED = re.compile(
    r"(?P<name>\w{1,100})(?:\.\w{1,100})?\(\) (?:got an unexpected keyword|got multiple|takes |missing \d)"
)


class NotChecked(Exception):  # noqa: N818  (an outcome, not an error of ours)
    """The answer builds on others that are not right yet, and cannot be looked at without them."""

    def __init__(self, others: Collection[str]) -> None:
        names = " and ".join(f"`{name}`" for name in others)
        them, are = ("it", "is") if len(others) == 1 else ("them", "are")
        super().__init__(
            f"It builds on {names}, which {are} not right yet, and runs only with your own version of {them}. "
            f"Put {them} right first; then this is checked too."
        )


class _ChangedValue(CheckFailed):
    """The answer changes in place what other parts need."""


def try_check(
    check: Callable[[], object],
    student: Student,
    generators: Mapping[torch.Generator, torch.Tensor],
    others: Mapping[str, bool],
    circle: Collection[str],
) -> None:
    """Run a check; where it fails with stand-ins, perhaps once more with the student's own definitions.

    A right answer may lean on its author's other right answers in ways that stand-ins do not know, such as a `q` with
    one argument more. The second try is for those, so it can make an answer right only where everything that the answer
    needs has passed. Where it runs with what is wrong, and not without, nobody knows: it is not checked.

    An answer that is part of a circle has to run with its author's definitions of the rest of it as well.

    Every try begins under the same setting. Misconceptions are asked for after the last one.

    Args:
        check: runs the check from its beginning.
        student: whom it asks.
        generators: the check's, with their state at its beginning.
        others: the blanks that the answer builds on, and whether they have passed.
        circle: those of them that build on the answer, itself included.

    Raises one of `FAILURES` or `NotChecked`; anything else that the check raises comes through.
    """
    setting = student.setting
    wrong = [name for name, passed in others.items() if not passed and name not in circle]

    def try_with(own: Collection[str]) -> None:
        for generator, state in generators.items():
            generator.set_state(state)
        student.begin_anew(replace(setting, own=frozenset(own)))
        _run(check, student)

    try:
        _run(check, student)
    except FAILURES as first:
        failure: BaseException = first
        failed_under = student.setting
    else:
        if circle:
            _require_to_run(lambda: try_with(circle), circle)
        return
    if others and _may_be_due_to_stand_ins(failure, wrong):
        try:
            try_with(others)
        except FAILURES as second:
            # What was judged is said in the first place; what merely did not run may be due to the stand-ins
            if not wrong and not _was_judged(failure):
                failure, failed_under = second, student.setting
            refused = _refused(failure) & set(wrong)
            if refused and refused != _refused(second):  # only its author's version takes what it is called with
                raise NotChecked(refused) from None
        else:
            if wrong:
                raise NotChecked(wrong)
            return
    student.begin_anew(failed_under)
    raise recognised(failure)


def _run(check: Callable[[], object], student: Student) -> None:
    try:
        check()
    except CheckFailed as failure:
        if _was_judged(failure):  # an exception of the student's says more
            _require_unchanged(student)
        raise
    _require_unchanged(student)


def _require_unchanged(student: Student) -> None:
    changed = [f"`{name}`" for name in student.changed_values()]
    if len(changed) == 1:
        raise _ChangedValue(
            f"A value that other parts still need is changed in place: {changed[0]}.", misconception=CHANGED_VALUE
        )
    if changed:
        raise _ChangedValue(
            f"Values that other parts still need are changed in place: {', '.join(changed)}.",
            misconception=CHANGED_VALUE,
        )


def _require_to_run(with_own_circle: Callable[[], None], circle: Collection[str]) -> None:
    """Raise where answers that need each other only run as long as somebody else's values stand in for some of them."""
    try:
        with_own_circle()
    except FAILURES as failure:
        fault = _fault(failure)
        if fault is not None and fault.exception in ("NameError", "UnboundLocalError", "RecursionError"):
            names = ", ".join(f"`{name}`" for name in circle)
            raise CheckFailed(
                f"These are defined by each other in a circle, so none of them can ever be computed: {names}."
            ) from None
        raise recognised(failure) from None


def _may_be_due_to_stand_ins(failure: BaseException, wrong: Collection[str]) -> bool:
    if isinstance(failure, _ChangedValue):
        return False
    fault = _fault(failure)
    if fault is not None and fault.ending in (Ending.TIMED_OUT, Ending.OUTPUT_LIMIT):
        return False
    return not wrong or not _was_judged(failure)


def _was_judged(failure: BaseException) -> bool:
    return isinstance(cause(failure), AssertionError)


def _refused(failure: BaseException) -> set[str]:
    """The function or class that was called with what it does not take."""
    fault = _fault(failure)
    found = _REFUSED.search(fault.message) if fault is not None and fault.exception == "TypeError" else None
    return {found["name"]} if found is not None else set()


def _fault(failure: BaseException) -> GuestFault | None:
    failure = cause(failure)
    failure = failure.fault if isinstance(failure, LoadFault) else failure
    return failure if isinstance(failure, GuestFault) else None
