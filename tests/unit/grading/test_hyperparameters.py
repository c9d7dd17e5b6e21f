"""Values that a hand-in sets: found in its text, and put into ranges."""

from pathlib import Path

import pytest

from grading.hand_in import read_hand_in, read_hand_in_files
from grading.harvest import harvest
from grading.hyperparameters import read_hyperparameters
from grading.outcomes import Outcome
from grading.report import GenerationRun, HyperParameter, Interval
from reference.pack import load_pack

PACK = load_pack("ddpm")


def read(source: str, generation: GenerationRun | None = None) -> dict[str, HyperParameter]:
    hand_in = read_hand_in("solution.py", source.encode())
    answers = harvest(hand_in, PACK).answers
    return {entry.name: entry for entry in read_hyperparameters(hand_in, answers, PACK, generation)}


def run(estimate: float) -> GenerationRun:
    return GenerationRun(
        status=Outcome.PASSED,
        message="",
        guidance_weight=6,
        accuracy=Interval(estimate=estimate, low=estimate, high=estimate, confidence=0.95),
        passed=estimate >= 0.95,
        pass_mark=0.95,
    )


@pytest.mark.parametrize(
    ("source", "name", "value"),
    [
        ("w = 3", "w", 3),
        ("w = 1\nw = -2.5\n", "w", -2.5),
        ("optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)", "learning rate", 1e-4),
        ("optimizer = Adam(model.parameters(), 3e-4)", "learning rate", 3e-4),
        ("RATE = 2e-4\ndef train():\n    return Adam(model.parameters(), lr=RATE)", "learning rate", 2e-4),
        ("learning_rate = 5e-4", "learning rate", 5e-4),
        ("c_drop_prob = 0.1", "share of dropped context", 0.1),
        ("T = 400", "diffusion steps T", 400),
        ("EPOCHS = 10", "epochs", 10),
    ],
)
def test_a_value_is_found(source: str, name: str, value: float) -> None:
    assert read(source)[name].value == value


@pytest.mark.parametrize(
    "source",
    [
        "w = None",
        "w = 'much'",
        "w = True",
        "w = weight()",
        "w = 1e999",
        f"w = 1{'0' * 400}",
        "def f():\n    w = 3",
        "schedule(model.parameters(), lr=1e-4)",
        "Adam(model.parameters(), lr=rate)",
    ],
)
def test_what_is_no_value_is_left_out(source: str) -> None:
    assert read(source) == {}


def test_the_place_is_the_line_in_the_file_that_sets_it() -> None:
    hand_in = read_hand_in_files([("a.py", b"import torch\n\nw = 3\n"), ("b.py", b"T = 20\n")])
    answers = harvest(hand_in, PACK).answers
    places = {entry.name: entry.place for entry in read_hyperparameters(hand_in, answers, PACK, None)}
    assert places == {"w": "a.py, line 3", "diffusion steps T": "b.py, line 1"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        *((f"w = {w}", "failing") for w in (0, 0.9, 8.1, 12)),
        *((f"w = {w}", "risky") for w in (1, 1.9, 5.1, 8)),
        *((f"w = {w}", "safe") for w in (2, 3.5, 5)),
        *((f"lr = {rate}", "failing") for rate in (1e-5, 6e-4, 0.1)),
        *((f"lr = {rate}", "risky") for rate in (2e-5, 4e-5, 3e-4, 5e-4)),
        *((f"lr = {rate}", "safe") for rate in (5e-5, 1e-4, 2e-4)),
        *((f"c_drop_prob = {share}", "failing") for share in (0, 0.6)),
        ("c_drop_prob = 0.1", "safe"),
    ],
)
def test_a_value_has_its_range(source: str, expected: str) -> None:
    (entry,) = read(source).values()
    assert entry.range == expected
    assert bool(entry.advice) == (expected != "safe")


def test_advice_never_contradicts_what_was_measured() -> None:
    assert read("w = 9", run(0.99))["w"].range == "risky"
    assert "Here it read 99.0% correctly." in read("w = 9", run(0.99))["w"].advice
    assert read("w = 9", run(0.60))["w"].range == "failing"


def test_values_of_the_starter_are_the_assignments() -> None:
    starter = PACK.starter(".py").read_text(encoding="utf-8")
    assert "lr=2e-3" in starter
    assert read(starter) == {}
    assert read(starter.replace("lr=2e-3", "lr=2e-2"))["learning rate"].value == 2e-2


def test_the_share_of_dropped_context_is_the_one_that_is_trained_with() -> None:
    notebook = (Path(__file__).parents[2] / "hand_ins" / "course_notebook.ipynb").read_bytes()
    hand_in = read_hand_in("n.ipynb", notebook)
    entries = read_hyperparameters(hand_in, harvest(hand_in, PACK).answers, PACK, None)
    (share,) = (entry for entry in entries if entry.name == "share of dropped context")
    assert (share.value, share.range, share.place) == (0.1, "safe", "n.ipynb, cell 21, line 10")


def test_a_broken_piece_costs_nothing_else() -> None:
    assert read("w = 3\ndef broken(:\n    pass\n")["w"].value == 3
