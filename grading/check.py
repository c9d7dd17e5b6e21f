"""Run a pack's checks, ordinary pytest functions, in the judge against a guest.

    @pytest.mark.blank("alphas_cumprod")         which blank the check belongs to
    @pytest.mark.hidden                          its failures say little: no text and no output of student code
    @pytest.mark.deadline(cpu=2.0, wall=6.0)     seconds, where the default does not fit

The first line of a check's docstring is its title. Fixtures: `student` (see `grading.student`), `solution` (what the
reference solution defines under the same givens), `rng` (a seeded generator). The pack's `conftest.py` must define the
fixture `givens`: the values of the assignment's names for this check, by canonical name.
"""

import inspect
import random
import time
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
import torch

from grading.composition import find_misfits
from grading.events import BlankFinished, CheckFinished, Emit, Event
from grading.harvest import Harvest, closure
from grading.order import circle, dependencies_first
from grading.outcomes import InfrastructureFault, Outcome
from grading.plain_pytest import run_pytest
from grading.reference import Reference
from grading.report import BlankReport, CheckReport
from grading.seeds import Seeds
from grading.student import LoadFault, Student
from grading.tries import FAILURES, NotChecked, try_check
from grading.verdict import Check, report_blank, report_misfit
from reference.pack import Blank, Pack
from sandbox.guest_client import Guest


def run_checks(
    harvest: Harvest,
    pack: Pack,
    reference: Reference,
    guest: Guest,
    seeds: Seeds,
    emit: Emit,
) -> list[BlankReport]:
    """Check every blank of the pack; one report per blank, in the order of the pack.

    A blank passes if all of its checks pass, and if it also works together with the others that do. Checks run in an
    order drawn from `seeds`, but for one thing: what a blank needs is checked before it. Raises `InfrastructureFault`
    where anything but the student's code goes wrong.
    """
    run = _Run(harvest, pack, reference, guest, seeds, emit)
    for blank in pack.blanks:
        if harvest.answers[blank.id].status != "found":
            run.finish_blank(blank)
    code = run_pytest(pack.checks, pack.root, run)
    if run.fault is not None:
        if isinstance(run.fault, Exception) and not run.fault_is_the_listeners:
            raise InfrastructureFault(f"A check failed to run: {run.fault}") from run.fault
        raise run.fault
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise InfrastructureFault(f"The checks of the pack {pack.id!r} did not run (pytest: {code!r}).")
    run.check_together()
    return [run.reports[blank.id] for blank in pack.blanks]


