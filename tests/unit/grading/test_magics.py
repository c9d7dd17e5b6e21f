"""Magics, in cells and as nbconvert exports them: the code in them is read, the rest does not cost any."""

import json

import pytest

from grading.hand_in import HandIn, read_hand_in, read_hand_in_files
from grading.harvest import harvest
from grading.magics import undo_export
from reference.pack import load_pack

PACK = load_pack("ddpm")


def notebook(*sources: str) -> bytes:
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()


def sources(hand_in: HandIn, name: str) -> list[str]:
    return [piece.source for file in hand_in.files if file.name == name for piece in file.pieces]


def found(hand_in: HandIn, blank: str) -> tuple[str, ...]:
    """Where the definition of a blank was found, with all that it needs."""
    answer = harvest(hand_in, PACK).answers[blank]
    assert answer.status == "found", answer.message
    return tuple(chunk.file for chunk in answer.chunks)


# --- cells that write modules


def test_a_cell_that_writes_a_module_is_a_module() -> None:
    hand_in = read_hand_in(
        "hw/n.ipynb", notebook("%%writefile blocks.py\ndef q(x_0, t, noise):\n    return x_0", "from blocks import q")
    )
    assert [file.name for file in hand_in.files] == ["blocks.py", "n.ipynb"]
    (piece,) = hand_in.files[0].pieces
    assert (piece.label, piece.line) == ("n.ipynb, cell 1", 2)
    assert found(hand_in, "q") == ("n.ipynb, cell 1",)
    assert hand_in.notices == ()


@pytest.mark.parametrize(
    "cell",
    [
        "%%writefile blocks.py",
        "%%file ./blocks.py",
        "%%writefile /content/blocks.py",
        "%%writefile 'blocks.py'",
        "# my blocks\n%%writefile ../blocks.py",
    ],
)
def test_where_a_module_is_written_to_is_beside_the_notebook(cell: str) -> None:
    hand_in = read_hand_in("n.ipynb", notebook(f"{cell}\nq = 1", "x = 1"))
    assert sources(hand_in, "blocks.py") == ["q = 1"]


def test_cells_write_over_and_add_to_what_others_have_written() -> None:
    hand_in = read_hand_in(
        "n.ipynb",
        notebook(
            "%%writefile a.py\nx = 1",
            "%%writefile a.py\nx = 2",
            "%%writefile -a a.py\ny = 3",
            "%%writefile --append b.py\nz = 4",
        ),
    )
    assert sources(hand_in, "a.py") == ["x = 2", "y = 3"]
    assert sources(hand_in, "b.py") == ["z = 4"]
    assert hand_in.notices == ()


@pytest.mark.parametrize(
    ("option", "does", "left"), [("", "replaces", ["y = 2"]), ("-a ", "adds to", ["x = 1\n", "y = 2"])]
)
def test_a_cell_writes_over_a_file_that_was_handed_in_and_says_so(option: str, does: str, left: list[str]) -> None:
    hand_in = read_hand_in_files([("n.ipynb", notebook(f"%%writefile {option}a.py\ny = 2")), ("a.py", b"x = 1\n")])
    assert sources(hand_in, "a.py") == left
    assert hand_in.notices == (f"`%%writefile` in n.ipynb, cell 1 {does} the file `a.py` that was handed in with it.",)


@pytest.mark.parametrize(
    "cell", ["%%writefile", "%%writefile a.txt", "%%writefile 'a.py", "%%writefile a.py b.py", "%%writefile a\x07.py"]
)
def test_other_cells_that_write_are_dropped(cell: str) -> None:
    hand_in = read_hand_in("n.ipynb", notebook(f"{cell}\nnot python", "x = 1"))
    assert [file.name for file in hand_in.files] == ["n.ipynb"]
    assert hand_in.notices == ()


def test_running_a_module_gives_its_names() -> None:
    files = [("n.ipynb", notebook("%run ./own.py\n%run missing.py", "y = x")), ("own.py", b"x = 1\n")]
    assert sources(read_hand_in_files(files), "n.ipynb")[0] == "from own import *\npass"


# --- what nbconvert exports


