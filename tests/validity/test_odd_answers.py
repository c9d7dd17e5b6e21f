"""Whatever a student's code returns or asks, it is the student's answer that fails, not the grading."""

from collections.abc import Iterator

import guests
import pytest

from grading.check import run_checks
from grading.events import ignore
from grading.hand_in import read_hand_in
from grading.harvest import harvest
from grading.outcomes import Outcome
from grading.reference import Reference
from grading.seeds import Seeds
from reference.pack import load_pack
from sandbox.guest_client import Guest

PACK = load_pack("ddpm")

VALUES = [
    "1",
    "'text'",
    "{'x': torch.ones(2)}",
    "(None, None)",
    "(torch.ones(()), torch.ones(()))",
    "torch.ones(2, 3, dtype=torch.bool)",
    "torch.zeros(6, 1, 12, 12, dtype=torch.long)",
]

# What a student's code may ask of a model
CALLS = [
    "()",
    "(x, x)",
    "(x, t, c, None)",
    "(None, None, None, None)",
    "(x, t, c, x)",
    "(x[0], t, c, c)",
    "(x, t[:0], c, c)",
    "(x, t + 1000, c, c)",
    "(x, t, c[:, :3], c[:, :3])",
    "(x, t, c + 0.5, c)",
    "(x, t.bool(), c.bool(), c.bool())",
    "(x, c=c, nonsense=t)",
]


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with guests.guest("none") as started:
        yield started


def statuses(source: str, guest: Guest) -> dict[str, Outcome]:
    found = harvest(read_hand_in("odd.py", source.encode()), PACK)
    reports = run_checks(found, PACK, Reference(PACK), guest, Seeds(b"key", "0" * 64), ignore)
    return {report.id: report.status for report in reports if report.status is not Outcome.NOT_ATTEMPTED}


@pytest.mark.parametrize("value", VALUES)
def test_odd_values(value: str, guest: Guest) -> None:
    source = "import torch\nimport torch.nn as nn\n"
    for blank in PACK.blanks:
        if blank.kind == "function":
            source += f"\ndef {blank.id}(*args, **kwargs):\n    return {value}\n"
        elif blank.kind == "class":
            source += (
                f"\nclass {blank.id}(nn.Module):\n"
                "    def __init__(self, *args, **kwargs):\n        super().__init__()\n"
                f"    def forward(self, *args):\n        return {value}\n"
            )
        else:
            source += f"\n{blank.id} = {value}\n"
    found = statuses(source, guest)
    found.pop("w", None)  # 1 is a guidance weight
    assert set(found.values()) <= {Outcome.FAILED, Outcome.CRASHED}
    # A loss of nothing, where the starter has its placeholder, has not been filled in
    blanks = {"q", "reverse_q", "UNet", "GELUConvBlock", "get_loss", "sample_w"}
    assert blanks - ({"get_loss"} if "None" in value else set()) <= found.keys()


@pytest.mark.parametrize("call", CALLS)
def test_odd_questions_to_the_model(call: str, guest: Guest) -> None:
    source = f"""
import torch

def get_loss(model, x, t, c, *rest):
    return model{call}.mean()

def sample_w(model, c, w):
    x = torch.randn(len(c), IMG_CH, IMG_SIZE, IMG_SIZE)
    t = torch.zeros(len(c))
    return model{call}
"""
    assert set(statuses(source, guest).values()) <= {Outcome.FAILED, Outcome.CRASHED}


def test_classes_that_are_no_networks(guest: Guest) -> None:
    source = "".join(
        f"class {blank.id}:\n    def __init__(self, *args, **kwargs): pass\n    def __call__(self, *args): return 1\n\n"
        for blank in PACK.blanks
        if blank.kind == "class"
    )
    assert set(statuses(source, guest).values()) <= {Outcome.FAILED, Outcome.CRASHED}
