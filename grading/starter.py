"""The starter of a pack as a syntax tree: what a hand-in began as."""

import ast
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from reference.pack import Pack

MAX_PACKS = 8  # kept at a time: the packs of a service, and versions that regrading compares


def starter_tree(pack: Pack) -> ast.Module:
    """The starter's module; an empty one for a pack without a starter."""
    return _tree(pack.starter(".py"), pack.version)


def starter_definitions(pack: Pack) -> Mapping[str, ast.stmt]:
    """The starter's definitions at top level, by the name that they bind."""
    found: dict[str, ast.stmt] = {}
    for node in starter_tree(pack).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node
    return found


@lru_cache(maxsize=MAX_PACKS)
def _tree(path: Path, version: str) -> ast.Module:  # noqa: ARG001 (a part of the cache's key)
    return ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")
