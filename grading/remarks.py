"""Notices about a hand-in as a whole: what is defined twice, what a module that is not there was to bring, devices."""

import ast
from collections.abc import Iterable, Mapping

from grading.places import Places
from grading.slices import Slice
from grading.statements import Statement
from reference.pack import Blank

MAX_LISTED = 5  # whoever has more of them knows


def remarks(places: Places, slices: Mapping[str, Slice], blanks: Iterable[Blank]) -> list[str]:
    """Everything that there is to say, one sentence or two for each kind. `slices`: of the answers found, by blank."""
    found = (_of_doubles(places, slices, blanks), *_of_absent_modules(places), _of_devices(slices))
    return [notice for notice in found if notice]


def _of_doubles(places: Places, slices: Mapping[str, Slice], blanks: Iterable[Blank]) -> str:
    """Of two definitions that are both filled in, and of which only one is a part of the answer."""
    doubles: list[str] = []
    for blank in blanks:
        # Numbers are set again and again, by design: what counts is the value in force
        if blank.id not in slices or blank.kind == "number":
            continue
        counted = slices[blank.id].own[-1]
        others = [
            statement
            for name in blank.names
            for statement in places.direct(name)
            if name in statement.usage.surely
            and statement not in slices[blank.id].statements
            and places.unfilled_line(blank, statement) is None
            and ast.dump(statement.node) != ast.dump(counted.node)
        ]
        if others:
            doubles.append(f"`{blank.id}` ({_place(others[-1])}; what counts is {_place(counted)})")
    if not doubles:
        return ""
    return f"Defined more than once: {_listing(doubles)}."


def _of_absent_modules(places: Places) -> list[str]:
    return [
        f"{_listing([f'`{name}`' for name in dict.fromkeys(names)])} would come from `{module}`, which was not handed "
        "in. The assignment's own are taken, so nothing is missing."
        for module, names in places.borrowed.items()
        if names
    ]


def _of_devices(slices: Mapping[str, Slice]) -> str:
    """Of a GPU that is written out: `.cuda()`, `"cuda"`."""
    found: dict[str, set[int]] = {}
    for statement in {statement for part in slices.values() for statement in part.statements}:
        for node in _fixed_devices(statement.node):
            found.setdefault(statement.file, set()).add(statement.line_of(node.lineno))
    if not found:
        return ""
    places = [
        f"{file}, line{'s' if len(lines) > 1 else ''} {_listing([str(line) for line in sorted(lines)])}"
        for file, lines in sorted(found.items())
    ]
    return (
        f"A GPU is written out in {_listing(places)}. The device is taken as `device` is given instead; "
        "write `.to(device)` or `device=device`, and your code runs everywhere."
    )


def _fixed_devices(statement: ast.AST) -> list[ast.expr]:
    """Where a device is a GPU whatever there is; not where it depends on `torch.cuda.is_available()`."""
    found: list[ast.expr] = []
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        match node:
            case ast.IfExp(test=test) if "is_available" in ast.dump(test):
                continue
            case ast.Call(func=ast.Attribute(attr="cuda")):
                found.append(node)
            case ast.Call(func=ast.Attribute(attr="to" | "device"), args=[ast.Constant(value=str(name)), *_]):
                found += [node] if name.partition(":")[0] == "cuda" else []
            case ast.Call(keywords=keywords):
                for keyword in keywords:
                    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                    if keyword.arg == "device" and isinstance(value, str) and value.partition(":")[0] == "cuda":
                        found.append(node)
        todo.extend(ast.iter_child_nodes(node))
    return sorted(found, key=lambda node: node.lineno)


def _place(statement: Statement) -> str:
    return f"{statement.file}, line {statement.line_of(statement.node.lineno)}"


def _listing(items: list[str]) -> str:
    shown = items[:MAX_LISTED]
    if len(items) > MAX_LISTED:
        return f"{', '.join(shown)} and {len(items) - MAX_LISTED} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
