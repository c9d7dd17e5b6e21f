"""Measures how far grades can be trusted, and prints it: `scripts/validity`.

Over the corpus: right answers that fail, wrong ones that pass, blame that falls on another blank, and how many wrong
answers are called by their name. Over repetitions: verdicts that change from one grading of a hand-in to the next, each
under a server key of its own, so that the inputs are other ones every time. With `--keys`, every entry of the corpus by
itself, under as many keys.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import guests  # noqa: E402  (needs the path above)
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from rich.table import Table  # noqa: E402
from validity import corpus, keys, mutations, programs, whole_notebooks  # noqa: E402
from validity.grader import PACK, SOLUTION, Grader  # noqa: E402

from grading.events import ignore  # noqa: E402
from grading.grade import grade  # noqa: E402
from grading.hand_in import HandIn, read_hand_in  # noqa: E402
from grading.outcomes import Outcome  # noqa: E402
from grading.report import BlankReport, Report  # noqa: E402
from sandbox.backends import choose_backend  # noqa: E402

HALVES = {
    "written with the checks at hand": ("right.md", "wrong.md"),
    "written blind": ("right-blind.md", "wrong-blind.md"),
}
SUBMISSIONS, REPETITIONS = 20, 20  # without training
TRAINED, TRAININGS = 3, 5  # submissions and repetitions with it


@dataclass
class Half:
    """What came of one half of the corpus."""

    right: int = 0
    wrong: int = 0
    false_failures: list[str] = field(default_factory=list)
    false_passes: list[str] = field(default_factory=list)
    blamed_elsewhere: list[str] = field(default_factory=list)
    named: int = 0
    misnamed: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)


def _hand_in(group: Sequence[corpus.Variant]) -> str:
    source = SOLUTION
    for variant in group:
        source = variant.apply(source, PACK)
    return source


def _title(variant: corpus.Variant) -> str:
    return f"{variant.blank}: {variant.title}"


def measure_half(right: str, wrong: str, grader: Grader) -> Half:
    """Grade whole hand-ins, each the solution with one answer per blank exchanged at most."""
    half = Half()
    for name in (right, wrong):
        for group in track(corpus.hand_ins(corpus.read(name)), description=name, transient=True):
            reports = grader.check(_hand_in(group))
            variants = {variant.blank: variant for variant in group}
            half.blamed_elsewhere += [
                f"{name}: {blank}: {report.message}"
                for blank, report in reports.items()
                if blank not in variants and report.status is not Outcome.PASSED
            ]
            for blank, variant in variants.items():
                if name == right:
                    _note_right(half, variant, reports[blank])
                else:
                    _note_wrong(half, variant, reports[blank])
    return half


def _note_right(half: Half, variant: corpus.Variant, report: BlankReport) -> None:
    half.right += 1
    if report.status is not Outcome.PASSED:
        half.false_failures.append(f"{_title(variant)} ({report.message})")


def _note_wrong(half: Half, variant: corpus.Variant, report: BlankReport) -> None:
    half.wrong += 1
    name = report.misconception.id if report.misconception else None
    if report.status is Outcome.PASSED:
        half.false_passes.append(_title(variant))
    elif name is None:
        half.unnamed.append(f"{_title(variant)} (is {variant.misconception}; {report.message})")
    elif name == variant.misconception:
        half.named += 1
    else:
        half.misnamed.append(f"{_title(variant)} (is {variant.misconception}, was called {name})")


def sample_submissions(count: int) -> dict[str, str]:
    """The solution, right answers, and wrong ones, by name."""
    names = [name for half in HALVES.values() for name in half]
    groups = [group for name in names for group in corpus.hand_ins(corpus.read(name))]
    chosen = groups[:: max(1, len(groups) // (count - 1))][: count - 1]
    others = {f"{number}: {_title(group[0])} ...": _hand_in(group) for number, group in enumerate(chosen)}
    return {"the solution": SOLUTION} | others


def flips(grader: Grader, submissions: dict[str, str], repetitions: int) -> list[str]:
    """Blanks whose verdict was not always the same, over gradings with other inputs each time."""
    found = []
    for name, source in track(submissions.items(), description="repetitions", transient=True):
        seen: dict[str, set[str]] = {}
        for repetition in range(repetitions):
            for blank, report in grader.check(source, key=f"repetition {repetition}".encode()).items():
                seen.setdefault(blank, set()).add(report.status)
        found += [f"{name}: {blank}: {', '.join(sorted(s))}" for blank, s in seen.items() if len(s) > 1]
    return found


@contextmanager
def _grader(sandbox: str, *, names: bool = True) -> Iterator[Grader]:
    with guests.guest(sandbox) as guest:
        yield Grader(guest, names=names)


def measure_keys(number: int, pattern: str, sandbox: str, console: Console) -> int:
    """Print the entries whose verdict depends on the server's key; 1 where there are any."""
    entries = keys.chosen(pattern)
    with _grader(sandbox, names=False) as grader:
        several = track((f"key {i}".encode() for i in range(number)), total=number, description="keys", transient=True)
        found = keys.changed(keys.verdicts(grader, entries, several))
    for line in found:
        console.print(line, style="bold red", highlight=False, markup=False)
    console.print(f"{len(found)} of {len(entries)} entries have a verdict that changes over {number} keys")
    return 1 if found else 0


