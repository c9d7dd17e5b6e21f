"""Files that hold nothing but placeholders, beside those with the answers: a starter that rode along in a zip."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath

from grading.hand_in import HandIn, SourceFile
from grading.placeholders import unfilled_line
from grading.source import parse
from reference.pack import Pack


def without_untouched_files(hand_in: HandIn, pack: Pack) -> HandIn:
    """The hand-in without files that answer nothing and ask for something that others answer, each told in a notice.

    A file that another one imports stays.
    """
    if len(hand_in.files) < 2:
        return hand_in
    blanks = {name: blank.id for blank in pack.blanks for name in blank.names}
    kept, notices = list(hand_in.files), list(hand_in.notices)
    trees = {file.name: _tree(file) for file in hand_in.files}
    answers = {name: _answers(tree, blanks) for name, tree in trees.items()}
    for file in hand_in.files:
        filled, unfilled = answers[file.name]
        elsewhere = {blank for other in kept if other is not file for blank in answers[other.name][0]}
        imported = {
            part
            for other in kept
            if other is not file
            for text in _imports(trees[other.name])
            for part in text.split(".")
        }
        asked_elsewhere = not unfilled.isdisjoint(elsewhere)
        if asked_elsewhere and not filled and PurePosixPath(file.name).stem not in imported:
            kept.remove(file)
            notices.append(
                f"`{file.name}` was passed over: it holds placeholders and no answers, and your answers are elsewhere "
                "in your hand-in."
            )
    return replace(hand_in, files=tuple(kept), notices=tuple(notices))


def _tree(file: SourceFile) -> list[ast.stmt]:
    return [node for piece in file.pieces if piece.fault is None for node in parse(piece.source).body]


def _answers(tree: list[ast.stmt], blanks: dict[str, str]) -> tuple[set[str], set[str]]:
    """The ids of the blanks that a file fills in, and of those that it only holds placeholders for."""
    filled: set[str] = set()
    unfilled: set[str] = set()
    for node in tree:
        for name in _defined(node):
            if name in blanks:
                (filled if unfilled_line(node) is None else unfilled).add(blanks[name])
    return filled, unfilled - filled


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            yield from (name.id for name in ast.walk(target) if isinstance(name, ast.Name))


def _imports(tree: list[ast.stmt]) -> Iterator[str]:
    for statement in tree:
        for node in ast.walk(statement):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)
