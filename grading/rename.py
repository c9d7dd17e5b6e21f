"""Renaming a statement's global names in its text, so that every line stays where the student wrote it."""

import ast
from collections.abc import Callable, Mapping
from typing import Any

from grading.dependencies import usage
from grading.source import parse
from grading.usage import Usage


def rename(
    source: str,
    names: Mapping[str, str],
    stores: Mapping[str, str] | None = None,
    dotted: Mapping[str, str] | None = None,
) -> str:
    """One statement with some of its global names changed; local names of the same spelling stay.

    Args:
        source: the statement's text.
        names: new names, wherever the old one stands.
        stores: new names where the old one is bound, not where it is read.
        dotted: plain names for dotted ones, `ddpm.q` becoming `q`.
    """
    changes = _Changes(names, stores or {}, dotted or {})
    tree = parse(source)
    found = usage(tree.body[0])
    if not changes.wanted(found):
        return source
    return _in_text(source, tree, found, changes) or _in_tree(source, changes)


def rename_in(statement: ast.stmt, names: Mapping[str, str]) -> ast.stmt:
    """The same in a statement's tree, which is changed."""
    for node, name, _ in usage(statement).nodes:
        if name in names:
            _set_name(node, name, names[name])
    return statement


def without(source: str, dropped: Callable[[ast.stmt], bool]) -> str:
    """A block or a function with `pass` for the simple statements in it that are `dropped`; lines stay as they are."""
    found: list[ast.stmt] = []
    todo: list[ast.AST] = list(parse(source).body)
    while todo:
        for node in ast.iter_child_nodes(todo.pop()):
            if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr):
                if dropped(node):
                    found.append(node)
            elif not isinstance(node, ast.expr | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                todo.append(node)
    if not found:
        return source
    lines = source.split("\n")
    # Last first: what stands before it on the same line keeps its place
    for node in sorted(found, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        blank_out(node, lines)
    return "\n".join(lines)


def blank_out(node: ast.stmt, lines: list[str]) -> None:
    """Put `pass` where a simple statement stood; every other line keeps its number."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    head, tail = lines[first].encode()[: node.col_offset], lines[last].encode()[node.end_col_offset :]
    lines[first : last + 1] = [f"{head.decode()}pass{tail.decode()}"] + [""] * (last - first)


class _Changes:
    def __init__(self, names: Mapping[str, str], stores: Mapping[str, str], dotted: Mapping[str, str]) -> None:
        self.names, self.stores, self.dotted = names, stores, dotted

    def of(self, name: str, context: str) -> str | None:
        return self.names.get(name) or (self.stores.get(name) if context == "store" else None)

    def wanted(self, found: Usage) -> bool:
        return any(self.of(name, context) for _, name, context in found.nodes) or any(
            text in self.dotted for _, text in found.dotted
        )


def _in_text(source: str, tree: ast.Module, found: Usage, changes: _Changes) -> str | None:
    """The text with names replaced in place, or None where positions cannot be trusted (f-strings, mostly)."""
    lines = [line.encode() for line in source.split("\n")]
    edits: set[tuple[int, int, bytes, bytes]] = set()
    for node, name, context in found.nodes:
        new = changes.of(name, context)
        if new is None:
            continue
        place = _place(node, name, lines)
        if place is None:
            return None
        edits.add((*place, name.encode(), new.encode()))
    for attribute, text in found.dotted:
        if text in changes.dotted:
            edits.add((attribute.lineno - 1, attribute.col_offset, text.encode(), changes.dotted[text].encode()))
    for line, column, old, new_text in sorted(edits, reverse=True):
        if lines[line][column : column + len(old)] != old:
            return None
        lines[line] = lines[line][:column] + new_text + lines[line][column + len(old) :]
    try:
        text = b"\n".join(lines).decode()
        same = ast.dump(parse(text)) == ast.dump(_apply(tree, found, changes))
    except (SyntaxError, ValueError):
        return None
    return text if same else None


def _place(node: ast.AST, name: str, lines: list[bytes]) -> tuple[int, int] | None:
    """Line index and byte column of the name, for the nodes that are likely to be renamed."""
    if isinstance(node, ast.Name):
        return node.lineno - 1, node.col_offset
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        keyword = b"class" if isinstance(node, ast.ClassDef) else b"def"
        start = lines[node.lineno - 1].find(keyword, node.col_offset) + len(keyword)
        column = lines[node.lineno - 1].find(name.encode(), start)
        return (node.lineno - 1, column) if column > 0 else None
    return None


def _in_tree(source: str, changes: _Changes) -> str:
    """The statement written anew from its syntax tree: right, but its lines move."""
    tree = parse(source)
    try:
        return ast.unparse(_apply(tree, usage(tree.body[0]), changes))
    except ValueError:  # an f-string around a text that needs a backslash: Python reads some that it cannot write
        return source  # a name may now mean the wrong thing, in this one statement


def _apply(tree: ast.Module, found: Usage, changes: _Changes) -> ast.Module:
    for node, name, context in found.nodes:
        new = changes.of(name, context)
        if new is not None:
            _set_name(node, name, new)
    plain = {id(node): changes.dotted[text] for node, text in found.dotted if text in changes.dotted}
    return ast.fix_missing_locations(_Undot(plain).visit(tree)) if plain else tree


def _set_name(node: Any, old: str, new: str) -> None:
    match node:
        case ast.Name():
            node.id = new
        case ast.alias():
            node.asname = new
        case ast.Global():
            node.names = [new if name == old else name for name in node.names]
        case ast.MatchMapping():
            node.rest = new
        case _:  # definitions, handlers and patterns
            node.name = new


class _Undot(ast.NodeTransformer):
    def __init__(self, plain: Mapping[int, str]) -> None:
        self.plain = plain

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if id(node) in self.plain:
            return ast.copy_location(ast.Name(id=self.plain[id(node)], ctx=node.ctx), node)
        return self.generic_visit(node)
