"""Wrong answers are told by name: those that the catalogue spells out, and those of `wrong.md`."""

import re
from collections.abc import Iterator

import guests
import pytest
from validity import corpus
from validity.grader import PACK, Grader

from grading.outcomes import Outcome
from grading.reference import Reference

REFERENCE = Reference(PACK)
# Of the wrong answers at hand; the rest show what no entry of the catalogue says
SHARE_NAMED = 0.9

SPELT_OUT = [
    (misconception, blank)
    for misconception in PACK.misconceptions.values()
    for blank in misconception.blanks
    if misconception.replace or misconception.code
]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with guests.guest("none") as guest:
        yield Grader(guest)


@pytest.fixture(scope="module")
def named(grader: Grader) -> dict[tuple[str, str], tuple[Outcome, str | None]]:
    """What became of the solution with each misconception that is spelt out, and by what name."""
    variants = [
        corpus.Variant(
            blank=blank,
            title=misconception.id,
            body=f"```python\n{REFERENCE.mistaken_source(blank, misconception).strip()}\n```\n",
        )
        for misconception, blank in SPELT_OUT
    ]
    reports = {
        variant: grader.report(variant, tuple(group)) for group in corpus.hand_ins(variants) for variant in group
    }
    return {
        (variant.title, variant.blank): (report.status, report.misconception and report.misconception.id)
        for variant, report in reports.items()
    }


@pytest.mark.parametrize(("misconception", "blank"), [(m.id, blank) for m, blank in SPELT_OUT])
def test_what_is_spelt_out_is_named(
    misconception: str, blank: str, named: dict[tuple[str, str], tuple[Outcome, str | None]]
) -> None:
    status, name = named[misconception, blank]
    assert status in (Outcome.FAILED, Outcome.CRASHED)
    assert name == misconception


def test_checks_and_catalogue_know_the_same_misconceptions() -> None:
    sources = [*PACK.checks.glob("*.py"), *(PACK.root.parents[2] / "grading").glob("*.py")]
    words = {word for path in sources for word in re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+)+)"', path.read_text("utf-8"))}
    in_checks = set()
    for path in sources:
        text = path.read_text("utf-8")
        in_checks |= set(re.findall(r'misconception="([\w-]+)"', text))
    assert in_checks <= PACK.misconceptions.keys()
    spelt_out = {misconception.id for misconception, _ in SPELT_OUT}
    assert PACK.misconceptions.keys() - spelt_out - words - in_checks == set()


def misnamed(grader: Grader, name: str) -> tuple[int, list[str]]:
    """How many wrong answers there are in a file, and which were not named as it says."""
    variants = corpus.read(name)
    lines = []
    for group in corpus.hand_ins(variants):
        for variant in group:
            report = grader.report(variant, tuple(group))
            found = report.misconception.id if report.misconception else None
            if found != variant.misconception:
                lines.append(
                    f"{variant.blank}: {variant.title}: {found}, not {variant.misconception} ({report.message})"
                )
    return len(variants), lines


def test_wrong_answers_are_named(grader: Grader) -> None:
    total, wrong = misnamed(grader, "wrong.md")
    print(*wrong, sep="\n")
    assert 1 - len(wrong) / total >= SHARE_NAMED


def test_every_wrong_answer_says_which_it_is() -> None:
    assert all("Misconception: " in variant.body for variant in corpus.read("wrong.md"))