def train(sandbox: str, console: Console) -> dict[str, list[tuple[float, bool]]]:
    """Accuracy and verdict of whole gradings, each under a key of its own."""
    group = corpus.hand_ins(corpus.read("right.md"))[0]
    hand_ins = {
        "the solution": SOLUTION,
        "right answers in other words": _hand_in(group),
        "a guidance weight of 0, which does not pass": SOLUTION.replace("\nw = 2.0", "\nw = 0.0"),
    }
    found: dict[str, list[tuple[float, bool]]] = {}
    for name, source in list(hand_ins.items())[:TRAINED]:
        for repetition in range(TRAININGS):
            began = time.monotonic()
            report = _grade(read_hand_in("answers.py", source.encode()), sandbox, f"repetition {repetition}".encode())
            run = report.generation.submitted if report.generation else None
            accuracy = run.accuracy.estimate if run is not None and run.accuracy is not None else 0.0
            found.setdefault(name, []).append((accuracy, report.verdict == "passed"))
            console.print(
                f"{name}: {accuracy:.1%}, {report.verdict}, {time.monotonic() - began:.0f} s", highlight=False
            )
    return found


def _grade(hand_in: HandIn, sandbox: str, key: bytes) -> Report:
    return grade(
        hand_in,
        PACK,
        PACK.recipe("digits16"),
        backend=choose_backend(sandbox),
        key=key,
        train=True,
        device="cpu",
        emit=ignore,
    ).report


def measure_wholes(grader: Grader) -> dict[str, list[str]]:
    """Verdicts on whole programs and notebooks that are not a fair teacher's, by where they stand."""
    found: dict[str, list[str]] = {}
    wholes = [
        (
            "programs.md",
            program.name,
            read_hand_in("answers.py", program.apply(SOLUTION).encode()),
            program.verdicts(PACK),
        )
        for program in programs.read()
    ]
    wholes += [("notebooks", book.name, book.read(), book.verdicts) for book in whole_notebooks.read(PACK)]
    for kind, name, hand_in, wanted in track(wholes, description="programs and notebooks", transient=True):
        lines = found.setdefault(f"{kind} ({sum(other == kind for other, *_ in wholes)})", [])
        for blank, report in grader.check_hand_in(hand_in).items():
            if (verdict := whole_notebooks.verdict(report.status)) != wanted[blank] and (
                kind == "notebooks" or "right" in (verdict, wanted[blank])
            ):
                lines.append(f"{kind}: {name}: {blank} is {wanted[blank]}, was found {verdict} ({report.message})")
    return found


def train_notebooks(sandbox: str, console: Console, names: Sequence[str]) -> list[str]:
    """Train whole notebooks on `digits16`. Returns those that do not read as their author says."""
    wrong = []
    for book in whole_notebooks.read(PACK):
        if names and book.name not in names:
            continue
        report = _grade(book.read(), sandbox, b"key")
        run = report.generation.submitted if report.generation else None
        accuracy = run.accuracy.estimate if run is not None and run.accuracy is not None else None
        passed = run is not None and run.passed
        read = "no digits" if accuracy is None else f"{accuracy:.1%}"
        console.print(f"{book.name}: {read}, {report.score:g} points", highlight=False)
        if passed != book.trained:
            wrong.append(f"{book.name}: {read}, and should {'' if book.trained else 'not '}pass")
    return wrong


