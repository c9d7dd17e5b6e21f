"""A stub yields as many values as an assignment unpacks. The bytecode that says so differs from Python to Python."""

import pytest

from sandbox.guest.unpacking import values_wanted


class Any:
    def __iter__(self):
        import sys

        wanted = values_wanted(sys._getframe(1))
        return iter([self] * (1 if wanted is None else wanted))


STATEMENTS = {
    "a, b = x": "ab",
    "(a, b), c = x": "abc",
    "a, (b, (c, d)) = x": "abcd",
    "[a] = x": "a",
    "a, *b = x": "ab",
    "*b, a = x": "ab",
    "a, *b, c, d = x": "abcd",
    "for a, b in [x, x, x]: pass": "ab",
    "for i, (a, b) in enumerate(x): pass": "ab",
    "a = [p for p, q in x]": "a",
    "with_lambda = (lambda v: [*v])(x)": "",
    "a, b = c = x": "abc",
    ", ".join(f"v{i}" for i in range(300)) + " = x": "",
    ", ".join(f"v{i}" for i in range(20)) + ", *rest, last = x": "",
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_an_assignment_gets_what_it_unpacks(statement: str) -> None:
    names = {"x": Any()}
    for _ in range(20):  # the interpreter exchanges instructions that run often for others
        exec(statement, names)
    code = compile(f"def f(x):\n    {statement}\n", "f", "exec")
    exec(code, names)
    for _ in range(200):
        names["f"](Any())  # type: ignore[operator]
    assert all(name in names for name in STATEMENTS[statement])


@pytest.mark.parametrize(
    "expression", ["list(x)", "[*x]", "tuple(x)", "[i for i in x]", "list(zip(x, range(9)))", "[next(iter(x))]"]
)
def test_what_does_not_unpack_gets_one(expression: str) -> None:
    assert len(eval(expression, {"x": Any()})) == 1
