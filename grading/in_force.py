"""The value in force: what a number that is set again and again is where it counts.

The course's notebook sets `c_drop_prob` for the loss, to 0 in the `if` that draws previews, and to 0 again before it
samples. What counts is the value with which the network is trained; for a weight of guidance, the one sampled with.
"""

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from grading.assignments import Origin, argument, default_of_parameter, parameter_names
from grading.placeholders import Function
from grading.reaching import Flow, Loop, Value, best
from grading.starter import starter_tree
from grading.statements import Statement
from reference.pack import Blank, Pack

MAX_CALLS = 20  # that are looked at, the latest first; a notebook trains once or twice
MAX_HOPS = 5  # from a loss back to the call that made its context: `.to(device)`, a function that prepares a batch, ...
_AT_TOP = 10  # as many loops and functions as no call is inside of: a training step without a loop counts least
_WITHOUT_GRADIENTS = ("no_grad", "inference_mode")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """The parameter by which a function of the assignment takes a blank's value."""

    function: Blank
    position: int  # 0-based
    name: str  # in the starter


@dataclass(frozen=True, kw_only=True)
class InForce:
    """What a blank's value is where it counts."""

    value: Value | None = None
    otherwise: Value | None = None  # the value that is taken under another name, as a try; for want of a better one
    is_unknown: bool = False  # it counts somewhere, but depends there on how the code runs
    blocks: frozenset[Statement] = frozenset()  # at top level, in which it counts
    elsewhere: frozenset[ast.AST] = frozenset()  # statements that give the name its value for other purposes


def in_force(flow: Flow, blank: Blank, pack: Pack) -> InForce:
    """The value of a blank at the calls of its `in_force_at` that train, or at all where none does.

    Where the function itself takes the value, calls with the blank's own name count before others, which may be tries.
    """
    assert blank.in_force_at is not None
    return _Finder(flow, blank, pack).find()


