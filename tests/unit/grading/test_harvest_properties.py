"""A right hand-in built in another way is the same hand-in.

Programs are generated from three right ones: cells are moved, repeated, renamed, spread over modules, put into
functions and blocks, and surrounded by plots, trainings, placeholders and the starter. Each answer must still be found,
with the same program and the same needs. `NOISEMARK_EXAMPLES` says how many are generated.
"""

import ast
import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import given, note, settings
from hypothesis import strategies as st

from grading import source
from grading.dependencies import usage
from grading.hand_in import HandIn, SourceFile, read_hand_in
from grading.harvest import Answer, Harvest, harvest, pipeline_chunks
from grading.source import Piece
from reference.pack import load_pack
from sandbox.program import Chunk

# 2,000 take some minutes; 200 keep the ordinary run short
EXAMPLES = int(os.environ.get("NOISEMARK_EXAMPLES", "200"))

HAND_INS = Path(__file__).parents[2] / "hand_ins"
PACK = load_pack("ddpm")
ALL = [blank.id for blank in PACK.blanks]
COEFFICIENTS = [blank.id for blank in PACK.blanks if blank.kind == "tensor"]
CANONICAL = {alias: part.names[0] for part in (*PACK.file.givens, *PACK.blanks) for alias in part.aliases}
# The course's other family of names, in which the solution can be written too
OTHER_FAMILY = {part.names[0]: part.aliases[0] for part in (*PACK.file.givens, *PACK.blanks) if part.aliases}

REFERENCE: dict[str, Any] = {}
exec(compile(PACK.solution.read_text(encoding="utf-8"), "solution.py", "exec"), REFERENCE)


# --- the programs to begin with


def statements(text: str) -> list[str]:
    """Each statement at top level, as it stands."""
    lines = text.split("\n")
    found = []
    for node in ast.parse(text).body:
        start = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
        found.append("\n".join(lines[start - 1 : node.end_lineno]))
    return found


def grouped(module: str) -> list[str]:
    """Cells: definitions of functions and classes by themselves, what stands between two of them together."""
    cells: list[str] = []
    open_cell = False
    for text in statements(module):
        is_definition = isinstance(ast.parse(text).body[0], ast.FunctionDef | ast.ClassDef | ast.If)
        if open_cell and not is_definition:
            cells[-1] += "\n" + text
        else:
            cells.append(text)
        open_cell = not is_definition
    return cells


