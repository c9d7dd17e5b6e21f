"""The statements of one file at top level, as the pieces that slices are made of.

Imports are taken apart name by name. What stands under a main guard, or in a function that sets globals and is called
without arguments, stands at top level: `main()` becomes what main does.
"""

import ast
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from grading.dependencies import usage
from grading.hand_in import SourceFile
from grading.rename import blank_out, rename, rename_in
from grading.scopes import function_scope
from grading.source import Piece, parse
from grading.usage import Usage

# Methods that a loop calls when it trains or draws rather than computes something a definition could need
RUN_METHODS = frozenset(
    {"backward", "step", "zero_grad", "show", "imshow", "plot", "subplot", "subplots", "savefig", "figure"}
)
LAZY = "from __future__ import annotations"

# Functions in functions whose calls are replaced by what they do: main, that calls setup, that calls a helper
_DEPTH = 5

Compound = ast.For | ast.AsyncFor | ast.While | ast.If | ast.With | ast.AsyncWith | ast.Try | ast.TryStar | ast.Match
Import = ast.Import | ast.ImportFrom


@dataclass(eq=False, kw_only=True)
class Statement:
    """One statement at top level, or one that was taken out of a block or a function."""

    module: int  # index
    order: int  # position in the order of execution
    node: ast.stmt
    file: str  # as tracebacks show it
    first_line: int  # of the syntax tree under `file`: what to add to its 1-based lines, plus 1
    line: int  # of `source`'s first line under `file`
    source: str
    usage: Usage
    lazy_annotations: bool = False  # `from __future__ import annotations` is in force
    is_run: bool = False  # trains, samples or draws: never part of a slice
    changed_names: dict[str, str] = field(default_factory=dict)  # of this statement alone, by old name

    def line_of(self, tree_line: int) -> int:
        return self.first_line + tree_line - 1


