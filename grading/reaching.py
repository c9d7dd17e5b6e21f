"""Reaching definitions: what gives a name the value that it has at some point of a hand-in.

The search goes backwards from a point: through the statements before it in its block and in the blocks around it, from
a function to its callers, and to what stands at top level before. Loops are seen in their first turn, so that what
stands below a point counts only where nothing else is found. Nothing is run.
"""

import ast
import copy
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from grading.assignments import (
    Origin,
    argument,
    assigned,
    before_in_block,
    bound_by,
    default_of_parameter,
    is_in,
    is_unfilled,
    left_by,
    left_by_block,
    parameter_names,
    position_of,
)
from grading.effects import Symbol
from grading.modules import Modules
from grading.placeholders import Function
from grading.statements import Statement
from grading.usage import dotted

MAX_STEPS = 20  # from one definition to the next; a notebook's own loop takes two or three
MAX_VALUES = 8  # that may reach one point; whoever writes more branches computes the value while the code runs
MAX_SEARCHES = 2_000  # in one hand-in; the course's notebook takes 20
MAX_NODES = 100  # of an expression that takes another one in; a configuration's `cfg.training.drop_prob` has four

Loop = ast.For | ast.AsyncFor | ast.While
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(frozen=True, kw_only=True)
class Value:
    """What an expression amounts to at some point, told by names at top level alone."""

    expression: ast.expr
    at: ast.AST  # where it is written
    bound: Statement | None = None  # the last of the statements at top level that bind the name, where it is just that
    default_of: str | None = None
    names: frozenset[str] = frozenset()  # that it went through

    @property
    def filled(self) -> bool:
        node = self.expression if self.bound is None else self.bound.node
        return not is_unfilled(node)

    @property
    def is_zero(self) -> bool:
        return isinstance(self.expression, ast.Constant) and self.expression.value == 0


def best(values: Collection[Value]) -> Value | None:
    """Of the values that may reach a point: one that is filled in, that a caller gives, that switches nothing off."""
    return min(values, key=lambda value: (not value.filled, value.default_of is not None, value.is_zero), default=None)


