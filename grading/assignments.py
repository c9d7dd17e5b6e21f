"""What statements assign to a name, and what calls hand to parameters, as far as the source tells."""

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from grading.placeholders import Function, is_empty_value, placeholder_line


@dataclass(frozen=True, kw_only=True)
class Origin:
    """One thing that a name may stand for at some point."""

    expression: ast.expr
    at: ast.AST  # the point at which the expression is evaluated
    whole: bool = True  # False: the name is a part of it, or changes from turn to turn of a loop
    default_of: str | None = None  # the function whose parameter has it as its default


def is_unfilled(node: ast.AST) -> bool:
    """Whether a value, or what assigns one, holds a placeholder or nothing."""
    return placeholder_line(node) is not None or is_empty_value(node)


def argument(call: ast.Call, position: int | None, names: Collection[str]) -> ast.expr | None:
    """What a call gives for a parameter at this position, 0-based, or of one of these names."""
    for keyword in call.keywords:
        if keyword.arg in names:
            return keyword.value
    if position is None or any(isinstance(given, ast.Starred) for given in call.args[: position + 1]):
        return None
    return call.args[position] if position < len(call.args) else None


def is_in(node: ast.AST, body: Collection[ast.stmt]) -> bool:
    return any(node is child for child in body)


def before_in_block(node: ast.stmt, parent: ast.AST) -> list[ast.stmt]:
    """The statements before one in its block."""
    for field in ("body", "orelse", "finalbody"):
        block = getattr(parent, field, None)
        if isinstance(block, list):
            for index, child in enumerate(block):
                if child is node:
                    return block[:index]
    return []


def bound_by(outer: ast.AST, inner: ast.AST, name: str) -> Origin | None:
    """Where a loop, a `with`, a comprehension or a lambda around a point binds a name for it."""
    match outer:
        case ast.For() | ast.AsyncFor() if inner is not outer.iter and _names_in(outer.target, name):
            return Origin(expression=outer.iter, at=outer, whole=False)
        case ast.With() | ast.AsyncWith():
            for item in outer.items:
                if item.optional_vars is not None and inner is not item and _names_in(item.optional_vars, name):
                    return Origin(expression=item.context_expr, at=outer, whole=False)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            for generator in outer.generators:
                if _names_in(generator.target, name):
                    return Origin(expression=generator.iter, at=outer, whole=False)
        case ast.Lambda() if name in {item.arg for item in ast.walk(outer.args) if isinstance(item, ast.arg)}:
            return Origin(expression=ast.Constant(...), at=outer, whole=False)
    return None


def left_by_block(block: Sequence[ast.stmt], name: str, binders: Collection[ast.AST]) -> tuple[list[Origin], bool]:
    """What a block may have assigned to a name once it is done, the nearest first; and whether it surely has.

    `binders` are the nodes that bind the name, and all nodes around these.
    """
    found: list[Origin] = []
    for statement in reversed(block):
        values, surely = left_by(statement, name, binders) if statement in binders else ([], False)
        found += values
        if surely:
            return found, True
    return found, False


def left_by(statement: ast.stmt, name: str, binders: Collection[ast.AST]) -> tuple[list[Origin], bool]:
    def of_block(block: Sequence[ast.stmt]) -> tuple[list[Origin], bool]:
        return left_by_block(block, name, binders)

    match statement:
        case ast.If():
            body, in_body = of_block(statement.body)
            other, in_other = of_block(statement.orelse)
            return other + body, in_body and in_other
        case ast.For() | ast.AsyncFor() | ast.While():
            found, _ = of_block(statement.body)
            if not isinstance(statement, ast.While) and _names_in(statement.target, name):
                found.append(Origin(expression=statement.iter, at=statement, whole=False))
            return found, False
        case ast.With() | ast.AsyncWith():
            return of_block(statement.body)
        case ast.Try() | ast.TryStar():
            found, surely = of_block([*statement.body, *statement.orelse])
            last, at_last = of_block(statement.finalbody)
            handled = [value for handler in statement.handlers for value in of_block(handler.body)[0]]
            return handled + found + last, surely or at_last
        case ast.Match():
            return [value for case in statement.cases for value in of_block(case.body)[0]], False
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [], False
    origin = assigned(statement, name)
    # A placeholder counts as if its line were not there
    return ([] if origin is None else [origin]), origin is not None and not is_unfilled(statement)


def assigned(statement: ast.stmt, name: str) -> Origin | None:
    """What a simple statement assigns to a name."""
    match statement:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                if isinstance(target, ast.Name) and target.id == name:
                    return Origin(expression=value, at=statement)
                if isinstance(target, ast.Tuple | ast.List) and _names_in(target, name):
                    return _unpacked(statement, target, value, name)
        case ast.AnnAssign(target=ast.Name(id=target_name), value=ast.expr() as value) if target_name == name:
            return Origin(expression=value, at=statement)
        case ast.AugAssign(target=ast.Name(id=target_name)) if target_name == name:
            # As an expression of its own: `p *= 0.5` leaves `p * 0.5`
            before = ast.copy_location(ast.Name(id=name, ctx=ast.Load()), statement)
            both = ast.BinOp(left=before, op=statement.op, right=statement.value)
            return Origin(expression=ast.copy_location(both, statement), at=statement)
    for node in ast.walk(statement):
        if isinstance(node, ast.NamedExpr) and node.target.id == name:
            return Origin(expression=node.value, at=statement)
    return None


def _unpacked(statement: ast.stmt, target: ast.Tuple | ast.List, value: ast.expr, name: str) -> Origin:
    if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
        for one, other in zip(target.elts, value.elts, strict=True):
            if isinstance(one, ast.Name) and one.id == name:
                return Origin(expression=other, at=statement)
    return Origin(expression=value, at=statement, whole=False)


def _names_in(target: ast.AST, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(target))


def parameter_names(function: Function) -> list[str]:
    arguments = function.args
    return [item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def position_of(function: Function, name: str, offset: int) -> int | None:
    """The position of a parameter in calls, 0-based; None where it can be given by name alone."""
    names = [item.arg for item in (*function.args.posonlyargs, *function.args.args)]
    return names.index(name) - offset if name in names and names.index(name) >= offset else None


def default_of_parameter(function: Function, name: str) -> ast.expr | None:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = dict(zip([item.arg for item in positional][::-1], arguments.defaults[::-1], strict=False))
    named = {item.arg: value for item, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value}
    return (defaults | named).get(name)
