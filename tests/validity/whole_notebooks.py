"""Whole notebooks in `notebooks/`, each with the verdicts that its author wrote down before anything was graded."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from grading.hand_in import HandIn, read_hand_in
from grading.outcomes import Outcome
from reference.pack import Pack

FOLDER = Path(__file__).with_name("notebooks")


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """One hand-in and what a fair teacher says of it."""

    name: str
    edition: str  # of the course: older, newer, or none
    verdicts: dict[str, str]  # right, wrong or not attempted, by blank
    trained: bool  # whether its pipeline draws readable digits once it has been trained

    def read(self) -> HandIn:
        path = FOLDER / f"{self.name}.ipynb"
        return read_hand_in(path.name, path.read_bytes())


def read(pack: Pack) -> list[Notebook]:
    """All of them."""
    tables = tomllib.loads((FOLDER / "verdicts.toml").read_text(encoding="utf-8"))
    return [
        Notebook(
            name=name,
            edition=table["edition"],
            verdicts=dict.fromkeys((blank.id for blank in pack.blanks), "right")
            | dict.fromkeys(table["wrong"], "wrong")
            | dict.fromkeys(table["not_attempted"], "not attempted"),
            trained=table["trained"],
        )
        for name, table in tables.items()
    ]


def verdict(outcome: Outcome) -> str:
    """The grader's verdict in the same words."""
    return {Outcome.PASSED: "right", Outcome.NOT_ATTEMPTED: "not attempted"}.get(outcome, "wrong")
