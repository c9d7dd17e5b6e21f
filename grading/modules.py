"""The statements of a hand-in in the order in which Python would run them, and what their names refer to.

All modules of a hand-in end up in one namespace. Imports among them are resolved here, by renaming: where two modules
use one name for different things, one of the two gets another name.
"""

import ast
import builtins
import re
import sys
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from grading.dependencies import Usage, usage
from grading.hand_in import HandIn, SourceFile
from grading.outcomes import BadInput
from grading.rename import rename
from grading.source import Piece, parse
from sandbox.program import Chunk

MAX_STATEMENTS = 3_000  # at top level; the course's notebook has 150. Slicing takes quadratic time at worst
GUEST_MODULES = frozenset({"torch", "numpy", "einops"})  # what a guest has beyond Python itself
BUILTINS = frozenset(dir(builtins)) | {"__file__", "__class__", "__annotations__"}

# Methods that a loop calls when it trains or draws rather than computes something a definition could need
_RUN_METHODS = frozenset(
    {"backward", "step", "zero_grad", "show", "imshow", "plot", "subplot", "subplots", "savefig", "figure"}
)

_LAZY = "from __future__ import annotations"

Compound = ast.For | ast.AsyncFor | ast.While | ast.If | ast.With | ast.AsyncWith | ast.Try | ast.TryStar | ast.Match
Symbol = tuple[int, str]  # index of the module, name in it


@dataclass(eq=False, kw_only=True)
class Statement:
    """One statement at top level, or one that was taken out of a block at top level."""

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