SOLUTION = statements(PACK.solution.read_text(encoding="utf-8"))
RENAMED = grouped((HAND_INS / "renamed.py").read_text(encoding="utf-8"))
NOTEBOOK = [
    source.without_magics("".join(cell["source"]))
    for cell in json.loads((HAND_INS / "course_notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    if cell["cell_type"] == "code"
]
BASES = {"solution": SOLUTION, "renamed": RENAMED, "notebook": NOTEBOOK}
STARTER = [text for text in statements(PACK.starter(".py").read_text(encoding="utf-8")) if "FIXME" in text]

PLOTS = [
    "import matplotlib.pyplot as plt",
    "plt.plot(alphas_cumprod.cpu(), label='x'); plt.legend(); plt.show()",
    "import matplotlib.pyplot as plt\nfig, axes = plt.subplots(1, 3)\nfor ax in axes:\n    ax.imshow(q(x, t)[0][0, 0])",
    "def show(images):\n    plt.imshow(images[0])\n    plt.show()\nshow(sample_w(model, torch.eye(10), w))",
    "print(alphas.shape, betas[:3])\nprint(f'{alphas_cumprod[-1]:.3f}')",
    "alphas",
    "alphas_cumprod.min(), alphas_cumprod.max()",
    "torch.manual_seed(0)\nprint(UNet)",
    "assert alphas.shape == (T,)",
    "x_t, noise = q(torch.zeros(2, 1, 16, 16), torch.tensor([0, 1]))\nx_t.shape",
    "def test_q():\n    x, n = q(torch.zeros(2, 1, 16, 16), torch.tensor([0, 1]))\n    assert x.shape == n.shape\ntest_q()",
    "def check_block(block):\n    print(block(3, 8, 8)(torch.zeros(1, 3, 8, 8)).shape)\ncheck_block(GELUConvBlock)",
    "# only a comment",
    "%matplotlib inline\n!pip install einops",
    "torch.save({'alphas': alphas}, 'schedule.pt')",
]
TRAININGS = [
    "model = UNet(T, IMG_CH, IMG_SIZE).to(device)\noptimizer = torch.optim.Adam(model.parameters())\n"
    "model.train()\nfor epoch in range(3):\n    for x, y in loader:\n        t = torch.randint(0, T, (len(x),))\n"
    "        c_hot, c_mask = get_context_mask(y, c_drop_prob)\n        loss = get_loss(model, x, t, c_hot, c_mask)\n"
    "        optimizer.zero_grad()\n        loss.backward()\n        optimizer.step()\n"
    "    if epoch % 2 == 0:\n        print(epoch, loss.item())\n        alpha = 0.5",
    "def train(model, loader):\n    optimizer = torch.optim.Adam(model.parameters())\n    for x, y in loader:\n"
    "        loss = get_loss(model, x, torch.zeros(len(x)), *get_context_mask(y, c_drop_prob))\n"
    "        loss.backward()\n        optimizer.step()\ntrain(UNet(T, IMG_CH, IMG_SIZE), loader)",
    "images = sample_w(model, torch.eye(10), w)\nshow_images(images)",
]


@dataclass(frozen=True)
class Generated:
    """A hand-in in the making."""

    base: str
    cells: list[str]
    files: dict[str, list[str]] = field(default_factory=dict)  # its cells by file, once it is spread over several
    in_block: bool = False  # several answers stand in one block
    steps: tuple[str, ...] = ()

    def then(self, step: str, cells: Sequence[str], **changes: Any) -> "Generated":
        return replace(self, cells=list(cells), steps=(*self.steps, step), **changes)


# --- what may be done to a right program


def move(made: Generated, data: st.DataObject) -> Generated:
    return made.then("moved", data.draw(st.permutations(made.cells), label="order"))


def repeat(made: Generated, data: st.DataObject) -> Generated:
    cells = list(made.cells)
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(cells) - 1))
        if not re.search(r"^(while|for) |loader", cells[index], re.MULTILINE):  # a cell that is run again
            cells.insert(data.draw(st.integers(index + 1, len(cells))), cells[index])
    return made.then("repeated", cells)


def add_noise(made: Generated, data: st.DataObject) -> Generated:
    cells = list(made.cells)
    noise = PLOTS + (TRAININGS if made.base == "solution" else [])
    for text in data.draw(st.lists(st.sampled_from(noise), min_size=1, max_size=6, unique=True)):
        cells.insert(data.draw(st.integers(0, len(cells))), in_family_of(made, text))
    return made.then("noise", cells)


def add_placeholders(made: Generated, data: st.DataObject) -> Generated:
    cells = list(made.cells)
    for text in data.draw(st.lists(st.sampled_from(STARTER), min_size=1, max_size=4, unique=True)):
        cells.insert(data.draw(st.integers(0, len(cells))), in_family_of(made, text))
    return made.then("placeholders", cells)


