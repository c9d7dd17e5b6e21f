"""What became of checks and of blanks, in words for the student."""

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from grading.checking import CheckFailed
from grading.harvest import Answer
from grading.outcomes import OUTCOMES, InfrastructureFault, Outcome
from grading.reference import OUR_FILES
from grading.report import BlankReport, CheckReport, Misconception
from grading.student import LoadFault
from grading.tries import CHANGED_VALUE
from reference.pack import Blank
from reference.pack import Misconception as KnownMisconception
from sandbox.faults import Ending, GuestFault
from sandbox.limits import Deadline

# The slowest check of the solution takes 0.1 s of processor time; fifty times that leaves room for slow but right code
# on a slow machine. Three times as long on the clock, since other gradings may share the cores.
DEADLINE = Deadline(cpu_seconds=5.0, wall_seconds=15.0)

# What became of a blank that the harvest did not find in working order
_NOT_FOUND = {
    "not_attempted": Outcome.NOT_ATTEMPTED,
    "wrong_kind": Outcome.FAILED,
    "broken": Outcome.CRASHED,
}


@dataclass
class Check:
    """A collected check and what became of it."""

    item: pytest.Function
    blank: Blank
    position: int  # in the pack
    error: BaseException | None = None
    skipped: str | None = None  # why
    output: str = ""
    began: float = 0.0  # on the monotonic clock, in seconds

    def begin(self) -> None:
        """Start its clock."""
        self.began = time.monotonic()

    @property
    def name(self) -> str:
        return self.item.name.removeprefix("test_").removesuffix(f"[{self.blank.id}]")

    @property
    def title(self) -> str:
        lines = (inspect.getdoc(self.item.function) or "").splitlines()
        return lines[0].rstrip(".") if lines else self.name.replace("_", " ")

    @property
    def hidden(self) -> bool:
        return self.item.get_closest_marker("hidden") is not None

    @property
    def deadline(self) -> Deadline:
        marker = self.item.get_closest_marker("deadline")
        if marker is None:
            return DEADLINE
        return Deadline(cpu_seconds=marker.kwargs["cpu"], wall_seconds=marker.kwargs["wall"])

    def report(self, misconceptions: Mapping[str, KnownMisconception], answer: Answer) -> CheckReport:
        """The check's part of the report. Its error must be an assertion's or the guest's.

        `answer`: the one under check; what is known about missing imports explains some errors.

        Raises `InfrastructureFault` where it names a misconception that the pack does not have.
        """
        outcome, message, expected, found, misconception = Outcome.PASSED, "", None, None, None
        error = self.error
        if self.skipped is not None:
            outcome, message = Outcome.SKIPPED, self.skipped
        elif isinstance(error, CheckFailed):
            outcome, expected = Outcome.FAILED, error.expected
            found = None if self.hidden else error.found  # it may hold words that student code chose
            misconception = self._recognised(error.misconception, misconceptions)
            message = error.message or (misconception.says if misconception else "")
        elif isinstance(error, AssertionError):
            outcome, message = Outcome.FAILED, str(error) or f"Does not hold: {self.title}."
        elif isinstance(error, LoadFault):
            outcome, message = OUTCOMES[error.fault.ending], self._describe(error.fault, "The definition of", answer)
        elif isinstance(error, GuestFault):
            outcome, message = OUTCOMES[error.ending], self._describe(error, "Your", answer)
        return CheckReport(
            name=self.name,
            title=self.title,
            outcome=outcome,
            message=message,
            expected=expected,
            found=found,
            misconception=misconception,
            output=None if self.hidden else self.output or None,
            seconds=time.monotonic() - self.began,
        )

    def _recognised(self, name: str | None, misconceptions: Mapping[str, KnownMisconception]) -> Misconception | None:
        if name is None or (name == CHANGED_VALUE and name not in misconceptions):
            return None
        if name not in misconceptions:
            raise InfrastructureFault(f"The check {self.name!r} names {name!r}, a misconception that the pack lacks.")
        known = misconceptions[name]
        return Misconception(id=name, says=known.says, why=known.why, topic=known.topic or self.blank.concept)

    def _describe(self, fault: GuestFault, subject: str, answer: Answer) -> str:
        """What the guest did, in words. On hidden checks nothing that student code chose to say is passed on."""
        subject = f"{subject} `{self.blank.id}`"
        if fault.exception is None:
            if self.hidden or fault.ending in (Ending.CRASHED, Ending.PROTOCOL):
                return f"{subject} did not finish properly{'' if self.hidden else f': {fault.message}'}."
            return f"{subject} {fault.message}{'' if self.hidden else _place(fault)}."
        if self.hidden:
            return f"{subject} raised {fault.exception}."
        if any(f"'{name}'" in fault.message for name in answer.undefined):
            return answer.message
        text = f": {fault.message}" if fault.message else ""
        return f"{subject} raised {fault.exception}{text}{_place(fault)}"


def report_blank(blank: Blank, answer: Answer, checks: Sequence[CheckReport]) -> BlankReport:
    """The blank's part of the report, from those of its checks in the order of the pack."""
    misconception = None
    if answer.status != "found":
        status, message = _NOT_FOUND[answer.status], answer.message
    else:
        failed = [check for check in checks if check.outcome not in (Outcome.PASSED, Outcome.SKIPPED)]
        skipped = [check for check in checks if check.outcome is Outcome.SKIPPED]
        recognised = (check for check in failed if check.misconception is not None)
        decisive = next(recognised, None) or next(iter([*failed, *skipped]), None)
        status = (failed or skipped)[0].outcome if decisive is not None else Outcome.PASSED
        message = decisive.message if decisive is not None else ""
        if answer.message not in message:  # what is odd about it, after what decides
            message = f"{message} {answer.message}".strip()
        misconception = decisive.misconception if decisive is not None else None
    return BlankReport(
        id=blank.id,
        name=blank.id,
        title=blank.title,
        concept=blank.concept,
        status=status,
        points=blank.points if status is Outcome.PASSED else 0.0,
        max_points=blank.points,
        message=message,
        found_as=answer.found_as,
        file=answer.file,
        line=answer.line,
        misconception=misconception,
        checks=list(checks),
    )


def _place(fault: GuestFault) -> str:
    """Where it happened, by the guest's own account: not for hidden checks, whose inputs it could carry out."""
    if not fault.file or not fault.line or fault.file in OUR_FILES:
        return ""
    function = f", in `{fault.function}`" if fault.function and fault.exception is None else ""
    return f" ({fault.file}, line {fault.line}{function})"