class Modules:
    """A hand-in's statements and names. `entry_points`: functions whose callers at top level only run things.

    Raises `BadInput` where there are more statements than anyone writes.
    """

    def __init__(self, hand_in: HandIn, entry_points: frozenset[str], stubs: Sequence[str]) -> None:
        self.notices: list[str] = []
        self.broken: list[Piece] = [piece for file in hand_in.files for piece in file.pieces if piece.fault]
        self.is_notebook = any(file.is_notebook for file in hand_in.files)
        self._stubs = frozenset(stubs)
        self._names = [_dotted_name(file.name) for file in hand_in.files]
        self._siblings: dict[Symbol, int | Symbol] = {}  # names bound by imports of other modules handed in
        self._prefixes: list[dict[str, int]] = [{} for _ in hand_in.files]  # dotted name of a module -> its index
        self._sibling_stars: dict[int, list[int]] = defaultdict(list)
        self.stars: dict[int, list[Statement]] = defaultdict(list)
        self.bindings: dict[Symbol, list[Statement]] = defaultdict(list)
        read = [list(self._read(index, file, entry_points)) for index, file in enumerate(hand_in.files)]
        if sum(map(len, read)) > MAX_STATEMENTS:
            raise BadInput(
                f"There are more than {MAX_STATEMENTS} statements in what was handed in. "
                "Delete what belongs to no answer, such as data written out as code."
            )
        self.statements = self._in_order(read)
        for statement in self.statements:
            for name in statement.usage.binds:
                self.bindings[statement.module, name].append(statement)
        self._fallbacks = self._by_name()
        self._borrowed: set[Symbol] = set()
        self.new_names: dict[Symbol, str] = {}  # of what has another name in chunks than in its module

    def _read(self, index: int, file: SourceFile, entry_points: frozenset[str]) -> Iterator[Statement]:
        lazy = False
        for piece in file.pieces:
            if piece.fault is not None:
                continue
            tree = parse(piece.source)
            lines = piece.source.split("\n")
            nodes: list[ast.stmt] = []
            inner = [node for node in _inner_imports(tree) if self._is_of_siblings(node, index)]
            if inner:  # as good at top level, where they can be resolved
                nodes += inner
                # Last first: what stands before it on the same line keeps its place
                for found_inside in sorted(inner, key=lambda node: (node.lineno, node.col_offset), reverse=True):
                    _blank_out(found_inside, lines)
                tree = parse("\n".join(lines))
            for node in nodes + tree.body:
                lazy = lazy or (isinstance(node, ast.ImportFrom) and ast.unparse(node) == _LAZY)
                for part in _parts(node, entry_points):
                    found = usage(part, lazy_annotations=lazy)
                    line, source = _text(part, lines)
                    yield Statement(
                        module=index,
                        order=0,
                        node=part,
                        file=piece.label,
                        first_line=piece.line,
                        line=piece.line + line - 1,
                        source=source,
                        usage=found,
                        lazy_annotations=lazy and not isinstance(part, ast.Import | ast.ImportFrom),
                        is_run=isinstance(part, Compound) and _is_run(found, entry_points),
                    )

    # -- imports among the modules handed in

    def _is_of_siblings(self, node: ast.Import | ast.ImportFrom, index: int) -> bool:
        if isinstance(node, ast.Import):
            return all(self._find(alias.name, index) is not None for alias in node.names)
        base, relative = node.module or "", node.level > 0
        return all(
            self._find(f"{base}.{alias.name}".strip("."), index, relative=relative) is not None
            or self._find(base, index, relative=relative) is not None
            for alias in node.names
        )

    def _in_order(self, read: list[list[Statement]]) -> list[Statement]:
        """Statements as Python runs them: a module's when it is first imported."""
        ordered: list[Statement] = []
        stack = [(index, iter(read[index])) for index in reversed(range(len(read)))]
        started: set[int] = set()
        running: set[int] = set()
        while stack:
            index, statements = stack[-1]
            if index not in running:
                if index in started:
                    stack.pop()
                    continue
                started.add(index)
                running.add(index)
            for statement in statements:
                target = self._import(statement)
                if target is None:
                    ordered.append(statement)
                elif target not in started:
                    stack.append((target, iter(read[target])))
                    break
            else:
                running.discard(index)
                stack.pop()
        for order, statement in enumerate(ordered):
            statement.order = order
        return ordered

    def _import(self, statement: Statement) -> int | None:
        """The module that a top-level import takes from those handed in; None if it is no such import."""
        node, index = statement.node, statement.module
        if isinstance(node, ast.Import):
            alias = node.names[0]
            target = self._find(alias.name, index)
            if target is None:
                return None
            if alias.asname or "." not in alias.name:
                self._siblings[index, alias.asname or alias.name] = target
            self._prefixes[index][alias.asname or alias.name] = target
            return target
        if not isinstance(node, ast.ImportFrom):
            return None
        alias = node.names[0]
        base = node.module or ""
        inner = self._find(f"{base}.{alias.name}" if base else alias.name, index, relative=node.level > 0)
        if inner is not None and alias.name != "*":
            self._siblings[index, alias.asname or alias.name] = inner
            self._prefixes[index][alias.asname or alias.name] = inner
            return inner
        target = self._find(base, index, relative=node.level > 0) if base else None
        if target is None:
            if alias.name == "*":
                self.stars[index].append(statement)
            return None
        if alias.name == "*":
            self._sibling_stars[index].append(target)
        else:
            self._siblings[index, alias.asname or alias.name] = (target, alias.name)
        return target

    def _find(self, dotted: str, importer: int, *, relative: bool = False) -> int | None:
        top = dotted.split(".")[0]
        if not dotted or (top in GUEST_MODULES and not relative):
            return None
        foreign = top in sys.stdlib_module_names or top in self._stubs
        for index, name in enumerate(self._names):
            if index == importer:
                continue
            if name == dotted or name.endswith(f".{dotted}"):
                return index
            if not foreign and dotted.endswith(f".{name}"):  # `project.blocks`, handed in without its folder
                return index
        return None

    def _by_name(self) -> dict[str, Symbol]:
        """Where a name is defined at all, the last place winning: imports do not count."""
        found: dict[str, Symbol] = {}
        for statement in self.statements:
            if not isinstance(statement.node, ast.Import | ast.ImportFrom) and not statement.is_run:
                found.update({name: (statement.module, name) for name in statement.usage.binds})
        return found

    # -- what names refer to

    def resolve(self, module: int, name: str) -> Symbol | None:
        """Where a global name of a module is defined in the hand-in; None if it is not."""
        seen: set[Symbol] = set()
        symbol = (module, name)
        while symbol not in seen:
            seen.add(symbol)
            target = self._siblings.get(symbol)
            if isinstance(target, tuple):
                symbol = target
                continue
            if symbol in self.bindings:
                return symbol
            stars = [star for star in self._sibling_stars[symbol[0]] if (star, symbol[1]) in self.bindings]
            if not stars:
                break
            symbol = (stars[-1], symbol[1])
        if (module, name) in self._siblings or name in BUILTINS or self.stars[module]:
            return None
        fallback = self._fallbacks.get(name)
        if fallback is not None and (module, name) not in self._borrowed:
            self._borrowed.add((module, name))
            self.notices.append(
                f"`{name}` is used in `{self._names[module]}` but defined in `{self._names[fallback[0]]}`, "
                "and not imported; it was taken from there."
            )
        return fallback

    def resolve_dotted(self, module: int, text: str) -> Symbol | None:
        """Where `ddpm.q` is defined, `ddpm` being a module that was handed in too."""
        prefix, _, name = text.rpartition(".")
        target = self._prefixes[module].get(prefix)
        return None if target is None else self.resolve(target, name)

    def is_module(self, module: int, name: str) -> bool:
        return isinstance(self._siblings.get((module, name)), int) or any(
            prefix.split(".")[0] == name for prefix in self._prefixes[module]
        )

    def comes_from_stub(self, module: int, name: str) -> bool:
        """Whether a name is imported from a module that guests replace by an inert object."""
        return any(_imported_from(statement.node) in self._stubs for statement in self.bindings.get((module, name), []))

    def is_incidental(self, statement: Statement, name: str) -> bool:
        """Whether a statement binds a name as a loop's variable and the like, or to what plotting made."""
        return name in statement.usage.targets or (
            isinstance(statement.node, ast.Assign)
            and any(self.comes_from_stub(statement.module, read) for read in statement.usage.reads_now)
        )

    # -- one namespace for all

    def keep_apart(self, fixed: Container[str]) -> None:
        """Give new names to what two modules call by the same one, but for `fixed` names, which mean one thing."""
        users: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        for (module, name), statements in self.bindings.items():
            users[name][module] |= {_imported(statement.node) or f"module {module}" for statement in statements}
        for name, by_module in users.items():
            if name in fixed or len(by_module) == 1 or len(set().union(*by_module.values())) == 1:
                continue
            keeper = self._fallbacks.get(name, (max(by_module), name))[0]
            for module in by_module:
                if module != keeper:
                    stem = re.sub(r"\W", "_", self._names[module])
                    self.new_names[module, name] = f"{name}__{stem}"

    def name_of(self, symbol: Symbol) -> str:
        """The name that a symbol has in chunks."""
        return self.new_names.get(symbol, symbol[1])

    def chunk(self, statement: Statement, hidden: frozenset[str]) -> Chunk:
        """The statement as a guest loads it. What it binds of the `hidden` names gets names that nothing reads."""
        names = dict(statement.changed_names)
        dotted: dict[str, str] = {}
        for _, name, _context in statement.usage.nodes:
            symbol = self.resolve(statement.module, name)
            if name not in names and symbol is not None and self.name_of(symbol) != name:
                names[name] = self.name_of(symbol)
        for _, text in statement.usage.dotted:
            symbol = self.resolve_dotted(statement.module, text)
            if symbol is not None:
                dotted[text] = self.name_of(symbol)
        concealed = {name: f"_left_out_{name}" for name in statement.usage.binds | statement.usage.binds_later}
        concealed = {name: new for name, new in concealed.items() if name in hidden and name not in names}
        names |= {name: new for name, new in concealed.items() if name in statement.usage.targets}
        source = (
            rename(statement.source, names, concealed, dotted) if names or concealed or dotted else statement.source
        )
        if statement.lazy_annotations and statement.line > 1:  # each chunk is compiled by itself
            return Chunk(file=statement.file, line=statement.line - 1, source=f"{_LAZY}\n{source}")
        return Chunk(file=statement.file, line=statement.line, source=source)


