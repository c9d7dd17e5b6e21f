"""The harvest: a student's answers, taken by name out of what was handed in, each with what it depends on.

Nothing is run. Givens of the assignment are left to whoever injects them, and references from one blank to another are
noted (`Answer.needs`), not followed, so that each answer can be judged by itself.
"""

import ast
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

from grading.effects import Symbol
from grading.hand_in import HandIn
from grading.lookalikes import Lookalikes
from grading.modules import Modules
from grading.placeholders import kind_of, placeholder_line, unfilled_line, wrong_kind
from grading.slices import Slice, Slicer, Undefined
from grading.statements import Statement
from reference.pack import Blank, Pack
from sandbox.program import Chunk

Status = Literal["found", "not_attempted", "wrong_kind", "broken"]

# How alike a misspelt name must be (difflib's ratio): `sampel_w` for `sample_w`, but not `q` for `w`
_LIKE_A_NAME = 0.8

NOWHERE = "but never defined or imported."  # ends advice that says no more than Python's own NameError

# How students of the course import what they use most; for advice on a missing import.
_IMPORTS = {
    "torch": "import torch",
    "nn": "import torch.nn as nn",
    "F": "import torch.nn.functional as F",
    "optim": "import torch.optim as optim",
    "Adam": "from torch.optim import Adam",
    "np": "import numpy as np",
    "numpy": "import numpy",
    "math": "import math",
    "random": "import random",
    "einops": "import einops",
    "Rearrange": "from einops.layers.torch import Rearrange",
    "rearrange": "from einops import rearrange",
    "repeat": "from einops import repeat",
    "partial": "from functools import partial",
    "functools": "import functools",
    "plt": "import matplotlib.pyplot as plt",
    "tqdm": "from tqdm import tqdm",
    "Tensor": "from torch import Tensor",
    "Optional": "from typing import Optional",
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a hand-in says to one blank."""

    blank: Blank
    status: Status
    message: str = ""  # for the student: why it is not found, or what is odd about it
    found_as: str | None = None  # the name that answers to the blank in `chunks`
    file: str | None = None  # where it is defined, as the student named it
    line: int | None = None  # 1-based
    chunks: tuple[Chunk, ...] = ()  # the slice: the definition and what it needs; only where it is found
    needs: frozenset[str] = frozenset()  # ids of other blanks that the slice refers to
    givens: frozenset[str] = frozenset()  # canonical names of the givens that the slice refers to
    undefined: tuple[str, ...] = ()  # names that the slice uses and nothing defines: missing imports, mostly


@dataclass(frozen=True, kw_only=True)
class Harvest:
    answers: dict[str, Answer]  # every blank's, by id, in the pack's order
    notices: tuple[str, ...]  # for the student, about the hand-in as a whole
    slicer: Slicer = field(repr=False, compare=False)
    slices: dict[str, Slice] = field(repr=False, compare=False)  # of the answers that were found, by id


def harvest(hand_in: HandIn, pack: Pack) -> Harvest:
    """Take the answer to every blank of a pack out of a hand-in.

    Raises `BadInput` where the hand-in holds more statements than can be sorted out.
    """
    return _Harvester(hand_in, pack).harvest()


def closure(harvest: Harvest, roots: Iterable[str]) -> frozenset[str]:
    """The ids of all blanks that these need, directly or through others, themselves included."""
    found: set[str] = set()
    todo = list(roots)
    while todo:
        blank_id = todo.pop()
        if blank_id not in found:
            found.add(blank_id)
            todo += harvest.answers[blank_id].needs
    return frozenset(found)


def pipeline_chunks(harvest: Harvest, blank_ids: Iterable[str]) -> tuple[Chunk, ...]:
    """The slices of these blanks in one: each statement once, in an order in which they run. Others are left out."""
    own = {blank_id: harvest.slices[blank_id].own for blank_id in blank_ids if blank_id in harvest.slices}
    slicer = harvest.slicer
    return tuple(slicer.chunks(slicer.cut_together(own), _hidden(slicer, frozenset(own))))


def _hidden(slicer: Slicer, own: frozenset[str]) -> frozenset[str]:
    """The names that chunks for these blanks must not bind, since they are injected."""
    return frozenset(name for name, blank_id in slicer.blanks.items() if blank_id not in own) | frozenset(slicer.givens)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where an answer is defined."""

    symbol: Symbol
    statements: tuple[Statement, ...]  # that bind it; the last one counts
    note: str = ""


class _Harvester:
    def __init__(self, hand_in: HandIn, pack: Pack) -> None:
        self.hand_in = hand_in
        self.pack = pack
        functions = frozenset(name for blank in pack.blanks if blank.kind == "function" for name in blank.names)
        self.modules = Modules(hand_in, functions, pack.file.stubs.modules)
        self.files = range(len(hand_in.files))
        self.lookalikes = _lookalikes(pack.solution, pack.version)

    def harvest(self) -> Harvest:
        self.givens = self._given_names()
        places = {blank.id: self._place(blank) for blank in self.pack.blanks}
        self._find_misnamed(places)
        blanks = self._blank_names(places)
        self.modules.keep_apart(blanks.keys() | self.givens.keys())
        found = {blank_id: place.symbol for blank_id, place in places.items() if place is not None}
        self.slicer = Slicer(self.modules, blanks, self.givens, found)
        self.slices: dict[str, Slice] = {}
        answers = {blank.id: self._answer(blank, places[blank.id]) for blank in self.pack.blanks}
        notices = [*self.hand_in.notices, *self.modules.notices]
        if all(place is None for place in places.values()):
            some = ", ".join(f"`{blank.id}`" for blank in self.pack.blanks[:3])
            notices.append(f"None of the names that this assignment asks for ({some}, ...) was found.")
        return Harvest(answers=answers, notices=tuple(notices), slicer=self.slicer, slices=self.slices)

    # -- names

    def _bindings(self, name: str) -> list[Statement]:
        """Every statement that binds a name in some module, in order."""
        return sorted(
            (
                statement
                for module in self.files
                for statement in self.modules.bindings.get((module, name), [])
                if not statement.is_run
            ),
            key=lambda statement: statement.order,
        )

    def _direct(self, name: str) -> list[Statement]:
        """The same without loop variables and what plotting made."""
        return [statement for statement in self._bindings(name) if not self.modules.is_incidental(statement, name)]

    def _given_names(self) -> dict[str, str]:
        """Canonical name of a given, by every name that stands for one here.

        An alias may be something else (`B` a batch size) where the canonical name is defined too.
        """
        names: dict[str, str] = {}
        for given in self.pack.file.givens:
            bound = self._direct(given.name)
            if not bound or not all(_is_import_or_definition(statement) for statement in bound):
                names[given.name] = given.name
            for alias in given.aliases:
                others = self._direct(alias)
                something_else = bool(others) and all(
                    _is_import_or_definition(statement) or kind_of(statement.node) != "unknown" for statement in others
                )
                if not something_else and not (bound and others):
                    names[alias] = given.name
        return names

    def _place(self, blank: Blank) -> _Place | None:
        """Where a blank is defined: under its first name that is filled in, else the first that is there."""
        places = []
        for name in blank.names:
            statements = self._direct(name)
            if statements and name not in self.givens:
                module = statements[-1].module
                own = tuple(statement for statement in statements if statement.module == module)
                places.append(_Place(symbol=(module, name), statements=own))
        filled = [place for place in places if unfilled_line(place.statements[-1].node) is None]
        return next(iter(filled or places), None)

    def _blank_names(self, places: Mapping[str, _Place | None]) -> dict[str, str]:
        """Id of the blank, by every name that refers to one here."""
        names: dict[str, str] = {}
        for blank in self.pack.blanks:
            place = places[blank.id]
            names.update({name: blank.id for name in blank.names if not self._direct(name) and name not in self.givens})
            if place is not None:
                names[place.symbol[1]] = blank.id
        return names

    # -- classes under a wrong name

    def _find_misnamed(self, places: dict[str, _Place | None]) -> None:
        """Where a class carries another block's name, or none that is known, its body says what it is."""
        taken = {place.symbol[1]: blank_id for blank_id, place in places.items() if place is not None}
        classes = [statement for statement in self.modules.statements if isinstance(statement.node, ast.ClassDef)]
        for position, statement in enumerate(classes):
            node = statement.node
            assert isinstance(node, ast.ClassDef)
            rival = places.get(taken.get(node.name, ""))
            if unfilled_line(node) is not None or (rival is not None and len(rival.statements) < 2):
                continue
            around = [None, *(_class_name(other) for other in classes), None]
            blank_id = self.lookalikes.best(node, self.lookalikes.neighbours(around[position], around[position + 2]))
            if blank_id is None or blank_id not in places or places[blank_id] is not None:
                continue
            where = f"{statement.file}, line {statement.line_of(node.lineno)}"
            note = f"Found under another name: the class `{node.name}` ({where}) looks like a `{blank_id}`. Rename it."
            if rival is None:
                places[blank_id] = self._rename_everywhere(statement, node.name, blank_id, note)
                taken[node.name] = blank_id
            elif statement in rival.statements:
                rest = tuple(other for other in rival.statements if other is not statement)
                places[taken[node.name]] = replace(rival, statements=rest)
                places[blank_id] = self._rename_here(statement, node.name, blank_id, note)

    def _rename_everywhere(self, statement: Statement, old: str, new: str, note: str) -> _Place:
        symbol = (statement.module, old)
        self.modules.new_names[symbol] = new
        return _Place(symbol=symbol, statements=tuple(self.modules.bindings[symbol]), note=note)

    def _rename_here(self, statement: Statement, old: str, new: str, note: str) -> _Place:
        """A second class of one name becomes a definition of its own; what else says the name means the other one."""
        symbol = (statement.module, new)
        statement.changed_names[old] = new
        statement.usage.binds.discard(old)
        statement.usage.surely.discard(old)
        statement.usage.binds.add(new)
        statement.usage.surely.add(new)
        self.modules.bindings[statement.module, old].remove(statement)
        self.modules.bindings[symbol].append(statement)
        return _Place(symbol=symbol, statements=(statement,), note=note)

    # -- answers

    def _answer(self, blank: Blank, place: _Place | None) -> Answer:
        if place is None:
            return self._missing(blank)
        own = self._own(blank, place)
        definition = own[-1] if own[-1] in place.statements else place.statements[-1]
        found = Answer(
            blank=blank,
            status="found",
            found_as=self.modules.name_of(place.symbol),
            file=definition.file,
            line=definition.line_of(definition.node.lineno),
            message=place.note,
        )
        name = place.symbol[1]
        if all(
            isinstance(s.node, ast.Import | ast.ImportFrom) for s in place.statements
        ) and self.modules.comes_from_stub(*place.symbol):
            message = f"`{name}` is imported from a helper module of the course. Write it yourself."
            return replace(found, status="not_attempted", message=message)
        for statement in own:
            # An empty value counts only where it stays: `w = None` may be there for a later line to replace
            look = unfilled_line if statement is definition else placeholder_line
            if (line := look(statement.node)) is not None:
                line = statement.line_of(line)
                message = f"`{name}` still holds its placeholder ({statement.file}, line {line})."
                return replace(found, status="not_attempted", message=message, line=line)
        if (problem := wrong_kind(blank.kind, kind_of(definition.node))) is not None:
            return replace(found, status="wrong_kind", message=f"`{name}` {problem}.")
        part = self.slicer.cut(blank.id, own)
        for statement in part.statements:
            if (line := placeholder_line(statement.node)) is not None:  # an empty helper may be meant
                bound = ", ".join(f"`{bound}`" for bound in sorted(statement.usage.binds))
                place_words = f"{statement.file}, line {statement.line_of(line)}"
                message = f"`{name}` uses {bound}, which still holds a placeholder ({place_words})."
                return replace(found, status="not_attempted", message=message)
        for missing in part.undefined:
            if (fault := self._fault_of(missing.name)) is not None:
                message = f"`{name}` uses `{missing.name}`, which could not be read: {fault}."
                return replace(found, status="broken", message=message)
        self.slices[blank.id] = part
        hidden = _hidden(self.slicer, frozenset({blank.id}))
        return replace(
            found,
            message=" ".join([place.note, *map(_advice, part.undefined)]).strip(),
            chunks=tuple(self.slicer.chunks(part, hidden)),
            needs=part.needs,
            givens=part.givens,
            undefined=tuple(missing.name for missing in part.undefined),
        )

    def _own(self, blank: Blank, place: _Place) -> list[Statement]:
        """The statements that make up an answer."""
        statements = [item for item in self.slicer.usable(place.symbol) if item.module == place.symbol[0]]
        statements = statements or list(place.statements)
        before = self._in_force_at(blank)
        if before is not None:
            statements = [item for item in statements if item.order <= before.order] or statements
        own = self.slicer.chain(place.symbol, statements, None)
        # `alphas = alphas.to(device)` needs the definition before it: that is the answer too
        every = set(own)
        earlier = own[0]
        while place.symbol[1] in earlier.usage.reads_now:
            previous = self.slicer.definition(place.symbol, earlier)
            if not previous or previous[0].order >= earlier.order:
                break
            every.update(previous)
            earlier = previous[0]
        return sorted(every, key=lambda item: item.order)

    def _in_force_at(self, blank: Blank) -> Statement | None:
        """The last statement at top level that runs the function at which this blank's value counts."""
        if blank.in_force_at is None:
            return None
        names = set(self.pack.blank(blank.in_force_at).names)
        callers = set(names)
        changed = True
        while changed:  # functions that call it, functions that call those, ...
            changed = False
            for statement in self.modules.statements:
                if isinstance(statement.node, ast.FunctionDef | ast.ClassDef) and not callers.isdisjoint(
                    statement.usage.reads_later
                ):
                    new = statement.usage.binds - callers - set(self.slicer.blanks)
                    callers |= new
                    changed = changed or bool(new)
        uses = [
            statement
            for statement in self.modules.statements
            if not isinstance(statement.node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
            and not callers.isdisjoint(statement.usage.reads)
        ]
        return uses[-1] if uses else None

    # -- what is not there

    def _missing(self, blank: Blank) -> Answer:
        for name in blank.names:
            if (fault := self._fault_of(name)) is not None:
                return Answer(
                    blank=blank, status="broken", found_as=name, message=f"`{name}` could not be read: {fault}."
                )
        message = f"No definition of `{blank.id}` was found." + self._hint(blank)
        return Answer(blank=blank, status="not_attempted", message=message)

    def _fault_of(self, name: str) -> str | None:
        return self._faults.get(name)

    @cached_property
    def _faults(self) -> dict[str, str]:
        """Why a name could not be read, by name: the first broken piece that seems to define it."""
        found: dict[str, str] = {}
        for piece in self.modules.broken:
            for name in piece.names:
                found.setdefault(name, piece.fault or "")
        return found

    def _hint(self, blank: Blank) -> str:
        for name in blank.names:
            for statement in self._bindings(name):
                if name in statement.usage.targets:
                    where = f"{statement.file}, line {statement.line_of(statement.node.lineno)}"
                    return f" `{name}` is only a loop's variable ({where}): give it its value in a line of its own."
            if name in self._inner and (blank.kind in ("tensor", "number") or self._inner[name].is_definition):
                inner = self._inner[name]
                return f" There is one inside `{inner.container}` ({inner.place}): define it at the left margin."
        bound = {name for statement in self.modules.statements for name in statement.usage.binds}
        close = difflib.get_close_matches(blank.id, bound - set(self.slicer.blanks), n=1, cutoff=_LIKE_A_NAME)
        return f" Is it called `{close[0]}`? Then rename it." if close else ""

    @cached_property
    def _inner(self) -> dict[str, "_Inner"]:
        """What is defined or assigned inside of functions and classes, by name."""
        found: dict[str, _Inner] = {}
        for statement in self.modules.statements:
            outer = statement.node
            if not isinstance(outer, ast.FunctionDef | ast.ClassDef):
                continue
            for node in ast.walk(outer):
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node is not outer:
                    names, is_definition = [node.name], True
                elif isinstance(node, ast.Assign):
                    names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                    is_definition = False
                else:
                    continue
                place = f"{statement.file}, line {statement.line_of(node.lineno)}"
                for name in names:
                    found.setdefault(name, _Inner(container=outer.name, place=place, is_definition=is_definition))
        return found


@dataclass(frozen=True, kw_only=True)
class _Inner:
    """Something that is defined where nobody else can use it."""

    container: str  # name of the function or class
    place: str  # file and line, in words
    is_definition: bool  # of a function or class, not an assignment


def _class_name(statement: Statement) -> str | None:
    return statement.node.name if isinstance(statement.node, ast.ClassDef) else None


def _is_import_or_definition(statement: Statement) -> bool:
    return isinstance(statement.node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def _advice(missing: Undefined) -> str:
    where = f"`{missing.name}` is used in {missing.file}, line {missing.line}"
    if missing.only_in_loop:
        return f"{where} but gets its value only where the code trains, samples or draws: pass it as an argument."
    if missing.name in _IMPORTS:
        return f"{where} but never imported: add `{_IMPORTS[missing.name]}`."
    return f"{where} {NOWHERE}"


@cache
def _lookalikes(solution: Path, version: str) -> Lookalikes:  # noqa: ARG001 (a part of the cache's key)
    tree = ast.parse(solution.read_text(encoding="utf-8"))
    return Lookalikes({node.name: node for node in tree.body if isinstance(node, ast.ClassDef)})
