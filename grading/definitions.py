"""Which statements give a name the value that a statement meets, and what has to run before what."""

import ast
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from grading.effects import Symbol
from grading.modules import Modules
from grading.placeholders import placeholder_line
from grading.statements import Import, Statement
from grading.usage import Body, roots

# Methods that run as soon as an object is made or used as a function
_RUN_BY_USE = ("__init__", "__new__", "__post_init__", "__call__", "forward")


class Definitions:
    """What the names of a hand-in are defined by.

    Args:
        modules: the hand-in.
        blanks: id of the blank, by every name that refers to one.
        givens: canonical name of the given, by every name that refers to one.
        places: where each blank is defined that is there, by its id.
    """

    def __init__(
        self,
        modules: Modules,
        blanks: Mapping[str, str],
        givens: Mapping[str, str],
        places: Mapping[str, Symbol],
    ) -> None:
        self.modules = modules
        self.blanks = blanks
        self.givens = givens
        self.places = places
        self._bindings: dict[Symbol, list[Statement]] = {
            symbol: [statement for statement in statements if not statement.is_run]
            for symbol, statements in modules.bindings.items()
        }
        # Statements that change an object in place: for certain, and those that may
        self._changes: dict[Symbol, list[Statement]] = defaultdict(list)
        self._possible: dict[Symbol, list[Statement]] = defaultdict(list)
        for statement, effect in modules.effects.items():
            for changes, noted in ((effect.changes, self._changes), (effect.may_change, self._possible)):
                for symbol, subjects in changes.items():
                    if not self._is_for_another_blank(symbol, subjects):
                        noted[symbol].append(statement)
        self._note_aliases()
        self._usable: dict[Symbol, list[Statement]] = {}
        self._filled: dict[Statement, bool] = {}
        self._known: dict[tuple[Symbol, int | None], list[Statement]] = {}

    def _is_for_another_blank(self, symbol: Symbol, subjects: frozenset[str]) -> bool:
        """`sqrt_alphas_cumprod = alphas_cumprod.sqrt_()` is an answer, and spoils another: not a part of that one."""
        blank_id = self.blanks.get(symbol[1])
        others = {self.blanks[name] for name in subjects if name in self.blanks}
        return blank_id is not None and bool(others) and blank_id not in others

    def _note_aliases(self) -> None:
        """What changes a part of an object may change the object: `group = parser.add_argument_group()` is one."""
        # Last first: a part of a part is told before the part
        for statement in reversed(list(self.modules.effects)):
            match statement.node:
                case ast.Assign(targets=[ast.Name(id=alias)], value=value) if not isinstance(value, ast.Tuple):
                    part = (statement.module, alias)
                case _:
                    continue
            changes = _between(sorted({*self._changes[part], *self._possible[part]}, key=_order), statement, None)
            for name in roots(value) if changes else ():
                whole = self.modules.lookup(statement.module, name.id)
                if whole is None or whole == part or whole[1] in self.blanks or whole[1] in self.givens:
                    continue  # an answer is not blamed for what is done to it under another name
                if any(isinstance(item.node, Import) for item in self.modules.bindings[whole]):
                    continue
                known = {*self._changes[whole], *self._possible[whole]}
                new = [item for item in changes if item not in known and whole[1] not in item.usage.binds]
                self._possible[whole] = sorted([*self._possible[whole], *new], key=_order)

    def symbol_of(self, module: int, name: str) -> Symbol | None:
        """What a global name of a module stands for: a blank's means the one answer, wherever it is."""
        found = self.modules.lookup(module, name)
        return self.places.get(self.blanks[name], found) if name in self.blanks else found

    # -- definitions

    def usable(self, symbol: Symbol) -> list[Statement]:
        """The statements that bind a name; those that are incidental only if there are no others."""
        if symbol not in self._usable:
            statements = self._bindings.get(symbol, [])
            direct = [item for item in statements if not self.modules.is_incidental(item, symbol[1])] or statements
            filled = [item for item in direct if self.is_filled(item)]
            # A definition that starts anew makes placeholders void; `x = x.to(device)` does not
            anew = any(symbol[1] not in item.usage.reads_now for item in filled)
            self._usable[symbol] = filled if anew else direct
        return self._usable[symbol]

    def is_filled(self, statement: Statement) -> bool:
        """Whether a statement holds no placeholder."""
        if statement not in self._filled:
            self._filled[statement] = placeholder_line(statement.node) is None
        return self._filled[statement]

    def definition(self, symbol: Symbol, before: Statement | None) -> list[Statement]:
        """What gives a name the value that a statement meets (`before`), or that it has in the end (None)."""
        key = (symbol, None if before is None else before.order)
        if key not in self._known:
            self._known[key] = self._definition(symbol, before)
        return self._known[key]

    def _definition(self, symbol: Symbol, before: Statement | None) -> list[Statement]:
        if before is None:
            return self.chain(symbol, self.usable(symbol), None)
        earlier = _before(self.usable(symbol), before)
        if earlier:
            return self.chain(symbol, earlier, before)
        if symbol[1] in before.usage.binds:
            return []  # it only reads what it bound itself
        return self.definition(symbol, None)  # cells out of order: the student ran a later one first

    def chain(self, symbol: Symbol, statements: list[Statement], before: Statement | None) -> list[Statement]:
        """The last of these bindings, earlier ones where it may not be the only one, and the changes in place after."""
        if not statements:
            return []
        chosen = [statements[-1]]
        for earlier in reversed(statements[:-1]):
            if symbol[1] in chosen[-1].usage.surely and not isinstance(chosen[-1].node, ast.Import):
                break
            chosen.append(earlier)
        changes = _between(self._changes.get(symbol, []), chosen[-1], before)
        return sorted({*chosen, *changes}, key=_order)

    def possible_changes(self, symbol: Symbol, before: Statement | None) -> list[Statement]:
        """The statements that may change what a name stands for, from its definition to a statement, or to the end."""
        possible = self._possible.get(symbol)
        defined = self.definition(symbol, before) if possible else []
        if not possible or not defined:
            return []
        late = before is not None and defined[0].order >= before.order  # cells out of order
        return [item for item in _between(possible, defined[0], None if late else before) if item not in defined]

    # -- order

    def in_order(self, statements: Collection[Statement]) -> list[Statement]:
        """By place in the hand-in, but nothing before what it needs when it runs: cells may be out of order."""
        placed: set[Statement] = set()
        ordered: list[Statement] = []
        started: set[Statement] = set()
        stack = sorted(statements, key=_order, reverse=True)
        while stack:
            statement = stack[-1]
            if statement in placed:
                stack.pop()
            elif statement in started:
                stack.pop()
                placed.add(statement)
                ordered.append(statement)
            else:
                started.add(statement)
                waiting = self.needed_first(statement, statements) - started
                stack += sorted(waiting, key=_order, reverse=True)
        return ordered

    def needed_first(self, statement: Statement, among: Collection[Statement] | None = None) -> set[Statement]:
        """What must have run before: what is read now, and what functions called now read in their turn."""
        found: set[Statement] = set()
        todo: list[tuple[int, Iterable[str]]] = [(statement.module, statement.usage.reads_now)]
        while todo:
            module, names = todo.pop()
            for name in names:
                symbol = None if name in self.givens else self.symbol_of(module, name)
                if symbol is None:
                    continue
                for item in (*self.definition(symbol, statement), *self.possible_changes(symbol, statement)):
                    if item is not statement and item not in found and (among is None or item in among):
                        found.add(item)
                        todo += [(item.module, body.reads) for body in _run_now(item, statement)]
        return found


def _run_now(definition: Statement, user: Statement) -> Iterable[Body]:
    """What runs of a definition where a statement uses it: a function, or of a class the methods that are called."""
    bodies = definition.usage.bodies
    if not isinstance(definition.node, ast.ClassDef):
        return bodies.values()
    called = user.usage.methods.union(_RUN_BY_USE)
    return [body for name, body in bodies.items() if name in called]


def _order(statement: Statement) -> int:
    return statement.order


def _before(statements: list[Statement], before: Statement) -> list[Statement]:
    return statements[: bisect_left(statements, before.order, key=_order)]


def _between(statements: list[Statement], after: Statement, before: Statement | None) -> list[Statement]:
    start = bisect_left(statements, after.order + 1, key=_order)
    end = len(statements) if before is None else bisect_left(statements, before.order, key=_order)
    return statements[start:end]
