"""What a statement does by way of the functions that it calls: globals that they set, objects that they change.

A change is certain where the code says so (`x[0] = 1`, `xs.append(y)`), in the statement or in a function handed in
that it calls. It is possible where a statement has no other purpose: `schedule.prepare(betas)` throws its result away.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from grading.statements import RUN_METHODS, Import, Statement
from grading.usage import Body, Call, Ref, Usage

Symbol = tuple[int, str]  # index of the module, name in it
_Target = Symbol | int  # what a change reaches: a global, or what the parameter of this position is given
_Key = Symbol | str  # of what can be called: a function or a class, or every method of one name

# Functions that call functions that call ...: main, which calls setup, which calls a helper, and some to spare
_DEPTH = 8
# Names that one function changes or sets; the whole assignment has 30. Bounds what a hand-in can make of calls of calls
_MOST_NAMES = 100

# Methods that show, save or only read: a statement that calls one changes nothing that an answer could need
_READING = frozenset(
    {"show", "imshow", "plot", "hist", "scatter", "bar", "close", "save", "savefig", "savetxt", "dump", "write"}
    | {"makedirs", "mkdir", "seed", "manual_seed", "head", "describe", "info", "debug", "warning", "item", "tolist"}
    | {"numpy", "min", "max", "mean", "std", "var", "sum", "size", "dim", "numel", "allclose", "isclose", "equal"}
    | {"print_help", "summary", "parameters", "named_parameters", "state_dict", "synchronize", "empty_cache"}
)


class Names(Protocol):
    """What effects need to know of a hand-in's names."""

    def lookup(self, module: int, name: str) -> Symbol | None:
        """Where a global name of a module is defined in the hand-in; None if it is not."""

    def resolve_dotted(self, module: int, text: str) -> Symbol | None:
        """Where `ddpm.q` is defined, `ddpm` being a module that was handed in too."""

    def comes_from_stub(self, module: int, name: str) -> bool:
        """Whether a name is imported from a module that guests replace by an inert object."""


@dataclass(eq=False)
class _Summary:
    """What calling something does."""

    binds: set[Symbol] = field(default_factory=set)
    changes: set[_Target] = field(default_factory=set)
    may_change: set[_Target] = field(default_factory=set)
    runs: bool = False  # trains, samples or draws
    sets_attributes: bool = False
    parameters: tuple[str, ...] = ()

    def add(self, other: "_Summary") -> None:
        for mine, theirs in (
            (self.binds, other.binds),
            (self.changes, other.changes),
            (self.may_change, other.may_change),
        ):
            if len(mine) < _MOST_NAMES:
                mine |= theirs
        self.runs = self.runs or other.runs
        self.sets_attributes = self.sets_attributes or other.sets_attributes
        self.parameters = self.parameters or other.parameters

    @property
    def extent(self) -> tuple[int, int, int, bool]:
        """Grows with every addition that adds something."""
        return len(self.binds), len(self.changes), len(self.may_change), self.runs


@dataclass(frozen=True)
class Effect:
    """What one statement does to objects made elsewhere, by the names of these.

    Each with the names that the change is a by-product of: `y = x.sqrt_()` is there for y. Empty: for the object's own
    sake.
    """

    binds: frozenset[Symbol]  # by functions that it calls
    changes: dict[Symbol, frozenset[str]]
    may_change: dict[Symbol, frozenset[str]]  # and not for certain


