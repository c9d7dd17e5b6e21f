"""What can be seen of a definition without running it: whether it is filled in, and of what kind it is."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from typing import Literal

PLACEHOLDER = "FIXME"  # the name that stands in every blank of a starter

# What people put there of their own: `____`, `TODO`, `YOUR_CODE_HERE`
_OWN_WORDS = re.compile(
    r"_{2,}|FIX_ME|TO_?DO|TBD|XXX+|CHANGE_?ME|REPLACE_?ME|(INSERT_|ADD_)?(YOUR|MY)_(OWN_)?(CODE|ANSWER|SOLUTION)(_HERE)?"
    r"|FILL_?(ME|THIS)?_?(IN|OUT)?(_HERE)?|your_(code|answer|solution)(_here)?"
)
# Calls that an Ellipsis is handed to in earnest
_TAKE_ELLIPSIS = frozenset({"Field", "isinstance", "getitem", "setitem", "__getitem__", "__setitem__"})

Kind = Literal["function", "class", "number", "text", "list", "dict", "module", "placeholder", "unknown"]

_WORDS: dict[Kind, str] = {
    "function": "a function",
    "class": "a class",
    "number": "a number",
    "text": "text",
    "list": "a list",
    "dict": "a dictionary",
    "module": "a module",
}
WANTED = {"tensor": "a tensor", "number": "a number", "function": "a function", "class": "a class"}

# What may turn out to be of the kind asked for once it runs; everything else is certainly not
_POSSIBLE: dict[str, frozenset[Kind]] = {
    "tensor": frozenset({"unknown"}),
    "number": frozenset({"unknown", "number"}),
    "function": frozenset({"unknown", "function"}),
    # A function that builds a network is called like a class
    "class": frozenset({"unknown", "class", "function"}),
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def placeholder_line(node: ast.AST) -> int | None:
    """The line, in its tree, where a statement names a placeholder, in comments and text aside; None if nowhere."""
    own_words = False
    for child in ast.walk(node):
        names = _identifiers(child)
        if PLACEHOLDER in names or _hands_over_ellipsis(child):
            return _line(child, node)
        own_words = own_words or any(map(_OWN_WORDS.fullmatch, names))
    return _own_word_line(node) if own_words else None


def unfilled_line(node: ast.AST, starter: ast.AST | None = None) -> int | None:
    """The line, in its tree, where a definition holds a placeholder or nothing at all; None if it is filled in.

    `starter` is the definition as the starter has it: what is None there, where it has a placeholder, is one too.
    """
    for line in (placeholder_line(node), _empty(node), _none_in_use(node)):
        if line is not None:
            return line
    return None if starter is None else _left_at_none(node, starter)


def is_empty_value(node: ast.AST) -> bool:
    """Whether a value, or what a statement assigns, is None or an Ellipsis."""
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else node
    return isinstance(value, ast.Constant) and (value.value is None or value.value is ...)


# --- names and ellipses -----------------------------------------------------------------------------------------


def _line(node: ast.AST, fallback: ast.AST) -> int:
    line: int = getattr(node, "lineno", getattr(fallback, "lineno", 1))
    return line


def _identifiers(node: ast.AST) -> list[str]:
    return [
        name
        for field, value in ast.iter_fields(node)
        if field in ("id", "attr", "name", "arg", "names", "asname") and isinstance(value, str | list)
        for name in ([value] if isinstance(value, str) else value)
        if isinstance(name, str)
    ]


def _own_word_line(node: ast.AST) -> int | None:
    """Where a word of one's own is read that the statement itself does not define."""
    bound = {
        child.id for child in ast.walk(node) if isinstance(child, ast.Name) and not isinstance(child.ctx, ast.Load)
    }
    bound |= {child.arg for child in ast.walk(node) if isinstance(child, ast.arg)}
    for child in ast.walk(node):
        name = child.id if isinstance(child, ast.Name) else child.attr if isinstance(child, ast.Attribute) else ""
        if name not in bound and _OWN_WORDS.fullmatch(name):
            return _line(child, node)
    return None


