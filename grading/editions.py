"""Editions of the course: what the notebook that a student was given says, and what of it is not right.

Before answers are taken out of a hand-in, it is adapted to its own edition: lines of the course's own that are known to
be wrong are put right, and imports that the course forgot are added. Both in the text alone, line for line, so that
checks and training meet the same code, and places in messages hold. Where a value still is the one that the notebook
starts with, the placeholder takes its place: nobody has answered yet. Nothing is run.
"""

import ast
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from grading.hand_in import HandIn, SourceFile
from grading.placeholders import PLACEHOLDER
from grading.source import Piece, parse
from reference.pack import Blank, Edition, Pack, Sign, Slip

LEAST_SIGNS = 2  # one alone may be chance, or a mistake of the student's that reads as another edition does
IMPORT_CELL = "the course's imports"  # what tracebacks would call the place of an import that was added
_LAYOUT = frozenset({"ctx", "kind", "type_comment"})  # fields of a syntax tree that say nothing of the program
_SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A hand-in held to its own edition."""

    hand_in: HandIn  # with a notice for each correction
    edition: str | None = None  # id; None: it shows too few signs of any
    corrections: tuple[str, ...] = ()  # that were made, by name
    untouched: Mapping[str, str] = field(default_factory=dict)  # blanks with the value that they start with -> place


def adapt(hand_in: HandIn, pack: Pack, switched_off: frozenset[str] = frozenset()) -> Adapted:
    """Find out which edition a hand-in is of, and put right what that edition gives.

    `switched_off`: names of corrections that are not made.
    """
    text = _Text(hand_in)
    edition = _recognise(text, pack)
    corrections: dict[str, list[str]] = {}  # remarks, by name of the correction
    if edition is not None:
        for slip in edition.slips:
            if edition.correction(slip) not in switched_off:
                corrections[edition.correction(slip)] = [
                    _correct(text, found, slip) for found in _slips(text, slip, pack)
                ]
        if edition.imports_correction not in switched_off:
            corrections[edition.imports_correction] = _add_imports(text, edition)
    untouched = {blank.id: place for blank in pack.blanks if (place := _empty_start(text, blank)) is not None}
    return Adapted(
        hand_in=text.written([remark for remarks in corrections.values() for remark in remarks]),
        edition=edition.id if edition else None,
        corrections=tuple(name for name, remarks in corrections.items() if remarks),
        untouched=untouched,
    )


class _Text:
    """The text of a hand-in, its syntax trees, and what is to be changed in it."""

    def __init__(self, hand_in: HandIn) -> None:
        self.hand_in = hand_in
        self.trees = {
            (index, number): parse(piece.source)
            for index, file in enumerate(hand_in.files)
            for number, piece in enumerate(file.pieces)
            if piece.fault is None
        }
        self.nodes: dict[type[ast.AST], list[tuple[_Where, ast.AST]]] = defaultdict(list)
        self.bodies: list[list[ast.stmt]] = []
        for where, tree in self.trees.items():
            for node in ast.walk(tree):
                self.nodes[type(node)].append((where, node))
                bodies = (getattr(node, name, None) for name in ("body", "orelse", "finalbody"))
                self.bodies += [body for body in bodies if isinstance(body, list) and body]
        self._changes: dict[_Where, list[tuple[ast.expr, str]]] = defaultdict(list)
        self._imports: dict[int, list[str]] = defaultdict(list)

    def functions(self, names: Iterable[str]) -> Iterator[tuple["_Where", ast.FunctionDef]]:
        """The definitions of functions that have one of these names."""
        for where, node in self.nodes[ast.FunctionDef]:
            if isinstance(node, ast.FunctionDef) and node.name in names:
                yield where, node

    def place(self, where: "_Where", node: ast.expr | ast.stmt) -> str:
        piece = self._piece(where)
        return f"{piece.label}, line {piece.line + node.lineno - 1}"

    def source(self, where: "_Where", node: ast.expr) -> str:
        return ast.get_source_segment(self._piece(where).source, node) or ast.unparse(node)

    def change(self, where: "_Where", node: ast.expr, text: str) -> None:
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

    def _piece(self, where: "_Where") -> Piece:
        return self.hand_in.files[where[0]].pieces[where[1]]


_Where = tuple[int, int]  # index of the file, index of the piece in it


def _rewritten(source: str, changes: Iterable[tuple[ast.expr, str]]) -> str:
    """The source with some expressions replaced; every line keeps its number."""
    lines = source.split("\n")
    for node, text in sorted(changes, key=lambda change: (change[0].lineno, change[0].col_offset), reverse=True):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        head, tail = lines[first].encode()[: node.col_offset], lines[last].encode()[node.end_col_offset :]
        # What stood on several lines stood in brackets, where line ends mean nothing
        lines[first : last + 1] = (head.decode() + text + "\n" * (last - first) + tail.decode()).split("\n")
    return "\n".join(lines)


# --- which edition ----------------------------------------------------------------------------------------------


def _recognise(text: _Text, pack: Pack) -> Edition | None:
    """The edition with the most signs; None where there are too few, or as many of another one."""
    counts = {edition.id: _count(text, edition, pack) for edition in pack.editions.values()}
    ranking = sorted(counts, key=counts.__getitem__, reverse=True)
    if not ranking or counts[ranking[0]] < LEAST_SIGNS:
        return None
    if len(ranking) > 1 and counts[ranking[0]] == counts[ranking[1]]:
        return None
    return pack.editions[ranking[0]]


def _count(text: _Text, edition: Edition, pack: Pack) -> int:
    """How many signs of an edition there are. A slip of its own that stands as it was given is one too."""
    slips = any(True for slip in edition.slips for _ in _slips(text, slip, pack))
    return slips + sum(_shows(text, sign) for sign in edition.signs)


def _shows(text: _Text, sign: Sign) -> bool:
    found = not sign.code or any(_occurs(text, parse(code).body) for code in sign.code)
    if not found or not sign.lacks:
        return found
    lacking = {name for index in range(len(text.hand_in.files)) for name in _lacking(text, index, sign.lacks)}
    bound = {name for index in range(len(text.hand_in.files)) for name in _bound(text, index)}
    return all(_bound_name(statement) in lacking - bound for statement in sign.lacks)


def _occurs(text: _Text, pattern: list[ast.stmt]) -> bool:
    """Whether an expression stands somewhere, or statements follow one another."""
    if len(pattern) == 1 and isinstance(pattern[0], ast.Expr):
        expression = pattern[0].value
        return any(_same(expression, node) for _, node in text.nodes[type(expression)])
    return any(
        all(_same(wanted, found) for wanted, found in zip(pattern, body[start:], strict=False))
        for body in text.bodies
        for start in range(len(body) - len(pattern) + 1)
    )


def _same(pattern: object, node: object, names: Mapping[str, frozenset[str]] | None = None) -> bool:
    """Whether two syntax trees are the same program; `names`: what a name of the pattern may be called instead."""
    if isinstance(pattern, ast.Name):
        return isinstance(node, ast.Name) and node.id in (names or {}).get(pattern.id, {pattern.id})
    if type(pattern) is not type(node):
        return False
    if isinstance(pattern, ast.AST):
        return all(
            _same(value, getattr(node, name, None), names)
            for name, value in ast.iter_fields(pattern)
            if name not in _LAYOUT
        )
    if isinstance(pattern, list) and isinstance(node, list):
        return len(pattern) == len(node) and all(_same(a, b, names) for a, b in zip(pattern, node, strict=True))
    return pattern == node


# --- lines that should be others --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A slip that stands as it was given."""

    where: _Where
    function: str
    argument: ast.expr
    should: str  # in the student's names


