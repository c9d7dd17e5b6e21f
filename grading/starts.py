"""Values that a notebook starts with, for the student to change. As long as they stand, there is no answer.

The placeholder takes the place of such a value, so that what follows treats it like any blank that was left as it is.
"""

import ast
from collections.abc import Collection, Iterable, Iterator

from grading.changes import Text, Where, binds, same
from grading.placeholders import PLACEHOLDER
from reference.pack import Blank, Pack

_SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
_Binding = tuple[Where, ast.AST]


def empty_starts(text: Text, pack: Pack) -> dict[str, str]:
    """Put the placeholder where a blank still has the value that the notebook starts with.

    Returns where that is, by the id of the blank; of several places the last.
    """
    found: dict[str, str] = {}
    for blank in pack.blanks:
        starts = [ast.parse(start, mode="eval").body for start in blank.starts_as]
        for bindings in _by_scope(text, blank, pack) if starts else ():
            as_given = [
                (where, node.value)
                for where, node in bindings
                if isinstance(node, ast.Assign | ast.AnnAssign) and any(same(start, node.value) for start in starts)
            ]
            # The same number in another spelling (`0` for `0.0`), a second assignment, a loop over values: whoever
            # wrote that has chosen, even if it came to the same
            if len(as_given) == len(bindings):
                for where, value in as_given:
                    assert value is not None  # it is the same as a start
                    text.change(where, value, PLACEHOLDER)
                    found[blank.id] = text.place(where, value)
    return found


def _by_scope(text: Text, blank: Blank, pack: Pack) -> Iterator[list[_Binding]]:
    """What gives the blank's name a value: in each file by itself, as an untouched starter may lie beside the answers,
    and in each function that calls what the value is for."""
    for index in range(len(text.hand_in.files)):
        trees = [(where, tree) for where, tree in text.trees.items() if where[0] == index]
        yield [(where, node) for where, tree in trees for node in _bindings(tree.body, blank.names)]
    if blank.in_force_at is not None:
        callees = pack.blank(blank.in_force_at).names
        for where, function in text.functions():
            calls = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
            if any(isinstance(called, ast.Name) and called.id in callees for called in calls):
                yield [(where, node) for node in _bindings([function.args, *function.body], blank.names)]


def _bindings(body: Iterable[ast.AST], names: Collection[str]) -> Iterator[ast.AST]:
    """Assignments to one of these names, and whatever else in this scope binds it or says `global`."""
    todo = list(body)[::-1]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from (part for part in ast.walk(node) if _is_global(part, names))
        if binds(node) in names or _target(node) in names or _is_global(node, names):
            yield node
        elif not isinstance(node, _SCOPES):
            todo.extend(list(ast.iter_child_nodes(node))[::-1])


def _is_global(node: ast.AST, names: Collection[str]) -> bool:
    return isinstance(node, ast.Global) and not set(names).isdisjoint(node.names)


def _target(node: ast.AST) -> str | None:
    """The name that an assignment gives a value, where it is one name alone."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return None
