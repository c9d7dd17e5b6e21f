"""Whole notebooks get the verdict of their author, who had seen real ones and no check, on every blank."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import guests
import pytest
from validity.grader import Grader

from grading.hand_in import read_hand_in
from grading.outcomes import Outcome

FOLDER = Path(__file__).with_name("notebooks")
VERDICTS: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / "verdicts.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with guests.guest("none") as guest:
        yield Grader(guest)


def verdict(outcome: Outcome) -> str:
    return {Outcome.PASSED: "right", Outcome.NOT_ATTEMPTED: "not attempted"}.get(outcome, "wrong")


@pytest.mark.parametrize("name", VERDICTS)
def test_verdict(name: str, grader: Grader) -> None:
    wanted = VERDICTS[name]
    reports = grader.check_hand_in(read_hand_in(f"{name}.ipynb", (FOLDER / f"{name}.ipynb").read_bytes()))
    found = {blank: verdict(report.status) for blank, report in reports.items()}
    teachers = dict.fromkeys(found, "right") | dict.fromkeys(wanted["wrong"], "wrong")
    teachers |= dict.fromkeys(wanted["not_attempted"], "not attempted")
    assert found == teachers, {blank: report.message for blank, report in reports.items() if report.message}
