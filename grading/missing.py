"""What an answer lacks, in words for the student: why it was not found, and what its names are missing."""

import ast
import difflib
from collections.abc import Collection, Container
from dataclasses import dataclass
from functools import cached_property

from grading.in_force import InForce
from grading.modules import Modules
from grading.places import Places
from grading.slices import Slice, Undefined
from grading.statements import Statement
from reference.pack import Blank

NOWHERE = "but never defined or imported."  # ends advice that says no more than Python's own NameError

# How alike a misspelt name must be (difflib's ratio): `sampel_w` for `sample_w`, but not `q` for `w`
_LIKE_A_NAME = 0.8

# From an answer back to the helper module: `ddpm = ddpm_utils.DDPM(B, device)` and `return ddpm.q(x_0, t)` take 6
MAX_STEPS = 12

# How students of the course import what they use most; for advice on a missing import.
_IMPORTS = {
    "torch": "import torch",
    "nn": "import torch.nn as nn",
    "F": "import torch.nn.functional as F",
    "optim": "import torch.optim as optim",
    "Adam": "from torch.optim import Adam",
    "np": "import numpy as np",
    "numpy": "import numpy",
    "math": "import math",
    "random": "import random",
    "einops": "import einops",
    "Rearrange": "from einops.layers.torch import Rearrange",
    "rearrange": "from einops import rearrange",
    "repeat": "from einops import repeat",
    "partial": "from functools import partial",
    "functools": "import functools",
    "plt": "import matplotlib.pyplot as plt",
    "tqdm": "from tqdm import tqdm",
    "Tensor": "from torch import Tensor",
    "Optional": "from typing import Optional",
}


@dataclass(frozen=True, kw_only=True)
class _Inner:
    """Something that is defined where nobody else can use it."""

    container: str  # name of the function or class
    place: str  # file and line, in words
    what: str  # "definition", "value" or "default"


