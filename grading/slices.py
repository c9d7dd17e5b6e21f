"""Slices: the statements that make up an answer, and those that it needs, out of everything that was handed in."""

import ast
import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from grading.modules import BUILTINS, GUEST_MODULES, Modules, Statement, Symbol
from sandbox.program import Chunk

# What a notebook defines without an import, and where a guest finds an inert stand-in for it.
_NOTEBOOK_NAMES = {
    "display": "from IPython.display import display",
    "get_ipython": "from IPython import get_ipython",
}


@dataclass(frozen=True, kw_only=True)
class Undefined:
    """A name that a slice uses and nothing defines."""

    name: str
    file: str
    line: int
    only_in_loop: bool  # it is bound, but only where the hand-in trains, samples or draws


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One answer cut out of a hand-in."""

    own: tuple[Statement, ...]  # bind the answer, or change it in place; in order
    statements: tuple[Statement, ...]  # those, and what they need; in an order in which they run
    needs: frozenset[str]  # ids of other blanks
    givens: frozenset[str]  # canonical names
    undefined: tuple[Undefined, ...]
    notebook_names: frozenset[str]  # such as `display`


class Slicer:
    """Cuts slices. Blanks and givens end a slice: they are named, not followed.

    Args:
        modules: the hand-in.
        blanks: id of the blank, by every name that refers to one.
        givens: canonical name of the given, by every name that refers to one.
    """

    def __init__(self, modules: Modules, blanks: Mapping[str, str], givens: Mapping[str, str]) -> None:
        self.modules = modules
        self.blanks = blanks
        self.givens = givens
        self._changes: dict[Symbol, list[Statement]] = defaultdict(list)  # statements that change it in place
        self._bindings: dict[Symbol, list[Statement]] = {
            symbol: [statement for statement in statements if not statement.is_run]
            for symbol, statements in modules.bindings.items()
        }
        for statement in modules.statements:
            if not statement.is_run:
                self._note_changes(statement)
        self._usable: dict[Symbol, list[Statement]] = {}
        self._known: dict[tuple[Symbol, int | None], list[Statement]] = {}

    def _note_changes(self, statement: Statement) -> None:
        bound, changed = set(), set(statement.usage.mutates)
        module = statement.module
        for function, calls in statement.usage.calls.items():
            target = self.modules.resolve(module, function)
            for definition in self.modules.bindings.get(target, []) if target else []:
                found = definition.usage
                if isinstance(definition.node, ast.FunctionDef):
                    bound |= found.binds_later
                    changed |= found.mutates_later
                    changed |= {
                        names[position]
                        for names in calls
                        for position in found.mutated_parameters
                        if position < len(names)
                    }
        for name in (changed | bound) - {""}:
            symbol = self.modules.resolve(module, name)
            if symbol is None or self._is_import(symbol):
                continue
            if name in bound and statement not in self._bindings[symbol]:
                self._bindings[symbol].append(statement)
                self._bindings[symbol].sort(key=lambda item: item.order)
            else:
                self._changes[symbol].append(statement)

    def _is_import(self, symbol: Symbol) -> bool:
        return any(isinstance(item.node, ast.Import | ast.ImportFrom) for item in self.modules.bindings[symbol])

    # -- definitions

    def usable(self, symbol: Symbol) -> list[Statement]:
        """The statements that bind a name; those that are incidental only if there are no others."""
        if symbol not in self._usable:
            statements = self._bindings.get(symbol, [])
            direct = [item for item in statements if not self.modules.is_incidental(item, symbol[1])]
            self._usable[symbol] = direct or statements
        return self._usable[symbol]

    def definition(self, symbol: Symbol, before: Statement | None) -> list[Statement]:
        """What gives a name the value that a statement meets (`before`), or that it has in the end (None)."""
        key = (symbol, None if before is None else before.order)
        if key not in self._known:
            self._known[key] = self._definition(symbol, before)
        return self._known[key]

    def _definition(self, symbol: Symbol, before: Statement | None) -> list[Statement]:
        statements = self.usable(symbol)
        if before is None:
            return self.chain(symbol, statements, None)
        earlier = statements[: bisect_left(statements, before.order, key=lambda item: item.order)]
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
        first = chosen[-1].order
        changes = self._changes.get(symbol, [])
        start = bisect_left(changes, first + 1, key=lambda item: item.order)
        end = len(changes) if before is None else bisect_left(changes, before.order, key=lambda item: item.order)
        return sorted({*chosen, *changes[start:end]}, key=lambda item: item.order)

    # -- slices

    def cut(self, blank_id: str, own: list[Statement]) -> Slice:
        """The slice of an answer that these statements make up."""
        needs: set[str] = set()
        givens: set[str] = set()
        undefined: dict[str, Undefined] = {}
        notebook_names: set[str] = set()
        kept: set[Statement] = set(own)
        todo = list(own)

        def follow(symbol: Symbol, before: Statement | None) -> bool:
            """Take in what defines a symbol, or note it where it ends the slice. False: nothing defines it."""
            if symbol[1] in self.givens:
                givens.add(self.givens[symbol[1]])
            elif symbol[1] in self.blanks:
                needs.update({self.blanks[symbol[1]]} - {blank_id})
            else:
                found = self.definition(symbol, before)
                todo.extend(item for item in found if item not in kept)
                kept.update(found)
                return bool(found)
            return True

        while todo:
            statement = todo.pop()
            stars = False
            for name, line, before in self._reads(statement):
                if name in self.givens:
                    givens.add(self.givens[name])
                elif name in self.blanks:
                    needs |= {self.blanks[name]} - {blank_id}
                elif (symbol := self.modules.resolve(statement.module, name)) is not None:
                    if not follow(symbol, before) and not self._binds_itself(statement, name):
                        undefined.setdefault(name, _undefined(statement, name, line, only_in_loop=True))
                elif name in BUILTINS or self.modules.is_module(statement.module, name):
                    continue
                elif self.modules.stars[statement.module]:
                    stars = True
                elif self.modules.is_notebook and name in _NOTEBOOK_NAMES:
                    notebook_names.add(name)
                else:
                    undefined.setdefault(name, _undefined(statement, name, line))
            for _, text in statement.usage.dotted:
                dotted = self.modules.resolve_dotted(statement.module, text)
                if dotted is not None:
                    follow(dotted, None)
            if stars:
                kept |= {item for item in self.modules.stars[statement.module] if _is_loadable(item.node)}
        return Slice(
            own=tuple(own),
            statements=tuple(self.in_order(kept)),
            needs=frozenset(needs),
            givens=frozenset(givens),
            undefined=tuple(undefined.values()),
            notebook_names=frozenset(notebook_names),
        )

    def _reads(self, statement: Statement) -> Iterable[tuple[str, int, Statement | None]]:
        """Each name read, its line, and the statement before which it must have its value (None: in the end)."""
        found = statement.usage
        for name, line in found.reads_now.items():
            yield name, line, statement
        for name, line in found.reads_later.items():
            yield name, line, None
        # A block that binds a given or another blank and then reads it: the binding goes, so the reading matters
        for name in sorted(found.reads - found.reads_now.keys() - found.reads_later.keys()):
            if (name in self.givens or name in self.blanks) and name not in found.targets:
                yield name, 1, statement

    def _binds_itself(self, statement: Statement, name: str) -> bool:
        return name in statement.usage.binds or name in statement.usage.binds_later

    def in_order(self, statements: Collection[Statement]) -> list[Statement]:
        """By place in the hand-in, but nothing before what it needs when it runs: cells may be out of order."""
        placed: set[Statement] = set()
        ordered: list[Statement] = []
        started: set[Statement] = set()
        stack = sorted(statements, key=lambda item: item.order, reverse=True)
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
                waiting = self._needed_first(statement, statements) - started
                stack += sorted(waiting, key=lambda item: item.order, reverse=True)
        return ordered

    def _needed_first(self, statement: Statement, among: Collection[Statement]) -> set[Statement]:
        """What must have run before: what is read now, and what functions called now read in their turn."""
        found: set[Statement] = set()
        todo = [(statement, list(statement.usage.reads_now))]
        while todo:
            reader, names = todo.pop()
            for name in names:
                symbol = self.modules.resolve(reader.module, name)
                if symbol is None or name in self.givens:
                    continue
                for item in self.definition(symbol, reader if reader is statement else None):
                    if item in among and item not in found and item is not statement:
                        found.add(item)
                        todo.append((item, list(item.usage.reads_later)))
        return found

    def chunks(self, statements: Iterable[Statement], hidden: frozenset[str], extra: Iterable[str]) -> list[Chunk]:
        """What a guest loads: the notebook's own names first, then the statements."""
        chunks = [Chunk(file="notebook", line=1, source=_NOTEBOOK_NAMES[name]) for name in sorted(extra)]
        return chunks + [self.modules.chunk(statement, hidden) for statement in statements]


def _undefined(statement: Statement, name: str, line: int, *, only_in_loop: bool = False) -> Undefined:
    return Undefined(name=name, file=statement.file, line=statement.line_of(line), only_in_loop=only_in_loop)


def _is_loadable(node: ast.stmt) -> bool:
    """Whether a guest has the module of a star import: a stub has no names to give."""
    top = ((node.module if isinstance(node, ast.ImportFrom) else None) or "").split(".")[0]
    return top in GUEST_MODULES or top in sys.stdlib_module_names
