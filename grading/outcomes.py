"""What can become of a check and of a blank. A closed set: everything else is a fault of ours.

Faults are exceptions (`InfrastructureFault`), never outcomes, and never score a student.
"""

from collections.abc import Mapping
from enum import StrEnum

from sandbox.faults import Ending


class Outcome(StrEnum):
    """What became of one check, or of one blank."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_ATTEMPTED = "not_attempted"  # the blank still holds its placeholder, or is absent
    SKIPPED = "skipped"  # depends on something that did not pass
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"  # printed or returned more than is allowed
    CRASHED = "crashed"  # the guest died, or student code raised
    WITHHELD = "withheld"  # of a blank, in a student's copy of a report: checks decide that are not shown yet


# What the end of a guest's work means for the student
OUTCOMES: Mapping[Ending, Outcome] = {
    Ending.RAISED: Outcome.CRASHED,
    Ending.CRASHED: Outcome.CRASHED,
    Ending.PROTOCOL: Outcome.CRASHED,
    Ending.BAD_VALUE: Outcome.FAILED,
    Ending.TIMED_OUT: Outcome.TIMED_OUT,
    Ending.OUT_OF_MEMORY: Outcome.OUT_OF_MEMORY,
    Ending.OUTPUT_LIMIT: Outcome.OUTPUT_LIMIT,
}


class InfrastructureFault(Exception):  # noqa: N818  (the word of DESIGN.md)
    """Something of ours failed. The grading is retried; no student loses a point over it."""


class BadInput(Exception):  # noqa: N818
    """What was handed in, or asked for, cannot be worked with. The message says why, and the way out."""
