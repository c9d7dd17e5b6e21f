"""What became of one check, in words for the student."""

import inspect
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from grading.checking import CheckFailed
from grading.outcomes import OUTCOMES, InfrastructureFault, Outcome
from grading.report import CheckReport, Misconception
from grading.student import LoadFault
from reference.pack import Blank
from reference.pack import Misconception as KnownMisconception
from sandbox.faults import Ending, GuestFault
from sandbox.limits import Deadline

# The slowest check of the solution takes 0.1 s of processor time; fifty times that leaves room for slow but right code
# on a slow machine. Three times as long on the clock, since other gradings may share the cores.
DEADLINE = Deadline(cpu_seconds=5.0, wall_seconds=15.0)


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

    def report(self, misconceptions: Mapping[str, KnownMisconception]) -> CheckReport:
        """The check's part of the report. Its error must be an assertion's or the guest's.

        Raises `InfrastructureFault` where it names a misconception that the pack does not have.
        """
        outcome, message, expected, found, misconception = Outcome.PASSED, "", None, None, None
        error = self.error
        if self.skipped is not None:
            outcome, message = Outcome.SKIPPED, self.skipped
        elif isinstance(error, CheckFailed):
            outcome, expected, found = Outcome.FAILED, error.expected, error.found
            misconception = self._recognised(error.misconception, misconceptions)
            message = error.message or (misconception.says if misconception else "")
        elif isinstance(error, AssertionError):
            outcome, message = Outcome.FAILED, str(error) or f"Does not hold: {self.title}."
        elif isinstance(error, LoadFault):
            outcome, message = OUTCOMES[error.fault.ending], _describe(error.fault, self, "The definition of")
        elif isinstance(error, GuestFault):
            outcome, message = OUTCOMES[error.ending], _describe(error, self, "Your")
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
        if name is None:
            return None
        if name not in misconceptions:
            raise InfrastructureFault(f"The check {self.name!r} names {name!r}, a misconception that the pack lacks.")
        known = misconceptions[name]
        return Misconception(id=name, says=known.says, why=known.why, topic=known.topic or self.blank.concept)


def _describe(fault: GuestFault, check: Check, subject: str) -> str:
    """What the guest did, in words. On hidden checks nothing that student code chose to say is passed on."""
    subject = f"{subject} `{check.blank.id}`"
    if fault.exception is None:
        if check.hidden or fault.ending in (Ending.CRASHED, Ending.PROTOCOL):
            return f"{subject} did not finish properly{'' if check.hidden else f': {fault.message}'}."
        return f"{subject} {fault.message}{'' if check.hidden else _place(fault)}."
    if check.hidden:
        return f"{subject} raised {fault.exception}."
    text = f": {fault.message}" if fault.message else ""
    return f"{subject} raised {fault.exception}{text}{_place(fault)}"


def _place(fault: GuestFault) -> str:
    """Where it happened, by the guest's own account: not for hidden checks, whose inputs it could carry out."""
    if not fault.file or not fault.line:
        return ""
    function = f", in `{fault.function}`" if fault.function and fault.exception is None else ""
    return f" ({fault.file}, line {fault.line}{function})"
