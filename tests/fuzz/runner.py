"""Runs a fuzz target: one case after another, each made from the seed and its number alone, and says what came of it.

A target has no right answer to compare with. It has a short list of what may come out, and raises where anything else
does; the runner adds what no case may do: hang, or leave the process with more and more memory.
"""

import random
import resource
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

OUTPUT = Path(__file__).parents[2] / "var" / "fuzz"  # ignored by git, and by nothing that grades
# A hand-in may wear out the parser's process four times, 5 s of processor time each; the rest is for a busy machine
HANG_SECONDS = 120.0
LOOK_SECONDS = 1.0  # how often the watchdog looks: a hang need not be noticed at once
MAX_FAILURES = 20  # whoever has that many fixes some of them first


class Failed(Exception):
    """A case did what none may; the message says what."""


class Hang(BaseException):
    """A case takes longer than any may. No `Exception`: nothing on the way may swallow it."""


class Target(Protocol):
    """Something to fuzz."""

    name: str
    step: int  # cases that share a state: a case is repeated with those since the last multiple of this
    growth_bytes: int  # how far a run may raise the process's peak memory

    def run(self, rng: random.Random, case: int) -> str:
        """Run one case, and name what came out. Raises whatever it finds wrong."""

    def input(self) -> tuple[str, bytes]:
        """What the last case was fed: the ending of a file name, and the bytes."""

    def close(self) -> None:
        """Let go of what is open. Raises `Failed` where something was left behind."""


@dataclass(frozen=True)
class Failure:
    case: int
    what: str
    path: Path  # of the input

    def __str__(self) -> str:
        return f"case {self.case}: {self.what} (input: {self.path})"


@dataclass
class Report:
    """What came of one target's run."""

    target: str
    seed: int
    cases: int = 0
    seconds: float = 0.0
    slowest: tuple[float, int] = (0.0, 0)  # seconds, case
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    peak_bytes: int = 0
    grown_bytes: int = 0  # of the peak: what this run added
    children_peak_bytes: int = 0  # of the largest process that has been started and waited for


def random_for(seed: int, case: int) -> random.Random:
    """The one source of chance of a case."""
    return random.Random(f"{seed}:{case}")


def run(target: Target, *, seed: int, first: int = 0, cases: int | None = None, seconds: float | None = None) -> Report:
    """Run cases from number `first` on, until there have been as many, or as many seconds, as asked for."""
    report = Report(target.name, seed)
    start = first - first % target.step
    stop = None if cases is None else first + cases
    peak = _peak(resource.RUSAGE_SELF)
    began = time.monotonic()
    case = start
    with _watchdog() as watched:
        while (stop is None or case < stop) and (seconds is None or time.monotonic() - began < seconds):
            case_began = watched.began = time.monotonic()
            try:
                outcome = target.run(random_for(seed, case), case)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                outcome = "FAILURE"
                report.failures.append(_write_down(target, seed, case, error))
                if len(report.failures) >= MAX_FAILURES:
                    break
            finally:
                watched.began = None
            report.slowest = max(report.slowest, (time.monotonic() - case_began, case))
            report.outcomes[outcome] += 1
            report.cases += 1
            case += 1
    report.seconds = time.monotonic() - began
    report.peak_bytes = _peak(resource.RUSAGE_SELF)
    report.grown_bytes = report.peak_bytes - peak
    try:
        target.close()
        if report.grown_bytes > target.growth_bytes:
            raise Failed(f"the run took {report.grown_bytes >> 20} MiB, {target.growth_bytes >> 20} are allowed")
    except Failed as error:
        report.failures.append(_write_down(target, seed, case, error))
    report.children_peak_bytes = _peak(resource.RUSAGE_CHILDREN)  # those of children that have ended
    return report


def table(reports: list[Report]) -> str:
    """What came of the runs, for people."""
    lines = []
    for report in reports:
        rate = report.cases / report.seconds if report.seconds else 0.0
        slow, slow_case = report.slowest
        lines += [
            f"target           {report.target} (seed {report.seed})",
            f"cases            {report.cases:,} in {report.seconds:.0f} s: {rate:,.0f} per second",
            f"slowest case     {slow:.2f} s (case {slow_case})",
            f"peak memory      {report.peak_bytes >> 20} MiB, of which the run took {report.grown_bytes >> 20}",
            f"  of a child     {report.children_peak_bytes >> 20} MiB",
            "outcomes         " + "\n                 ".join(f"{n:>9,}  {kind}" for kind, n in _sorted(report)),
            f"failures         {len(report.failures)}",
            *(f"  {failure}" for failure in report.failures),
            "",
        ]
    return "\n".join(lines)


def _sorted(report: Report) -> list[tuple[str, int]]:
    return sorted(report.outcomes.items(), key=lambda item: (-item[1], item[0]))


def _peak(who: int) -> int:
    return resource.getrusage(who).ru_maxrss * 1024  # Linux counts it in KiB


def _write_down(target: Target, seed: int, case: int, error: BaseException) -> Failure:
    """Keep the input of a failure and say where it is, at once: the run may last for hours."""
    suffix, content = target.input()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / f"{target.name}-{seed}-{case}{suffix}"
    path.write_bytes(content)
    details = "".join(traceback.format_exception(error))
    path.with_name(f"{path.name}.txt").write_text(details, encoding="utf-8", errors="backslashreplace")
    what = f"{type(error).__name__}: {ascii(str(error))[1:-1][:300]}"
    failure = Failure(case, what, path)
    print(f"{target.name}, seed {seed}, {failure}", flush=True)
    return failure


class _Watched:
    began: float | None = None  # when the case at hand began


@contextmanager
def _watchdog() -> Iterator[_Watched]:
    """Raise `Hang` in the main thread when a case takes too long.

    By a signal of its own: the one for alarms belongs to pytest's timeout.
    """
    watched, over = _Watched(), threading.Event()
    main = threading.get_ident()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            began = watched.began
            if began is not None and time.monotonic() - began > HANG_SECONDS:
                watched.began = None
                signal.pthread_kill(main, signal.SIGUSR1)

    def stop(*_: object) -> None:
        raise Hang(f"no end within {HANG_SECONDS:g} s")

    before = signal.signal(signal.SIGUSR1, stop)
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
