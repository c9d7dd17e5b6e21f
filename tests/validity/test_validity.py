"""Right answers written differently pass; wrong ones fail, at the blank that is wrong and only there.

Answers to different blanks are handed in together, since each is judged by itself.
"""

from collections.abc import Iterator

import guests
import pytest
from validity import corpus
from validity.grader import PACK, SOLUTION, Grader

from grading.hand_in import read_hand_in
from grading.harvest import harvest
from grading.outcomes import Outcome
from grading.report import BlankReport


def variants(*names: str) -> list[object]:
    """Each variant with the hand-in that holds it."""
    return [
        pytest.param(variant, tuple(group), id=f"{variant.blank}: {variant.title}")
        for name in names
        for group in corpus.hand_ins(corpus.read(name))
        for variant in group
    ]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with guests.guest("none") as guest:
        yield Grader(guest)


def not_passed(reports: dict[str, BlankReport]) -> dict[str, str]:
    return {name: report.message for name, report in reports.items() if report.status is not Outcome.PASSED}


@pytest.mark.parametrize(("variant", "group"), variants("right.md", "right-blind.md"))
def test_right_answer_passes(variant: corpus.Variant, group: tuple[corpus.Variant, ...], grader: Grader) -> None:
    report = grader.report(variant, group)
    failed = [(check.name, check.message) for check in report.checks if check.outcome is not Outcome.PASSED]
    assert (report.status, report.message, failed) == (Outcome.PASSED, "", [])
    assert report.points == report.max_points


@pytest.mark.parametrize(("variant", "group"), variants("wrong.md", "wrong-blind.md"))
def test_wrong_answer_fails(variant: corpus.Variant, group: tuple[corpus.Variant, ...], grader: Grader) -> None:
    report = grader.report(variant, group)
    assert report.status in (Outcome.FAILED, Outcome.CRASHED)
    assert report.message
    assert report.points == 0


def test_solution_passes(grader: Grader) -> None:
    assert not_passed(grader.check(SOLUTION)) == {}


def test_untouched_starter_is_not_attempted(grader: Grader) -> None:
    for suffix in (".py", ".ipynb"):
        path = PACK.starter(suffix)
        found = harvest(read_hand_in(path.name, path.read_bytes()), PACK)
        assert {name: answer.status for name, answer in found.answers.items()} == {
            blank.id: "not_attempted" for blank in PACK.blanks
        }
    reports = grader.check(PACK.starter(".py").read_text(encoding="utf-8"))
    assert {report.status for report in reports.values()} == {Outcome.NOT_ATTEMPTED}


def test_wrong_answers_do_not_touch_others(grader: Grader) -> None:
    """Every other blank is checked here too, also those that build on the wrong ones."""
    source = SOLUTION
    wrong = {
        "alphas_cumprod": ("torch.cumprod(alphas, dim=0)", "torch.cumsum(alphas, dim=0)"),
        "q": ("mean_coeff * x_0 + std_coeff * noise", "mean_coeff * x_0 + noise"),
        "GELUConvBlock": ("            nn.GELU(),\n        )\n\n    def forward", "        )\n\n    def forward"),
        "sample_w": ("(1 + w) * e_t_keep - w * e_t_drop", "e_t_drop + w * (e_t_keep - e_t_drop)"),
    }
    for old, new in wrong.values():
        assert source.count(old) == 1
        source = source.replace(old, new)
    found = not_passed(grader.check(source))
    assert found.keys() == wrong.keys()
    assert "shifted by one" in found["sample_w"]


def test_answers_that_lean_on_each_other_pass(grader: Grader) -> None:
    """A loss that hands its own `q` an argument that the stand-in does not know."""
    source = SOLUTION
    for old, new in (
        ("def q(x_0, t):", "def q(x_0, t, *, noise=None):"),
        ("    noise = torch.randn_like(x_0)\n", "    noise = torch.randn_like(x_0) if noise is None else noise\n"),
        ("x_t, noise = q(x_0, t)", "x_t, noise = q(x_0, t, noise=torch.randn_like(x_0))"),
    ):
        assert source.count(old) == 1
        source = source.replace(old, new)
    assert not_passed(grader.check(source)) == {}