class _Finder:
    def __init__(self, flow: Flow, blank: Blank, pack: Pack) -> None:
        self.flow = flow
        self.blank = blank
        self.target = pack.blank(blank.in_force_at or "")
        self.parameter = parameters(pack).get(blank.id)
        self.taken_directly = self.parameter is not None and self.parameter.function.id == self.target.id

    def find(self) -> InForce:
        calls = self._calls(self.target)
        takers = [] if self.parameter is None or self.taken_directly else self._calls(self.parameter.function)
        if self.taken_directly:
            calls = self._sorted([*calls, *self._handed_over()])
        else:
            calls = self._training(calls) or self._training(takers) or [c for c in calls if not self._is_dry(c)]
        calls = calls[-MAX_CALLS:]
        values = [value for call in reversed(calls) if (value := best(self._values(call))) is not None]
        own = [value for value in values if not self.taken_directly or not value.names.isdisjoint(self.blank.names)]
        return InForce(
            value=_latest(own),
            otherwise=_latest(values),
            is_unknown=bool(calls) and not values,
            blocks=frozenset(self.flow.root(call) for call in calls),
            elsewhere=self._elsewhere(takers, values),
        )

    # -- calls

    def _calls(self, function: Blank) -> list[ast.Call]:
        return self._sorted([call for name in self._names(function) for call in self.flow.calls[name]])

    def _names(self, function: Blank) -> set[str]:
        """What a function is called by here: also `loss_of = get_loss`."""
        return {*function.names, *(other for name in function.names for other in self.flow.other_names[name])}

    def _sorted(self, calls: list[ast.Call]) -> list[ast.Call]:
        return sorted(set(calls), key=lambda call: (self.flow.root(call).order, call.lineno, call.col_offset))

    def _handed_over(self) -> list[ast.Call]:
        """Calls that take both the function and the value: `run_assessment(model, sample_w, w)`."""
        return [
            call
            for calls in list(self.flow.calls.values())
            for call in calls
            if {*self.target.names} & (names := {given.id for given in call.args if isinstance(given, ast.Name)})
            and {*self.blank.names} & names
        ]

    def _training(self, calls: list[ast.Call]) -> list[ast.Call]:
        """Those whose result is trained with, as far as that can be told; empty if there are none."""
        ranked = [(rank, call) for call in calls[-MAX_CALLS:] if (rank := self._rank(call)) is not None]
        first = min((rank for rank, _ in ranked), default=None)
        return [call for rank, call in ranked if rank == first]

    def _rank(self, call: ast.Call, hops: int = 0) -> tuple[int, bool, int] | None:
        """How far around a call `backward` is called, whether on another loss, and under how many conditions."""
        distance = conditions = 0
        for inner, outer in self.flow.around(call):
            in_body = isinstance(outer, Function) and any(inner is child for child in outer.body)
            if _without_gradients(outer) and (in_body or isinstance(outer, ast.With)):
                return None
            conditions += isinstance(outer, ast.If) and inner is not outer.test
            if in_body or isinstance(outer, Loop):
                if (backward := _backward_calls(outer)) and not isinstance(inner, ast.arguments):
                    return distance, not self._is_trained_with(call, backward), conditions
                distance += 1
            if in_body and isinstance(outer, Function) and hops < MAX_HOPS:
                ranks = [self._rank(site, hops + 1) for site in self.flow.sites(outer)]
                around = min((rank for rank in ranks if rank is not None), default=None)
                return None if around is None else (distance + around[0], around[1], conditions + around[2])
        root = self.flow.root(call)
        beside = [
            backward
            for other in self.flow.modules.statements
            if other.file == root.file and not other.is_run
            for backward in _backward_calls(other.node)
        ]
        return (_AT_TOP + distance, not self._is_trained_with(call, beside), conditions) if beside else None

    def _is_trained_with(self, call: ast.Call, backward: Collection[ast.Call]) -> bool:
        """Whether `backward` is called on what becomes of a call's result, told by the name that it gets."""
        named = {name.id for other in backward for name in ast.walk(other) if isinstance(name, ast.Name)}
        for inner, outer in self.flow.around(call):
            if any(outer is other or inner is other for other in backward):
                return True
            if isinstance(outer, ast.stmt):
                targets = {name.id for name in ast.walk(outer) if isinstance(name, ast.Name) and _is_stored(name)}
                return isinstance(outer, ast.Return) or not targets.isdisjoint(named)
        return False

    def _is_dry(self, call: ast.Call) -> bool:
        return any(_without_gradients(outer) for _, outer in self.flow.around(call))

    # -- values

    def _values(self, call: ast.Call) -> list[Value]:
        """What the blank's value may be at a call of the function at which it counts."""
        taker = call if self._takes(call) else self._taker(call)
        if taker is not None and self.parameter is not None:
            given = argument(taker, *self._names_of_parameter())
            if given is not None:
                return self.flow.values(given, taker)
            default = self._default()
            if default is not None and not any(isinstance(item, ast.Starred) for item in taker.args):
                return [default]
        # Handed over to something else, or read by the function itself
        return [
            value
            for name in self.blank.names
            for value in self.flow.values(ast.copy_location(ast.Name(id=name, ctx=ast.Load()), call), call)
            if value.bound is not None or not isinstance(value.expression, ast.Name)
        ]

    def _takes(self, call: ast.Call) -> bool:
        return self.parameter is not None and _last_name(call) in self._names(self.parameter.function)

    def _definition(self) -> Function | None:
        """The student's own definition of the function that takes the value."""
        assert self.parameter is not None
        found = [item for name in self.parameter.function.names for item in self.flow.functions[name]]
        return found[-1] if found else None

    def _names_of_parameter(self) -> tuple[int, frozenset[str]]:
        """Where the student's own function takes the value, 0-based, and the names that it can have there."""
        assert self.parameter is not None
        position, name = self.parameter.position, self.parameter.name
        definition = self._definition()
        own = [] if definition is None else parameter_names(definition)
        own = own[1:] if own[:1] == ["self"] else own
        if name in own:
            return own.index(name), frozenset({name})
        return position, frozenset({name, *own[position : position + 1]})

    def _default(self) -> Value | None:
        definition = self._definition()
        _, names = self._names_of_parameter()
        defaults = [default_of_parameter(definition, name) for name in sorted(names)] if definition is not None else []
        default = next((value for value in defaults if value is not None), None)
        if definition is None or default is None:
            return None
        return Value(expression=default, at=definition, default_of=definition.name)

    def _taker(self, call: ast.Call) -> ast.Call | None:
        """The call whose result goes into this one: the context's, out of which a loss is made."""
        todo = [
            Origin(expression=given, at=call) for given in [*call.args, *(keyword.value for keyword in call.keywords)]
        ]
        for _ in range(MAX_HOPS):
            for origin in todo:
                if (taker := self._taker_in(origin.expression)) is not None:
                    return taker
            todo = [
                further
                for origin in todo
                for name in _names_in(origin.expression)
                for further in self.flow.origins(name, origin.at)
            ][:MAX_CALLS]
        around = self.flow.function_around(call)
        beside = [
            other
            for other in (self._calls(self.parameter.function) if self.parameter is not None else [])
            if self.flow.function_around(other) is around and self.flow.root(other) is self.flow.root(call)
            and other.lineno <= call.lineno
        ]  # fmt: skip
        if beside:
            return beside[-1]
        inside = [item for name in self.target.names for item in self.flow.functions[name]]
        return next((taker for item in inside for taker in self._takers_in(item)), None)

    def _taker_in(self, expression: ast.expr) -> ast.Call | None:
        for call in self._takers_in(expression):
            return call
        for node in ast.walk(expression):
            if isinstance(node, ast.Call):
                for function in self.flow.functions.get(_last_name(node) or "", []):
                    for call in self._takers_in(function):
                        return call
        return None

    def _takers_in(self, node: ast.AST) -> Iterator[ast.Call]:
        return (call for call in ast.walk(node) if isinstance(call, ast.Call) and self._takes(call))

    def _elsewhere(self, takers: list[ast.Call], counted: Collection[Value]) -> frozenset[ast.AST]:
        """The statements that give the name its value only where something else takes it, such as a preview."""
        used = [value for call in takers[-MAX_CALLS:] if (value := best(self._values(call))) is not None]
        return frozenset(_statement_of(value) for value in used) - {_statement_of(value) for value in counted}