@dataclass(frozen=True, kw_only=True)
class _Read:
    """One piece of a file, parsed."""

    piece: Piece
    lines: list[str]
    body: list[ast.stmt]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A statement where it was found."""

    node: ast.stmt
    read: _Read
    names: Mapping[str, str] | None = None  # what to call a function's local names at top level; None: no function's


def read_statements(
    index: int, file: SourceFile, entry_points: frozenset[str], is_sibling: Callable[[Import], bool]
) -> Iterator[Statement]:
    """The statements of a file in order.

    Args:
        index: of the module.
        file: its text.
        entry_points: functions whose callers at top level only run things.
        is_sibling: whether an import is of another module that was handed in.
    """
    reads = [_parse(piece, is_sibling) for piece in file.pieces if piece.fault is None]
    yield from _Reader(index, reads, entry_points).statements()


def _parse(piece: Piece, is_sibling: Callable[[Import], bool]) -> _Read:
    tree = parse(piece.source)
    lines = piece.source.split("\n")
    inner: list[ast.stmt] = [node for node in _inner_imports(tree) if is_sibling(node)]
    if inner:  # as good at top level, where they can be resolved
        # Last first: what stands before it on the same line keeps its place
        for node in sorted(inner, key=lambda node: (node.lineno, node.col_offset), reverse=True):
            blank_out(node, lines)
        tree = parse("\n".join(lines))
    return _Read(piece=piece, lines=lines, body=inner + tree.body)


class _Reader:
    def __init__(self, index: int, reads: list[_Read], entry_points: frozenset[str]) -> None:
        self.index = index
        self.reads = reads
        self.entry_points = entry_points
        self.lazy = False
        # Functions to put in the place of their calls, with the piece where they stand: the last of each name
        self.functions = {
            node.name: (node, read)
            for read in reads
            for node in read.body
            if isinstance(node, ast.FunctionDef) and _sets_globals_only(node)
        }

    def statements(self) -> Iterator[Statement]:
        for read in self.reads:
            for node in read.body:
                self.lazy = self.lazy or (isinstance(node, ast.ImportFrom) and ast.unparse(node) == LAZY)
                for part in self.parts(_Part(node=node, read=read)):
                    yield self.statement(part)

    def parts(self, part: _Part, inside: tuple[str, ...] = ()) -> Iterator[_Part]:
        """Imports one name at a time, a main guard's body, what a called function does, a run's assignments."""
        node = part.node
        if isinstance(node, Import):
            for alias in node.names if getattr(node, "module", None) != "__future__" else ():
                single = (
                    ast.Import(names=[alias])
                    if isinstance(node, ast.Import)
                    else ast.ImportFrom(module=node.module, names=[alias], level=node.level)
                )
                yield _Part(node=ast.copy_location(single, node), read=part.read)
        elif isinstance(node, ast.If) and _is_main_guard(node.test):
            for inner in node.body:
                yield from self.parts(_Part(node=inner, read=part.read, names=part.names), inside)
        elif (name := _called_bare(node)) in self.functions and name not in inside and len(inside) < _DEPTH:
            function, read = self.functions[name]
            local = function_scope(function.body, function.args).local - _imported_in(function)
            names = {old: f"{old}__{name}" for old in local}
            for inner in function.body:
                if not isinstance(inner, ast.Global | ast.Return | ast.Pass):
                    yield from self.parts(_Part(node=inner, read=read, names=names), (*inside, name))
        else:
            if isinstance(node, Compound) and _is_run(usage(node), self.entry_points):
                for assignment in _simple_assignments(node):
                    yield _Part(node=assignment, read=part.read, names=part.names)
            yield part

    def statement(self, part: _Part) -> Statement:
        node = part.node
        line, source = _text(node, part.read.lines)
        if part.names is not None:  # a copy: the function stands where it stands, too
            node, source = rename_in(copy.deepcopy(node), part.names), rename(source, part.names)
        found = usage(node, lazy_annotations=self.lazy)
        return Statement(
            module=self.index,
            order=0,
            node=node,
            file=part.read.piece.label,
            first_line=part.read.piece.line,
            line=part.read.piece.line + line - 1,
            source=source,
            usage=found,
            lazy_annotations=self.lazy and not isinstance(node, Import),
            is_run=isinstance(node, Compound) and _is_run(found, self.entry_points),
        )


# --- calls that become what they do


def _called_bare(node: ast.stmt) -> str:
    """The function that a statement is nothing but a call of, without arguments; empty: it is something else."""
    match node:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=[], keywords=[])):
            return name
    return ""


def _sets_globals_only(function: ast.FunctionDef) -> bool:
    """Whether its body may stand where it is called: it takes and returns nothing, and sets globals."""
    arguments = function.args
    takes = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    if function.decorator_list or any(argument is not None for argument in takes):
        return False
    if not any(isinstance(node, ast.Global) for node in function.body):
        return False
    todo: list[ast.AST] = list(function.body[:-1])
    if not isinstance(function.body[-1], ast.Return):
        todo.append(function.body[-1])
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom | ast.Nonlocal):
            return False
        if isinstance(node, ast.Global) and node not in function.body:
            return False  # of a function within, or after some other use
        todo.extend(ast.iter_child_nodes(node))
    return True


def _imported_in(function: ast.FunctionDef) -> set[str]:
    """What it imports keeps its name: it is the same everywhere."""
    return {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(function)
        if isinstance(node, Import)
        for alias in node.names
    }


# --- runs


def _is_main_guard(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and {"__name__", "__main__"} == {
        part.id if isinstance(part, ast.Name) else part.value if isinstance(part, ast.Constant) else None
        for part in (test.left, *test.comparators)
    }


def _is_run(found: Usage, entry_points: frozenset[str]) -> bool:
    return not RUN_METHODS.isdisjoint(found.methods) or not entry_points.isdisjoint(found.functions)


def _simple_assignments(block: ast.stmt) -> Iterator[ast.stmt]:
    """The assignments in a training loop and the like that depend on nothing in it: `c_drop_prob = 0.1`."""
    bound = usage(block).binds
    stack: list[ast.AST] = [block]
    found: list[ast.stmt] = []
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Assign | ast.AnnAssign) and bound.isdisjoint(usage(node).reads):
            found.append(node)
        if isinstance(node, Compound | ast.ExceptHandler | ast.match_case):
            stack.extend(ast.iter_child_nodes(node))
    return iter(sorted(found, key=lambda node: node.lineno))


# --- text


def _inner_imports(tree: ast.Module) -> list[Import]:
    """The imports inside of functions."""
    return [
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in node.body
        if isinstance(inner, Import)
    ]


def _text(node: ast.stmt, lines: list[str]) -> tuple[int, str]:
    """First line and text of a statement, fit to stand at the left margin."""
    if isinstance(node, Import):
        return node.lineno, ast.unparse(node)
    start = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    end = node.end_lineno or node.lineno
    if isinstance(node, Compound | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        whole = "\n".join(lines[start - 1 : end]) + "\n"
        # A definition out of a block keeps its indentation, and so its strings and columns
        return (start - 1, "if True:\n" + whole) if node.col_offset else (start, whole)
    encoded = [line.encode() for line in lines[start - 1 : end]]
    encoded[-1] = encoded[-1][: node.end_col_offset]
    encoded[0] = encoded[0][node.col_offset :]
    return start, b"\n".join(encoded).decode() + "\n"
