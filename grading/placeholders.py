"""What can be seen of a definition without running it: whether it is filled in, and of what kind it is."""

import ast
from typing import Literal

PLACEHOLDER = "FIXME"  # the name that stands in every blank of a starter

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


def placeholder_line(node: ast.AST) -> int | None:
    """The line, in its tree, where a statement names the placeholder, in comments and text aside; None if nowhere."""
    for child in ast.walk(node):
        if any(PLACEHOLDER in names for names in _identifiers(child)):
            line: int = getattr(child, "lineno", getattr(node, "lineno", 1))
            return line
    return None


def unfilled_line(node: ast.AST) -> int | None:
    """The line, in its tree, where a definition holds the placeholder or nothing at all; None if it is filled in."""
    line = placeholder_line(node)
    return line if line is not None else _empty(node)


def _identifiers(node: ast.AST) -> list[list[str]]:
    return [
        [value] if isinstance(value, str) else [item for item in value if isinstance(item, str)]
        for field, value in ast.iter_fields(node)
        if field in ("id", "attr", "name", "arg", "names", "asname") and isinstance(value, str | list)
    ]


def _empty(node: ast.AST) -> int | None:
    """The line of a definition without content: a body of `...`, `pass`, a docstring; a value of None or `...`."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node.lineno if all(map(_says_nothing, node.body)) else None
    if isinstance(node, ast.ClassDef):
        if all(map(_says_nothing, node.body)) and not any(map(_is_alias_base, node.bases)):
            return node.lineno
        methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
        return next((line for method in methods if method.name == "forward" and (line := _empty(method))), None)
    if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
        return node.lineno if node.value.value is None or node.value.value is ... else None
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
        case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
            return True
    return False


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
