"""Syntax that newer Pythons brought: read where it can be, else told apart from mistakes."""

import ast
import json
import sys

import pytest

from grading import newer_syntax
from grading.hand_in import read_hand_in

ONLY_OLD = pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python knows the syntax")

REUSED_QUOTES = [
    """x = f"{d["a"]}\"""",
    """x = f'{d['a']} and "{d["b"]}"'""",
    """x = f"{f"{f"{1 + 1}"}"}\"""",
    """x = f"{x!r:>{w}} {{kept}} {d["k"]:.2f}\"""",
    """x = rf"\\d{d["a"]}\"""",
    """x = f"\\N{EN DASH}{d["a"]}\"""",
    """x = f'{a != b} {d['x']}'""",
    """x = f'{d['a']}\\''""",
    """x = f"{t:%H:%M} {d["q"]}\" + 'plain' + "#" """,
    """x = f"{[
    d["a"],
]}\"""",
]


@pytest.mark.parametrize("text", REUSED_QUOTES)
def test_quotes_within_their_own_kind_are_read_by_every_python(text: str) -> None:
    older = newer_syntax.in_older_words(text)
    ast.parse(older, feature_version=(3, 11))
    assert older.count("\n") == text.count("\n")
    if sys.version_info >= (3, 12):
        assert ast.dump(ast.parse(older)) == ast.dump(ast.parse(text))
    hand_in = read_hand_in("a.py", f"{text}\n".encode())
    assert hand_in.notices == ()


@pytest.mark.parametrize(
    "text",
    [
        'x = f"{a}"',
        "f'{a!r:>{w}}'",
        'f"""{d["a"]}"""',
        "rb'{'",
        '"{" + f"{1}"',
        "# f'{a[\"",
        "f'{'",
        '"never closed',
        "f'{a:{",
    ],
)
def test_what_older_pythons_read_stays_as_it_is(text: str) -> None:
    assert newer_syntax.in_older_words(text) == text


@pytest.mark.parametrize(
    "text", ["f'{" * 50_000, "f'''{" * 50_000, "f'{a:{" * 40_000, "f'{x['" * 40_000, "'''" * 80_001]
)
def test_strings_without_an_end_take_no_longer(text: str) -> None:
    assert newer_syntax.in_older_words(text) == text


@ONLY_OLD
@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("type Pair = tuple[int, int]", "a `type` statement, which Python 3.12 brought"),
        ("type Pair[T] = tuple[T, T]", "a `type` statement, which Python 3.12 brought"),
        ("def q[T](x: T) -> T:\n    return x", "type parameters in a `def`, which Python 3.12 brought"),
        ("async def q[T](x: T) -> T:\n    return x", "type parameters in a `def`, which Python 3.12 brought"),
        ("class Box[T]:\n    x: T", "type parameters in a `class`, which Python 3.12 brought"),
        ("class Box:\n    def q[T](self): pass", "type parameters in a `def`, which Python 3.12 brought"),
        ("class Box[T = int]:\n    x: T", "a type parameter with a default, which Python 3.13 brought"),
        ('print(f"{"\\n".join(x)}")', "between braces, which Python 3.12 brought"),
        ('print(f"{"\\n".join(x)!r:>{w}} {y=} {f"{"\\t"}"}")', "between braces, which Python 3.12 brought"),
        ('print(f"{x[0] # the first\n}")', "between braces, which Python 3.12 brought"),
    ],
)
def test_what_this_python_is_too_old_for_is_told_with_both_versions(statement: str, words: str) -> None:
    source = f"before = 1\n{statement}\nafter = 2\n"
    hand_in = read_hand_in("n.ipynb", json.dumps({"cells": [{"cell_type": "code", "source": source}]}).encode())
    (notice,) = hand_in.notices
    assert words in notice
    assert "this grader runs Python 3.11" in notice
    assert "n.ipynb, cell 1, line 2: " in notice
    good = [piece.source.strip() for piece in hand_in.files[0].pieces if piece.fault is None]
    assert (good[0], good[-1]) == ("before = 1", "after = 2")


@pytest.mark.parametrize(
    "statement",
    ["type Pair tuple", "x = f'{", "x = f\"{'\\n' +}\"", "class = 3", "def f(x=[1]: pass"],
)
def test_a_mistake_is_not_called_new_syntax(statement: str) -> None:
    (notice, *_) = read_hand_in("a.py", f"{statement}\n".encode()).notices
    assert "brought" not in notice
    assert f"not valid Python {sys.version_info.major}.{sys.version_info.minor}" in notice
