"""Whole programs that differ from the reference solution in more than one definition, read from `programs.md`.

A section's heading is `## name: what is different`. A line "Right" or "Wrong: blanks" gives the verdict of a fair
teacher: either every blank is right, or these are not, and only these. Lines "Says: words" quote what the student must
read, and "Never: words" what they must not. Diff blocks say how the program differs; each hunk's context places it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from reference.pack import Pack

_SECTION = re.compile(r"^## (?P<name>[\w.-]+): (?P<title>.+)\n(?P<body>(?:(?!## ).*\n)*)", re.MULTILINE)
_HUNK = re.compile(r"^```diff\n(?P<lines>.*?)^```", re.MULTILINE | re.DOTALL)
_WRONG = re.compile(r"^Wrong: (?P<blanks>.+)$", re.MULTILINE)
_WORDS = re.compile(r"^(?P<kind>Says|Never): (?P<words>.+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Program:
    """One hand-in, as changes to the solution."""

    name: str
    title: str
    body: str

    @property
    def wrong(self) -> frozenset[str]:
        """The ids of the blanks that are wrong; none where the program is right."""
        found = _WRONG.search(self.body)
        assert found is not None or re.search(r"^Right$", self.body, re.MULTILINE), f"{self.name}: no verdict"
        return frozenset() if found is None else frozenset(found["blanks"].split(", "))

    def verdicts(self, pack: Pack) -> dict[str, str]:
        """Right or wrong, by blank."""
        return {blank.id: "wrong" if blank.id in self.wrong else "right" for blank in pack.blanks}

    def words(self, kind: str) -> list[str]:
        """What must be said ("Says"), or must not ("Never")."""
        return [found["words"] for found in _WORDS.finditer(self.body) if found["kind"] == kind]

    def apply(self, source: str) -> str:
        """The program: `source`, the solution's, with the changes made."""
        for hunk in _HUNK.finditer(self.body):
            lines = hunk["lines"].splitlines()
            old = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "+")
            new = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "-")
            assert source.count(old) == 1, f"{self.name}: a hunk fits {source.count(old)} places:\n{old}"
            source = source.replace(old, new)
        return source


def read(name: str = "programs.md") -> list[Program]:
    """The programs in a file beside this one."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return [Program(**section.groupdict()) for section in _SECTION.finditer(text)]
