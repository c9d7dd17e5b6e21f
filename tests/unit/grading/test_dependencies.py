"""What a statement binds, reads and changes; Python's own symbol table is the oracle for scoping."""

import ast
import symtable
import sys
import warnings
from pathlib import Path

import pytest

from grading.dependencies import usage
from grading.usage import Usage

STANDARD_LIBRARY = Path(ast.__file__).parent


def of(source: str) -> Usage:
    (statement,) = ast.parse(source).body
    return usage(statement)


@pytest.mark.parametrize(
    ("source", "binds", "now", "later"),
    [
        ("x = y + z", "x", "y z", ""),
        ("x += y", "x", "x y", ""),
        ("a, (b, *c) = f()", "a b c", "f", ""),
        ("a = b = c", "a b", "c", ""),
        ("x: T = y", "x", "T y", ""),
        ("x: T", "", "T", ""),
        ("print(y := f(x), y)", "y", "print f x", ""),
        ("for i in range(n): t[i] = i", "i", "range n t", ""),
        ("for i in i: pass", "i", "i", ""),
        ("if c:\n    x = 1\n    y = x", "x y", "c", ""),
        ("while c:\n    x = x + 1", "x", "c x", ""),
        ("with a as b:\n    c = b", "b c", "a", ""),
        ("try:\n    import m\nexcept E as e:\n    m = e", "m e", "E", ""),
        ("def f(x, y=d, *z, k: A = e) -> R:\n    return x + y + g(k) + len(z)", "f", "d e A R", "g len"),
        ("def f():\n    global x\n    x = y", "f", "", "y"),
        ("def f():\n    t = 1\n    def g():\n        nonlocal t\n        t = u\n    return t", "f", "", "u"),
        ("def f():\n    def f2():\n        return f2() + f()\n    return f2", "f", "", ""),
        ("def f():\n    w = [w for w in v if w]\n    return w", "f", "", "v"),
        ("def f():\n    import m\n    return m.x", "f", "", ""),
        ("def f():\n    x: T = 1\n    return x", "f", "", ""),
        ("@d\nclass C(B, metaclass=M):\n    a = b\n    def f(self):\n        return a", "C", "d B M b", "a"),
        ("class C:\n    x = x", "C", "x", ""),
        ("f = lambda x, y=d: x + y + z", "f", "d", "z"),
        ("x = [i * k for i in xs for j in i.ys if j]", "x", "xs k", ""),
        ("x = {k: v for k, v in m.items()}", "x", "m", ""),
        (
            "match p:\n    case {'a': x, **rest}:\n        y = x\n    case [C(z), *more] if z:\n        pass",
            "x rest y z more",
            "p C",
            "",
        ),
        ("from m import a as b", "b", "", ""),
        ("import a.b", "a", "", ""),
        ("async def f():\n    async for x in g():\n        await h(x)", "f", "", "g h"),
        ("del x", "", "", ""),
    ],
)
def test_names_bound_and_read(source: str, binds: str, now: str, later: str) -> None:
    found = of(source)
    assert found.binds == set(binds.split())
    assert set(found.reads_now) == set(now.split())
    assert set(found.reads_later) == set(later.split())


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("x[0] = 1", "x"),
        ("x.a.b = 1", "x"),
        ("x[i][j] += 1", "x"),
        ("del x['a']", "x"),
        ("x.clamp_(0, 1)", "x"),
        ("x.data.view(-1).mul_(y)", "x"),
        ("nn.init.zeros_(x)", "x"),
        ("xs.append(y)", "xs"),
        ("torch.cumprod(a, 0, out=b)", "b"),
        ("setattr(C, 'f', g)", "C"),
        ("vars(ns).update(a=1)", "ns"),
        ("np.copyto(out, x)", "out"),
        ("np.multiply(a, b, out=x[1:])", "x"),
        ("[out.append(a) for a in b]", "out"),
        ("list(map(out.append, xs))", "out"),
        ("c and out.append(1)", "out"),
        ("x = xs.pop()", "xs"),
        ("for x in (a, b):\n    x.mul_(2)", "x a b"),
        ("x = vars(y)", ""),
        ("print(x.add(1))", ""),
        ("for i in r:\n    x[i] = x[i - 1] * a[i]", "x"),
        ("y = x.add(1)", ""),
        ("y = x.__len__()", ""),
        ("def f():\n    x[0] = 1", ""),
        ("torch.manual_seed(0)", ""),
    ],
)
def test_objects_changed_in_place(source: str, changed: str) -> None:
    assert of(source).mutates == set(changed.split())


