"""Runs every test of the threat list and prints one table: attack x sandbox (scripts/redteam)."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS))

import guests  # noqa: E402  (needs the path above)
import pytest  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.markup import escape  # noqa: E402
from rich.table import Table  # noqa: E402
from security import threats  # noqa: E402

from reference.pack import load_pack  # noqa: E402

BACKENDS = [str(param.values[0]) for param in guests.BACKENDS]
JUDGE = "judge"  # the column of tests that need no backend
STOPPED, NOT_STOPPED = "stopped", "NOT STOPPED"
HARMLESS = "harmless"  # it reaches no further than a kernel of the guest's own, for the reason told
OWN_TEST = "no control: a test of its own"
EVEN_SO = "no control: stopped without a sandbox, too"
WIDTH = 160  # characters of a table that goes to a file or a pipe


@dataclass
class Line:
    """One attack, or one test with all its parameters."""

    rows: list[int]
    attack: str
    verdicts: dict[str, str] = field(default_factory=dict)  # column -> STOPPED, NOT_STOPPED, "skipped: why"
    control: str = ""
    details: list[str] = field(default_factory=list)  # of what was not stopped, and of controls that failed


def _backend(item: pytest.Function) -> str:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return next((value for value in params.values() if isinstance(value, str) and value in BACKENDS), JUDGE)


def _entry(item: pytest.Function) -> Any:
    """The entry of the corpus that a test runs, where it runs one."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return next((params[name] for name in ("tried", "cheat", "channel") if name in params), None)


class Collector:
    """The pytest plugin: chooses what belongs to the threat list, and keeps what became of it."""

    def __init__(self, backend: str | None) -> None:
        self.lines: dict[str, Line] = {}
        self._backend = backend

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = (None, self._backend, "none", JUDGE)
        items[:] = [
            item
            for item in items
            if isinstance(item, pytest.Function)
            and item.get_closest_marker("threat")
            and (self._backend is None or _backend(item) in chosen)
        ]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" or report.outcome != "passed":
            self._note(item, report)
        return report

    def _line(self, item: pytest.Function) -> Line:
        entry = _entry(item)
        name = entry.name if entry is not None else item.function.__name__.removeprefix("test_").replace("_", " ")
        rows = sorted({row for marker in item.iter_markers("threat") for row in marker.args})
        line = self.lines.setdefault(f"{rows} {name}", Line(rows=rows, attack=name))
        if entry is not None and isinstance(getattr(entry, "control", None), str):
            line.control = f"no control: {entry.control}"
        return line

    def _note(self, item: pytest.Function, report: pytest.TestReport) -> None:
        line = self._line(item)
        skipped = f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}" if report.skipped else None  # type: ignore[index]
        control = item.get_closest_marker("control")
        if control is not None:
            weak = f"succeeds with {control.args[0]}"
            line.control = skipped or (weak if report.passed else f"DOES NOT SUCCEED with {control.args[0]}")
        else:
            column = _backend(item)
            harmless = dict(report.user_properties).get("harmless")
            stopped = f"{HARMLESS}: {harmless}" if harmless else STOPPED
            verdict = skipped or (stopped if report.passed else NOT_STOPPED)
            if line.verdicts.get(column) != NOT_STOPPED:
                line.verdicts[column] = verdict
        if report.failed:
            found = dict(report.user_properties).get("found") or getattr(report.longrepr, "reprcrash", "no word")
            line.details.append(f"{item.name}: {str(found).splitlines()[0]}")


def grade_the_solution(backend: str) -> str:
    """How the reference solution fares behind that wall."""
    pack = load_pack("ddpm")
    full = pack.max_score - pack.file.accuracy.points
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "cli.main", "grade", str(pack.solution), "--no-train"]
        command += ["--sandbox", backend, "--json", str(report)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"not graded: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
        found = json.loads(report.read_text())
    passed = sum(blank["status"] == "passed" for blank in found["blanks"])
    marks = "full marks" if passed == len(pack.blanks) and found["score"] == full else "NOT FULL MARKS"
    return f"{marks}: {passed} of {len(pack.blanks)} blanks, {found['score']:g} of {full:g} points"


def _colour(verdict: str) -> str:
    if verdict.startswith("skipped") or not verdict:
        return f"[dim]{escape(verdict)}[/]"
    bad = verdict == NOT_STOPPED or "DOES NOT" in verdict
    return f"[bold red]{escape(verdict)}[/]" if bad else escape(verdict)


def table(lines: list[Line], backends: list[str]) -> Table:
    made = Table(title="Attacks and what came of them")
    columns = [name for name in (*backends, JUDGE) if any(name in line.verdicts for line in lines)]
    for title in ("row", "attack", *columns, "control"):
        made.add_column(title, overflow="fold")
    for line in lines:
        verdicts = [_colour(line.verdicts.get(column, "")) for column in columns]
        control = line.control or (EVEN_SO if line.verdicts.get("none") == STOPPED else OWN_TEST)
        made.add_row(", ".join(map(str, line.rows)), escape(line.attack), *verdicts, _colour(control))
    return made


def main() -> int:
    sandboxed = [name for name in BACKENDS if name != "none"]
    parser = argparse.ArgumentParser(prog="scripts/redteam", description=__doc__)
    parser.add_argument("--backend", choices=sandboxed, help="only this sandbox")
    parser.add_argument("--all", action="store_true", help="also what the judge and the API do against hostile uploads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the table as JSON")
    chosen = parser.parse_args()
    backends: list[str] = [chosen.backend] if chosen.backend else sandboxed

    collector = Collector(chosen.backend)
    places = [TESTS / "security"]
    if chosen.all:
        places += [file for file in threats.rows_by_file() if places[0] not in file.parents]
    options = ["-q", "--no-header", "--tb=no", "-r", "N", f"--rootdir={ROOT}"]
    code = pytest.main([*options, *map(str, places)], plugins=[collector])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return int(code)

    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    lines = sorted(collector.lines.values(), key=lambda line: (line.rows, line.attack))
    console.print(table(lines, backends))
    available = [
        name
        for name in backends
        if any(name in line.verdicts and not line.verdicts[name].startswith("skipped") for line in lines)
    ]
    solution = {name: grade_the_solution(name) for name in available}
    for name, marks in solution.items():
        console.print(f"{name}: the reference solution gets {marks}", highlight=False)
    for row, why in threats.NOT_YET.items():
        console.print(f"row {row}: no test, since {why}", highlight=False)
    for line in lines:
        for detail in line.details:
            console.print(f"[bold red]row {line.rows[0]}, {escape(line.attack)}:[/] {escape(detail)}", highlight=False)
    counts = [verdict for line in lines for name, verdict in line.verdicts.items() if name != "none"]
    shown = sum(line.control.startswith("succeeds") for line in lines)
    console.print(
        f"{len(lines)} attacks; stopped {counts.count(STOPPED)} times, harmless in a kernel of the guest's own "
        f"{sum(count.startswith(HARMLESS) for count in counts)} times, not stopped {counts.count(NOT_STOPPED)} times; "
        f"{shown} shown to succeed where something is weak",
        highlight=False,
    )
    if chosen.json is not None:
        content = {"attacks": [asdict(line) for line in lines], "solution": solution, "no_test": threats.NOT_YET}
        chosen.json.write_text(json.dumps(content, indent=2) + "\n")
    sound = not any(line.details for line in lines) and all(m.startswith("full marks") for m in solution.values())
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
