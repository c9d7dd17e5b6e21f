"""Whole notebooks get the verdict of their author, who had seen real ones and no check, on every blank."""

from collections.abc import Iterator

import guests
import pytest
from validity import whole_notebooks
from validity.grader import PACK, Grader
from validity.whole_notebooks import Notebook


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with guests.guest("none") as guest:
        yield Grader(guest)


@pytest.mark.parametrize("notebook", [pytest.param(found, id=found.name) for found in whole_notebooks.read(PACK)])
def test_verdict(notebook: Notebook, grader: Grader) -> None:
    reports = grader.check_hand_in(notebook.read())
    found = {blank: whole_notebooks.verdict(report.status) for blank, report in reports.items()}
    assert found == notebook.verdicts, {blank: report.message for blank, report in reports.items() if report.message}