def test_what_is_changed_only_on_the_way_to_something_else() -> None:
    assert of("y = x.sqrt_()").in_passing == {"x": {"y"}}
    assert of("y[i] = x.sqrt_()").in_passing == {"x": {"y"}}
    assert of("y = torch.sqrt(x, out=x)").in_passing == {"x": {"y"}}
    assert of("y.copy_(x.cumprod_(0))").in_passing == {"x": {"y"}}
    assert of("x = x.sqrt_()").in_passing == {}
    assert of("for i in r:\n    x[i] = 1\n    y = x.sqrt_()").in_passing == {}
    assert of("with c:\n    y = x.sqrt_()\n    z = 1").in_passing == {"x": {"y"}}


def test_calls_and_what_they_are_given() -> None:
    (call,) = of("s.t['u'].fill(a.b, [c, *d], k=e[0])").calls
    assert (call.name, call.on, call.discarded) == ("fill", {"s"}, True)
    assert call.arguments == ({"a"}, {"c", "d"})
    assert call.given == {"a", "c", "d", "e"}
    calls = {call.name: call for call in of("print(show(x), y.z())").calls}
    assert not any(call.discarded for call in calls.values())
    (call,) = of("def f(a, b):\n    c = 1\n    b.set(a, c, g)").bodies["f"].calls
    assert (call.on, call.given, call.discarded) == ({1}, {0, "g"}, True)
    calls = {call.name: call for call in of("@add_to(C)\n@patch\ndef f(self: D): pass").calls if call.decorates}
    assert calls["add_to"].given == {"C"}
    assert calls["patch"].decorates == {"D"}


def test_what_a_function_will_change() -> None:
    found = of(
        "def fill(a, table, n):\n    global done\n    table['x'] = a\n    log.append(n)\n    done = True\n    n = 1"
    )
    body = found.bodies["fill"]
    assert body.mutates == {1, "log"}
    assert body.binds == found.binds_later == {"done"}


def test_only_what_happens_on_every_path_is_sure() -> None:
    assert of("if c:\n    x = y = 1\nelse:\n    x = 2").surely == {"x"}
    assert of("for i in r:\n    x = 1").surely == set()
    assert of("try:\n    x = 1\nexcept E:\n    pass").surely == set()
    assert of("with a:\n    x = 1").surely == {"x"}


def test_annotations_may_be_lazy() -> None:
    (statement,) = ast.parse("def f(x: A) -> B: pass").body
    assert set(usage(statement, lazy_annotations=True).reads_now) == set()


@pytest.mark.parametrize(
    "module", ["ast", "argparse", "dataclasses", "enum", "inspect", "typing", "tempfile", "symtable"]
)
def test_scoping_agrees_with_the_symbol_table(module: str) -> None:
    tree = ast.parse((STANDARD_LIBRARY / f"{module}.py").read_text(encoding="utf-8"))
    compared = 0
    for statement in tree.body:
        source = ast.unparse(statement)
        try:
            expected = _global_names(source)
        except SyntaxError:
            continue
        found = of(source).reads
        # Two deliberate differences: an augmented assignment reads its target, and annotations of local variables
        # are never evaluated
        local_annotations = {
            name.id
            for node in ast.walk(statement)
            if isinstance(node, ast.AnnAssign)
            for name in ast.walk(node.annotation)
            if isinstance(name, ast.Name)
        }
        augmented = {
            node.target.id
            for node in ast.walk(statement)
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
        }
        # From Python 3.12 on, the symbol table counts these among the names of what is around them
        told_otherwise = {"__class__"} | {
            name.id
            for node in ast.walk(statement)
            if isinstance(node, ast.comprehension)
            for name in ast.walk(node.target)
            if isinstance(name, ast.Name) and sys.version_info >= (3, 12)
        }
        assert expected - found <= local_annotations | told_otherwise, source
        if not any(isinstance(node, ast.ClassDef) for node in ast.walk(statement)):
            assert found - expected <= augmented, source
        compared += 1
    assert compared > 10


def _global_names(source: str) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        top = symtable.symtable(source, "<test>", "exec")
    names = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    tables = list(top.get_children())
    while tables:
        table = tables.pop()
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
        tables += table.get_children()
    return names