class _Run:
    """The pytest plugin: chooses and orders the checks, hands them the student, and turns what happens into reports."""

    def __init__(
        self, harvest: Harvest, pack: Pack, reference: Reference, guest: Guest, seeds: Seeds, emit: Emit
    ) -> None:
        self.reports: dict[str, BlankReport] = {}
        self.fault: BaseException | None = None
        self.fault_is_the_listeners = False
        self._harvest = harvest
        self._pack = pack
        self._reference = reference
        self._guest = guest
        self._seeds = seeds
        self._emit = emit
        self._checks: dict[str, Check] = {}  # by node id
        self._unfinished: dict[str, int] = {}  # blank -> checks to come
        self._results: dict[str, list[tuple[int, CheckReport]]] = {}
        self._stopped: dict[str, str] = {}  # blank -> why its other checks are skipped

    # Hooks

    def pytest_configure(self, config: pytest.Config) -> None:
        for marker in ("blank(id): the blank under check", "hidden: says little", "deadline(cpu, wall): seconds"):
            config.addinivalue_line("markers", marker)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.fault = self.fault or InfrastructureFault(f"{report.nodeid} cannot be read: {report.longreprtext}")

    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        if self.fault is not None:
            session.shouldfail = "a check cannot be read"
            return
        by_blank: dict[str, list[pytest.Item]] = {blank.id: [] for blank in self._pack.blanks}
        for position, item in enumerate(items):
            marker = item.get_closest_marker("blank")
            assert isinstance(item, pytest.Function), f"{item.nodeid} is not a function"
            assert marker is not None, f"{item.nodeid} does not say which blank it checks"
            blank = self._pack.blank(marker.args[0])
            by_blank[blank.id].append(item)
            self._checks[item.nodeid] = Check(item=item, blank=blank, position=position)
        unchecked = [name for name, of_blank in by_blank.items() if not of_blank]
        assert not unchecked, f"no check for {', '.join(unchecked)}"
        shuffled = random.Random(self._seeds.seed("check/order"))  # noqa: S311  (an order, not a secret)
        items[:] = []
        found = sorted(name for name, answer in self._harvest.answers.items() if answer.status == "found")
        shuffled.shuffle(found)
        for name in dependencies_first(self._harvest, found):
            shuffled.shuffle(by_blank[name])
            items += by_blank[name]
            self._unfinished[name] = len(by_blank[name])
            self._results[name] = []

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        check = self._checks[item.nodeid]
        check.begin()
        if check.blank.id in self._stopped:
            pytest.skip(self._stopped[check.blank.id])

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool:
        """Run the check, more than once where its answer leans on others of the same student."""
        wanted = inspect.signature(pyfuncitem.obj).parameters
        arguments = {name: value for name, value in pyfuncitem.funcargs.items() if name in wanted}
        generators = {value: value.get_state() for value in arguments.values() if isinstance(value, torch.Generator)}
        blank = self._checks[pyfuncitem.nodeid].blank.id
        needed, around = closure(self._harvest, [blank]) - {blank}, circle(self._harvest, blank)
        others = [other.id for other in self._pack.blanks if other.id in needed]
        try:
            try_check(
                lambda: pyfuncitem.obj(**arguments),
                cast(Student, pyfuncitem.funcargs["student"]),
                generators,
                {other: self._has_passed(other) for other in others},
                [other.id for other in self._pack.blanks if other.id in around],
            )
        except NotChecked as reason:
            pytest.skip(str(reason))
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> pytest.TestReport:
        """Keep what happened, and give pytest a report without a traceback, which would print every tensor in it."""
        check = self._checks[item.nodeid]
        outcome: Literal["passed", "failed", "skipped"] = "passed"
        if call.excinfo is not None:
            outcome = "failed"
            if isinstance(call.excinfo.value, pytest.skip.Exception):
                outcome, check.skipped = "skipped", str(call.excinfo.value)
            else:
                check.error = check.error or call.excinfo.value
        assert call.when != "collect"
        return pytest.TestReport(item.nodeid, item.location, {}, outcome, None, call.when)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        result = yield
        self._finish_check(self._checks[item.nodeid], item.session)
        return result

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.fault = self.fault or excinfo.value

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
        self.fault = self.fault or excinfo.value
        return True

    # Fixtures

    @pytest.fixture
    def rng(self, request: pytest.FixtureRequest) -> torch.Generator:
        """Draws the check's inputs: the same for the same submission, unpredictable without the server's key."""
        check = self._checks[request.node.nodeid]
        return torch.Generator().manual_seed(self._seeds.seed(f"check/{check.blank.id}/{check.name}"))

    @pytest.fixture
    def student(self, request: pytest.FixtureRequest, givens: Mapping[str, Any]) -> Iterator[Student]:
        """The student's answer."""
        check = self._checks[request.node.nodeid]
        student = Student(
            harvest=self._harvest,
            blank=check.blank,
            reference=self._reference,
            guest=self._guest,
            givens=givens,
            seed=self._seeds.seed(f"guest/{check.blank.id}/{check.name}"),
            deadline=check.deadline,
        )
        yield student
        student.close()
        check.output = student.output

    @pytest.fixture
    def solution(self, givens: Mapping[str, Any]) -> SimpleNamespace:
        """What the reference solution defines."""
        return self._reference.namespace(**givens)

    # Results

    def finish_blank(self, blank: Blank) -> None:
        """Put the blank's report together."""
        checks = [report for _, report in sorted(self._results.get(blank.id, ()), key=lambda result: result[0])]
        report = self.reports[blank.id] = report_blank(blank, self._harvest.answers[blank.id], checks)
        points, of = report.points, report.max_points
        self._tell(BlankFinished(blank=blank.id, outcome=report.status, points=points, max_points=of))

    def check_together(self) -> None:
        """Look for blanks that pass alone and do not work together with the rest."""
        began = time.monotonic()
        passed = [blank.id for blank in self._pack.blanks if self._has_passed(blank.id)]
        misfits = find_misfits(self._harvest, passed, self._reference, self._guest, self._seeds)
        for blank_id, fault in misfits.items():
            report = report_misfit(self.reports[blank_id], fault, time.monotonic() - began)
            check = report.checks[-1]
            self._tell(CheckFinished(blank=blank_id, check=check.name, outcome=check.outcome, message=check.message))
            self.reports[blank_id] = report

    def _finish_check(self, check: Check, session: pytest.Session) -> None:
        if check.error is not None and not isinstance(check.error, FAILURES):
            self._stop(check.error, session)
            return
        try:
            report = check.report(self._pack.misconceptions, self._harvest.answers[check.blank.id])
        except InfrastructureFault as fault:
            self._stop(fault, session)
            return
        blank = check.blank
        if isinstance(check.error, LoadFault):
            self._stopped[blank.id] = "Your definition did not load, so this was not tried."
        elif report.outcome is Outcome.TIMED_OUT:
            self._stopped[blank.id] = "Another check of this blank ran out of time, so this was not tried."
        self._results[blank.id].append((check.position, report))
        self._tell(CheckFinished(blank=blank.id, check=check.name, outcome=report.outcome, message=report.message))
        self._unfinished[blank.id] -= 1
        if not self._unfinished[blank.id]:
            self.finish_blank(blank)

    def _stop(self, fault: BaseException, session: pytest.Session) -> None:
        self.fault = self.fault or fault
        session.shouldfail = "a check failed to run"

    def _tell(self, event: Event) -> None:
        try:
            self._emit(event)
        except BaseException as error:
            self.fault, self.fault_is_the_listeners = error, True
            raise

    def _has_passed(self, blank: str) -> bool:
        return blank in self.reports and self.reports[blank].status is Outcome.PASSED