def test_an_exported_cell_is_a_cell_again() -> None:
    body = "def q(x_0, t, noise):\n    '''Adds \"noise\".'''\n    !ls\n    return x_0\n"
    text = f"x = 1\nget_ipython().run_cell_magic('time', '', {body!r})\n\ny = 2\n"
    hand_in = read_hand_in("n.py", text.encode())
    assert [piece.label for piece in hand_in.files[0].pieces] == ["n.py", "n.py, the cell in line 2", "n.py"]
    assert [piece.line for piece in hand_in.files[0].pieces] == [1, 1, 3]
    assert found(hand_in, "q") == ("n.py, the cell in line 2",)


def test_an_exported_cell_that_writes_a_module_is_a_module() -> None:
    body = "def q(x_0, t, noise):\n    return x_0\n"
    text = f"get_ipython().run_cell_magic('writefile', 'blocks.py', {body!r})\nfrom blocks import q\n"
    assert found(read_hand_in("n.py", text.encode()), "q") == ("n.py, the cell in line 1",)


@pytest.mark.parametrize(
    ("exported", "python"),
    [
        ("get_ipython().run_line_magic('matplotlib', 'inline')", "pass"),
        ("get_ipython().magic('matplotlib inline')", "pass"),
        ("get_ipython().run_line_magic('time', 'y = f(x)')", "y = f(x)"),
        ("get_ipython().system('pip install \\\\\\n  torch')", "pass"),
        ("files = get_ipython().getoutput('ls')", "pass"),
        ("if x:\n    get_ipython().system('ls')", "if x:\n    pass"),
        ("if x:\n    get_ipython().run_cell_magic('bash', '', 'ls\\n')", "if x:\n    pass"),
        ("get_ipython().run_line_magic('run', 'other.py')", "from other import *"),
        ("s = '''\nget_ipython().system('ls')\n'''", "s = '''\nget_ipython().system('ls')\n'''"),
        ("IN_COLAB = 'colab' in str(get_ipython())", "IN_COLAB = 'colab' in str(get_ipython())"),
        ("get_ipython().system('\\N{nothing}')", None),
    ],
)
def test_exported_lines(exported: str, python: str | None) -> None:
    files = [("n.py", f"a = 1\n{exported}\nb = 2\n".encode()), ("other.py", b"x = 1\n")]
    hand_in = read_hand_in_files(files)
    if python is not None:
        assert sources(hand_in, "n.py") == [f"a = 1\n{python}\nb = 2\n"]
    else:
        assert sources(hand_in, "n.py")[-1].strip() == "b = 2"


@pytest.mark.parametrize(
    "line",
    ["get_ipython().system('a'" + " " * 200_000, "get_ipython().magic('" + "\\'" * 100_000, "a, " * 60_000 + "="],
)
def test_calls_without_an_end_take_no_longer(line: str) -> None:
    assert [part.text for part in undo_export(f"get_ipython()\n{line}")] == [f"get_ipython()\n{line}"]


def test_an_exported_cell_for_a_shell_is_dropped() -> None:
    text = "x = 1\nget_ipython().run_cell_magic('bash', '', 'pip install einops\\n')\ny = 2\n"
    hand_in = read_hand_in("n.py", text.encode())
    assert "".join(sources(hand_in, "n.py")).split() == ["x", "=", "1", "y", "=", "2"]


# --- await


@pytest.mark.parametrize(
    "statement",
    [
        "await show()",
        "y = await show()",
        "async with a as b:\n    c = 1",
        "for i in x:\n    await f(i)",
        "print(await x)",
    ],
)
def test_awaiting_in_a_cell_costs_nothing_but_itself(statement: str) -> None:
    hand_in = read_hand_in("n.ipynb", notebook(f"before = 1\n{statement}\nq = 2\n\ndef after():\n    return q"))
    assert [piece.source.strip() for piece in hand_in.files[0].pieces if piece.fault is None] == [
        "before = 1",
        "q = 2",
        "def after():\n    return q",
    ]
    (notice,) = hand_in.notices
    assert notice.startswith("Left out: n.ipynb, cell 1, line ")
    assert notice.endswith(": `await` outside an `async def` works only in a running notebook.")
    assert "cell 1, line 2" in notice or "cell 1, line 3" in notice
