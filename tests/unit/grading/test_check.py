"""Running a pack's checks: what becomes of each, whoever is at fault."""

from collections.abc import Callable, Iterator
from pathlib import Path

import guests
import pytest

from grading.check import run_checks
from grading.events import BlankFinished, CheckFinished, Event, ignore
from grading.hand_in import read_hand_in
from grading.harvest import harvest
from grading.outcomes import InfrastructureFault, Outcome
from grading.reference import Reference
from grading.report import BlankReport
from grading.seeds import Seeds
from reference.pack import PACKS, Pack
from sandbox.guest_client import Guest

PACK = """
id = "tiny"
title = "A tiny assignment"
default_recipe = "digits16"
tiers = []

[accuracy]
pass_mark = 0.95
points = 1
repaired_run = false
repaired_points = 0

[[givens]]
name = "betas"

[[givens]]
name = "T"

[stubs]

[[blanks]]
id = "double"
kind = "function"
title = "twice"
concept = "arithmetic"
points = 2

[[blanks]]
id = "total"
kind = "tensor"
title = "the sum"
concept = "arithmetic"
points = 1
"""

SOLUTION = """
import torch

T = 3
betas = torch.ones(T)

def double(x):
    return 2 * x

total = double(betas.sum())
"""

CHECKS = '''
import pytest
import torch

from grading.checking import assert_close


@pytest.fixture
def givens(rng):
    return {"betas": torch.rand(3, generator=rng)}


@pytest.mark.blank("double")
@pytest.mark.deadline(cpu=10, wall=2)
def test_one(student, solution, rng):
    """Doubles a number.

    This is not for students.
    """
    x = torch.rand(2, generator=rng)
    assert_close(student.double(x), solution.double(x), "the result")


@pytest.mark.blank("double")
@pytest.mark.deadline(cpu=10, wall=2)
@pytest.mark.hidden
def test_two(student):
    """Doubles another number"""
    assert_close(student.double(torch.tensor(3.0)), torch.tensor(6.0), "the result")


@pytest.mark.blank("total")
def test_total(student, solution):
    """Sums up"""
    assert_close(student.total(), solution.total, "the total")
'''

RIGHT = "def double(x):\n    return x + x\n\ntotal = 2 * betas.sum()\n"

Grade = Callable[..., dict[str, BlankReport]]


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with guests.guest("none") as started:
        yield started


@pytest.fixture
def grade(guest: Guest, tmp_path: Path) -> Grade:
    def grade(
        source: str, checks: str = CHECKS, emit: Callable[[Event], None] = ignore, key: bytes = b"key"
    ) -> dict[str, BlankReport]:
        (tmp_path / "pack.toml").write_text(PACK)
        (tmp_path / "recipes.toml").write_text((PACKS / "ddpm" / "recipes.toml").read_text())
        (tmp_path / "solution.py").write_text(SOLUTION)
        (tmp_path / "checks").mkdir(exist_ok=True)
        (tmp_path / "checks" / "test_tiny.py").write_text(checks)
        pack = Pack(tmp_path)
        found = harvest(read_hand_in("mine.py", source.encode()), pack)
        reports = run_checks(found, pack, Reference(pack), guest, Seeds(key, "0" * 64), emit)
        assert [report.id for report in reports] == ["double", "total"]
        return {report.id: report for report in reports}

    return grade


def test_right_answers_pass(grade: Grade) -> None:
    reports = grade(RIGHT)
    assert [(report.status, report.points) for report in reports.values()] == [
        (Outcome.PASSED, 2.0),
        (Outcome.PASSED, 1.0),
    ]
    assert [check.name for check in reports["double"].checks] == ["one", "two"]
    assert reports["double"].checks[0].title == "Doubles a number"


def test_wrong_answer_costs_its_own_blank_only(grade: Grade) -> None:
    reports = grade(RIGHT.replace("x + x", "x * x"))
    assert reports["double"].status is Outcome.FAILED
    assert reports["double"].points == 0
    assert "The result is not what it should be" in reports["double"].message
    assert reports["total"].status is Outcome.PASSED


def test_stand_ins_take_the_place_of_wrong_answers(grade: Grade) -> None:
    reports = grade("def double(x):\n    return x * x\n\ntotal = double(betas.sum())\n")
    assert [report.status for report in reports.values()] == [Outcome.FAILED, Outcome.PASSED]


def test_own_answers_are_used_where_the_stand_in_does_not_fit(grade: Grade) -> None:
    source = "def double(x, times=1):\n    return 2 * x * times\n\ntotal = double(betas.sum(), times=1)\n"
    assert {report.status for report in grade(source).values()} == {Outcome.PASSED}
    wrong = grade(source.replace("2 * x", "3 * x"))
    assert [report.status for report in wrong.values()] == [Outcome.FAILED, Outcome.SKIPPED]
    assert wrong["total"].message.startswith("It builds on `double`, which is not right yet")


