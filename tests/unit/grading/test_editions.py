"""Editions of the course: recognised by what they give, and what they give wrong is put right."""

import io
import zipfile

import pytest
from course_editions import IMPORTS, NEWER, OLDER, SLIP, changed, notebook

from grading.editions import Adapted, adapt
from grading.hand_in import read_hand_in, read_hand_in_files
from grading.harvest import Answer, harvest
from reference.pack import load_pack

PACK = load_pack("ddpm")
SOLUTION = PACK.solution.read_text(encoding="utf-8")
BOTH = ("older/loss-time", "older/imports")
LINE = 1 + OLDER[: OLDER.index(SLIP)].count("\n")


def of(source: str, *switched_off: str) -> Adapted:
    return adapt(read_hand_in("a.py", source.encode()), PACK, frozenset(switched_off))


def text_of(adapted: Adapted) -> str:
    """All that a guest could be given of it."""
    return "".join(piece.source for file in adapted.hand_in.files for piece in file.pieces)


def answer(source: str, blank: str = "w") -> Answer:
    return harvest(read_hand_in("a.py", source.encode()), PACK).answers[blank]


# --- which edition


EDITS_OF_THE_OLDER = {
    "as it is": [],
    "imports added to the cell": [("# Plots\n", f"{''.join(IMPORTS)}# Plots\n")],
    "imports added at its end": [("import UNet_utils\n", f"import UNet_utils\n{''.join(IMPORTS)}")],
    "imports added where they are used": [
        ("class RearrangePoolBlock", f"{''.join(IMPORTS)}\nclass RearrangePoolBlock")
    ],
    "its imports in another order": [("import glob\nimport torch\n", "import torch\nimport glob\n")],
    "its own U-Net and weight": [("UNet_utils.UNet(", "UNet("), ("c_hot, 1.0)", "c_hot, w)")],
    "the slip put right": [(SLIP, "model(x_noisy, t, *model_args)")],
    "formatted": [
        ("t/T,", "t / T,"),
        ("T, IMG_CH, IMG_SIZE, down_chs", "T,\n    IMG_CH,\n    IMG_SIZE,\n    down_chs"),
    ],
    "only what the assignment needs": [
        (OLDER[: OLDER.index("device =")], "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n")
    ],
}


@pytest.mark.parametrize("changes", EDITS_OF_THE_OLDER.values(), ids=EDITS_OF_THE_OLDER)
def test_the_older_edition_is_recognised(changes: list[tuple[str, str]]) -> None:
    source = changed(OLDER, *changes)
    assert of(source).edition == "older"
    assert adapt(read_hand_in("a.ipynb", notebook(source)), PACK).edition == "older"


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [("model(x_noisy, t, *model_args)", SLIP)],
        [("model(x_noisy, t, *model_args)", SLIP), ("c_hot, w)", "c_hot, 1.0)")],
        [("import glob\n", "")],
    ],
    ids=["as it is", "the older one's slip as a mistake", "two things of the older one", "without an import"],
)
def test_the_newer_edition_is_recognised_and_nothing_of_it_is_changed(changes: list[tuple[str, str]]) -> None:
    hand_in = read_hand_in("a.py", changed(NEWER, *changes).encode())
    adapted = adapt(hand_in, PACK)
    assert (adapted.edition, adapted.corrections) == ("newer", ())
    assert adapted.hand_in is hand_in


@pytest.mark.parametrize(
    "source",
    [
        SOLUTION,
        SOLUTION.replace("model(x_t, t, *context)", "model(x_t, t / T, *context)"),
        SOLUTION.replace(IMPORTS[0], "").replace(IMPORTS[1], ""),
        PACK.starter(".py").read_text(encoding="utf-8"),
        "def f(:\n",
    ],
    ids=["solution", "one sign", "another sign", "starter", "no Python"],
)
def test_of_no_edition_nothing_is_changed(source: str) -> None:
    hand_in = read_hand_in("a.py", source.encode())
    adapted = adapt(hand_in, PACK)
    assert (adapted.edition, adapted.corrections) == (None, ())
    assert adapted.hand_in is hand_in


