"""Trains hand-ins with known faults (`trained.md`) and compares the first finding of each report with the expected one.

    .venv/bin/python tests/validity/diagnoses.py                    all of them: a quarter of an hour
    .venv/bin/python tests/validity/diagnoses.py "drawn glyphs"     some
    .venv/bin/python tests/validity/diagnoses.py --record           and write what was measured to `facts.json`

`test_diagnoses.py` holds the rules against that file, so that CI trains nothing.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import corpus

from grading.events import ignore
from grading.grade import grade
from grading.hand_in import read_hand_in
from grading.report import Report
from reference.pack import Pack, Recipe, load_pack
from sandbox.backends import choose_backend

FACTS = Path(__file__).with_name("facts.json")
NO_FINDING = "none"
_FINDING = re.compile(r"^finding `(?P<id>\w+)`$", re.MULTILINE)
_RECIPE = re.compile(r"^recipe `(?P<name>\w+) = (?P<value>[^`]+)`$", re.MULTILINE)
KEY = b"diagnoses"  # stands for a server's: the same seeds in every run


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A hand-in that trains to something known."""

    title: str
    finding: str  # id of the one that is expected first
    source: str
    recipe: Recipe


def faults(pack: Pack) -> Iterator[Fault]:
    """The untouched solution, and everything in `trained.md`."""
    recipe, solution = pack.recipe("digits16"), pack.solution.read_text(encoding="utf-8")
    yield Fault(title="the solution", finding=NO_FINDING, source=solution, recipe=recipe)
    for variant in corpus.read("trained.md"):
        finding = _FINDING.search(variant.body)
        assert finding is not None, variant.title
        changed = _RECIPE.search(variant.body)
        yield Fault(
            title=variant.title,
            finding=finding["id"],
            source=solution if changed else variant.apply(solution, pack),
            recipe=recipe.model_copy(update={changed["name"]: float(changed["value"])}) if changed else recipe,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("titles", nargs="*", help="which; all of them where none is named")
    parser.add_argument("--sandbox", default="auto")
    parser.add_argument("--record", action="store_true", help=f"write {FACTS.name}")
    chosen = parser.parse_args()
    pack = load_pack("ddpm")
    # A repaired run would take as long again, and says nothing of the fault
    accuracy = pack.file.accuracy.model_copy(update={"repaired_run": False})
    pack.file = pack.file.model_copy(update={"accuracy": accuracy})
    backend = choose_backend(chosen.sandbox)
    recorded = json.loads(FACTS.read_text()) if FACTS.exists() else {}
    wrong = 0
    for fault in faults(pack):
        if chosen.titles and fault.title not in chosen.titles:
            continue
        report = grade(
            read_hand_in("solution.py", fault.source.encode()),
            pack,
            fault.recipe,
            backend=backend,
            key=KEY,
            train=True,
            device="cpu",
            emit=ignore,
        ).report
        found = report.findings[0].id if report.findings else NO_FINDING
        wrong += found != fault.finding
        print(_line(fault, found, report), flush=True)
        recorded[fault.title] = _facts(fault, report)
        if chosen.record:
            FACTS.write_text(json.dumps(recorded, indent=None, separators=(",", ":")) + "\n")
    return 1 if wrong else 0


def _line(fault: Fault, found: str, report: Report) -> str:
    run = report.generation.submitted if report.generation else None
    accuracy = f"{run.accuracy.estimate:6.1%}" if run and run.accuracy else "      "
    words = "as expected" if found == fault.finding else f"EXPECTED {fault.finding}"
    flags = f", flags: {', '.join(flag.id for flag in report.flags)}" if report.flags else ""
    return f"{fault.title:45} {accuracy} {report.tier or '-':7} {found}: {words}{flags}"


def _facts(fault: Fault, report: Report) -> dict[str, object]:
    assert report.training is not None
    assert report.generation is not None
    assert report.generation.submitted is not None
    return {
        "finding": fault.finding,
        "tier": report.tier,
        "training": report.training.submitted.model_dump(mode="json"),
        "generation": report.generation.submitted.model_dump(mode="json"),
    }


if __name__ == "__main__":
    sys.exit(main())