def into_main(made: Generated, data: st.DataObject) -> Generated:
    """Put all values into a function that sets them as globals, and call it at the end."""
    inside = [cell for cell in made.cells if is_answer_value(cell)]
    rest = [cell for cell in made.cells if not is_answer_value(cell)]
    if not inside:
        return made
    names = sorted({name for cell in inside for node in ast.parse(cell).body for name in usage(node).binds})
    shown = ["print('ready')", "steps = 3\nfor step in range(steps):\n    print(step)", "model = UNet(T, 1, 16)"]
    body = [f"global {', '.join(names)}", *inside]
    for text in data.draw(st.lists(st.sampled_from(shown), max_size=2, unique=True)):
        body.insert(data.draw(st.integers(1, len(body))), text)
    function = "def main():\n" + indented("\n".join(body))
    call = data.draw(
        st.sampled_from(["main()", 'if __name__ == "__main__":\n    main()', "def run():\n    main()\nrun()"])
    )
    if call.startswith("def"):
        call = call.replace("def run():\n", f"def run():\n    global {', '.join(names)}\n")
    return made.then("in main", [*rest, function, call])


def into_block(made: Generated, data: st.DataObject) -> Generated:
    """Put all values into one block."""
    inside = [cell for cell in made.cells if is_answer_value(cell)]
    if not inside:
        return made
    first = min(made.cells.index(cell) for cell in inside)
    heads = ["with torch.no_grad():", "if T > 0:", "for _ in range(1):", "try:", "while True:"]
    head = data.draw(st.sampled_from(heads))
    tail = {"try:": "\nfinally:\n    pass", "while True:": "\n    break"}.get(head, "")
    block = f"{head}\n{indented(chr(10).join(inside))}{tail}"
    cells = [cell for cell in made.cells if not is_answer_value(cell)]
    return made.then(head, [*cells[:first], block, *cells[first:]], in_block=True)


def into_modules(made: Generated, data: st.DataObject) -> Generated:
    """Spread the cells over modules that import from each other."""
    count = data.draw(st.integers(2, 4))
    cuts = sorted(data.draw(st.lists(st.integers(1, len(made.cells)), min_size=count - 1, max_size=count - 1)))
    parts = [made.cells[start:end] for start, end in zip([0, *cuts], [*cuts, len(made.cells)], strict=True)]
    imports = [cell for cell in made.cells if re.match(r"(import|from) (?!mnist)", cell) and "\n" not in cell]
    style = data.draw(st.sampled_from(["from", "star", "dotted", "relative", "none"]))
    folder = data.draw(st.sampled_from(["", "project/"])) if style != "relative" else "project/"
    names = ["schedule", "blocks", "losses", "main"][:count]
    files: dict[str, list[str]] = {}
    home: dict[str, str] = {}
    for number, (name, part) in enumerate(zip(names, parts, strict=True)):
        needed = {read for cell in part for node in parsed(cell) for read in usage(node).reads} & home.keys()
        head = list(imports)
        if style in ("from", "relative"):
            dot = "." if style == "relative" else ""
            head += [f"from {dot}{home[read]} import {read}" for read in sorted(needed)]
        elif style == "star":
            head += [f"from {home_of} import *" for home_of in sorted({home[read] for read in needed})]
        elif style == "dotted":
            head += [f"import {home_of} as {home_of}_module" for home_of in sorted({home[read] for read in needed})]
            part = [with_dots(cell, {read: f"{home[read]}_module" for read in needed}) for cell in part]
        is_last = number == count - 1
        suffix = ".ipynb" if is_last and data.draw(st.booleans(), label="notebook") else ".py"
        files[f"{folder}{name}{suffix}"] = head + part
        own = {bound for cell in part for node in parsed(cell) for bound in usage(node).binds}
        home |= dict.fromkeys(own - {"torch", "nn", "F", "math", "Rearrange"}, name)
    return made.then(f"modules: {style}", [], files=files)


def add_starter(made: Generated, data: st.DataObject) -> Generated:
    files = made.files or {data.draw(st.sampled_from(["answers.py", "answers.ipynb", "project/a.py"])): made.cells}
    name = data.draw(st.sampled_from(["starter.py", "Starter.ipynb", "project/zz_starter.py", "a_starter.ipynb"]))
    starter = statements(PACK.starter(".py").read_text(encoding="utf-8"))
    return made.then("starter", made.cells, files=dict(data.draw(st.permutations([*files.items(), (name, starter)]))))


