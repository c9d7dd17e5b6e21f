"""Hand-ins that differ from the reference solution in one answer, read from `right.md` and `wrong.md`.

A section's heading is `## blank: what is different`. Its body is a Python block that takes the place of the blank's
definition, or a line "replace `this` with `that`". A line "Misconception: id" before it says which one it shows, or
"none" where the pack knows none that is true.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from reference.pack import Blank, Pack

_SECTION = re.compile(r"^## (?P<blank>\w+): (?P<title>.+)\n(?P<body>(?:(?!## ).*\n)*)", re.MULTILINE)
_CODE = re.compile(r"^```python\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
_MISCONCEPTION = re.compile(r"^Misconception: (?P<id>[\w-]+)$", re.MULTILINE)
_REPLACE = re.compile(r"^replace `(?P<old>[^`]+)` with `(?P<new>[^`]+)`$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One answer, written differently from the solution's."""

    blank: str  # id
    title: str
    body: str

    @property
    def misconception(self) -> str | None:
        """The id of the misconception that it shows; None where there is no such line, or none that is true."""
        found = _MISCONCEPTION.search(self.body)
        return None if found is None or found["id"] == "none" else found["id"]

    def apply(self, source: str, pack: Pack) -> str:
        """The hand-in `source` with this answer in it."""
        if code := _CODE.search(self.body):
            return replace_definition(source, pack.blank(self.blank), code["code"])
        replace = _REPLACE.search(self.body)
        assert replace is not None, f"{self.blank}: {self.title}: neither code nor replacement"
        assert source.count(replace["old"]) == 1, f"{replace['old']} occurs {source.count(replace['old'])} times"
        return source.replace(replace["old"], replace["new"])


def read(name: str) -> list[Variant]:
    """The variants in one of the files beside this one."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return [Variant(**section.groupdict()) for section in _SECTION.finditer(text)]


def hand_ins(variants: list[Variant]) -> list[list[Variant]]:
    """Variants of different blanks together, so that few hand-ins hold them all: at most one of each blank."""
    found: list[list[Variant]] = []
    for variant in variants:
        room = (group for group in found if variant.blank not in {other.blank for other in group})
        group = next(room, None)
        if group is None:
            found.append([variant])
        else:
            group.append(variant)
    return found


def replace_definition(source: str, blank: Blank, code: str) -> str:
    """The hand-in with other code in place of the blank's definition."""
    lines = source.splitlines(keepends=True)
    for node in ast.parse(source).body:
        targets = getattr(node, "targets", [])
        names = {getattr(node, "name", None), *(target.id for target in targets if isinstance(target, ast.Name))}
        if blank.id in names:
            first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
            assert node.end_lineno is not None
            return "".join((*lines[: first - 1], code, *lines[node.end_lineno :]))
    raise AssertionError(f"the solution does not define {blank.id}")
