"""Renaming global names in a statement's text."""

import ast
import sys

import pytest

from grading.rename import rename


@pytest.mark.parametrize(
    ("source", "names", "stores", "dotted", "expected"),
    [
        ("x = x + y  # x\n", {"x": "z"}, {}, {}, "z = z + y  # x\n"),
        ("x = x + y\n", {}, {"x": "z"}, {}, "z = x + y\n"),
        ("ä, x = x.ö, 'x'\n", {"x": "longer"}, {}, {}, "ä, longer = longer.ö, 'x'\n"),
        ("def f(x, y=x):\n    return x + g\n", {"x": "z", "g": "h"}, {}, {}, "def f(x, y=z):\n    return x + h\n"),
        ("@d\nclass A(B):\n    pass\n", {"A": "C", "d": "e"}, {}, {}, "@e\nclass C(B):\n    pass\n"),
        ("def q(x):\n    return d.q(x) + d.r\n", {}, {}, {"d.q": "p"}, "def q(x):\n    return p(x) + d.r\n"),
        ("x = [x for x in x]\n", {"x": "z"}, {}, {}, "z = [x for x in z]\n"),
        ("if True:\n    x = 1\n    def x(): pass\n", {}, {"x": "y"}, {}, "if True:\n    y = 1\n    def y(): pass\n"),
    ],
)
def test_the_text_changes_only_where_the_global_stands(
    source: str, names: dict[str, str], stores: dict[str, str], dotted: dict[str, str], expected: str
) -> None:
    assert rename(source, names, stores, dotted) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f():\n    global x\n    x = 1\n", "def f():\n    global z\n    z = 1\n"),
        ("try:\n    import m as x\nexcept E as x:\n    x()\n", "try:\n    import m as z\nexcept E as z:\n    z()\n"),
        ("match p:\n    case {**x}:\n        x()\n", "match p:\n    case {**z}:\n        z()\n"),
        ("y = f'{x} and {x!r:>{x}}'\n", "y = f'{z} and {z!r:>{z}}'\n"),
        ("def \\\n  x(): pass\n", "def z(): pass\n"),
    ],
)
def test_what_cannot_be_changed_in_place_is_written_anew(source: str, expected: str) -> None:
    assert ast.dump(ast.parse(rename(source, {"x": "z"}))) == ast.dump(ast.parse(expected))


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python can write it")
def test_what_python_cannot_write_anew_stays_as_it_is() -> None:
    source = "def f():\n    global x\n    return f'{x}{\"\x07\"}'\n"
    assert rename(source, {"x": "y"}) == source
