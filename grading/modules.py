"""The statements of a hand-in in the order in which Python would run them, and what their names refer to.

All modules of a hand-in end up in one namespace. Imports among them are resolved here, by renaming: where two modules
use one name for different things, one of the two gets another name.
"""

import ast
import builtins
import re
import sys
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import PurePosixPath

from grading.dependencies import usage
from grading.effects import Effects, Symbol
from grading.hand_in import HandIn
from grading.outcomes import BadInput
from grading.rename import rename, without
from grading.source import Piece
from grading.statements import LAZY, Compound, Import, Statement, read_statements
from grading.usage import dotted as dotted_text
from sandbox.program import Chunk

MAX_STATEMENTS = 3_000  # at top level; the course's notebook has 150. Slicing takes quadratic time at worst
GUEST_MODULES = frozenset({"torch", "numpy", "einops"})  # what a guest has beyond Python itself
BUILTINS = frozenset(dir(builtins)) | {"__file__", "__class__", "__annotations__"}


class Modules:
    """A hand-in's statements and names. `entry_points`: functions whose callers at top level only run things.

    Raises `BadInput` where there are more statements than anyone writes.
    """

    def __init__(self, hand_in: HandIn, entry_points: frozenset[str], stubs: Sequence[str]) -> None:
        self.notices: list[str] = []
        self.broken: list[Piece] = [piece for file in hand_in.files for piece in file.pieces if piece.fault]
        self._stubs = frozenset(stubs)
        self._names = [_dotted_name(file.name) for file in hand_in.files]
        self._notebooks = {i for i, file in enumerate(hand_in.files) if file.name.lower().endswith(".ipynb")}
        self._siblings: dict[Symbol, int | Symbol] = {}  # names bound by imports of other modules handed in
        self._prefixes: list[dict[str, int]] = [{} for _ in hand_in.files]  # dotted name of a module -> its index
        self._missing_prefixes: dict[Symbol, dict[str, str]] = {}  # modules that only bring givens, not handed in
        self._sibling_stars: dict[int, list[int]] = defaultdict(list)
        self.stars: dict[int, list[Statement]] = defaultdict(list)
        self.bindings: dict[Symbol, list[Statement]] = defaultdict(list)
        read = [
            list(
                islice(
                    read_statements(index, file, entry_points, partial(self._is_of_siblings, index)),
                    MAX_STATEMENTS + 1,
                )
            )
            for index, file in enumerate(hand_in.files)
        ]
        if sum(map(len, read)) > MAX_STATEMENTS:
            raise BadInput(
                f"There are more than {MAX_STATEMENTS} statements in what was handed in. "
                "Delete what belongs to no answer, such as data written out as code."
            )
        self._bound = [set().union(*(statement.usage.binds for statement in statements)) for statements in read]
        self.statements = self._in_order(read)
        for statement in self.statements:
            for name in statement.usage.binds:
                self.bindings[statement.module, name].append(statement)
        self._fallbacks = self._by_name()
        self._borrowed: set[Symbol] = set()
        self._fixed: Container[str] = ()
        self.new_names: dict[Symbol, str] = {}  # of what has another name in chunks than in its module
        self._effects = Effects(self.statements, self, entry_points)
        self.effects = {
            statement: self._effects.of(statement.module, statement.usage)
            for statement in self.statements
            if not statement.is_run
        }
        self._bind_through_calls()

    @property
    def is_notebook(self) -> bool:
        """Whether some of it is a notebook."""
        return bool(self._notebooks)

    def _bind_through_calls(self) -> None:
        """A call of a function that sets a global binds it as an assignment does."""
        for statement, effect in self.effects.items():
            for module, name in effect.binds:
                bindings = self.bindings[module, name]
                if module == statement.module and statement not in bindings:
                    statement.usage.binds.add(name)
                    bindings.append(statement)
                    bindings.sort(key=lambda item: item.order)
        self._fallbacks = self._by_name()

    # -- imports among the modules handed in

    def _is_of_siblings(self, index: int, node: Import) -> bool:
        if isinstance(node, ast.Import):
            return all(self._find(alias.name, index) is not None for alias in node.names)
        base, relative = node.module or "", node.level > 0
        return all(
            self._find(f"{base}.{alias.name}".strip("."), index, relative=relative) is not None
            or self._find(base, index, relative=relative) is not None
            for alias in node.names
        )

    def _in_order(self, read: list[list[Statement]]) -> list[Statement]:
        """Statements as Python runs them: a module's when it is first imported, a notebook's after those of modules."""
        ordered: list[Statement] = []
        last_first = sorted(range(len(read)), key=lambda index: (index in self._notebooks, index), reverse=True)
        stack = [(index, iter(read[index])) for index in last_first]
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
                if self._is_reload(statement):
                    continue
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
        target = self._find(base, index, relative=node.level > 0) if base else None
        inner = self._find(f"{base}.{alias.name}" if base else alias.name, index, relative=node.level > 0)
        is_name = target is not None and alias.name in self._bound[target]  # `from UNet import UNet`
        if inner is not None and alias.name != "*" and not is_name:
            self._siblings[index, alias.asname or alias.name] = inner
            self._prefixes[index][alias.asname or alias.name] = inner
            return inner
        if target is None:
            if alias.name == "*":
                self.stars[index].append(statement)
            return None
        if alias.name == "*":
            self._sibling_stars[index].append(target)
        else:
            self._siblings[index, alias.asname or alias.name] = (target, alias.name)
        return target

    def _is_reload(self, statement: Statement) -> bool:
        """Whether it is `importlib.reload` of a module that was handed in: it is as its file says, in any case."""
        match statement.node:
            case ast.Expr(value=value) | ast.Assign(value=value):
                match value:
                    case ast.Call(func=ast.Attribute(attr="reload") | ast.Name(id="reload"), args=[module]):
                        name = dotted_text(module) or ""
                        return name in self._prefixes[statement.module]
        return False

    def _find(self, dotted: str, importer: int, *, relative: bool = False) -> int | None:
        top = dotted.split(".")[0]
        if not dotted or (top in GUEST_MODULES and not relative):
            return None
        foreign = top in sys.stdlib_module_names or top in self._stubs
        for index, name in enumerate(self._names):
            if index == importer or index in self._notebooks:
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
            if not isinstance(statement.node, Import) and not statement.is_run:
                found.update({name: (statement.module, name) for name in statement.usage.binds})
        return found

    # -- what names refer to

    def resolve(self, module: int, name: str) -> Symbol | None:
        """As `lookup`; what has to be taken from another module without an import is told in a notice."""
        found = self._defined(module, name)
        if found is None and (found := self._fallback(module, name)) and (module, name) not in self._borrowed:
            self._borrowed.add((module, name))
            self.notices.append(
                f"`{name}` is used in `{self._names[module]}` but defined in `{self._names[found[0]]}`, "
                "and not imported; it was taken from there."
            )
        return found

    def lookup(self, module: int, name: str) -> Symbol | None:
        """Where a global name of a module is defined in the hand-in; None if it is not."""
        return self._defined(module, name) or self._fallback(module, name)

    def _defined(self, module: int, name: str) -> Symbol | None:
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
        return None

    def _fallback(self, module: int, name: str) -> Symbol | None:
        if (module, name) in self._siblings or name in BUILTINS or self.stars[module]:
            return None
        return self._fallbacks.get(name)

    def resolve_dotted(self, module: int, text: str) -> Symbol | None:
        """Where `ddpm.q` is defined, `ddpm` being a module that was handed in too."""
        prefix, _, name = text.rpartition(".")
        if (module, prefix) in self._missing_prefixes:
            return module, self._missing_prefixes[module, prefix][name]
        target = self._prefixes[module].get(prefix)
        return None if target is None else self.resolve(target, name)

    def is_module(self, module: int, name: str) -> bool:
        return isinstance(self._siblings.get((module, name)), int) or any(
            prefix.split(".")[0] == name for prefix in self._prefixes[module]
        )

    def stub_of(self, module: int, name: str) -> str | None:
        """The module that guests replace by an inert object, where a name is imported from such a one."""
        imported = [_imported_from(statement.node) for statement in self.bindings.get((module, name), [])]
        return next((top for top in imported if top in self._stubs), None)

    def comes_from_stub(self, module: int, name: str) -> bool:
        """Whether a name is imported from a module that guests replace by an inert object."""
        return self.stub_of(module, name) is not None

    def missing_module(self, statement: Statement) -> str | None:
        """The module that an import takes from, where it was not handed in and no guest has it, as far as is known."""
        node = statement.node
        if not isinstance(node, ast.Import | ast.ImportFrom):
            return None
        top = _imported_from(node) or ""
        known = top in GUEST_MODULES or top in sys.stdlib_module_names or top in self._stubs
        if known and not (isinstance(node, ast.ImportFrom) and node.level):
            return None
        return node.names[0].name if isinstance(node, ast.Import) else node.module or node.names[0].name

    def take_from_missing(self, module: int, prefix: str, names: Mapping[str, str]) -> list[str]:
        """Let `configs.T` mean the given where `configs` was not handed in; return what is used of it that way.

        `names`: canonical name of each given, by all its names. Where anything else of the module is used, it stays as
        it is.
        """
        texts = [text for item in self.statements if item.module == module for _, text in item.usage.dotted]
        used = [text.split(".")[prefix.count(".") + 1] for text in texts if text.startswith(f"{prefix}.")]
        if not used or not set(used) <= names.keys():
            return []
        self._missing_prefixes[module, prefix] = dict(names)
        self.bindings.pop((module, prefix), None)
        self._prefixes[module][prefix] = module  # a module's name: no slice asks where it is defined
        return sorted(set(used))

    def is_incidental(self, statement: Statement, name: str) -> bool:
        """Whether a statement binds a name as a loop's variable and the like, or to what plotting made."""
        return name in statement.usage.targets or (
            isinstance(statement.node, ast.Assign)
            and any(self.comes_from_stub(statement.module, read) for read in statement.usage.reads_now)
        )

    # -- one namespace for all

    def keep_apart(self, fixed: Container[str]) -> None:
        """Give new names to what two modules call by the same one, but for `fixed` names, which mean one thing."""
        self._fixed = fixed
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

    def chunk(self, statement: Statement, hidden: frozenset[str], *, optional: bool = False) -> Chunk:
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
        source = statement.source
        if isinstance(statement.node, Compound | ast.FunctionDef):
            others = hidden if isinstance(statement.node, Compound) else hidden & statement.usage.binds_later
            source = without(source, partial(self._is_for_others, statement.module, others)) if others else source
        if names or concealed or dotted:
            source = rename(source, names, concealed, dotted)
        line = statement.line
        if statement.lazy_annotations and line > 1:  # each chunk is compiled by itself
            line, source = line - 1, f"{LAZY}\n{source}"
        return Chunk(file=statement.file, line=line, source=source, optional=optional)

    def _is_for_others(self, module: int, hidden: frozenset[str], inner: ast.stmt) -> bool:
        """Whether a statement in a block changes objects of these names, or others on the way, and does no more."""
        found = usage(inner)
        changes = self._effects.of(module, found).changes
        if not found.binds <= hidden or not (changes or isinstance(inner, ast.AugAssign)):
            return False
        return all(
            name in hidden or (name in self._fixed and bool(subjects) and subjects <= hidden)
            for (_, name), subjects in changes.items()
        )


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