def _hands_over_ellipsis(node: ast.AST) -> bool:
    """Whether an Ellipsis stands for a value: an argument, an operand, or what is assigned. As an index it does not."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _TAKE_ELLIPSIS:
            return False
        case ast.Call(args=args, keywords=keywords):
            values: list[ast.expr | None] = [*args, *(keyword.value for keyword in keywords)]
        case (
            ast.Assign(value=value) | ast.AugAssign(value=value) | ast.AnnAssign(value=value) | ast.Return(value=value)
        ):
            values = [*value.elts] if isinstance(value, ast.Tuple) else [value]
        case ast.BinOp(left=left, right=right):
            values = [left, right]
        case ast.Compare(left=left, comparators=others, ops=[ast.Eq() | ast.NotEq() | ast.Lt() | ast.Gt(), *_]):
            values = [left, *others]
        case ast.List(elts=elements):
            values = [*elements]
        case _:
            return False
    return any(isinstance(value, ast.Constant) and value.value is ... for value in values)


# --- definitions without content --------------------------------------------------------------------------------


def _empty(node: ast.AST) -> int | None:
    """The line of a definition without content: a body of `...`, `pass`, a docstring; a value of None or `...`."""
    if isinstance(node, Function):
        if all(map(_says_nothing, node.body)):
            return node.lineno
        return next((child.lineno for child in node.body if _is_not_implemented(child)), None)
    if isinstance(node, ast.ClassDef):
        if all(map(_says_nothing, node.body)) and not any(map(_is_alias_base, node.bases)):
            return node.lineno
        methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
        return next((line for method in methods if method.name == "forward" and (line := _empty(method))), None)
    if isinstance(node, ast.Assign | ast.AnnAssign) and is_empty_value(node):
        return node.lineno
    return None


def _is_alias_base(base: ast.expr) -> bool:
    """Whether a base class may bring the content: `class DownBlock(MyDownBlock): pass`, but not `nn.Module`."""
    return isinstance(base, ast.Name) and base.id not in ("Module", "object")


def _says_nothing(node: ast.stmt) -> bool:
    match node:
        case ast.Pass():
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Return(value=None | ast.Constant(value=None)):
            return True
        case ast.Return(value=ast.Constant(value=value)):
            return value is ...
    return _is_not_implemented(node)


def _is_not_implemented(node: ast.stmt) -> bool:
    match node:
        case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
            return True
    return False


# --- None in the place of a value -------------------------------------------------------------------------------


def _none_in_use(node: ast.AST) -> int | None:
    """Where a function sets a name to None, to nothing else, and then computes with it or returns it."""
    for function in (child for child in ast.walk(node) if isinstance(child, Function)):
        stored = Counter(
            child.id if isinstance(child, ast.Name) else child.arg
            for child in ast.walk(function)
            if isinstance(child, ast.arg) or (isinstance(child, ast.Name) and not isinstance(child.ctx, ast.Load))
        )
        at_none = {
            child.targets[0].id: child.lineno
            for child in ast.walk(function)
            if isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name) and is_empty_value(child)
        }
        used = {
            operand.id
            for child in (ast.walk(function) if at_none else ())
            for operand in _operands(child)
            if isinstance(operand, ast.Name)
        }
        for name, line in at_none.items():
            if stored[name] == 1 and name in used:
                return line
    return None


def _operands(node: ast.AST) -> list[ast.expr]:
    """The expressions in a node that cannot be None in code that works."""
    match node:
        case ast.BinOp(left=left, right=right):
            return [left, right]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return [operand]
        case ast.Attribute(value=value, ctx=ast.Load()) | ast.Subscript(value=value):
            return [value]
        case ast.Call(func=function):
            return [function]
        case ast.Return(value=ast.Tuple(elts=elements)):
            return list(elements)
        case ast.Return(value=ast.expr() as value):
            return [value]
    return []


def _left_at_none(node: ast.AST, starter: ast.AST) -> int | None:
    """Where a definition has None or an Ellipsis, and the starter's has a placeholder in the same statement."""
    gaps = [(path, part) for path, part in _parts(starter) if placeholder_line(part) is not None]
    for path, part in _parts(node):
        for gap_path, gap in gaps:
            if path == gap_path and (holes := _fit(gap, part)):
                written = [other for other_path, other in _parts(node) if other_path == path]
                if not _assigned_again(part, written):
                    return _line(holes[0], part)
    return None


