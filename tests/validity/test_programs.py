"""Whole programs get the verdict of a fair teacher: on every blank, and in words that are true."""

from collections.abc import Iterator

import guests
import pytest
from validity import programs
from validity.grader import SOLUTION, Grader

from grading.outcomes import Outcome


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with guests.guest("none") as guest:
        yield Grader(guest)


@pytest.mark.parametrize("program", [pytest.param(program, id=program.name) for program in programs.read()])
def test_verdict(program: programs.Program, grader: Grader) -> None:
    reports = grader.check(program.apply(SOLUTION))
    missed = {name: report for name, report in reports.items() if report.status is not Outcome.PASSED}
    said = {name: f"{report.status}: {report.message}" for name, report in missed.items()}
    assert missed.keys() == program.wrong, said
    words = "\n".join(report.message for report in missed.values())
    for wanted in program.words("Says"):
        assert wanted in words
    for untrue in program.words("Never"):
        assert untrue not in words
