"""Which global names a top-level statement binds, reads and changes, by Python's scoping rules."""

import ast
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from grading.scopes import Scope, function_scope
from grading.usage import Body, Call, Ref, Usage, changed_by, dotted, roots, thrown_away

# What shows something and changes nothing that it is given
_SHOWING = frozenset({"print", "pprint", "display", "help", "len", "repr", "str", "type", "summary", "breakpoint"})

Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def usage(statement: ast.stmt, *, lazy_annotations: bool = False) -> Usage:
    """Analyse a top-level statement. `lazy_annotations`: `from __future__ import annotations` is in force."""
    reader = _Reader(lazy_annotations)
    reader.visit(statement)
    found = reader.usage
    found.surely = found.binds & reader.assigned
    for name in found.binds:
        found.reads_later.pop(name, None)
    for name in reader.changed_directly:
        found.in_passing.pop(name, None)
    return found


class _Reader:
    """Walks one statement in the order in which Python evaluates it."""

    def __init__(self, lazy_annotations: bool) -> None:
        self.usage = Usage()
        self.assigned: set[str] = set()  # module names surely bound by now
        self.scopes: list[Scope] = []  # innermost last; empty: the module's own
        self.lazy_annotations = lazy_annotations
        self.body: Body | None = None  # of the outermost function that the walk is in
        self.body_scope: Scope | None = None
        self.thrown_away: list[ast.expr] = []  # the expressions whose results the current statement throws away
        self.subjects: frozenset[str] = frozenset()  # the names that the current simple statement is there for
        self.changed_directly: set[str] = set()
        self.elements_of: dict[str, list[ast.Name]] = {}  # by a loop's variable: what the loop goes over

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
            if self.body is not None:
                self.body.reads.setdefault(name, getattr(node, "lineno", 1))
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
            if self.body is not None:
                self.body.binds.add(name)

    def refs(self, *nodes: ast.AST) -> frozenset[Ref]:
        """What the names at the bottom of expressions stand for, outside of the function around."""
        found: set[Ref] = set()
        names = [name.id for node in nodes for name in roots(node)]
        names += [other.id for name in names for other in self.elements_of.get(name, ())]
        for name in names:
            if self.is_global(name):
                found.add(name)
            elif self.body is not None and self._scope_of(name) is self.body_scope and name in self.body.parameters:
                found.add(self.body.parameters.index(name))
        return frozenset(found)

    def _scope_of(self, name: str) -> Scope | None:
        return next((scope for scope in reversed(self.scopes) if name in scope.local), None)

    def mutate(self, node: ast.AST) -> None:
        found = self.refs(node)
        if not self.now:
            if self.body is not None:
                self.body.mutates |= found
            return
        for name in found:
            assert isinstance(name, str)
            self.usage.mutates.add(name)
            if self.subjects and name not in self.subjects:
                self.usage.in_passing.setdefault(name, set()).update(self.subjects)
            else:
                self.changed_directly.add(name)

    @contextmanager
    def statement_for(self, *nodes: ast.AST) -> Iterator[None]:
        """A simple statement that is there for the names at the bottom of these expressions."""
        before = self.subjects
        self.subjects = before | {name.id for node in nodes for name in roots(node)}
        yield
        self.subjects = before

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
    def scope(self, scope: Scope) -> Iterator[None]:
        self.scopes.append(scope)
        yield
        self.scopes.pop()

    def visit_Name(self, node: ast.Name) -> None:  # noqa: N802
        if isinstance(node.ctx, ast.Load):
            self.load(node, node.id)
        elif isinstance(node.ctx, ast.Store):
            self.store(node, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:  # noqa: N802
        text = dotted(node)
        if text is not None and self.is_global(text.split(".")[0]):
            self.usage.dotted.append((node, text))
        if not isinstance(node.ctx, ast.Load):
            self.mutate(node.value)
            if self.body is not None:
                self.body.sets_attributes = True
        self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:  # noqa: N802
        if not isinstance(node.ctx, ast.Load):
            self.mutate(node.value)
        self.visit(node.value)
        self.visit(node.slice)

    def visit_Assign(self, node: ast.Assign) -> None:  # noqa: N802
        with self.statement_for(*node.targets):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda() as function):
                    self.visit_Lambda(function, name)
                case _:
                    self.visit(node.value)
            self.visit_all(node.targets)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:  # noqa: N802
        if isinstance(node.target, ast.Name):
            self.load(node.target, node.target.id)
        with self.statement_for(node.target):
            self.visit(node.value)
            self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: N802
        if self.now and not self.lazy_annotations:  # in a function it is never evaluated
            self.visit(node.annotation)
        if node.value is not None:
            with self.statement_for(node.target):
                self.visit(node.value)
                self.visit(node.target)
        elif not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_Expr(self, node: ast.Expr) -> None:  # noqa: N802
        self.thrown_away = thrown_away(node.value)
        calls = [part for part in self.thrown_away if isinstance(part, ast.Call)]
        changed = [part for call in calls for part in changed_by(call, discarded=True)]
        with self.statement_for(*changed):
            self.visit(node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:  # noqa: N802
        with self.statement_for(node.target):
            self.visit(node.value)
            self.visit(node.target)

    def visit_Call(self, node: ast.Call) -> None:  # noqa: N802
        function = node.func
        called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        discarded = any(node is part for part in self.thrown_away)
        self.note_call(node, discarded=discarded and called not in _SHOWING)
        for changed in changed_by(node, discarded=discarded):
            self.mutate(changed)
        if called in ("setattr", "__setattr__") and self.body is not None:
            self.body.sets_attributes = True
        self.visit_all(ast.iter_child_nodes(node))

    def note_call(self, node: ast.expr, *, discarded: bool, decorated: "Function | ast.ClassDef | None" = None) -> None:
        """Take down a call, or a decorator's."""
        call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
        function = call.func
        if isinstance(function, ast.Attribute):
            name, on = function.attr, self.refs(function.value)
        elif isinstance(function, ast.Name) and self.is_global(function.id):
            name, on = function.id, None
        else:
            return
        annotation = None
        if isinstance(decorated, Function):
            first = [*decorated.args.posonlyargs, *decorated.args.args][:1]
            annotation = first[0].annotation if first else None
        found = Call(
            name=name,
            on=on,
            dotted=dotted(function),
            arguments=tuple(map(self.refs, call.args)),
            keywords={keyword.arg or "**": self.refs(keyword.value) for keyword in call.keywords},
            discarded=discarded,
            decorates=None if decorated is None else self.refs(*([annotation] if annotation else [])),
            subjects=self.subjects,
        )
        if self.now:
            self.usage.calls.append(found)
        elif self.body is not None:
            self.body.calls.append(found)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:  # noqa: N802
        for alias in node.names:
            if alias.name != "*":
                plain = isinstance(node, ast.Import) and alias.asname is None
                self.store(alias, alias.name.split(".")[0] if plain else alias.asname or alias.name)

    visit_ImportFrom = visit_Import  # noqa: N815

    # -- scopes

    def visit_FunctionDef(self, node: Function) -> None:  # noqa: N802
        arguments = node.args
        self.visit_decorators(node)
        self.visit_all([*arguments.defaults, *arguments.kw_defaults])
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        if not self.lazy_annotations:
            variadic = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
            self.visit_all([*(a.annotation for a in [*every, *variadic]), node.returns])
        self.store(node, node.name)
        unbound = any(isinstance(part, ast.Name) and part.id == "staticmethod" for part in node.decorator_list)
        parameters = (*[""] * unbound, *(a.arg for a in every))  # as a bound method counts them
        with self.function(node.name, parameters, function_scope(node.body, arguments)):
            self.visit_all(node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda, name: str = "") -> None:  # noqa: N802
        self.visit_all([*node.args.defaults, *node.args.kw_defaults])
        parameters = tuple(a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs])
        with self.function(name, parameters, function_scope([node.body], node.args)):
            self.visit(node.body)

    @contextmanager
    def function(self, name: str, parameters: tuple[str, ...], scope: Scope) -> Iterator[None]:
        """The inside of a function; `name` is empty where nobody can call it by one."""
        before = self.body, self.body_scope, self.subjects
        self.subjects = frozenset()
        if self.body is None and name:
            self.body = self.usage.bodies.setdefault(name, Body(parameters))
            self.body_scope = scope
        with self.scope(scope):
            yield
        self.body, self.body_scope, self.subjects = before

    def visit_decorators(self, node: "Function | ast.ClassDef") -> None:
        self.visit_all(node.decorator_list)
        if not self.scopes:
            for decorator in node.decorator_list:
                self.note_call(decorator, discarded=True, decorated=node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:  # noqa: N802
        self.visit_decorators(node)
        self.visit_all([*node.bases, *node.keywords])
        declared = {name for child in node.body if isinstance(child, ast.Global) for name in child.names}
        with self.scope(Scope("class", set(), declared)):
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
        outer = self.elements_of
        self.elements_of = outer | {
            name.id: roots(generator.iter) for generator in node.generators for name in roots(generator.target)
        }
        with self.scope(Scope("comprehension", local)):
            # The targets are local: only what indexes or attributes in them read can matter
            self.visit_targets(first.target)
            self.visit_all(first.ifs)
            for generator in others:
                self.visit(generator.iter)
                self.visit_targets(generator.target)
                self.visit_all(generator.ifs)
            self.visit_all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        self.elements_of = outer

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
        before, outer = set(self.assigned), self.elements_of
        self.elements_of = outer | {name.id: roots(node.iter) for name in roots(node.target)}
        self.target(node.target)
        self.visit_all(node.body)
        self.assigned, self.elements_of = before, outer
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