def _parts(node: ast.AST, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], ast.AST]]:
    """The simple statements and the conditions in a definition, each with the names of the methods around it."""
    if isinstance(node, Function | ast.ClassDef):
        for inner in node.body:
            yield from _parts(inner, (*path, inner.name) if isinstance(inner, Function) else path)
    elif isinstance(node, ast.If | ast.While | ast.For | ast.With | ast.Try):
        if isinstance(node, ast.If | ast.While):
            yield path, node.test
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                yield from _parts(child, path)
    elif isinstance(node, ast.stmt):
        yield path, node


def _fit(gap: ast.AST, node: ast.AST) -> list[ast.AST] | None:
    """What a node has of nothing where the starter has a placeholder; None where they differ in anything else."""
    if isinstance(gap, ast.Name) and gap.id == PLACEHOLDER:
        nothing = is_empty_value(node) or (isinstance(node, ast.Tuple) and all(map(is_empty_value, node.elts)))
        return [node] if nothing else []
    if type(gap) is not type(node):
        return None
    holes: list[ast.AST] = []
    for field in gap._fields:
        one, other = getattr(gap, field, None), getattr(node, field, None)
        pairs = (
            list(zip(one, other, strict=False)) if isinstance(one, list) and isinstance(other, list) else [(one, other)]
        )
        if isinstance(one, list) and isinstance(other, list) and len(one) != len(other):
            return None
        for ours, theirs in pairs:
            if isinstance(ours, ast.AST) and isinstance(theirs, ast.AST):
                found = _fit(ours, theirs)
                if found is None:
                    return None
                holes += found
            elif ours != theirs and field not in ("type_comment", "kind"):
                return None
    return holes


def _assigned_again(part: ast.AST, written: list[ast.AST]) -> bool:
    """Whether what a statement sets to None gets a value of its own beside it."""
    if not isinstance(part, ast.Assign):
        return False
    target = ast.dump(part.targets[0])
    return any(
        isinstance(other, ast.Assign) and other is not part and ast.dump(other.targets[0]) == target
        for other in written
    )


# --- kinds ------------------------------------------------------------------------------------------------------


def kind_of(node: ast.stmt) -> Kind:
    """What a statement makes of the name that it binds, as far as that is certain."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return "function"
        case ast.ClassDef():
            return "class"
        case ast.Import():
            return "module"
        case (
            ast.Assign(targets=[ast.Name()], value=value) | ast.AnnAssign(target=ast.Name(), value=ast.expr() as value)
        ):
            return _kind_of_value(value)
    return "unknown"


def _kind_of_value(value: ast.expr) -> Kind:
    match value:
        case ast.Constant(value=bool()):
            return "unknown"
        case ast.Constant(value=int() | float() | complex()):
            return "number"
        case ast.Constant(value=str() | bytes()) | ast.JoinedStr():
            return "text"
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _kind_of_value(operand)
        case ast.BinOp(left=left, right=right) if _kind_of_value(left) == _kind_of_value(right) == "number":
            return "number"
        case ast.List() | ast.ListComp() | ast.Tuple():
            return "list"
        case ast.Dict() | ast.DictComp():
            return "dict"
        case ast.Lambda():
            return "function"
    return "unknown"


def wrong_kind(wanted: str, found: Kind) -> str | None:
    """What is wrong with the kind of an answer, in words; None where it may be right."""
    if found in _POSSIBLE[wanted]:
        return None
    return f"is {_WORDS.get(found, found)}, where {WANTED[wanted]} is asked for"