def table(halves: dict[str, Half]) -> Table:
    made = Table(title="Validity")
    for title in ("", *halves, "target"):
        made.add_column(title)
    of = list(halves.values())
    made.add_row("right answers that fail", *(f"{len(h.false_failures)} of {h.right}" for h in of), "0")
    made.add_row("wrong answers that pass", *(f"{len(h.false_passes)} of {h.wrong}" for h in of), "0")
    made.add_row("blame on another blank", *(str(len(h.blamed_elsewhere)) for h in of), "0")
    made.add_row("called by their name", *(f"{h.named} of {h.wrong}, {h.named / h.wrong:.0%}" for h in of), ">= 80 %")
    made.add_row("called by a wrong name", *(str(len(h.misnamed)) for h in of), "")
    return made


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/validity", description=__doc__)
    parser.add_argument("--sandbox", default="bubblewrap", help="where hand-ins run (%(default)s)")
    parser.add_argument("--no-repetitions", action="store_true", help="only the corpus: a minute")
    parser.add_argument("--train", action="store_true", help="also 15 whole gradings: half an hour")
    parser.add_argument(
        "--mutations", nargs="*", metavar="FILE", help="only: take each assertion out of these files of checks once"
    )
    parser.add_argument(
        "--train-notebooks", nargs="*", metavar="NAME", help="only: train these notebooks, or all 22: an hour"
    )
    parser.add_argument("--keys", type=int, metavar="N", help="only this: entries whose verdict changes over N keys")
    parser.add_argument("--only", default="", metavar="REGEX", help="with --keys: entries in whose heading it is found")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save what was measured")
    parser.add_argument("--verbose", action="store_true", help="also what was not called by its name")
    chosen = parser.parse_args()
    console = Console()
    torch.set_num_threads(1)  # as in the judge of a grading
    if chosen.mutations is not None:
        return 1 if mutations.measure(chosen.sandbox, console, chosen.mutations) else 0
    if chosen.keys:
        return measure_keys(chosen.keys, chosen.only, chosen.sandbox, console)
    if chosen.train_notebooks is not None:
        misread = train_notebooks(chosen.sandbox, console, chosen.train_notebooks)
        for line in misread:
            console.print(line, style="bold red", highlight=False, markup=False)
        return 1 if misread else 0
    trainings: dict[str, list[tuple[float, bool]]] = {}
    with _grader(chosen.sandbox) as grader:
        halves = {title: measure_half(*names, grader) for title, names in HALVES.items()}
        console.print(table(halves))
        wholes = measure_wholes(grader)
        for title, lines in wholes.items():
            console.print(f"{title}: {len(lines)} verdicts on blanks are not a fair teacher's")
    flipped: list[str] = []
    if not chosen.no_repetitions:
        submissions = sample_submissions(SUBMISSIONS)
        with _grader(chosen.sandbox, names=False) as grader:
            flipped = flips(grader, submissions, REPETITIONS)
        console.print(
            f"{len(flipped)} verdicts of blanks changed over {REPETITIONS} repetitions of {len(submissions)} hand-ins"
        )
    if chosen.train:
        trainings = train(chosen.sandbox, console)
    bad = [line for h in halves.values() for line in (*h.false_failures, *h.false_passes, *h.blamed_elsewhere)]
    bad += [line for lines in wholes.values() for line in lines]
    for line in [*bad, *flipped]:
        console.print(line, style="bold red", highlight=False, markup=False)
    if chosen.verbose:
        for line in (line for h in halves.values() for line in (*h.misnamed, *h.unnamed)):
            console.print(line, highlight=False, markup=False)
    if chosen.json is not None:
        content = {
            "halves": {title: asdict(half) for title, half in halves.items()},
            "wholes": wholes,
            "flips": flipped,
            "trainings": trainings,
        }
        chosen.json.write_text(json.dumps(content, indent=2) + "\n")
    verdict_flips = [name for name, runs in trainings.items() if len({passed for _, passed in runs}) > 1]
    enough = all(h.named >= 0.8 * h.wrong for h in halves.values())  # the target of the assessment
    return 0 if enough and not bad and not flipped and not verdict_flips else 1


if __name__ == "__main__":
    sys.exit(main())
