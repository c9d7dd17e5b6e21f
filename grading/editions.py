"""Editions of the course: what the notebook that a student was given says, and what of it is not right.

Before answers are taken out of a hand-in, it is adapted to its own edition: lines of the course's own that are known to
be wrong are put right, and imports that the course forgot are added. Both in the text alone, line for line, so that
checks and training meet the same code, and places in messages hold. Nothing is run.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from grading.changes import Text, Where, binds, same
from grading.hand_in import HandIn
from grading.source import parse
from grading.starts import empty_starts
from reference.pack import Edition, Pack, Sign, Slip

LEAST_SIGNS = 2  # one alone may be chance, or a mistake of the student's that reads as another edition does


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A hand-in held to its own edition."""

    hand_in: HandIn  # with a notice for each correction
    edition: str | None = None  # id; None: it shows too few signs of any
    corrections: tuple[str, ...] = ()  # that were made, by name
    as_started: Mapping[str, str] = field(default_factory=dict)  # blanks with the value that they start with -> place


def adapt(hand_in: HandIn, pack: Pack, switched_off: frozenset[str] = frozenset()) -> Adapted:
    """Find out which edition a hand-in is of, put right what that edition gives, and empty what still is as it starts.

    `switched_off`: names of corrections that are not made.
    """
    text = Text(hand_in)
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
    as_started = empty_starts(text, pack)
    return Adapted(
        hand_in=text.written([remark for remarks in corrections.values() for remark in remarks]),
        edition=edition.id if edition else None,
        corrections=tuple(name for name, remarks in corrections.items() if remarks),
        as_started=as_started,
    )


# --- which edition ----------------------------------------------------------------------------------------------


def _recognise(text: Text, pack: Pack) -> Edition | None:
    """The edition with the most signs; None where there are too few, or as many of another one."""
    counts = {edition.id: _count(text, edition, pack) for edition in pack.editions.values()}
    ranking = sorted(counts, key=counts.__getitem__, reverse=True)
    if not ranking or counts[ranking[0]] < LEAST_SIGNS:
        return None
    if len(ranking) > 1 and counts[ranking[0]] == counts[ranking[1]]:
        return None
    return pack.editions[ranking[0]]


def _count(text: Text, edition: Edition, pack: Pack) -> int:
    """How many signs of an edition there are. A slip of its own that stands as it was given is one too."""
    slips = any(True for slip in edition.slips for _ in _slips(text, slip, pack))
    return slips + sum(_shows(text, sign) for sign in edition.signs)


def _shows(text: Text, sign: Sign) -> bool:
    found = not sign.code or any(_occurs(text, parse(code).body) for code in sign.code)
    if not found or not sign.lacks:
        return found
    lacking = {name for index in range(len(text.hand_in.files)) for name in _lacking(text, index, sign.lacks)}
    bound = {name for index in range(len(text.hand_in.files)) for name in _bound(text, index)}
    return all(_bound_name(statement) in lacking - bound for statement in sign.lacks)


def _occurs(text: Text, pattern: list[ast.stmt]) -> bool:
    """Whether an expression stands somewhere, or statements follow one another."""
    if len(pattern) == 1 and isinstance(pattern[0], ast.Expr):
        expression = pattern[0].value
        return any(same(expression, node) for _, node in text.nodes[type(expression)])
    return any(
        all(same(wanted, found) for wanted, found in zip(pattern, body[start:], strict=False))
        for body in text.bodies
        for start in range(len(body) - len(pattern) + 1)
    )


# --- lines that should be others --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A slip that stands as it was given."""

    where: Where
    function: str
    argument: ast.expr
    should: str  # in the student's names


def _slips(text: Text, slip: Slip, pack: Pack) -> Iterator[_Found]:
    for where, function in text.functions():
        if function.name not in pack.blank(slip.blank).names:
            continue
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
                    if any(same(pattern, argument, names) for pattern in patterns):
                        yield _Found(
                            where=where, function=function.name, argument=argument, should=_renamed(slip.should, own)
                        )


def _renamed(expression: str, names: Mapping[str, str]) -> str:
    tree = ast.parse(expression, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    return ast.unparse(tree)


def _correct(text: Text, found: _Found, slip: Slip) -> str:
    """Put a slip right. Returns the remark."""
    text.change(found.where, found.argument, found.should)
    return (
        f"`{found.function}` ({text.place(found.where, found.argument)}): your edition of the course gives "
        f"`{text.source(found.where, found.argument)}` here, and it should be `{found.should}`. {slip.why} "
        f"The slip is the course's and not yours: your work was graded with `{found.should}`, and it costs you nothing."
    )


# --- imports that should be there -------------------------------------------------------------------------------


def _add_imports(text: Text, edition: Edition) -> list[str]:
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


def _lacking(text: Text, index: int, imports: Iterable[str]) -> dict[str, str]:
    """The names that a file uses and binds nowhere, of those that these imports would bind; where the first use is."""
    wanted = {_bound_name(statement) for statement in imports} - _bound(text, index)
    found: dict[str, str] = {}
    for where, node in text.nodes[ast.Name]:
        if isinstance(node, ast.Name) and where[0] == index and node.id in wanted:
            found.setdefault(node.id, text.place(where, node))
    return found


def _bound(text: Text, index: int) -> set[str]:
    """All names that a file gives a meaning anywhere."""
    kinds = (ast.Name, ast.alias, ast.arg, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {
        name
        for kind in kinds
        for where, node in text.nodes[kind]
        if where[0] == index and (name := binds(node)) is not None
    }


def _bound_name(statement: str) -> str:
    """The name that an import binds."""
    node = ast.parse(statement).body[0]
    assert isinstance(node, ast.Import | ast.ImportFrom)  # the pack takes nothing else
    return node.names[0].asname or node.names[0].name.split(".")[0]
