"""Where a hand-in defines each blank: under which name, by which statements, and of several which ones count."""

import ast
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from grading.dependencies import usage
from grading.effects import Symbol
from grading.in_force import InForce, in_force
from grading.lookalikes import Lookalikes
from grading.modules import Modules
from grading.placeholders import kind_of, unfilled_line
from grading.reaching import Flow, Value
from grading.starter import starter_definitions
from grading.statements import Statement
from reference.pack import Blank, Pack


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an answer is defined."""

    symbol: Symbol
    statements: tuple[Statement, ...]  # that bind it; the last one counts
    note: str = ""
    before: int | None = None  # the order from which on statements do not count any more
    written: bool = False  # the statement is made from a value that stands elsewhere: nothing else binds the answer


class Places:
    """The places of all answers, and the names that stand for blanks and givens in a hand-in of so many `files`."""

    def __init__(self, modules: Modules, pack: Pack, files: int) -> None:
        self.modules = modules
        self._files = range(files)
        self.pack = pack
        self.in_force: dict[str, InForce] = {}
        self.in_force_at: dict[str, str] = {}  # file and line of a value that does not count as an answer
        self._lookalikes = _lookalikes(pack.solution, pack.version)
        self._starter = starter_definitions(pack)
        self.borrowed: dict[str, list[str]] = {}  # givens that modules were to bring that were not handed in
        self.givens = self._given_names()
        self.by_blank = {blank.id: self._place(blank) for blank in pack.blanks}
        self._find_misnamed()
        self._note_exchanged()
        self._find_in_force()
        self.blanks = self._blank_names()

    # -- names

    def bindings(self, name: str) -> list[Statement]:
        """Every statement that binds a name in some module, in order."""
        return sorted(
            (
                statement
                for module in self._files
                for statement in self.modules.bindings.get((module, name), [])
                if not statement.is_run
            ),
            key=lambda statement: statement.order,
        )

    def direct(self, name: str) -> list[Statement]:
        """The same without loop variables and what plotting made."""
        return [statement for statement in self.bindings(name) if not self.modules.is_incidental(statement, name)]

    def unfilled_line(self, blank: Blank, statement: Statement) -> int | None:
        """The line, in its tree, where a definition of a blank is not filled in."""
        return unfilled_line(statement.node, self._starter.get(blank.id))

    def _given_names(self) -> dict[str, str]:
        """Canonical name of a given, by every name that stands for one here.

        An alias may be something else (`B` a batch size) where its module defines the canonical name too.
        """
        names: dict[str, str] = {}
        for given in self.pack.file.givens:
            bound = self._without_missing(given.name)
            if not bound or not all(_is_import_or_definition(statement) for statement in bound):
                names[given.name] = given.name
            for alias in given.aliases:
                others = self._without_missing(alias)
                something_else = bool(others) and all(
                    _is_import_or_definition(statement) or kind_of(statement.node) != "unknown" for statement in others
                )
                beside = {statement.module for statement in bound} & {statement.module for statement in others}
                if not something_else and not beside:
                    names[alias] = given.name
        return names | self._givens_of_missing_modules()

    def _without_missing(self, name: str) -> list[Statement]:
        """What defines a given, but for `from configs import T` where there is no such module: that means the given."""
        return [
            statement
            for statement in self.direct(name)
            if self.modules.missing_module(statement) is None
            or not isinstance(statement.node, ast.ImportFrom)
            or statement.node.names[0].name != name
        ]

    def _givens_of_missing_modules(self) -> dict[str, str]:
        """Givens that a module which was not handed in was to bring: under other names, or as `configs.T`."""
        given_names = {name: given.name for given in self.pack.file.givens for name in given.names}
        names: dict[str, str] = {}
        for statement in list(self.modules.statements):
            module, node = self.modules.missing_module(statement), statement.node
            if module is None or not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            alias = node.names[0]
            bound = alias.asname or alias.name
            if isinstance(node, ast.ImportFrom) and alias.name in given_names:
                self.borrowed.setdefault(module, []).append(alias.name)
                if bound != alias.name and len(self.direct(bound)) == 1:
                    names[bound] = given_names[alias.name]
                    self.modules.new_names[statement.module, bound] = given_names[alias.name]
            elif isinstance(node, ast.Import):
                used = self.modules.take_from_missing(statement.module, bound, given_names)
                self.borrowed.setdefault(module, []).extend(used)
        return names

    def _blank_names(self) -> dict[str, str]:
        """Id of the blank, by every name that refers to one here."""
        names: dict[str, str] = {}
        for blank in self.pack.blanks:
            place = self.by_blank[blank.id]
            names.update({name: blank.id for name in blank.names if not self.direct(name) and name not in self.givens})
            if place is not None:
                names[place.symbol[1]] = blank.id
        return names

    # -- places

    def _place(self, blank: Blank) -> Place | None:
        """Where a blank is defined: under its first name that is filled in, else the first that is there."""
        filled: list[Place] = []
        others: list[Place] = []
        for name in blank.names:
            statements = [] if name in self.givens else self.direct(name)
            if not statements:
                continue
            full = [statement for statement in statements if self.unfilled_line(blank, statement) is None]
            module = (full or statements)[-1].module
            self._drop_later_placeholders(name, statements, full)
            own = tuple(
                item for item in statements if item.module == module and item in self.modules.bindings[module, name]
            )
            (filled if full else others).append(Place(symbol=(module, name), statements=own))
        return next(iter(filled + others), None)

    def _drop_later_placeholders(self, name: str, statements: list[Statement], full: list[Statement]) -> None:
        """Of a name that is filled in somewhere, forget what comes after and is not: a starter's cell left below.

        What comes before may be there for a later line to change it: `w = None`.
        """
        for statement in statements:
            if full and statement not in full and statement.order > full[-1].order:
                self.modules.bindings[statement.module, name].remove(statement)

    # -- values that count at some place

    def _find_in_force(self) -> None:
        blanks = [blank for blank in self.pack.blanks if blank.in_force_at is not None]
        if blanks:
            flow = Flow(self.modules, [name for blank in blanks for name in blank.names])
            for blank in blanks:
                found = self.in_force[blank.id] = in_force(flow, blank, self.pack)
                self.by_blank[blank.id] = self._place_in_force(blank, found, flow)

    def _place_in_force(self, blank: Blank, found: InForce, flow: Flow) -> Place | None:
        value = found.value
        if value is not None and value.filled and value.default_of is None:
            return self._place_of(blank, value, flow)
        # A placeholder or a default where it counts, or nothing that could be told: another definition, if there is one
        # that neither something else uses nor stands in the same loop, behind; outside of loops if possible
        full = [
            (flow.is_taken_out(statement), -statement.order, name, statement)
            for name in blank.names
            for statement in self.direct(name)
            if self.unfilled_line(blank, statement) is None and statement.node not in found.elsewhere
            if not flow.is_taken_out(statement) or flow.root(statement.node) not in found.blocks
        ]
        if full:
            _, _, name, last = min(full, key=lambda item: item[:2])
            return self._bound(name, last)
        other = found.otherwise
        if other is not None and other.default_of is None and (other.filled or value is not None):
            return self._place_of(blank, other if other.filled else value or other, flow)
        self.in_force_at[blank.id] = "" if other is None else _place_of_node(flow, other.at)
        return None if found.blocks else self.by_blank[blank.id]

    def _bound(self, name: str, last: Statement) -> Place:
        statements = [item for item in self.direct(name) if item.module == last.module]
        before = min((item.order for item in statements if item.order > last.order), default=None)
        counted = tuple(item for item in statements if item.order <= last.order)
        return Place(symbol=(last.module, name), statements=counted, before=before)

    def _place_of(self, blank: Blank, value: Value, flow: Flow) -> Place:
        if value.bound is not None and isinstance(value.expression, ast.Name):
            return self._bound(value.expression.id, value.bound)
        for name in blank.names:
            for statement in self.direct(name):
                if statement.node is value.at and _assigns_just(statement.node, value.expression):
                    return Place(symbol=(statement.module, name), statements=(statement,), written=True)
        root, place = flow.root(value.at), self.by_blank[blank.id]
        name = blank.id if place is None else place.symbol[1]
        source = f"{name} = {ast.unparse(value.expression)}\n"
        node = ast.parse(source).body[0]
        line = root.line_of(getattr(value.at, "lineno", root.node.lineno))
        statement = Statement(
            module=root.module,
            order=flow.start(root) if flow.function_around(value.at) is None else len(self.modules.statements),
            node=node,
            file=root.file,
            first_line=line,
            line=line,
            source=source,
            usage=usage(node),
        )
        self.modules.bindings[root.module, name].append(statement)
        self.modules.bindings[root.module, name].sort(key=lambda item: item.order)
        return Place(symbol=(root.module, name), statements=(statement,), written=True)

    # -- classes under a wrong name

    def _find_misnamed(self) -> None:
        """Where a class carries another block's name, or none that is known, its body says what it is."""
        places = self.by_blank
        taken = {place.symbol[1]: blank_id for blank_id, place in places.items() if place is not None}
        classes = [statement for statement in self.modules.statements if isinstance(statement.node, ast.ClassDef)]
        for position, statement in enumerate(classes):
            node = statement.node
            assert isinstance(node, ast.ClassDef)
            rival = places.get(taken.get(node.name, ""))
            if unfilled_line(node) is not None or (rival is not None and len(rival.statements) < 2):
                continue
            around = [None, *(_class_name(other) for other in classes), None]
            blank_id = self._lookalikes.best(node, self._lookalikes.neighbours(around[position], around[position + 2]))
            if blank_id is None or blank_id not in places or places[blank_id] is not None:
                continue
            where = f"{statement.file}, line {statement.line_of(node.lineno)}"
            looks = f"the class `{node.name}` ({where}) looks like {with_article(blank_id)}"
            note = f"Found under another name: {looks}. Rename it."
            if rival is None:
                places[blank_id] = self._rename_everywhere(statement, node.name, blank_id, note)
                taken[node.name] = blank_id
            elif statement in rival.statements:
                rest = tuple(other for other in rival.statements if other is not statement)
                places[taken[node.name]] = replace(rival, statements=rest)
                places[blank_id] = self._rename_here(statement, node.name, blank_id, note)

    def _rename_everywhere(self, statement: Statement, old: str, new: str, note: str) -> Place:
        symbol = (statement.module, old)
        self.modules.new_names[symbol] = new
        return Place(symbol=symbol, statements=tuple(self.modules.bindings[symbol]), note=note)

    def _rename_here(self, statement: Statement, old: str, new: str, note: str) -> Place:
        """A second class of one name becomes a definition of its own; what else says the name means the other one."""
        symbol = (statement.module, new)
        statement.changed_names[old] = new
        statement.usage.binds.discard(old)
        statement.usage.surely.discard(old)
        statement.usage.binds.add(new)
        statement.usage.surely.add(new)
        self.modules.bindings[statement.module, old].remove(statement)
        self.modules.bindings[symbol].append(statement)
        return Place(symbol=symbol, statements=(statement,), note=note)

    def _note_exchanged(self) -> None:
        """Where blocks carry each other's names, say so: the names are what is asked for, so they stay wrong."""
        looks_like: dict[str, str] = {}
        for blank_id, place in self.by_blank.items():
            node = None if place is None else place.statements[-1].node
            if isinstance(node, ast.ClassDef) and unfilled_line(node) is None:
                best = self._lookalikes.best(node)
                if best not in (None, blank_id):
                    looks_like[blank_id] = best or ""
        for blank_id, other in looks_like.items():
            around, seen = other, {blank_id}
            while around in looks_like and around not in seen:
                seen.add(around)
                around = looks_like[around]
            place = self.by_blank[blank_id]
            if around == blank_id and place is not None:  # each of them has the name of another
                back = "the other way round" if looks_like[other] == blank_id else "others have each other's names too"
                looks = f"The class called `{blank_id}` looks like {with_article(other)}"
                self.by_blank[blank_id] = replace(place, note=f"{looks}, and {back}: give each its own name.")


def _assigns_just(node: ast.stmt, value: ast.expr) -> bool:
    """Whether a statement says so itself, with no name to follow and nothing else to assign to."""
    match node:
        case ast.Assign(targets=[ast.Name()], value=written):
            return ast.dump(written) == ast.dump(value)
    return False


def _place_of_node(flow: Flow, node: ast.AST) -> str:
    root = flow.root(node)
    return f"{root.file}, line {root.line_of(getattr(node, 'lineno', root.node.lineno))}"


@cache
def _lookalikes(solution: Path, version: str) -> Lookalikes:  # noqa: ARG001 (a part of the cache's key)
    tree = ast.parse(solution.read_text(encoding="utf-8"))
    return Lookalikes({node.name: node for node in tree.body if isinstance(node, ast.ClassDef)})


def with_article(name: str) -> str:
    """The name of a class in a sentence: "a `DownBlock`", "an `UpBlock`", "a `UNet`"."""
    return f"an `{name}`" if name[0] in "AEIOU" and name[1:2].islower() else f"a `{name}`"


def _class_name(statement: Statement) -> str | None:
    return statement.node.name if isinstance(statement.node, ast.ClassDef) else None


def _is_import_or_definition(statement: Statement) -> bool:
    return isinstance(statement.node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
