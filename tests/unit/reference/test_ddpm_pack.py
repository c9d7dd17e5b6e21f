"""What students are given agrees with the solution and with itself."""

import ast
import shutil
from pathlib import Path

import jupytext
import pytest
from course_editions import NEWER, OLDER

from grading.editions import adapt
from grading.hand_in import read_hand_in
from reference.pack import Edition, Pack, PackError, load_pack

PACK = load_pack("ddpm")
STARTER = PACK.starter(".py").read_text(encoding="utf-8")
SOLUTION = PACK.solution.read_text(encoding="utf-8")


def names(statement: ast.stmt) -> set[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    found = {target.id for target in targets if isinstance(target, ast.Name)}
    return found | {getattr(statement, "name", "")}


def outside_blanks(source: str) -> list[str]:
    """Each statement that defines no blank, without comments and layout."""
    blanks = {blank.id for blank in PACK.blanks}
    return [ast.unparse(statement) for statement in ast.parse(source).body if not names(statement) & blanks]


def signatures(source: str) -> dict[str, tuple[str, str | None]]:
    """Parameters and documentation of each function and method, by its place."""
    found = {}
    for top in ast.parse(source).body:
        for node in ast.walk(top):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                arguments = ast.unparse(node.args) if isinstance(node, ast.FunctionDef) else ""
                found[f"{getattr(top, 'name', '')}.{node.name}"] = (arguments, ast.get_docstring(node))
    return found


def test_notebook_is_made_from_the_starter() -> None:
    """Else: jupytext --update --to ipynb starter.py"""
    module = jupytext.reads(STARTER, fmt="py:percent")
    notebook = jupytext.read(PACK.starter(".ipynb"))
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in module.cells
    ]


def test_starter_and_solution_agree_outside_the_blanks() -> None:
    starter, solution = outside_blanks(STARTER), outside_blanks(SOLUTION)
    assert starter[: len(solution)] == solution
    # What the starter has beyond that is for the student to try things out
    assert all(
        statement.startswith(("TRAIN", "BATCH_SIZE", "EPOCHS", "if TRAIN")) for statement in starter[len(solution) :]
    )


def test_starter_and_solution_have_the_same_signatures() -> None:
    assert signatures(STARTER) == signatures(SOLUTION)


def test_every_blank_of_the_starter_has_a_placeholder_and_nothing_else_has() -> None:
    blanks = {blank.id for blank in PACK.blanks}
    for statement in ast.parse(STARTER).body:
        has_placeholder = any(isinstance(node, ast.Name) and node.id == "FIXME" for node in ast.walk(statement))
        assert has_placeholder == bool(names(statement) & blanks), ast.unparse(statement)[:80]


def test_solution_has_no_placeholder() -> None:
    assert "FIXME" not in SOLUTION


# --- editions


def shown(source: str, edition: Edition) -> set[bool]:
    """Whether a hand-in shows the signs of an edition: each by itself, twice, as it takes two to be recognised."""
    hand_in, pack = read_hand_in("a.py", source.encode()), load_pack("ddpm")
    found = set()
    for sign in edition.signs:
        pack.editions = {edition.id: edition.model_copy(update={"signs": (sign, sign), "slips": ()})}
        found.add(adapt(hand_in, pack).edition is not None)
    return found


def test_every_sign_tells_its_edition_from_the_other() -> None:
    older, newer = PACK.editions["older"], PACK.editions["newer"]
    assert (shown(OLDER, older), shown(OLDER, newer)) == ({True}, {False})
    assert (shown(NEWER, newer), shown(NEWER, older)) == ({True}, {False})


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('blank = "get_loss"', 'blank = "get_los"', "editions.toml: pack.toml has no blank get_los"),
        ('given = ["t / T", ', 'given = ["t /", ', "older.slips.0.given.0: Value error, 't /' is not an expression"),
        ('imports = ["import math", ', 'imports = ["import math, os", ', "is not one import of one name"),
        ('code = ["UNet_utils.UNet"]', 'code = ["UNet_utils."]', "is not Python"),
        ('argument_of = "model"', "", "older.slips.0.argument_of: Field required"),
    ],
)
def test_what_is_wrong_with_editions_is_said(tmp_path: Path, old: str, new: str, words: str) -> None:
    root = tmp_path / "ddpm"
    shutil.copytree(PACK.root, root)
    text = (root / "editions.toml").read_text(encoding="utf-8")
    assert old in text
    (root / "editions.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(PackError) as caught:
        Pack(root)
    assert words in str(caught.value)


def test_a_pack_may_have_no_editions(tmp_path: Path) -> None:
    root = tmp_path / "ddpm"
    shutil.copytree(PACK.root, root)
    (root / "editions.toml").unlink()
    assert Pack(root).corrections == frozenset()
    assert adapt(read_hand_in("a.py", OLDER.encode()), Pack(root)).edition is None