# --- what is put right


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        (SLIP, "model(x_noisy, t, *model_args)"),
        ("model(x_noisy, t / T, *model_args)", "model(x_noisy, t, *model_args)"),
        ("model(x_noisy, (t/T), *model_args)", "model(x_noisy, (t), *model_args)"),
        ("model(x_noisy, t=t / T, *model_args)", "model(x_noisy, t=t, *model_args)"),
        ("model(x_noisy, t.float() / T, *model_args)", "model(x_noisy, t, *model_args)"),
        ("model('é', x_noisy, t/T)", "model('é', x_noisy, t)"),  # columns are counted in bytes
        ("model(x_noisy, t /\n        T, *model_args)", "model(x_noisy, t\n, *model_args)"),
    ],
)
def test_the_slip_is_put_right_and_every_line_keeps_its_number(given: str, corrected: str) -> None:
    source = changed(OLDER, (SLIP, given))
    adapted = of(source)
    assert adapted.corrections == BOTH
    added = "".join(IMPORTS)
    assert text_of(adapted) == added + changed(source, (given, corrected))
    (file,) = adapted.hand_in.files
    assert [(piece.label, piece.line) for piece in file.pieces] == [("the course's imports", 1), ("a.py", 1)]


def test_the_students_own_names_are_kept() -> None:
    own = ("def get_loss(model, x_0, t, *model_args):", "def get_loss(net, images, steps, *rest):")
    source = changed(
        OLDER, own, (SLIP, "net(x_noisy, steps/T, *rest)"), ("q(x_0, t)\n    noise", "q(images, steps)\n    noise")
    )
    assert "net(x_noisy, steps, *rest)" in text_of(of(source))


@pytest.mark.parametrize(
    "own",
    [
        "model(x_noisy, t / 150, *model_args)",
        "model(x_noisy, T / t, *model_args)",
        "model(x_noisy, 2 * t / T, *model_args)",
        "model(x_noisy / T, t, *model_args)",
        "other(x_noisy, t / T, *model_args)",
    ],
)
def test_what_is_not_as_given_is_the_students_own(own: str) -> None:
    source = changed(OLDER, (SLIP, own))
    assert own in text_of(of(source))
    assert of(source).corrections == ("older/imports",)


def test_only_the_blank_itself_is_put_right() -> None:
    """Preview and sampling are not given that way: whoever divides there has made a mistake."""
    source = changed(OLDER, ("e_t = model(x_t, t, c, c_mask)", "e_t = model(x_t, t/T, c, c_mask)"))
    assert "e_t = model(x_t, t/T, c, c_mask)" in text_of(of(source))


def test_one_remark_for_each_correction_names_place_and_reason_and_that_it_costs_nothing() -> None:
    slip, imports = harvest(read_hand_in("a.py", OLDER.encode()), PACK).notices
    assert f"`get_loss` (a.py, line {LINE})" in slip
    assert "gives `t/T` here, and it should be `t`" in slip
    assert "divides by T itself" in slip
    assert "`math` in a.py, line " in imports
    assert "`import math` and `from einops.layers.torch import Rearrange`" in imports
    assert all("the course's and not yours" in remark and "costs you nothing" in remark for remark in (slip, imports))


def test_only_the_imports_that_are_missing_and_used_are_added() -> None:
    one = changed(OLDER, ("import torchvision\n", f"import torchvision\n{IMPORTS[0]}"))
    assert text_of(of(one)) == IMPORTS[1] + changed(one, (SLIP, "model(x_noisy, t, *model_args)"))
    own = changed(
        OLDER, ("class UNet(", "class Rearrange(nn.Module):\n    pass\n\n\nclass UNet("), ("math.log", "torch.log")
    )
    assert of(own).corrections == ("older/loss-time",)


