"""Answers that pass one by one and do not work together."""

from collections.abc import Iterator

import guests
import pytest
from validity.corpus import replace_definition
from validity.grader import PACK, SOLUTION, Grader

from grading.check import run_checks
from grading.composition import find_misfits
from grading.events import CheckFinished, Event
from grading.hand_in import read_hand_in
from grading.harvest import Harvest, harvest
from grading.outcomes import Outcome
from grading.reference import Reference
from grading.report import WORKS_TOGETHER
from grading.seeds import Seeds
from sandbox.guest_client import Guest

SEEDS = Seeds(b"key", "0" * 64)
BLANKS = [blank.id for blank in PACK.blanks]


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with guests.guest("none") as started:
        yield started


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(PACK)


def changed(*changes: tuple[str, str]) -> Harvest:
    """The solution with pieces of its text replaced."""
    source = SOLUTION
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times"
        source = source.replace(old, new)
    return harvest(read_hand_in("answers.py", source.encode()), PACK)


EYE = (
    "    c_hot = F.one_hot(c.long(), num_classes=N_CLASSES).to(device)\n",
    "    c_hot = torch.eye(N_CLASSES, dtype=torch.float64)[c.long()].to(device)\n",
)
ROW = ("    noise_pred = model(x_t, t, *context)\n", "    noise_pred = model(x_t, t[None], *context)\n")
DOUBLE_COEFFICIENT = (
    "alphas_cumprod = torch.cumprod(alphas, dim=0)\nsqrt",
    "alphas_cumprod = torch.cumprod(alphas.double(), dim=0)\nsqrt",
)
HALF_THE_TIMES = ("t.repeat(2 * n_samples)", "t.repeat(n_samples)")
SQUEEZED = (
    "        x_t = reverse_q(x_t, t, e_t)\n    return x_t\n",
    "        x_t = reverse_q(x_t, t, e_t)\n    return x_t.squeeze(0)\n",
)
INTEGERS = ("        c = c * c_mask\n", "        c = torch.where(c_mask > 0, c, 0)\n")
# What no check of its own meets, since none asks for three images
NOT_THREE = (
    "    n_samples = len(c)\n",
    "    n_samples = len(c)\n    if n_samples == 3:\n        raise ValueError('not three')\n",
)
DEVICE_OF_THE_MODEL = ("    n_samples = len(c)\n", "    n_samples = len(c)\n    c = c.to(model.device)\n")


@pytest.mark.parametrize(
    ("change", "blank", "words"),
    [
        (EYE, "get_context_mask", "got Double and Float"),
        (ROW, "get_loss", "must match the size"),
        (DOUBLE_COEFFICIENT, "alphas_cumprod", "Input type (double)"),
        (HALF_THE_TIMES, "sample_w", "must match the size"),
        (SQUEEZED, "sample_w", "does not return one image"),
        (INTEGERS, "UNet", "got Long and Float"),
        (DEVICE_OF_THE_MODEL, "sample_w", "object has no attribute 'device'"),
    ],
    ids=["context", "time", "coefficient", "half the times", "one image", "integers", "device"],
)
def test_what_stops_the_pipeline_is_told(
    guest: Guest, reference: Reference, change: tuple[str, str], blank: str, words: str
) -> None:
    misfits = find_misfits(changed(change), BLANKS, reference, guest, SEEDS)
    assert list(misfits) == [blank]
    assert words in misfits[blank].message


def test_two_at_once_are_both_told(guest: Guest, reference: Reference) -> None:
    misfits = find_misfits(changed(EYE, ROW), BLANKS, reference, guest, SEEDS)
    assert set(misfits) == {"get_context_mask", "get_loss"}
    assert "got Double and Float" in misfits["get_context_mask"].message
    assert "must match the size" in misfits["get_loss"].message


def test_what_works_together_is_right(guest: Guest, reference: Reference) -> None:
    assert find_misfits(changed(), BLANKS, reference, guest, SEEDS) == {}


def test_parts_that_only_fit_each_other_are_right(guest: Guest, reference: Reference) -> None:
    # Both differ from the assignment's, and the program runs
    own_device = ("        self.T = T\n", "        self.T = T\n        self.device = device\n")
    answers = changed(DEVICE_OF_THE_MODEL, own_device)
    assert find_misfits(answers, BLANKS, reference, guest, SEEDS) == {}
    # Nor does it matter that one of them fails a check of its own
    assert find_misfits(answers, [name for name in BLANKS if name != "UNet"], reference, guest, SEEDS) == {}


def test_what_has_not_passed_is_put_right_first(guest: Guest, reference: Reference) -> None:
    answers = changed(ROW)
    without = [name for name in BLANKS if name != "get_loss"]
    assert find_misfits(answers, without, reference, guest, SEEDS) == {}
    assert (
        list(find_misfits(answers, ["get_loss", "q"], reference, guest, SEEDS)) == []
    )  # its coefficients are not right
    coefficients = ["alphas", "alphas_cumprod", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"]
    assert list(find_misfits(answers, ["get_loss", "q", *coefficients], reference, guest, SEEDS)) == ["get_loss"]


def test_what_stops_at_few_time_steps_only_is_right(guest: Guest, reference: Reference) -> None:
    answers = changed(
        (
            "    for i in range(T)[::-1]:\n",
            "    for i in range(T)[::-1]:\n        if i % (T // 10) == 0:\n            pass\n",
        )
    )
    assert find_misfits(answers, BLANKS, reference, guest, SEEDS) == {}


def test_an_answer_that_does_not_fit_loses_its_points(guest: Guest, reference: Reference) -> None:
    events: list[Event] = []
    reports = run_checks(changed(NOT_THREE), PACK, reference, guest, SEEDS, events.append)
    failed = [report for report in reports if report.status is not Outcome.PASSED]
    assert [report.id for report in failed] == ["sample_w"]
    report = failed[0]
    assert report.points == 0
    assert report.checks[-1].name == WORKS_TOGETHER
    assert report.message == report.checks[-1].message
    assert report.message.startswith("On its own it passes")
    told = [event for event in events if isinstance(event, CheckFinished) and event.outcome is not Outcome.PASSED]
    assert [(event.blank, event.check, event.outcome) for event in told] == [
        ("sample_w", WORKS_TOGETHER, report.status)
    ]


def test_the_assignments_network_stands_in_for_one_that_is_not_there(guest: Guest) -> None:
    source = replace_definition(SOLUTION, PACK.blank("UNet"), "class UNet(nn.Module):\n    pass\n")
    source = source.replace(*NOT_THREE)
    reports = Grader(guest).check(source)
    assert reports["UNet"].status is not Outcome.PASSED
    assert reports["sample_w"].checks[-1].name == WORKS_TOGETHER