# --- reading ----------------------------------------------------------------------------------------------------


def _dotted_name(filename: str) -> str:
    path = PurePosixPath(filename).with_suffix("")
    parts = path.parts[:-1] if path.name == "__init__" and len(path.parts) > 1 else path.parts
    return ".".join(parts)


def _imported(node: ast.stmt) -> str | None:
    """What an import of one name binds: `torch.nn` for both `import torch.nn as nn` and `from torch import nn`."""
    if isinstance(node, ast.Import):
        return node.names[0].name if node.names[0].asname else node.names[0].name.split(".")[0]
    if isinstance(node, ast.ImportFrom):
        return f"{node.module}.{node.names[0].name}"
    return None


def _imported_from(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Import):
        return node.names[0].name.split(".")[0]
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0]
    return None


def _inner_imports(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    """The imports inside of functions."""
    return [
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in node.body
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]


def _blank_out(node: ast.stmt, lines: list[str]) -> None:
    """Put `pass` where a simple statement stood."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    head, tail = lines[first].encode()[: node.col_offset], lines[last].encode()[node.end_col_offset :]
    lines[first : last + 1] = [f"{head.decode()}pass{tail.decode()}"] + [""] * (last - first)


def _parts(node: ast.stmt, entry_points: frozenset[str]) -> Iterator[ast.stmt]:
    """A statement as the pieces that slices are made of: imports one name at a time, a main guard's body."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            return
        for alias in node.names:
            part = (
                ast.Import(names=[alias])
                if isinstance(node, ast.Import)
                else ast.ImportFrom(module=node.module, names=[alias], level=node.level)
            )
            yield ast.copy_location(part, node)
    elif isinstance(node, ast.If) and _is_main_guard(node.test):
        for inner in node.body:
            yield from _parts(inner, entry_points)
    elif isinstance(node, Compound) and _is_run(usage(node), entry_points):
        yield from _simple_assignments(node)
        yield node
    else:
        yield node


def _is_main_guard(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and {"__name__", "__main__"} == {
        part.id if isinstance(part, ast.Name) else part.value if isinstance(part, ast.Constant) else None
        for part in (test.left, *test.comparators)
    }


def _is_run(found: Usage, entry_points: frozenset[str]) -> bool:
    return not _RUN_METHODS.isdisjoint(found.methods) or not entry_points.isdisjoint(found.calls)


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


def _text(node: ast.stmt, lines: list[str]) -> tuple[int, str]:
    """First line and text of a statement, fit to stand at the left margin."""
    if isinstance(node, ast.Import | ast.ImportFrom):
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
