"""Checks hand-ins of the corpus, without the training."""

from dataclasses import replace
from functools import lru_cache

from validity import corpus

from grading.check import run_checks
from grading.events import ignore
from grading.hand_in import HandIn, read_hand_in
from grading.harvest import Harvest, harvest
from grading.reference import Reference
from grading.report import BlankReport
from grading.seeds import Seeds
from reference.pack import Pack, load_pack
from sandbox.guest_client import Guest

PACK = load_pack("ddpm")
SOLUTION = PACK.solution.read_text(encoding="utf-8")


class Grader:
    """Checks hand-ins, each only once."""

    def __init__(self, guest: Guest, *, names: bool = True, pack: Pack | None = None) -> None:
        """`names`: whether mistakes are looked up in the catalogue, which takes longest and changes no verdict."""
        self._guest = guest
        self._pack = pack or load_pack("ddpm")
        if not names:
            self._pack.misconceptions = {}
        self._reference = Reference(self._pack)
        self._reports: dict[tuple[corpus.Variant, ...], dict[str, BlankReport]] = {}

    def check(self, source: str, only: frozenset[str] | None = None, *, key: bytes = b"key") -> dict[str, BlankReport]:
        """Reports by blank; where `only` is given, as if nothing else had been attempted. `key`: the server's."""
        found = _harvested(source)
        if only is not None:
            found = _only(found, only)
        return self._run(found, key)

    def check_hand_in(self, hand_in: HandIn) -> dict[str, BlankReport]:
        """Reports by blank on what was read from a file."""
        return self._run(harvest(hand_in, PACK), b"key")

    def _run(self, found: Harvest, key: bytes) -> dict[str, BlankReport]:
        reports = run_checks(found, self._pack, self._reference, self._guest, Seeds(key, "0" * 64), ignore)
        return {report.id: report for report in reports}

    def report(self, variant: corpus.Variant, group: tuple[corpus.Variant, ...]) -> BlankReport:
        """On a variant that is handed in with others."""
        if group not in self._reports:
            source = SOLUTION
            for other in group:
                source = other.apply(source, PACK)
            self._reports[group] = self.check(source, frozenset(other.blank for other in group))
        return self._reports[group][variant.blank]


@lru_cache(maxsize=100)
def _harvested(source: str) -> Harvest:
    return harvest(read_hand_in("answers.py", source.encode()), PACK)


def _only(found: Harvest, blanks: frozenset[str]) -> Harvest:
    answers = {
        name: answer if name in blanks else replace(answer, status="not_attempted")
        for name, answer in found.answers.items()
    }
    return replace(found, answers=answers)