@pytest.mark.threat(18)
def test_exception_is_told_with_its_place(grade: Grade) -> None:
    report = grade("def double(x):\n    print('here')\n    return y\n\ntotal = 2 * betas.sum()\n")["double"]
    assert report.status is Outcome.CRASHED
    assert report.message == "Your `double` raised NameError: name 'y' is not defined (mine.py, line 3)"
    shown, hidden = report.checks
    assert shown.output == "here\n"
    assert (hidden.message, hidden.output) == ("Your `double` raised NameError.", None)


def test_definition_that_does_not_load_is_tried_once(grade: Grade) -> None:
    report = grade("double = 1 / 0 or (lambda x: x)\ntotal = 2 * betas.sum()\n")["double"]
    assert report.status is Outcome.CRASHED
    assert "ZeroDivisionError" in report.message
    assert sorted(check.outcome for check in report.checks) == [Outcome.CRASHED, Outcome.SKIPPED]


def test_endless_loop_is_waited_for_once(grade: Grade) -> None:
    reports = grade("def double(x):\n    while True: pass\n\ntotal = 2 * betas.sum()\n")
    assert reports["double"].status is Outcome.TIMED_OUT
    assert sorted(check.outcome for check in reports["double"].checks) == [Outcome.SKIPPED, Outcome.TIMED_OUT]
    assert reports["total"].status is Outcome.PASSED


def test_exit_is_a_crash(grade: Grade) -> None:
    reports = grade("def double(x):\n    import os; os._exit(0)\n\ntotal = 2 * betas.sum()\n")
    assert [report.status for report in reports.values()] == [Outcome.CRASHED, Outcome.PASSED]


def test_nan_fails(grade: Grade) -> None:
    report = grade("def double(x):\n    return x * float('nan')\n\ntotal = 2 * betas.sum()\n")["double"]
    assert report.status is Outcome.FAILED
    assert "NaN" in report.message


def test_missing_answer_is_not_attempted_and_costs_no_time(grade: Grade) -> None:
    events: list[Event] = []
    reports = grade("total = 2 * betas.sum()\n", emit=events.append)
    assert reports["double"].status is Outcome.NOT_ATTEMPTED
    assert reports["double"].checks == []
    assert reports["double"].message
    assert [event for event in events if isinstance(event, CheckFinished) and event.blank == "double"] == []


def test_every_check_and_blank_is_told_as_it_finishes(grade: Grade) -> None:
    events: list[Event] = []
    grade(RIGHT, emit=events.append)
    checks = [(event.blank, event.check) for event in events if isinstance(event, CheckFinished)]
    assert sorted(checks) == [("double", "one"), ("double", "two"), ("total", "total")]
    finished = [event for event in events if isinstance(event, BlankFinished)]
    assert sorted((event.blank, event.points) for event in finished) == [("double", 2.0), ("total", 1.0)]
    last_of_double = max(
        i for i, event in enumerate(events) if isinstance(event, CheckFinished) and event.blank == "double"
    )
    assert isinstance(events[last_of_double + 1], BlankFinished)


def test_seeds_decide_inputs_and_order(grade: Grade) -> None:
    source = "def double(x):\n    print(x)\n    return x + x\n\ntotal = 2 * betas.sum()\n"

    def drawn(key: bytes) -> str | None:
        return grade(source, key=key)["double"].checks[0].output

    assert drawn(b"key") == drawn(b"key") != drawn(b"other")


def test_mistake_in_a_check_is_never_the_students(grade: Grade) -> None:
    broken = CHECKS.replace("torch.tensor(6.0)", "torch.tensor(6.0).no_such_thing")
    with pytest.raises(InfrastructureFault, match="no_such_thing"):
        grade(RIGHT, checks=broken)


@pytest.mark.parametrize(
    "checks",
    [
        "import no_such_module",
        CHECKS.replace('@pytest.mark.blank("total")', ""),
        CHECKS.replace("def givens", "def other"),
    ],
)
def test_checks_that_cannot_be_collected_are_a_fault_of_ours(grade: Grade, checks: str) -> None:
    with pytest.raises(InfrastructureFault):
        grade(RIGHT, checks=checks)


def test_what_the_listener_raises_comes_through(grade: Grade) -> None:
    class LeaseLost(Exception):
        pass

    def emit(event: Event) -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        grade(RIGHT, emit=emit)
    with pytest.raises(LeaseLost):
        grade("total = 2 * betas.sum()\n", emit=emit)