def _slips(text: _Text, slip: Slip, pack: Pack) -> Iterator[_Found]:
    for where, function in text.functions(pack.blank(slip.blank).names):
        arguments = [*function.args.posonlyargs, *function.args.args]
        own = {ours: argument.arg for ours, argument in zip(slip.parameters, arguments, strict=False)}
        if len(own) < len(slip.parameters):
            continue
        names = {given.name: frozenset(given.names) for given in pack.file.givens}
        names |= {ours: frozenset({theirs}) for ours, theirs in own.items()}
        patterns = [ast.parse(given, mode="eval").body for given in slip.given]
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == own[slip.argument_of]:
                for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
                    if any(_same(pattern, argument, names) for pattern in patterns):
                        yield _Found(
                            where=where, function=function.name, argument=argument, should=_renamed(slip.should, own)
                        )


def _renamed(expression: str, names: Mapping[str, str]) -> str:
    tree = ast.parse(expression, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    return ast.unparse(tree)


def _correct(text: _Text, found: _Found, slip: Slip) -> str:
    """Put a slip right. Returns the remark."""
    text.change(found.where, found.argument, found.should)
    return (
        f"`{found.function}` ({text.place(found.where, found.argument)}): your edition of the course gives "
        f"`{text.source(found.where, found.argument)}` here, and it should be `{found.should}`. {slip.why} "
        f"The slip is the course's and not yours: your work was graded with `{found.should}`, and it costs you nothing."
    )


# --- imports that should be there -------------------------------------------------------------------------------


def _add_imports(text: _Text, edition: Edition) -> list[str]:
    """Add what the import cell lacks to the files that use it. Returns the remark, where there is one to make."""
    added: dict[str, str] = {}  # place of the first use, by import
    for index in range(len(text.hand_in.files)):
        lacking = _lacking(text, index, edition.imports)
        for statement in edition.imports:
            if (name := _bound_name(statement)) in lacking:
                text.add_import(index, statement)
                added.setdefault(statement, f"`{name}` in {lacking[name]}")
    if not added:
        return []
    return [
        f"Your edition of the course does not import what its own code needs: {', '.join(added.values())}. The slip is "
        f"the course's and not yours: your work was graded with {' and '.join(f'`{one}`' for one in added)} added, and "
        "it costs you nothing."
    ]


def _lacking(text: _Text, index: int, imports: Iterable[str]) -> dict[str, str]:
    """The names that a file uses and binds nowhere, of those that these imports would bind; where the first use is."""
    wanted = {_bound_name(statement) for statement in imports} - _bound(text, index)
    found: dict[str, str] = {}
    for where, node in text.nodes[ast.Name]:
        if isinstance(node, ast.Name) and where[0] == index and node.id in wanted:
            found.setdefault(node.id, text.place(where, node))
    return found


def _bound(text: _Text, index: int) -> set[str]:
    """All names that a file gives a meaning anywhere."""
    kinds = (ast.Name, ast.alias, ast.arg, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {
        name
        for kind in kinds
        for where, node in text.nodes[kind]
        if where[0] == index and (name := _binds(node)) is not None
    }


def _binds(node: ast.AST) -> str | None:
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


def _bound_name(statement: str) -> str:
    """The name that an import binds."""
    node = ast.parse(statement).body[0]
    assert isinstance(node, ast.Import | ast.ImportFrom)  # the pack takes nothing else
    return node.names[0].asname or node.names[0].name.split(".")[0]


# --- values as the notebook starts ------------------------------------------------------------------------------


def _empty_start(text: _Text, blank: Blank) -> str | None:
    """Put the placeholder where a file's only value for a blank is the one that the notebook starts with.

    The same number in another spelling (`0` for `0.0`), a second assignment, a loop over values: whoever wrote that has
    chosen, even if it came to the same. Each file by itself, as an untouched starter may lie beside the answers.
    Returns the place, or the last of several.
    """
    if not blank.starts_as:
        return None
    starts = [ast.parse(start, mode="eval").body for start in blank.starts_as]
    place = None
    for index in range(len(text.hand_in.files)):
        bindings = [
            (where, node)
            for where, tree in text.trees.items()
            if where[0] == index
            for node in _top_level_bindings(tree, blank.names)
        ]
        as_given = [
            (where, value)
            for where, node in bindings
            if (value := _assigned_alone(node)) is not None and any(_same(start, value) for start in starts)
        ]
        if as_given and len(as_given) == len(bindings):
            for where, value in as_given:
                text.change(where, value, PLACEHOLDER)
                place = text.place(where, value)
    return place


def _top_level_bindings(tree: ast.Module, names: Container[str]) -> Iterator[ast.AST]:
    """What may give a global name a value: assignments, and whatever else binds it or says `global`."""
    todo: list[ast.AST] = list(reversed(tree.body))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = (part for part in ast.walk(node) if isinstance(part, ast.Global))
            yield from (part for part in inner if any(name in names for name in part.names))
        if _binds(node) in names or (isinstance(node, ast.Assign | ast.AnnAssign) and _target(node) in names):
            yield node
        elif not isinstance(node, _SCOPES):
            todo.extend(reversed(list(ast.iter_child_nodes(node))))


def _assigned_alone(node: ast.AST) -> ast.expr | None:
    """The value of an assignment to one name."""
    return node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None


def _target(node: ast.Assign | ast.AnnAssign) -> str | None:
    """The name that an assignment gives a value, where it is one name alone."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else None
