"""Telling a block by its body: a right answer in other words is told, or left alone, never taken for another block."""

import ast
import json
from pathlib import Path

import pytest

from grading.lookalikes import Lookalikes
from reference.pack import load_pack

HAND_INS = Path(__file__).parents[2] / "hand_ins"


def classes(source: str) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}


SOLUTION = classes(load_pack("ddpm").solution.read_text(encoding="utf-8"))
LOOKALIKES = Lookalikes(SOLUTION)


def samples() -> list[tuple[str, ast.ClassDef]]:
    paths = [*sorted((HAND_INS / "modules").rglob("*.py")), HAND_INS / "renamed.py"]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    cells = json.loads((HAND_INS / "course_notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    texts += [source for source in sources if "class " in source]
    return [(name, node) for text in texts for name, node in classes(text).items()]


@pytest.mark.parametrize("name", SOLUTION)
def test_each_block_of_the_reference_is_itself(name: str) -> None:
    assert LOOKALIKES.best(SOLUTION[name]) == name


def test_right_answers_in_other_words_are_never_taken_for_another_block() -> None:
    told = [(name, LOOKALIKES.best(node)) for name, node in samples()]
    assert all(best in (name, None) for name, best in told)
    # A threshold that tells nothing would pass the above
    assert sum(best == name for name, best in told) >= 18


def test_a_tie_is_broken_by_the_place_among_the_neighbours() -> None:
    (between,) = [node for name, node in samples() if name == "ResidualConvBlock" and LOOKALIKES.best(node) is None]
    assert LOOKALIKES.best(between, LOOKALIKES.neighbours("UpBlock", None)) == "ResidualConvBlock"
    assert (
        LOOKALIKES.best(between, LOOKALIKES.neighbours("UpBlock", "SinusoidalPositionEmbedBlock"))
        == "ResidualConvBlock"
    )
    assert LOOKALIKES.neighbours("UpBlock", "UpBlock") == {"ResidualConvBlock", "DownBlock"}
