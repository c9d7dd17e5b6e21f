"""The text of a hand-in with its syntax trees, and changes to it that leave every line its number."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from grading.hand_in import HandIn, SourceFile
from grading.source import Piece, parse

Where = tuple[int, int]  # index of the file, index of the piece in it

IMPORT_CELL = "the course's imports"  # what tracebacks would call the place of an import that was added
_LAYOUT = frozenset({"ctx", "kind", "type_comment"})  # fields of a syntax tree that say nothing of the program


class Text:
    """The text of a hand-in, its syntax trees, and what is to be changed in it."""

    def __init__(self, hand_in: HandIn) -> None:
        self.hand_in = hand_in
        self.trees = {
            (index, number): parse(piece.source)
            for index, file in enumerate(hand_in.files)
            for number, piece in enumerate(file.pieces)
            if piece.fault is None
        }
        self.nodes: dict[type[ast.AST], list[tuple[Where, ast.AST]]] = defaultdict(list)
        self.bodies: list[list[ast.stmt]] = []
        for where, tree in self.trees.items():
            for node in ast.walk(tree):
                self.nodes[type(node)].append((where, node))
                bodies = (getattr(node, name, None) for name in ("body", "orelse", "finalbody"))
                self.bodies += [body for body in bodies if isinstance(body, list) and body]
        self._changes: dict[Where, list[tuple[ast.expr, str]]] = defaultdict(list)
        self._imports: dict[int, list[str]] = defaultdict(list)

    def functions(self) -> Iterator[tuple[Where, ast.FunctionDef]]:
        """The definitions of all functions and methods."""
        for where, node in self.nodes[ast.FunctionDef]:
            assert isinstance(node, ast.FunctionDef)  # by the key
            yield where, node

    def place(self, where: Where, node: ast.expr | ast.stmt) -> str:
        """File and line, in words."""
        piece = self._piece(where)
        return f"{piece.label}, line {piece.line + node.lineno - 1}"

    def source(self, where: Where, node: ast.expr) -> str:
        """An expression as the student wrote it."""
        return ast.get_source_segment(self._piece(where).source, node) or ast.unparse(node)

    def change(self, where: Where, node: ast.expr, text: str) -> None:
        """Write `text` in place of an expression."""
        self._changes[where].append((node, text))

    def add_import(self, index: int, statement: str) -> None:
        """Put an import in front of a file."""
        self._imports[index].append(statement)

    def written(self, remarks: Sequence[str]) -> HandIn:
        """The hand-in with all changes, and with remarks to the student."""
        if not (self._changes or self._imports):
            return self.hand_in
        files = tuple(self._written_file(index, file) for index, file in enumerate(self.hand_in.files))
        return replace(self.hand_in, files=files, notices=(*self.hand_in.notices, *remarks))

    def _written_file(self, index: int, file: SourceFile) -> SourceFile:
        pieces = [
            replace(piece, source=_rewritten(piece.source, self._changes[index, number]))
            if (index, number) in self._changes
            else piece
            for number, piece in enumerate(file.pieces)
        ]
        if index in self._imports:
            pieces.insert(0, Piece(label=IMPORT_CELL, line=1, source="\n".join(self._imports[index]) + "\n"))
        return replace(file, pieces=tuple(pieces))

    def _piece(self, where: Where) -> Piece:
        return self.hand_in.files[where[0]].pieces[where[1]]


def _rewritten(source: str, changes: Iterable[tuple[ast.expr, str]]) -> str:
    """The source with some expressions replaced; every line keeps its number."""
    lines = source.split("\n")
    for node, text in sorted(changes, key=lambda change: (change[0].lineno, change[0].col_offset), reverse=True):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        head, tail = lines[first].encode()[: node.col_offset], lines[last].encode()[node.end_col_offset :]
        # What stood on several lines stood in brackets, where line ends mean nothing
        lines[first : last + 1] = (head.decode() + text + "\n" * (last - first) + tail.decode()).split("\n")
    return "\n".join(lines)


def same(pattern: object, node: object, names: Mapping[str, frozenset[str]] | None = None) -> bool:
    """Whether two syntax trees are the same program; `names`: what a name of the pattern may be called instead."""
    if isinstance(pattern, ast.Name):
        return isinstance(node, ast.Name) and node.id in (names or {}).get(pattern.id, {pattern.id})
    if type(pattern) is not type(node):
        return False
    if isinstance(pattern, ast.AST):
        return all(
            same(value, getattr(node, name, None), names)
            for name, value in ast.iter_fields(pattern)
            if name not in _LAYOUT
        )
    if isinstance(pattern, list) and isinstance(node, list):
        return len(pattern) == len(node) and all(same(a, b, names) for a, b in zip(pattern, node, strict=True))
    return pattern == node


def binds(node: ast.AST) -> str | None:
    """The name that a node gives a meaning, if it does."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            return name
        case ast.alias(name=name, asname=None):
            return name.split(".")[0]
        case ast.alias(asname=name):
            return name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
    return None