class Missing:
    """Words about what a hand-in does not define, or defines where it cannot be used."""

    def __init__(self, modules: Modules, places: Places, helpers: Collection[str]) -> None:
        self.modules = modules
        self.places = places
        self._helpers = helpers  # the course's own modules

    def hint(self, blank: Blank, known: Container[str], found: InForce | None) -> str:
        """What may help a student whose answer was not found, as a sentence with a space before it; or nothing.

        `known` are names that mean other blanks; `found` is what is known of the value where it counts.
        """
        for name in blank.names:
            if (where := self._use_of_helper(name)) is not None:
                return f" `{where[0]}` ({where[1]}) comes from a helper module of the course. Write it yourself."
            for statement in self.places.bindings(name):
                if name in statement.usage.targets:
                    where_bound = _place(statement, statement.node)
                    return (
                        f" `{name}` is only a loop's variable ({where_bound}): give it its value in a line of its own."
                    )
            inner = self._inner.get(name)
            if inner is not None and inner.what == "default" and blank.kind in ("tensor", "number"):
                return (
                    f" It has a value only as the default of a parameter of `{inner.container}` ({inner.place}): "
                    f"give it its value in a line of its own, at the left margin, and hand it to `{inner.container}`."
                )
            if inner is not None and (blank.kind in ("tensor", "number") or inner.what == "definition"):
                return f" There is one inside `{inner.container}` ({inner.place}): define it at the left margin."
        if found is not None and found.otherwise is not None and found.otherwise.default_of is not None:
            function, place = found.otherwise.default_of, self.places.in_force_at[blank.id]
            return (
                f" Where it counts, its value is the default of a parameter of `{function}` ({place}): "
                "give it its value in a line of its own, at the left margin."
            )
        if found is not None and found.is_unknown:
            return (
                f" Where `{blank.in_force_at}` is called, its value depends on how your code runs: "
                "give it one value in a line of its own, at the left margin."
            )
        bound = {name for statement in self.modules.statements for name in statement.usage.binds}
        names = sorted(name for name in bound if name not in known)
        close = difflib.get_close_matches(blank.id, names, n=1, cutoff=_LIKE_A_NAME)
        return f" Is it called `{close[0]}`? Then rename it." if close else ""

    def fault_of(self, name: str) -> str | None:
        """Why a name could not be read: the first broken piece that seems to define it."""
        return self._faults.get(name)

    @cached_property
    def _faults(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for piece in self.modules.broken:
            for name in piece.names:
                found.setdefault(name, piece.fault or "")
        return found

    @cached_property
    def _inner(self) -> dict[str, _Inner]:
        """What is defined, assigned or a parameter's default inside of functions and classes, by name."""
        found: dict[str, _Inner] = {}
        defaults: dict[str, _Inner] = {}
        for statement in self.modules.statements:
            outer = statement.node
            if not isinstance(outer, ast.FunctionDef | ast.ClassDef):
                continue
            for node in ast.walk(outer):
                place = _place(statement, node)
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node is not outer:
                    found.setdefault(node.name, _Inner(container=outer.name, place=place, what="definition"))
                elif isinstance(node, ast.Assign):
                    for target in node.targets:
                        if isinstance(target, ast.Name):
                            found.setdefault(target.id, _Inner(container=outer.name, place=place, what="value"))
                if isinstance(node, ast.FunctionDef):
                    for name in _defaults(node):
                        defaults.setdefault(name, _Inner(container=node.name, place=place, what="default"))
        return defaults | found

    # -- helper modules of the course

    def helper_of(self, statement: Statement, name: str) -> str | None:
        """The helper module of the course that an answer is taken from, instead of being written; None if it is not."""
        node = statement.node
        if isinstance(node, ast.Import | ast.ImportFrom):
            return self._helper(statement.module, name)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            return self._source(statement.module, node.value, {})
        if isinstance(node, ast.ClassDef):
            sources = [self._source(statement.module, base, {}) for base in node.bases]
            return next((source for source in sources if source is not None), None)
        if isinstance(node, ast.FunctionDef):
            inner = {
                target.id: child.value
                for child in ast.walk(node)
                if isinstance(child, ast.Assign)
                for target in (child.targets[0].elts if isinstance(child.targets[0], ast.Tuple) else child.targets)
                if isinstance(target, ast.Name)
            }
            returned = [child.value for child in ast.walk(node) if isinstance(child, ast.Return) and child.value]
            found = [self._source(statement.module, value, inner) for value in returned]
            return found[0] if found and all(found) else None
        return None

    def _helper(self, module: int, name: str) -> str | None:
        stub = self.modules.stub_of(module, name)
        return stub if stub in self._helpers else None

    def _source(self, module: int, value: ast.expr, inner: dict[str, ast.expr], steps: int = MAX_STEPS) -> str | None:
        """The helper module that a value is made from, as far as a few assignments tell."""
        if steps == 0:
            return None
        match value:
            case ast.Name(id=name):
                if name in inner:
                    rest = {other: expression for other, expression in inner.items() if other != name}
                    return self._source(module, inner[name], rest, steps - 1)
                if (helper := self._helper(module, name)) is not None:
                    return helper
                if name in self.places.blanks or name in self.places.givens:
                    return None  # another answer, which is judged by itself
                symbol = self.modules.lookup(module, name)
                bound = self.modules.bindings.get(symbol, []) if symbol is not None else []
                if bound and isinstance(bound[-1].node, ast.Assign):
                    return self._source(bound[-1].module, bound[-1].node.value, {}, steps - 1)
                return None
            case ast.Attribute(value=part) | ast.Subscript(value=part):
                parts = [part]
            case ast.Call(func=function, args=arguments):
                parts = [function, *arguments] if isinstance(function, ast.Attribute) else [function]
            case ast.BinOp(left=left, right=right):
                parts = [left, right]
            case ast.UnaryOp(operand=operand):
                parts = [operand]
            case ast.Tuple(elts=elements):
                parts = [*elements]
            case _:
                return None
        return next((found for part in parts if (found := self._source(module, part, inner, steps - 1))), None)

    def _use_of_helper(self, name: str) -> tuple[str, str] | None:
        """Where a hand-in uses something of this name out of a helper module: `UNet_utils.UNet(...)`; and the place."""
        for statement in self.modules.statements:
            for node, text in statement.usage.dotted:
                prefix, _, last = text.rpartition(".")
                if last == name and self._helper(statement.module, prefix.split(".")[0]) is not None:
                    return text, _place(statement, node)
        return None

    # -- what an answer uses

    def advice(self, name: str, part: Slice) -> list[str]:
        """What to do about names that an answer uses and nothing defines, a sentence each."""
        sentences = [_advice(missing) for missing in part.undefined]
        for statement in part.statements:
            module = self.modules.missing_module(statement)
            if module is None or not isinstance(statement.node, ast.Import | ast.ImportFrom):
                continue
            alias = statement.node.names[0]
            what = f"`{alias.name}` from `{module}`" if isinstance(statement.node, ast.ImportFrom) else f"`{module}`"
            sentences.append(
                f"`{name}` uses {what}, which was not handed in and is not installed here "
                f"({_place(statement, statement.node)}). If it is a file of yours, hand in {_file_of(module)} too."
            )
        return sentences

    def absent_import(self, statement: Statement, name: str) -> str | None:
        """What to do about an answer that is only imported, from a file that is not there."""
        module = self.modules.missing_module(statement)
        if module is None:
            return None
        return f"`{name}` is imported from `{module}`, which was not handed in. Hand in {_file_of(module)} too."


def _file_of(module: str) -> str:
    return f"`{module.lstrip('.').replace('.', '/')}.py`"


def _place(statement: Statement, node: ast.AST) -> str:
    return f"{statement.file}, line {statement.line_of(getattr(node, 'lineno', statement.node.lineno))}"


def _defaults(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    with_default = positional[len(positional) - len(arguments.defaults) :]
    named = [item for item, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value is not None]
    return [item.arg for item in (*with_default, *named)]


def _advice(missing: Undefined) -> str:
    where = f"`{missing.name}` is used in {missing.file}, line {missing.line}"
    if missing.only_in_loop:
        return f"{where} but gets its value only where the code trains, samples or draws: pass it as an argument."
    if missing.name in _IMPORTS:
        return f"{where} but never imported: add `{_IMPORTS[missing.name]}`."
    return f"{where} {NOWHERE}"