# --- help with that


def indented(text: str) -> str:
    return "\n".join("    " + line for line in text.split("\n"))


def parsed(cell: str) -> list[ast.stmt]:
    try:
        return ast.parse(cell).body
    except SyntaxError:  # magics
        return []


@cache
def is_answer_value(cell: str) -> bool:
    """Whether a cell of the solution is an assignment to a blank."""
    nodes = parsed(cell)
    return (
        len(nodes) == 1
        and isinstance(nodes[0], ast.Assign)
        and "FIXME" not in cell
        and {CANONICAL.get(name, name) for name in usage(nodes[0]).binds} <= set(ALL)
    )


def renamed(cell: str, names: Mapping[str, str]) -> str:
    """Every word of these, by its other name; `w` and the like are no words of that kind."""
    words = "|".join(map(re.escape, names))
    return re.sub(rf"(?<![\w.])({words})(?![\w(])", lambda match: names[match[0]], cell)


def in_family_of(made: Generated, text: str) -> str:
    return renamed(text, OTHER_FAMILY) if "other family" in made.steps or made.base == "renamed" else text


def with_dots(cell: str, modules: Mapping[str, str]) -> str:
    """The cell with `module.name` for names of other modules."""
    tree = ast.parse(source.without_magics(cell))
    for statement in tree.body:
        nodes = {id(node): name for node, name, context in usage(statement).nodes if context == "load"}
        stores = usage(statement).binds

        class Dots(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.expr:
                name = nodes.get(id(node))  # noqa: B023
                if name not in modules or name in stores:  # noqa: B023
                    return node
                return ast.Attribute(value=ast.Name(id=modules[name], ctx=ast.Load()), attr=name, ctx=ast.Load())

        Dots().visit(statement)
    return ast.unparse(ast.fix_missing_locations(tree))


# --- handing it in


def hand_in_of(made: Generated) -> HandIn:
    """As it comes out of reading, which has tests of its own, and takes a process."""
    files = made.files or {"answers.ipynb": made.cells}
    read = []
    for name, cells in files.items():
        if name.endswith(".ipynb"):
            texts = [(f"{name}, cell {number}", cell) for number, cell in enumerate(cells, 1)]
        else:
            texts = [(name, "\n".join(cells))]
        pieces = [Piece(label=label, line=1, source=source.without_magics(text) + "\n") for label, text in texts]
        read.append(SourceFile(name=name, pieces=tuple(pieces)))
    return HandIn(sha256="", files=tuple(read))


def zipped(made: Generated) -> HandIn:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, cells in made.files.items():
            content = "\n".join(map(source.without_magics, cells))
            if name.endswith(".ipynb"):
                content = json.dumps(
                    {"nbformat": 4, "cells": [{"cell_type": "code", "source": cell} for cell in cells]}
                )
            archive.writestr(name, content)
    return read_hand_in("work.zip", buffer.getvalue())


# --- what has to stay the same


class _Canonical(ast.NodeTransformer):
    """One family of names, and definitions out of the `if True:` that keeps their indentation."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = CANONICAL.get(node.id, node.id)
        return node

    def visit_If(self, node: ast.If) -> list[ast.stmt] | ast.AST:
        self.generic_visit(node)
        return node.body if isinstance(node.test, ast.Constant) and node.test.value is True else node


def program(chunks: Iterable[Chunk]) -> frozenset[str]:
    """The statements of a slice, whatever their place, their order and the family of their names."""
    return frozenset(ast.dump(node) for chunk in chunks for node in _Canonical().visit(ast.parse(chunk.source)).body)


@cache
def expected(base: str) -> dict[str, tuple[frozenset[str], frozenset[str], frozenset[str]]]:
    found = harvest(hand_in_of(Generated(base, BASES[base])), PACK)
    return {name: (program(item.chunks), item.needs, item.givens) for name, item in found.answers.items()}


def run(chunks: Iterable[Chunk], values: Mapping[str, Any]) -> dict[str, Any]:
    namespace = {"__name__": "answer"} | {k: v.clone() if torch.is_tensor(v) else v for k, v in values.items()}
    for chunk in chunks:
        exec(compile(chunk.source, chunk.file, "exec"), namespace)
    return namespace


def injected(found: Answer) -> dict[str, Any]:
    return {
        name: REFERENCE.get(part.names[0], 64)
        for part in (*PACK.file.givens, *PACK.blanks)
        if part.names[0] in found.givens | found.needs
        for name in part.names
    }


def assert_same(found: Harvest, made: Generated) -> None:
    for blank_id, item in found.answers.items():
        assert item.status == "found", f"{blank_id}: {item.status}, {item.message}"
        assert item.undefined == (), blank_id
        assert not any(chunk.optional for chunk in item.chunks), blank_id
        statements_of, needs, givens = expected(made.base)[blank_id]
        if made.in_block and item.blank.kind in ("tensor", "number"):
            continue  # the block is a part of each answer in it
        assert program(item.chunks) == statements_of, blank_id
        assert item.needs == needs, blank_id
        assert item.givens == givens, blank_id
    values = {name: REFERENCE.get(part.names[0], 64) for part in PACK.file.givens for name in part.names}
    together = run(pipeline_chunks(found, ALL), values)
    for blank_id in COEFFICIENTS:
        item = found.answers[blank_id]
        for names in (together, run(item.chunks, injected(item))):
            torch.testing.assert_close(
                names[item.found_as or ""],
                REFERENCE[blank_id],
                rtol=1e-4,
                atol=1e-5,
                msg=lambda text, blank_id=blank_id: f"{blank_id}: {text}",
            )
    for blank_id in ("c_drop_prob", "w"):
        item = found.answers[blank_id]
        assert run(item.chunks, injected(item))[item.found_as or ""] == together[item.found_as or ""]


def generate(data: st.DataObject) -> Generated:
    base = data.draw(st.sampled_from(["solution", "solution", "renamed", "notebook"]), label="base")
    made = Generated(base, BASES[base])
    if base == "solution" and data.draw(st.booleans(), label="other family"):
        made = made.then("other family", [renamed(cell, OTHER_FAMILY) for cell in made.cells])
    spread = data.draw(st.booleans(), label="modules")
    if base == "solution" and not spread and (wrap := data.draw(st.sampled_from([None, into_main, into_block]))):
        made = wrap(made, data)
    if not spread and data.draw(st.booleans(), label="move"):
        made = move(made, data)
    if data.draw(st.booleans(), label="placeholders"):
        made = add_placeholders(made, data)
    if base != "notebook" and data.draw(st.booleans(), label="repeat"):
        made = repeat(made, data)
    if data.draw(st.booleans(), label="noise"):
        made = add_noise(made, data)
    if spread and base == "solution":
        made = into_modules(made, data)
    if data.draw(st.booleans(), label="starter"):
        made = add_starter(made, data)
    return made


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_a_right_program_built_in_another_way_is_the_same_hand_in(data: st.DataObject) -> None:
    made = generate(data)
    note(f"{made.base}: {', '.join(made.steps)}")
    for name, cells in (made.files or {"answers.ipynb": made.cells}).items():
        note(f"--- {name}\n" + "\n# %%\n".join(cells))
    assert_same(harvest(hand_in_of(made), PACK), made)


@settings(max_examples=max(5, EXAMPLES // 40), deadline=None)
@given(st.data())
def test_a_zip_of_modules_is_the_same_hand_in(data: st.DataObject) -> None:
    made = into_modules(Generated("solution", SOLUTION), data)
    assert_same(harvest(zipped(made), PACK), made)