class Effects:
    """The effects of a hand-in's statements."""

    def __init__(self, statements: Sequence[Statement], names: Names, entry_points: frozenset[str]) -> None:
        self._names = names
        self._entry_points = entry_points
        self._found: dict[tuple[int, str], Symbol | None] = {}
        self._imports: set[Symbol] = set()
        self._classes: set[Symbol] = set()
        self._bodies: dict[_Key, list[tuple[int, Body]]] = defaultdict(list)
        for statement in statements:
            module, usage = statement.module, statement.usage
            if isinstance(statement.node, Import):
                self._imports |= {(module, name) for name in usage.binds}
            if isinstance(statement.node, ast.ClassDef):
                self._classes.add((module, statement.node.name))
                if "__init__" in usage.bodies:
                    self._bodies[module, statement.node.name].append((module, usage.bodies["__init__"]))
            for name, body in usage.bodies.items():
                self._bodies[(module, name) if name in usage.binds else name].append((module, body))
        self._summaries = self._summarise()

    def of(self, module: int, usage: Usage) -> Effect:
        """What a statement of a module does when it runs."""
        found = _Summary()
        changes: dict[Symbol, frozenset[str]] = {}
        may_change: dict[Symbol, frozenset[str]] = {}
        for name in usage.mutates:
            self._note(changes, self._lookup(module, name), name, frozenset(usage.in_passing.get(name, ())))
        for call in usage.calls:
            effect = self._of_call(module, call)
            found.add(effect)
            owners = frozenset(ref for ref in call.on or () if isinstance(ref, str))
            for targets, noted, subjects in (
                (effect.changes, changes, call.subjects),
                (effect.may_change, may_change, call.subjects | owners),
            ):
                for target in targets:
                    if isinstance(target, tuple):
                        self._note(noted, target, target[1], subjects)
            if call.decorates is not None:
                for symbol in self._attached_to(module, call):
                    self._note(changes, symbol, symbol[1], frozenset())
        own = {(module, name) for name in usage.binds}
        return Effect(
            binds=frozenset(found.binds),
            changes={symbol: subjects for symbol, subjects in changes.items() if symbol not in own},
            may_change={}
            if found.runs
            else {symbol: by for symbol, by in may_change.items() if symbol not in own and symbol not in changes},
        )

    def _note(
        self, noted: dict[Symbol, frozenset[str]], symbol: Symbol | None, name: str, subjects: frozenset[str]
    ) -> None:
        if symbol is not None and symbol not in self._imports:
            by = frozenset() if name in subjects else subjects
            noted[symbol] = by if symbol not in noted else (noted[symbol] | by if noted[symbol] and by else frozenset())

    def _lookup(self, module: int, name: str) -> Symbol | None:
        if (module, name) not in self._found:
            self._found[module, name] = self._names.lookup(module, name)
        return self._found[module, name]

    # -- functions

    def _summarise(self) -> dict[_Key, _Summary]:
        """What calling each function does, with what the functions do that it calls."""
        of_bodies: dict[Body, _Summary] = {}
        for bodies in self._bodies.values():
            for module, body in bodies:
                of_bodies[body] = _Summary(
                    binds={(module, name) for name in body.binds},
                    changes=set(self._targets(module, body.mutates)),
                    sets_attributes=body.sets_attributes,
                    parameters=body.parameters,
                )
        self._summaries = {}
        for _ in range(_DEPTH):
            self._summaries = {
                key: _union(of_bodies[body] for _, body in bodies) for key, bodies in self._bodies.items()
            }
            before = {body: summary.extent for body, summary in of_bodies.items()}
            for bodies in self._bodies.values():
                for module, body in bodies:
                    for call in body.calls:
                        of_bodies[body].add(self._of_call(module, call))
            if before == {body: summary.extent for body, summary in of_bodies.items()}:
                break
        return self._summaries

    def _targets(self, module: int, refs: Iterable[Ref]) -> Iterable[_Target]:
        for ref in refs:
            target = ref if isinstance(ref, int) else self._lookup(module, ref)
            if target is not None and target not in self._imports:
                yield target

    def _of_call(self, module: int, call: Call) -> _Summary:
        """What a call does, in terms of what it is given."""
        runs = call.name in (RUN_METHODS if call.on is not None else self._entry_points)
        found = _Summary(runs=runs)
        key, shift = self._callee(module, call)
        known = self._summaries.get(key) if key is not None else None
        if known is not None:
            found.binds |= known.binds
            found.runs = found.runs or known.runs
            # A method is known by its name alone
            certain = found.may_change if isinstance(key, str) else found.changes
            certain.update(self._passed_on(module, call, known, known.changes, shift))
            found.may_change.update(self._passed_on(module, call, known, known.may_change, shift))
        is_function = known is not None and not isinstance(key, str) and key not in self._classes
        if call.discarded and call.decorates is None and not is_function and not self._only_shows(module, call):
            callee = (frozenset() if key in self._classes else frozenset({call.name})) if call.on is None else call.on
            found.may_change.update(self._targets(module, callee | call.given))
        if call.decorates is not None and not is_function:
            found.may_change.update(self._targets(module, call.on or frozenset()))
        return found

    def _callee(self, module: int, call: Call) -> tuple[_Key | None, int]:
        """What is called, and how many of its parameters come before the first argument."""
        if call.on is None:
            symbol = self._lookup(module, call.name)
            return symbol, int(symbol in self._classes)
        if call.dotted is not None and (symbol := self._names.resolve_dotted(module, call.dotted)) is not None:
            return symbol, int(symbol in self._classes)
        of_modules = bool(call.on) and all(
            isinstance(ref, str) and self._lookup(module, ref) in self._imports for ref in call.on
        )
        return (None if of_modules else call.name), 1

    def _passed_on(
        self, module: int, call: Call, known: _Summary, targets: Iterable[_Target], shift: int
    ) -> Iterable[_Target]:
        for target in targets:
            if isinstance(target, tuple):
                yield target
            elif target < shift:
                yield from self._targets(module, call.on or frozenset())
            elif target - shift < len(call.arguments):
                yield from self._targets(module, call.arguments[target - shift])
            elif target < len(known.parameters):
                yield from self._targets(module, call.keywords.get(known.parameters[target], frozenset()))

    def _only_shows(self, module: int, call: Call) -> bool:
        if call.on is not None and call.name in _READING:
            return True
        names = [call.name] if call.on is None else [ref for ref in call.on if isinstance(ref, str)]
        return any(self._names.comes_from_stub(module, name) for name in names)

    def _attached_to(self, module: int, call: Call) -> Iterable[Symbol]:
        """The classes that a decorator makes a method for: `@add_to_class(Net)`, or `@patch` before `self: Net`."""
        key, _ = self._callee(module, call)
        known = self._summaries.get(key) if key is not None else None
        patches = "patch" in call.name if known is None else known.sets_attributes
        refs = call.given | (call.decorates or frozenset() if patches else frozenset())
        return [
            target for target in self._targets(module, refs) if isinstance(target, tuple) and target in self._classes
        ]


def _union(summaries: Iterable[_Summary]) -> _Summary:
    found = _Summary()
    for summary in summaries:
        found.add(summary)
    return found
