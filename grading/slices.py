"""Slices: the statements that make up an answer, and those that it needs, out of everything that was handed in."""

import ast
import copy
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from grading.definitions import Definitions
from grading.effects import Symbol
from grading.modules import BUILTINS, GUEST_MODULES, Modules
from grading.statements import Statement
from sandbox.program import Chunk

# What a notebook defines without an import, and where a guest finds an inert stand-in for it.
_NOTEBOOK_NAMES = {
    "display": "from IPython.display import display",
    "get_ipython": "from IPython import get_ipython",
}
# Statements that may change something and are looked at for one slice; a long notebook has five
_MOST_OPTIONAL = 50
# Calls at top level of one function that are told apart by when they are made; a setup is called once or twice
_MOST_TIMES = 10


@dataclass(frozen=True, kw_only=True)
class Undefined:
    """A name that a slice uses and nothing defines."""

    name: str
    file: str
    line: int
    only_in_loop: bool  # it is bound, but only where the hand-in trains, samples or draws


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One answer cut out of a hand-in, or several together."""

    own: tuple[Statement, ...]  # bind the answer, or change it in place; in order
    statements: tuple[Statement, ...]  # those, and what they need; in an order in which they run
    defining: Mapping[str, frozenset[Statement]]  # by answer: those of `statements` that bind it, sooner or later
    optional: frozenset[Statement]  # of `statements`: those that may change something here, and may as well not
    needs: frozenset[str]  # ids of other blanks
    givens: frozenset[str]  # canonical names
    undefined: tuple[Undefined, ...]
    notebook_names: frozenset[str]  # such as `display`


class Slicer(Definitions):
    """Cuts slices. Other blanks and givens end a slice: they are named, not followed."""

    def __init__(
        self,
        modules: Modules,
        blanks: Mapping[str, str],
        givens: Mapping[str, str],
        places: Mapping[str, Symbol],
    ) -> None:
        super().__init__(modules, blanks, givens, places)
        self._needs: dict[str, frozenset[str] | None] = {}

    def cut(self, blank_id: str, own: Sequence[Statement]) -> Slice:
        """The slice of an answer that these statements make up."""
        found = _Cut(self, {blank_id: own})
        found.take_optional(lambda needs: all(self._may_be_needed(need, blank_id) for need in needs))
        return found.slice()

    def cut_together(self, own: Mapping[str, Sequence[Statement]]) -> Slice:
        """The slice of several answers, by blank: each has the value of another that it meets where it stands."""
        found = _Cut(self, own)
        found.take_optional(lambda needs: not needs)
        return found.slice()

    def _may_be_needed(self, need: str, blank_id: str) -> bool:
        """Whether a statement that may do without may need another answer: one that is there and not made of this."""
        seen = {need}
        todo = [need]
        while todo:
            needs = self._needs_of(todo.pop())
            if needs is None or blank_id in needs:
                return False
            todo += needs - seen
            seen |= needs
        return True

    def _needs_of(self, blank_id: str) -> frozenset[str] | None:
        """Ids of the blanks that an answer needs for certain; None: there is no such answer."""
        if blank_id not in self._needs:
            symbol = self.places.get(blank_id)
            own = self.definition(symbol, None) if symbol is not None else []
            there = own and self.is_filled(own[-1])
            self._needs[blank_id] = frozenset(_Cut(self, {blank_id: own}).needs) if there else None
        return self._needs[blank_id]

    def chunks(self, part: Slice, hidden: frozenset[str]) -> list[Chunk]:
        """What a guest loads: the notebook's own names first, then the statements."""
        chunks = [Chunk(file="notebook", line=1, source=_NOTEBOOK_NAMES[name]) for name in sorted(part.notebook_names)]
        for statement in part.statements:
            # What another answer needs may bind this one too: `n, c_drop_prob = 10, 0` must not undo 0.1
            foreign = {
                name
                for name in statement.usage.binds & self.blanks.keys()
                if statement not in part.defining.get(self.blanks[name], ())
            }
            optional = statement in part.optional
            chunks.append(self.modules.chunk(statement, hidden | foreign, optional=optional))
        return chunks