def test_answers_have_what_they_need() -> None:
    answers = harvest(read_hand_in("older.ipynb", notebook(OLDER)), PACK).answers
    assert [(name, found.status, found.undefined) for name, found in answers.items()] == [
        (blank.id, "found", ()) for blank in PACK.blanks
    ]


def test_a_correction_can_be_switched_off() -> None:
    without_slip = of(OLDER, "older/loss-time")
    assert without_slip.corrections == ("older/imports",)
    assert SLIP in text_of(without_slip)
    assert of(OLDER, "older/imports").corrections == ("older/loss-time",)
    neither = of(OLDER, *BOTH)
    assert (neither.edition, neither.corrections, text_of(neither)) == ("older", (), OLDER)


# --- values as the notebook starts

STARTS = [
    "w = 0.0  # Change me\n",
    "w: float = 0.0\n",
    "if True:\n    w = 0.00\n",
    "w = 0.0\nw = 0.0\n",
    "w = 0.0\n\ndef f(x):\n    w = torch.tensor([x])\n    return w\n",
    "w = 0.0\nweights = [w for w in range(3)]\n",
    "def main():\n    w = 0.0\n    x_0 = sample_w(model, c, w)\n\n\nmain()\n",
]
SET_ANEW = [
    "w = 0\n",
    "w = 1.0\n",
    "w = -0.0\n",
    "w = 0.0 * 2\n",
    "w = 0.0\nw = 3.0\n",
    "w = 3.0\nw = 0.0\n",
    "w = 0.0\nw += 2\n",
    "w = 0.0\nfor w in (0.0, 1.0):\n    print(w)\n",
    "w = 0.0\n\ndef choose():\n    global w\n    w = 2.0\n",
    "w, v = 0.0, 1.0\n",
    "def main():\n    w = 0.0\n    w = w + 1\n    x_0 = sample_w(model, c, w)\n\n\nmain()\n",
]


@pytest.mark.parametrize("source", STARTS)
def test_a_value_as_the_notebook_starts_with_is_not_attempted(source: str) -> None:
    found = answer(source)
    assert found.status == "not_attempted"
    assert "`w` still has the value that the notebook starts with (a.py, line " in found.message


@pytest.mark.parametrize("source", SET_ANEW)
def test_a_value_that_was_set_anew_is_an_answer(source: str) -> None:
    assert answer(source).status == "found"


def test_a_name_of_a_functions_own_is_no_start() -> None:
    source = "def total(parts):\n    w = 0.0\n    return w\n"
    assert text_of(of(source)) == source


@pytest.mark.parametrize("names", [("answers.py", "starter.py"), ("starter.py", "answers.py")])
def test_an_untouched_starter_beside_the_answers_takes_nothing_away(names: tuple[str, str]) -> None:
    content = {"answers.py": b"w = 2.0\n", "starter.py": b"w = 0.0  # Change me\n"}
    hand_in = adapt(read_hand_in_files([(name, content[name]) for name in names]), PACK).hand_in
    found = {file.name: "".join(piece.source for piece in file.pieces) for file in hand_in.files}
    assert found == {"answers.py": "w = 2.0\n", "starter.py": "w = FIXME  # Change me\n"}


# --- however it is handed in


def test_modules_are_held_to_their_edition_too() -> None:
    imports, rest = OLDER[: OLDER.index("device =")], OLDER[OLDER.index("device =") :]
    blocks = rest.index("class UNet(")
    files = {
        "blocks.py": imports + rest[:blocks] + rest[blocks : rest.index("model = UNet_utils")],
        "loss.py": imports + "from blocks import q\n" + rest[rest.index("model = UNet_utils") :],
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    adapted = adapt(read_hand_in("work.zip", buffer.getvalue()), PACK)
    assert adapted.corrections == BOTH
    assert [len(file.pieces) for file in adapted.hand_in.files] == [2, 1]  # only one of them uses what was missing