class Flow:
    """A hand-in's control flow. `ends`: names at top level that are not followed any further."""

    def __init__(self, modules: Modules, ends: Collection[str]) -> None:
        self.modules = modules
        self.ends = frozenset(ends)
        self.parents: dict[ast.AST, ast.AST] = {}
        self.calls: dict[str, list[ast.Call]] = defaultdict(list)  # in order, by the last part of the callee's name
        self.functions: dict[str, list[Function]] = defaultdict(list)  # by name; those inside of others too
        self._roots: dict[ast.AST, Statement] = {}
        self._starts: dict[Statement, int] = {}  # order of the first statement that was taken out of a block
        self._sites: dict[Function, list[ast.Call]] = {}
        self._binders: dict[str, set[ast.AST]] = defaultdict(set)  # the nodes that bind a name, and those around them
        self._runs = [statement for statement in modules.statements if statement.is_run]
        self._searches = 0
        inside: set[ast.AST] = set()
        for statement in modules.statements:
            if statement.is_run:
                inside.update(ast.walk(statement.node))
                inside.remove(statement.node)
        start: int | None = None
        for statement in modules.statements:
            start = statement.order if start is None else start
            if statement.node not in inside:  # else it stands in its block, which follows, once more
                self._starts[statement] = start
                self._roots[statement.node] = statement
                self._read(statement)
                start = None

    def _read(self, statement: Statement) -> None:
        found: list[ast.Call] = []
        for node in ast.walk(statement.node):
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
            if isinstance(node, ast.Call):
                found.append(node)
            elif isinstance(node, Function):
                self.functions[node.name].append(node)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                binders = self._binders[node.id]
                binder: ast.AST | None = node
                while binder is not None and binder not in binders:
                    binders.add(binder)
                    binder = self.parents.get(binder)
        for call in sorted(found, key=lambda call: (call.lineno, call.col_offset)):
            if isinstance(call.func, ast.Attribute):
                self.calls[call.func.attr].append(call)
            elif isinstance(call.func, ast.Name):
                name = call.func.id
                self.calls[name].append(call)
                symbol = self.modules.lookup(statement.module, name)
                if symbol is not None and symbol[1] != name:
                    self.calls[symbol[1]].append(call)

    # -- places

    def root(self, node: ast.AST) -> Statement:
        """The statement at top level that a node is a part of."""
        while node not in self._roots:
            node = self.parents[node]
        return self._roots[node]

    def start(self, statement: Statement) -> int:
        """The order before which all stands that has run before a statement at top level."""
        return self._starts[statement]

    def is_taken_out(self, statement: Statement) -> bool:
        """Whether a statement stands in a loop or another block that is never run as a whole."""
        return statement.node not in self._roots

    def around(self, node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
        """The nodes around a node, from the inside, each after the one inside of it that leads to the node."""
        while (parent := self.parents.get(node)) is not None:
            yield node, parent
            node = parent

    def function_around(self, node: ast.AST) -> Function | None:
        """The innermost function whose body a node stands in."""
        return next(
            (outer for inner, outer in self.around(node) if isinstance(outer, Function) and is_in(inner, outer.body)),
            None,
        )

    def is_defined_inside(self, name: str, at: ast.AST) -> bool:
        """Whether a function around a point defines or imports a name: nothing outside of it can use that."""
        return any(
            name in _defined_names(node)
            for _, outer in self.around(at)
            if isinstance(outer, Function)
            for node in ast.walk(outer)
            if node is not outer
        )

    def sites(self, function: Function) -> list[ast.Call]:
        """Where a function may be called, the latest last: told by its name, or its class's for `__init__`."""
        if function not in self._sites:
            owner = self.parents.get(function)
            is_constructor = isinstance(owner, ast.ClassDef) and function.name == "__init__"
            name = owner.name if isinstance(owner, ast.ClassDef) and is_constructor else function.name
            latest = self.calls[name][-2 * MAX_VALUES :]
            self._sites[function] = [call for call in latest if self.function_around(call) is not function]
        return self._sites[function][-MAX_VALUES:]

    # -- origins

    def origins(self, name: str, at: ast.AST, steps: int = 0) -> list[Origin]:
        """What a name may stand for at a point, one step back: first what surely reaches it."""
        found, function, root = self._search(name, at)
        origins = found[::-1]
        if function is not None and steps < MAX_STEPS:
            for site in self._sites_where(name, function):
                origins += self.origins(name, site, steps + 1)
        elif root is not None:
            for statement in self._bindings(name, root.module, self.start(root)):
                origins += left_by(statement.node, name, self._binders[name])[0][::-1]
                if not statement.is_run:
                    break
        return origins[:MAX_VALUES]

    def _search(self, name: str, at: ast.AST) -> tuple[list[Origin], Function | None, Statement | None]:
        """What is found in the blocks around a point, the nearest first; then whose callers, or what before, to ask."""
        found: list[Origin] = []
        self._searches += 1
        if self._searches > MAX_SEARCHES:
            return [], None, None
        binders = self._binders[name]
        for inner, outer in self.around(at):
            if isinstance(inner, ast.stmt) and not (isinstance(outer, ast.ClassDef) and isinstance(inner, Function)):
                values, surely = left_by_block(before_in_block(inner, outer), name, binders)
                found += values
                if surely:
                    return found, None, None
            if (bound := bound_by(outer, inner, name)) is not None:
                return [*found, bound], None, None
            if isinstance(outer, Function) and is_in(inner, outer.body):
                if name in parameter_names(outer):
                    return found + self._arguments(outer, name), None, None
                below, _ = left_by_block(outer.body, name, binders)  # bound in the turn before
                if below and not found:
                    found = below
                if found:
                    return found, None, None
                if self.function_around(outer) is None:
                    return [], outer, None
        return found, None, self.root(at)

    def _arguments(self, function: Function, name: str) -> list[Origin]:
        """What callers give for a parameter, the latest first; its default where none gives it."""
        found: list[Origin] = []
        offset = 1 if isinstance(self.parents.get(function), ast.ClassDef) else 0
        for site in self.sites(function):
            given = argument(site, position_of(function, name, offset), {name})
            if given is not None:
                found.append(Origin(expression=given, at=site))
        default = default_of_parameter(function, name)
        if not found and default is not None:
            found.append(Origin(expression=default, at=function, default_of=function.name))
        return found

    def _sites_where(self, name: str, function: Function) -> list[ast.Call]:
        """Where a function is called, the latest first, and a global name means the same as in the function."""
        meaning = self.modules.lookup(self.root(function).module, name)
        return [
            site
            for site in reversed(self.sites(function))
            if self.modules.lookup(self.root(site).module, name) == meaning
        ]

    def _bindings(self, name: str, module: int, before: int) -> list[Statement]:
        """The statements at top level that bind a name before some order, the latest first; blocks that run among them.

        What was taken out of such a block is left to the block.
        """
        symbol = self.modules.lookup(module, name)
        if symbol is None:
            return []
        simple = [
            statement
            for statement in self.modules.bindings.get(symbol, [])
            if not statement.is_run and not self.is_taken_out(statement)
            if not self.modules.is_incidental(statement, symbol[1])
        ]
        binders = self._binders[symbol[1]]
        runs = [item for item in self._runs if item.module == symbol[0] and item.node in binders]
        return sorted((item for item in simple + runs if item.order < before), key=lambda item: -item.order)

    # -- values

    def values(self, expression: ast.expr, at: ast.AST, steps: int = 0) -> list[Value]:
        """What an expression may amount to at a point; empty where it depends on how the code runs."""
        if steps > MAX_STEPS:
            return []
        if isinstance(expression, ast.Name):
            return self._values_of_name(expression, at, steps)
        if isinstance(expression, ast.IfExp):
            branches = (expression.body, expression.orelse)
            return [value for branch in branches for value in self.values(branch, at, steps + 1)][:MAX_VALUES]
        if (elsewhere := self._in_other_module(expression, self.root(at).module)) is not None:
            name = ast.copy_location(ast.Name(id=elsewhere[1], ctx=ast.Load()), expression)
            values = self._values_at_top(name, at, elsewhere[0], self.start(self.root(at)), steps + 1)
            return [replace(value, names=value.names | {name.id}) for value in values]
        attribute = self._values_of_attribute(expression, at, steps)
        if attribute is not None:
            return attribute
        closer = _Closer(self, at, steps)
        closed = closer.visit(copy.deepcopy(expression))
        if not closer.failed and isinstance(closed, ast.expr) and sum(1 for _ in ast.walk(closed)) <= MAX_NODES:
            return [Value(expression=closed, at=at, default_of=closer.default_of, names=frozenset(closer.names))]
        return []

    def _values_of_name(self, name: ast.Name, at: ast.AST, steps: int) -> list[Value]:
        found, function, root = self._search(name.id, at)
        values: list[Value] = []
        for origin in reversed(found):
            if origin.whole:
                for value in self.values(origin.expression, origin.at, steps + 1):
                    values.append(replace(value, default_of=origin.default_of or value.default_of))
        if function is not None:
            sites = self._sites_where(name.id, function)
            for site in sites:
                values += self._values_of_name(name, site, steps + 1) if steps < MAX_STEPS else []
            if not sites:
                values += self._values_at_top(name, at, self.root(function).module, len(self.modules.statements), steps)
        elif root is not None:
            values += self._values_at_top(name, at, root.module, self.start(root), steps)
        return [replace(value, names=value.names | {name.id}) for value in values[:MAX_VALUES]]

    def _values_at_top(self, name: ast.Name, at: ast.AST, module: int, before: int, steps: int) -> list[Value]:
        values: list[Value] = []
        for statement in self._bindings(name.id, module, before):
            origins = left_by(statement.node, name.id, self._binders[name.id])[0] if statement.is_run else []
            for origin in reversed(origins):
                values += self.values(origin.expression, origin.at, steps + 1) if origin.whole else []
            if statement.is_run:
                continue  # it may have been left out: `if TRAIN:`
            origin_at_top = assigned(statement.node, name.id)
            is_of_other = (
                origin_at_top is not None and self._in_other_module(origin_at_top.expression, module) is not None
            )
            if name.id in self.ends and not is_of_other:
                values.append(Value(expression=name, at=statement.node, bound=statement))
            elif origin_at_top is not None and origin_at_top.whole:
                values += self.values(origin_at_top.expression, statement.node, steps + 1)
            else:
                values.append(Value(expression=name, at=at))
            if not is_unfilled(statement.node):
                break
        return values if values or name.id in self.ends else [Value(expression=name, at=at)]

    def _in_other_module(self, expression: ast.expr, module: int) -> Symbol | None:
        """What `config.c_drop_prob` means, where `config` was handed in too."""
        text = dotted(expression) if isinstance(expression, ast.Attribute) else None
        symbol = None if text is None else self.modules.resolve_dotted(module, text)
        return None if symbol is None or symbol[0] == module else symbol

    def _values_of_attribute(self, expression: ast.expr, at: ast.AST, steps: int) -> list[Value] | None:
        """Of `self.drop_prob`: what the class assigns to it. None: it is no attribute of the method's own object."""
        method = self.function_around(at)
        owner = None if method is None else self.parents.get(method)
        if not isinstance(expression, ast.Attribute) or not isinstance(expression.value, ast.Name):
            return None
        if (
            method is None
            or not isinstance(owner, ast.ClassDef)
            or parameter_names(method)[:1] != [expression.value.id]
        ):
            return None
        values: list[Value] = []
        for node in ast.walk(owner):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                in_class = is_in(node, owner.body)
                for target in targets:
                    of_object = isinstance(target, ast.Attribute) and target.attr == expression.attr
                    if of_object or (in_class and isinstance(target, ast.Name) and target.id == expression.attr):
                        values += self.values(node.value, node, steps + 1)
        return values[:MAX_VALUES]


class _Closer(ast.NodeTransformer):
    """Puts what they stand for in the place of the names that are not at top level."""

    def __init__(self, flow: Flow, at: ast.AST, steps: int) -> None:
        self.flow = flow
        self.at = at
        self.steps = steps
        self.failed = False
        self.default_of: str | None = None
        self.names: set[str] = set()
        self._bound: set[str] = set()  # by a comprehension or a lambda inside of the expression

    def visit(self, node: ast.AST) -> ast.AST:
        for child in ast.walk(node) if isinstance(node, _Comprehension | ast.Lambda) else ():
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                self._bound.add(child.id)
            elif isinstance(child, ast.arg):
                self._bound.add(child.arg)
        return super().visit(node)  # type: ignore[no-any-return]

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        values = self.flow._values_of_attribute(node, self.at, self.steps)
        return self.generic_visit(node) if values is None else self._put(node, best(values))

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self._bound or not isinstance(node.ctx, ast.Load):
            return node
        found, function, _ = self.flow._search(node.id, self.at)
        sites = [] if function is None else self.flow.sites(function)
        if not found and not any(self.flow._search(node.id, site)[0] for site in sites):
            self.failed = self.failed or self.flow.is_defined_inside(node.id, self.at)
            return node  # stands at top level
        return self._put(node, best(self.flow._values_of_name(node, self.at, self.steps + 1)))

    def _put(self, node: ast.expr, value: Value | None) -> ast.AST:
        if value is None:
            self.failed = True
            return node
        self.names |= value.names
        self.default_of = self.default_of or value.default_of
        return copy.deepcopy(value.expression)


def _defined_names(node: ast.AST) -> set[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return {alias.asname or alias.name.split(".")[0] for alias in aliases}
    return set()