class _Cut:
    """A slice in the making."""

    def __init__(self, slicer: Slicer, own: Mapping[str, Sequence[Statement]]) -> None:
        self.slicer = slicer
        self.own = own
        self.defining = {blank_id: set(statements) for blank_id, statements in own.items()}
        self.needs: set[str] = set()
        self.givens: set[str] = set()
        self.undefined: dict[str, Undefined] = {}
        self.notebook_names: set[str] = set()
        self.kept: set[Statement] = set()
        self.optional: set[Statement] = set()
        # Symbols that matter, each with the statement before which it must have its value (None: in the end)
        self.followed: dict[tuple[Symbol, Statement | None], None] = {}
        self.times: dict[Statement, set[Statement]] = {}  # by function: statements that call it while they run
        self.todo: list[tuple[Statement, Statement | None]] = []
        for blank_id, statements in own.items():
            if blank_id in slicer.places:
                self.followed[slicer.places[blank_id], None] = None
            self.keep(statements, None)
        self.finish()

    # -- following names

    def keep(self, statements: Iterable[Statement], time: Statement | None) -> None:
        """Take statements in, to be read; functions among them run while `time` does."""
        for statement in statements:
            if statement not in self.kept:
                self.kept.add(statement)
                self.todo.append((statement, None))
            if time is not None and statement.usage.reads_later:
                times = self.times.setdefault(statement, set())
                if time not in times and len(times) < _MOST_TIMES:
                    times.add(time)
                    self.todo.append((statement, time))

    def finish(self) -> None:
        """Read what was taken in, and what that needs, to the end."""
        while self.todo:
            statement, time = self.todo.pop()
            found = statement.usage
            if time is not None:
                for name, line in found.reads_later.items():
                    self.read(statement, name, line, time)
                continue
            for name, line in found.reads_now.items():
                self.read(statement, name, line, statement)
            for name, line in found.reads_later.items():
                self.read(statement, name, line, None)
            for _, text in found.dotted:
                symbol = self.slicer.modules.resolve_dotted(statement.module, text)
                if symbol is not None:
                    self.read_symbol(symbol, statement if text.split(".")[0] in found.reads_now else None)
            # A block that binds a given or another blank and then reads it: the binding goes, so the reading matters
            for name in sorted(found.reads - found.reads_now.keys() - found.reads_later.keys() - found.targets):
                if name in self.slicer.givens or name in self.slicer.blanks:
                    self.read(statement, name, 1, statement)

    def read(self, statement: Statement, name: str, line: int, before: Statement | None) -> None:
        """Take in what defines a name that a statement reads, or note it where it ends the slice."""
        modules = self.slicer.modules
        if name in self.slicer.givens or name in self.slicer.blanks:
            self.read_symbol((statement.module, name), before)
        elif (symbol := modules.resolve(statement.module, name)) is not None:
            if not self.read_symbol(symbol, before) and not _binds_itself(statement, name):
                self.note_undefined(statement, name, line, only_in_loop=True)
        elif name in BUILTINS or modules.is_module(statement.module, name):
            return
        elif modules.stars[statement.module]:
            loadable = [item for item in modules.stars[statement.module] if _is_loadable(item.node)]
            self.keep(loadable, None)
        elif modules.is_notebook and name in _NOTEBOOK_NAMES:
            self.notebook_names.add(name)
        else:
            self.note_undefined(statement, name, line)

    def read_symbol(self, symbol: Symbol, before: Statement | None) -> bool:
        """The same where it is known what the name stands for. False: nothing defines it."""
        name = symbol[1]
        if name in self.slicer.givens:
            self.givens.add(self.slicer.givens[name])
            return True
        blank_id = self.slicer.blanks.get(name)
        if blank_id is None:
            found = self.slicer.definition(symbol, before)
        elif blank_id not in self.own:
            self.needs.add(blank_id)
            return True
        else:
            symbol, found = self._earlier(blank_id, symbol, before)
        self.followed[symbol, before] = None
        self.keep(found, before)
        return bool(found)

    def _earlier(self, blank_id: str, symbol: Symbol, before: Statement | None) -> tuple[Symbol, list[Statement]]:
        """The answer as a statement meets it: `plain_q = q` takes the q before it, not the last one."""
        place = self.slicer.places.get(blank_id, symbol)
        if before is None:
            return place, []
        place = self.slicer.modules.lookup(*symbol) or place  # perhaps another module's of that name
        end = min(before.order, max((item.order for item in self.own[blank_id]), default=0))
        earlier = [item for item in self.slicer.definition(place, before) if item.order < end]
        found = [item for item in earlier if self.slicer.is_filled(item)]
        self.defining[blank_id].update(found)
        return place, found

    def note_undefined(self, statement: Statement, name: str, line: int, *, only_in_loop: bool = False) -> None:
        """Note a name that nothing defines, by the first place that uses it."""
        found = Undefined(name=name, file=statement.file, line=statement.line_of(line), only_in_loop=only_in_loop)
        self.undefined.setdefault(name, found)

    # -- what may change something

    def take_optional(self, allowed: Callable[[Collection[str]], bool]) -> None:
        """Take in what may change something here, where that needs nothing that is missing.

        Args:
            allowed: whether it may need these other blanks.
        """
        seen: set[Statement] = set()
        looked_at = 0
        while new := list(islice(self.followed, looked_at, None)):
            looked_at += len(new)
            for symbol, before in new:
                for statement in self.slicer.possible_changes(symbol, before):
                    if statement not in self.kept and statement not in seen and len(seen) < _MOST_OPTIONAL:
                        seen.add(statement)
                        self._try(statement, allowed)

    def _try(self, statement: Statement, allowed: Callable[[Collection[str]], bool]) -> None:
        trial = self._with(statement)
        new = trial.kept - self.kept
        if (
            trial.undefined.keys() <= self.undefined.keys()
            and allowed(trial.needs - self.needs)
            and all(self.slicer.is_filled(item) for item in new)
        ):
            trial.optional |= new
            self.__dict__.update(trial.__dict__)

    def _with(self, statement: Statement) -> "_Cut":
        trial = copy.copy(self)
        for name in ("needs", "givens", "undefined", "notebook_names", "kept", "optional", "followed"):
            setattr(trial, name, copy.copy(getattr(self, name)))
        trial.defining = {blank_id: set(statements) for blank_id, statements in self.defining.items()}
        trial.times = {function: set(times) for function, times in self.times.items()}
        trial.todo = []
        trial.keep([statement], None)
        trial.finish()
        return trial

    def slice(self) -> Slice:
        """The slice."""
        own = {item for statements in self.own.values() for item in statements}
        return Slice(
            own=tuple(sorted(own, key=lambda item: item.order)),
            statements=tuple(self.slicer.in_order(self.kept)),
            defining={blank_id: frozenset(statements) for blank_id, statements in self.defining.items()},
            optional=frozenset(self.optional),
            needs=frozenset(self.needs),
            givens=frozenset(self.givens),
            undefined=tuple(self.undefined.values()),
            notebook_names=frozenset(self.notebook_names),
        )


def _binds_itself(statement: Statement, name: str) -> bool:
    return name in statement.usage.binds or name in statement.usage.binds_later


def _is_loadable(node: ast.stmt) -> bool:
    """Whether a guest has the module of a star import: a stub has no names to give."""
    top = ((node.module if isinstance(node, ast.ImportFrom) else None) or "").split(".")[0]
    return top in GUEST_MODULES or top in sys.stdlib_module_names
