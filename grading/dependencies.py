"""Which global names a top-level statement binds, reads and changes, by Python's scoping rules."""

import ast
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

# Methods that change their object and do not say so by a trailing underscore, as torch's in-place methods do. A
# call counts only where its result is thrown away: `x.add(1)` on a tensor changes nothing.
_MUTATORS = frozenset(
    {"append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "remove", "discard", "clear"}
    | {"sort", "reverse", "fill", "put", "itemset", "register_buffer", "register_parameter", "add_module"}
    | {"load_state_dict", "__setitem__"}
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(eq=False)
class Usage:
    """What one top-level statement does with its module's names. Lines are those of the tree, 1-based."""

    binds: set[str] = field(default_factory=set)
    surely: set[str] = field(default_factory=set)  # of `binds`: those bound on every path
    targets: set[str] = field(default_factory=set)  # of `binds`: those that a loop, `with` or `except` binds
    # Read while the statement runs, before it binds them itself -> first line
    reads_now: dict[str, int] = field(default_factory=dict)
    # Read by the functions that it defines, whenever they are called -> first line
    reads_later: dict[str, int] = field(default_factory=dict)
    reads: set[str] = field(default_factory=set)  # all names read, bound before or not
    mutates: set[str] = field(default_factory=set)  # objects changed in place while the statement runs
    # What its functions do once they are called
    binds_later: set[str] = field(default_factory=set)  # by `global`
    mutates_later: set[str] = field(default_factory=set)
    mutated_parameters: set[int] = field(default_factory=set)  # of a top-level function, by position
    # Called now by name -> for each call the names at the bottom of its arguments, "" where there is none
    calls: dict[str, list[list[str]]] = field(default_factory=dict)
    methods: set[str] = field(default_factory=set)  # names of methods called now
    # Dotted names such as `ddpm.q`, with their nodes
    dotted: list[tuple[ast.Attribute, str]] = field(default_factory=list)
    # Every node that names a global: what to rewrite when the name changes
    nodes: list[tuple[ast.AST, str, Literal["load", "store"]]] = field(default_factory=list)


def usage(statement: ast.stmt, *, lazy_annotations: bool = False) -> Usage:
    """Analyse a top-level statement. `lazy_annotations`: `from __future__ import annotations` is in force."""
    reader = _Reader(lazy_annotations)
    reader.visit(statement)
    found = reader.usage
    found.surely = found.binds & reader.assigned
    for name in found.binds:
        found.reads_later.pop(name, None)
    return found


def root(node: ast.AST) -> ast.Name | None:
    """The name at the bottom of `a.b[0].c()`."""
    while True:
        match node:
            case ast.Name():
                return node
            case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.Starred(value=value):
                node = value
            case ast.Call(func=ast.Attribute(value=value)):
                node = value
            case _:
                return None


def dotted(node: ast.AST) -> str | None:
    """`a.b.c` as text, None where it is anything but names and dots."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


@dataclass
class _Scope:
    kind: Literal["function", "class", "comprehension"]
    local: set[str]
    declared_global: set[str] = field(default_factory=set)
    parameters: tuple[str, ...] = ()


class _Reader:
    """Walks one statement in the order in which Python evaluates it."""

    def __init__(self, lazy_annotations: bool) -> None:
        self.usage = Usage()
        self.assigned: set[str] = set()  # module names surely bound by now
        self.scopes: list[_Scope] = []  # innermost last; empty: the module's own
        self.lazy_annotations = lazy_annotations
        self.discarded: ast.expr | None = None  # the call whose result the current statement throws away

    # -- names

    @property
    def now(self) -> bool:
        return not any(scope.kind == "function" for scope in self.scopes)

    def is_global(self, name: str) -> bool:
        for depth, scope in enumerate(reversed(self.scopes)):
            if scope.kind == "class" and depth:
                continue  # a class's names are invisible to the functions in it
            if name in scope.declared_global:
                return True
            if name in scope.local:
                return False
        return True

    def load(self, node: ast.AST, name: str) -> None:
        if not self.is_global(name):
            return
        self.usage.nodes.append((node, name, "load"))
        self.usage.reads.add(name)
        if not self.now:
            self.usage.reads_later.setdefault(name, getattr(node, "lineno", 1))
        elif name not in self.assigned:
            self.usage.reads_now.setdefault(name, getattr(node, "lineno", 1))

    def store(self, node: ast.AST, name: str) -> None:
        scope = next((scope for scope in reversed(self.scopes) if scope.kind != "comprehension"), None)
        if scope is not None and name not in scope.declared_global:
            scope.local.add(name)
            return
        self.usage.nodes.append((node, name, "store"))
        if self.now:
            self.usage.binds.add(name)
            self.assigned.add(name)
        else:
            self.usage.binds_later.add(name)

    def mutate(self, node: ast.AST) -> None:
        name = root(node)
        if name is None:
            return
        if self.is_global(name.id):
            (self.usage.mutates if self.now else self.usage.mutates_later).add(name.id)
        elif len(self.scopes) == 1 and name.id in self.scopes[0].parameters:
            self.usage.mutated_parameters.add(self.scopes[0].parameters.index(name.id))

    # -- walking

    def visit(self, node: ast.AST) -> None:
        method = getattr(self, f"visit_{type(node).__name__}", None)
        if method is not None:
            method(node)
        else:
            self.visit_all(ast.iter_child_nodes(node))

    def visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    @contextmanager
    def scope(self, scope: _Scope) -> Iterator[None]:
        self.scopes.append(scope)
        yield
        self.scopes.pop()

    def visit_Name(self, node: ast.Name) -> None:  # noqa: N802
        if isinstance(node.ctx, ast.Load):
            self.load(node, node.id)
        elif isinstance(node.ctx, ast.Store):
            self.store(node, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:  # noqa: N802
        name, text = root(node), dotted(node)
        if name is not None and text is not None and self.is_global(name.id):
            self.usage.dotted.append((node, text))
        if not isinstance(node.ctx, ast.Load):
            self.mutate(node.value)
        self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:  # noqa: N802
        if not isinstance(node.ctx, ast.Load):
            self.mutate(node.value)
        self.visit(node.value)
        self.visit(node.slice)

    def visit_Assign(self, node: ast.Assign) -> None:  # noqa: N802
        self.visit(node.value)
        self.visit_all(node.targets)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:  # noqa: N802
        if isinstance(node.target, ast.Name):
            self.load(node.target, node.target.id)
        self.visit(node.value)
        self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: N802
        if self.now and not self.lazy_annotations:  # in a function it is never evaluated
            self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            self.visit(node.target)
        elif not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_Expr(self, node: ast.Expr) -> None:  # noqa: N802
        self.discarded = node.value
        self.visit(node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:  # noqa: N802
        self.visit(node.value)
        self.visit(node.target)

    def visit_Call(self, node: ast.Call) -> None:  # noqa: N802
        function = node.func
        names = [name.id if (name := root(argument)) is not None else "" for argument in node.args]
        if isinstance(function, ast.Attribute):
            if self.now:
                self.usage.methods.add(function.attr)
            in_place = function.attr.endswith("_") and not function.attr.endswith("__")
            if in_place and (dotted(function.value) or "").endswith("init") and node.args:
                self.mutate(node.args[0])  # nn.init.zeros_(x)
            elif in_place or (function.attr in _MUTATORS and node is self.discarded):
                self.mutate(function.value)
        elif isinstance(function, ast.Name):
            if function.id in ("setattr", "delattr") and node.args:
                self.mutate(node.args[0])
            if self.now and self.is_global(function.id):
                self.usage.calls.setdefault(function.id, []).append(names)
        for keyword in node.keywords:
            if keyword.arg == "out":
                self.mutate(keyword.value)
        self.visit_all(ast.iter_child_nodes(node))

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:  # noqa: N802
        for alias in node.names:
            if alias.name != "*":
                plain = isinstance(node, ast.Import) and alias.asname is None
                self.store(alias, alias.name.split(".")[0] if plain else alias.asname or alias.name)

    visit_ImportFrom = visit_Import  # noqa: N815

    # -- scopes

    def visit_FunctionDef(self, node: Function) -> None:  # noqa: N802
        arguments = node.args
        self.visit_all(node.decorator_list)
        self.visit_all([*arguments.defaults, *arguments.kw_defaults])
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        if not self.lazy_annotations:
            variadic = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
            self.visit_all([*(a.annotation for a in [*every, *variadic]), node.returns])
        self.store(node, node.name)
        positional = tuple(a.arg for a in every)
        with self.scope(_function_scope(node.body, arguments, positional)):
            self.visit_all(node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:  # noqa: N802
        self.visit_all([*node.args.defaults, *node.args.kw_defaults])
        with self.scope(_function_scope([node.body], node.args, ())):
            self.visit(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:  # noqa: N802
        self.visit_all([*node.decorator_list, *node.bases, *node.keywords])
        declared = {name for child in node.body if isinstance(child, ast.Global) for name in child.names}
        with self.scope(_Scope("class", set(), declared)):
            self.visit_all(node.body)
        self.store(node, node.name)

    def visit_comprehension_like(self, node: Comprehension) -> None:
        first, *others = node.generators
        self.visit(first.iter)  # evaluated outside
        local = {
            name.id
            for generator in node.generators
            for name in ast.walk(generator.target)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        }
        with self.scope(_Scope("comprehension", local)):
            # The targets are local: only what indexes or attributes in them read can matter
            self.visit_targets(first.target)
            self.visit_all(first.ifs)
            for generator in others:
                self.visit(generator.iter)
                self.visit_targets(generator.target)
                self.visit_all(generator.ifs)
            self.visit_all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_comprehension_like  # noqa: N815

    def visit_targets(self, node: ast.expr) -> None:
        for child in ast.walk(node):
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load):
                self.load(child, child.id)

    # -- flow: what is surely bound after a statement that may run only in part

    def visit_If(self, node: ast.If) -> None:  # noqa: N802
        self.visit(node.test)
        self.branches([node.body, node.orelse])

    def branches(self, bodies: Iterable[Iterable[ast.AST]]) -> None:
        before, after = set(self.assigned), None
        for body in bodies:
            self.assigned = set(before)
            self.visit_all(body)
            after = self.assigned if after is None else after & self.assigned
        self.assigned = before if after is None else after

    def visit_IfExp(self, node: ast.IfExp) -> None:  # noqa: N802
        self.visit(node.test)
        self.branches([[node.body], [node.orelse]])

    def visit_BoolOp(self, node: ast.BoolOp) -> None:  # noqa: N802
        self.visit(node.values[0])
        self.branches([node.values[1:], []])

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:  # noqa: N802
        self.visit(node.iter)
        before = set(self.assigned)
        self.target(node.target)
        self.visit_all(node.body)
        self.assigned = before
        self.visit_all(node.orelse)

    visit_AsyncFor = visit_For  # noqa: N815

    def target(self, node: ast.expr) -> None:
        known = set(self.usage.binds)
        self.visit(node)
        self.usage.targets |= self.usage.binds - known

    def visit_While(self, node: ast.While) -> None:  # noqa: N802
        self.visit(node.test)
        self.branches([node.body, []])
        self.visit_all(node.orelse)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:  # noqa: N802
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self.target(item.optional_vars)
        self.visit_all(node.body)

    visit_AsyncWith = visit_With  # noqa: N815

    def visit_Try(self, node: "ast.Try | ast.TryStar") -> None:  # noqa: N802
        before = set(self.assigned)
        self.visit_all([*node.body, *node.orelse])
        after = self.assigned
        for handler in node.handlers:
            self.assigned = set(before)
            self.visit(handler)
            after = after & self.assigned
        self.assigned = after
        self.visit_all(node.finalbody)

    visit_TryStar = visit_Try  # noqa: N815

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:  # noqa: N802
        if node.type is not None:
            self.visit(node.type)
        if node.name is not None:
            self.store(node, node.name)
            self.usage.targets.add(node.name)
        self.visit_all(node.body)
        if node.name is not None:
            self.assigned.discard(node.name)  # Python deletes it

    def visit_Match(self, node: ast.Match) -> None:  # noqa: N802
        self.visit(node.subject)
        self.branches([[case.pattern, *([case.guard] if case.guard else []), *case.body] for case in node.cases] + [[]])

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:  # noqa: N802
        if isinstance(node, ast.MatchAs) and node.pattern is not None:
            self.visit(node.pattern)
        if node.name is not None:
            self.store(node, node.name)

    visit_MatchStar = visit_MatchAs  # noqa: N815

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:  # noqa: N802
        self.visit_all([*node.keys, *node.patterns])
        if node.rest is not None:
            self.store(node, node.rest)

    def visit_Global(self, node: ast.Global) -> None:  # noqa: N802
        for name in node.names:
            self.usage.nodes.append((node, name, "store"))


def _function_scope(body: Iterable[ast.AST], arguments: ast.arguments, parameters: tuple[str, ...]) -> _Scope:
    """The names that a function binds itself; what it declares global or nonlocal is not among them."""
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    local = {argument.arg for argument in every if argument is not None}
    declared: set[str] = set()
    outer: set[str] = set()
    stack: list[ast.AST] = list(body)
    while stack:
        node = stack.pop()
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                local.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                local.add(name)
                stack += node.decorator_list
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                local.add(name)
            case ast.MatchMapping(rest=str(name)):
                local.add(name)
            case ast.Import():
                local |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
            case ast.ImportFrom():
                local |= {alias.asname or alias.name for alias in node.names}
            case ast.Global(names=names):
                declared |= set(names)
            case ast.Nonlocal(names=names):
                outer |= set(names)
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            # Its own targets stay in it; an assignment expression in it binds here
            local |= {
                child.target.id
                for child in ast.walk(node)
                if isinstance(child, ast.NamedExpr) and isinstance(child.target, ast.Name)
            }
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            stack.extend(ast.iter_child_nodes(node))
    return _Scope("function", local - declared - outer, declared, parameters)
