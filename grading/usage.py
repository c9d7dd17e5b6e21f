"""What one statement does with names, as `grading.dependencies` finds it, and what changes an object."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Ref = str | int  # a global name, or the position of a parameter of the function around

# Functions whose result is, or holds, the object that they are given: what changes it changes that object
_TRANSPARENT = frozenset({"vars", "iter", "getattr", "memoryview", "reversed", "enumerate", "zip", "map", "filter"})


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call, with the names at the bottom of what it is given: `fill(table["x"], *rest)` is given table and rest."""

    name: str  # of the function or the method
    on: frozenset[Ref] | None = None  # what a method is called on; None: a plain function
    dotted: str | None = None  # `ddpm.setup`, where it is all names and dots
    arguments: tuple[frozenset[Ref], ...] = ()  # by position
    keywords: Mapping[str, frozenset[Ref]] = field(default_factory=dict)
    discarded: bool = False  # in a statement that throws its result away, so that it is there for what it changes
    decorates: frozenset[Ref] | None = None  # it decorates; the names in the annotation of the first parameter
    subjects: frozenset[str] = frozenset()  # what the simple statement around it is there for

    @property
    def given(self) -> frozenset[Ref]:
        """Every name among its arguments."""
        return frozenset().union(*self.arguments, *self.keywords.values())


@dataclass(eq=False)
class Body:
    """What a function or method at top level does once it is called."""

    parameters: tuple[str, ...] = ()  # those that may be given by position
    binds: set[str] = field(default_factory=set)  # by `global`
    reads: dict[str, int] = field(default_factory=dict)  # global name -> first line
    mutates: set[Ref] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    sets_attributes: bool = False  # of whatever


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
    # Of `mutates`: those changed only on the way to something else -> what that is. `y = x.sqrt_()` is there for y
    in_passing: dict[str, set[str]] = field(default_factory=dict)
    binds_later: set[str] = field(default_factory=set)  # by `global`, once its functions are called
    calls: list[Call] = field(default_factory=list)  # made now
    bodies: dict[str, Body] = field(default_factory=dict)  # of the functions, or a class's methods, that it defines
    # Dotted names such as `ddpm.q`, with their nodes
    dotted: list[tuple[ast.Attribute, str]] = field(default_factory=list)
    # Every node that names a global: what to rewrite when the name changes
    nodes: list[tuple[ast.AST, str, Literal["load", "store"]]] = field(default_factory=list)

    @property
    def functions(self) -> set[str]:
        """Names of the plain functions called now."""
        return {call.name for call in self.calls if call.on is None}

    @property
    def methods(self) -> set[str]:
        """Names of the methods called now."""
        return {call.name for call in self.calls if call.on is not None}


def roots(node: ast.AST) -> list[ast.Name]:
    """The names at the bottom of `a.b[0].c()`, of `[a, *b]`, of `vars(a)`: whose objects a change would reach."""
    found: list[ast.Name] = []
    todo = [node]
    while todo:
        match todo.pop():
            case ast.Name() as name:
                found.append(name)
            case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.Starred(value=value):
                todo.append(value)
            case ast.Call(func=ast.Attribute(value=value)):
                todo.append(value)
            case ast.Call(func=ast.Name(id=function), args=arguments) if function in _TRANSPARENT:
                todo += arguments
            case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
                todo += elements
            case ast.Dict(values=elements):
                todo += elements
            case ast.IfExp(body=body, orelse=other):
                todo += [body, other]
    return found


def dotted(node: ast.AST) -> str | None:
    """`a.b.c` as text, None where it is anything but names and dots."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


# --- what changes an object for certain -------------------------------------------------------------------------

# Methods that change their object, whatever becomes of the result. torch's own say so by a trailing underscore.
_MUTATORS = frozenset(
    {"append", "appendleft", "extend", "insert", "pop", "popitem", "setdefault", "itemset", "load_state_dict"}
    | {"register_buffer", "register_parameter", "add_module", "register_module", "__setitem__", "__setattr__"}
)
# The same where the result is thrown away: `x.add(1)` on a tensor changes nothing
_MUTATORS_IF_DISCARDED = frozenset({"add", "update", "remove", "discard", "clear", "sort", "reverse", "fill", "put"})


# Functions whose use in a statement of its own is to run what they are given to its end
_CONSUMERS = frozenset({"list", "tuple", "set", "any", "all", "sum", "max", "deque"})


def changed_by(call: ast.Call, *, discarded: bool) -> list[ast.expr]:
    """The expressions whose objects a call changes for certain, as far as it can be told without its definition."""
    found: list[ast.expr] = [keyword.value for keyword in call.keywords if keyword.arg == "out"]
    match call.func:
        case ast.Attribute(value=owner, attr=method):
            in_place = method.endswith("_") and not method.endswith("__")
            foreign = (dotted(owner) or "").endswith("init") or dotted(owner) in ("object", "operator", "np", "numpy")
            if foreign and call.args:
                if in_place or method in ("__setattr__", "setitem", "copyto"):  # nn.init.zeros_(x), np.copyto(x, y)
                    found.append(call.args[0])
            elif in_place or method in _MUTATORS or (discarded and method in _MUTATORS_IF_DISCARDED):
                found.append(owner)
        case ast.Name(id="setattr" | "delattr") if call.args:
            found.append(call.args[0])
    # `map(xs.append, ys)`: a method handed over is there to be called
    found += [
        argument.value for argument in call.args if isinstance(argument, ast.Attribute) and argument.attr in _MUTATORS
    ]
    return found


def thrown_away(node: ast.expr) -> list[ast.expr]:
    """The expressions in an expression statement whose results nobody sees: `[f(x) for x in y]` throws f(x) away."""
    found: list[ast.expr] = []
    todo = [node]
    while todo:
        part = todo.pop()
        found.append(part)
        match part:
            case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.BoolOp(values=elements):
                todo += elements
            case ast.ListComp(elt=element) | ast.SetComp(elt=element) | ast.GeneratorExp(elt=element):
                todo.append(element)
            case ast.DictComp(key=key, value=value):
                todo += [key, value]
            case ast.IfExp(body=body, orelse=other):
                todo += [body, other]
            case ast.Await(value=value):
                todo.append(value)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=arguments) if name in _CONSUMERS:
                todo += arguments
    return found