def _latest(values: Collection[Value]) -> Value | None:
    """Of values with the latest first: the first that is filled in, and not as a parameter's default."""
    return min(values, key=lambda value: (not value.filled, value.default_of is not None), default=None)


def _statement_of(value: Value) -> ast.AST:
    return value.at if value.bound is None else value.bound.node


def _last_name(call: ast.Call) -> str | None:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None


def _names_in(expression: ast.expr) -> list[str]:
    return list(dict.fromkeys(node.id for node in ast.walk(expression) if isinstance(node, ast.Name)))


def _is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _backward_calls(node: ast.AST) -> list[ast.Call]:
    return [child for child in ast.walk(node) if isinstance(child, ast.Call) and _last_name(child) == "backward"]


def _without_gradients(node: ast.AST) -> bool:
    match node:
        case ast.With(items=items):
            parts: list[ast.AST] = [item.context_expr for item in items]
        case ast.FunctionDef(decorator_list=decorators):
            parts = [*decorators]
        case _:
            return False
    names = (child for part in parts for child in ast.walk(part))
    return any(
        (isinstance(name, ast.Attribute) and name.attr in _WITHOUT_GRADIENTS)
        or (isinstance(name, ast.Name) and name.id in _WITHOUT_GRADIENTS)
        for name in names
    )


def parameters(pack: Pack) -> dict[str, Parameter]:
    """By the id of a blank: where the starter hands its value to a function that is to be filled in too."""
    tree = starter_tree(pack)
    definitions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    blanks = {name: blank for blank in pack.blanks for name in blank.names}
    found: dict[str, Parameter] = {}
    for call in ast.walk(tree):
        function = blanks.get(_last_name(call) or "") if isinstance(call, ast.Call) else None
        if isinstance(call, ast.Call) and function is not None and function.id in definitions:
            arguments = definitions[function.id].args.args
            for position, (given, item) in enumerate(zip(call.args, arguments, strict=False)):
                blank = blanks.get(given.id) if isinstance(given, ast.Name) else None
                if blank is not None and blank.kind in ("number", "tensor"):
                    found[blank.id] = Parameter(function=function, position=position, name=item.arg)
    return found
