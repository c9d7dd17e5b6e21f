"""Scopes: which names a function, a class or a comprehension has to itself."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Scope:
    kind: Literal["function", "class", "comprehension"]
    local: set[str]
    declared_global: set[str] = field(default_factory=set)


def function_scope(body: Iterable[ast.AST], arguments: ast.arguments) -> Scope:
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
    return Scope("function", local - declared - outer, declared)
