"""Whole gradings through the front door: the command, a real sandbox where there is one, real training."""

import subprocess
import sys
from pathlib import Path

import pytest

from grading.outcomes import Outcome
from grading.report import Report
from reference.pack import load_pack
from sandbox.backends import choose_backend
from sandbox.faults import SandboxUnavailable

ROOT = Path(__file__).parents[2]
PACK = load_pack("ddpm")
BLANKS = {blank.id for blank in PACK.blanks}


@pytest.fixture(scope="module")
def sandbox() -> str:
    """The hand-ins here are our own, so that they may run where no sandbox can be had."""
    try:
        return choose_backend("auto").name
    except SandboxUnavailable:
        return "none"


def grade(hand_in: Path, sandbox: str, folder: Path, *options: str) -> Report:
    file = folder / "report.json"
    command = [sys.executable, "-m", "cli.main", "grade", str(hand_in), "--sandbox", sandbox, "--json", str(file)]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Report.model_validate_json(file.read_bytes())


def with_status(report: Report, status: Outcome) -> set[str]:
    return {blank.id for blank in report.blanks if blank.status is status}


@pytest.mark.parametrize(
    "hand_in",
    [
        PACK.solution,
        *(ROOT / "tests/hand_ins" / name for name in ("renamed.py", "course_notebook.ipynb", "older_edition.py")),
    ],
    ids=lambda path: path.name,
)
def test_right_hand_ins_pass_every_blank(hand_in: Path, sandbox: str, tmp_path: Path) -> None:
    report = grade(hand_in, sandbox, tmp_path, "--no-train")
    assert with_status(report, Outcome.PASSED) == BLANKS
    assert report.verdict == "checks_only"
    assert report.score == PACK.max_score - PACK.file.accuracy.points


@pytest.mark.parametrize("suffix", [".py", ".ipynb"])
def test_untouched_starter_is_not_attempted(suffix: str, sandbox: str, tmp_path: Path) -> None:
    report = grade(PACK.starter(suffix), sandbox, tmp_path, "--no-train")  # type: ignore[arg-type]
    assert with_status(report, Outcome.NOT_ATTEMPTED) == BLANKS
    assert report.score == 0


def test_four_mistakes_are_named_and_nothing_else(sandbox: str, tmp_path: Path) -> None:
    report = grade(ROOT / "docs/examples/four_mistakes.py", sandbox, tmp_path, "--no-train")
    messages = {blank.id: blank.message for blank in report.blanks if blank.status is Outcome.FAILED}
    assert messages.keys() == {"sqrt_one_minus_alphas_cumprod", "ResidualConvBlock", "get_context_mask", "sample_w"}
    assert with_status(report, Outcome.PASSED) == BLANKS - messages.keys()
    assert "square root is missing" in messages["sqrt_one_minus_alphas_cumprod"]
    assert "inverted" in messages["get_context_mask"]
    assert "shifted by one" in messages["sample_w"]


def test_what_cannot_be_read_is_told_once(sandbox: str, tmp_path: Path) -> None:
    hand_in = tmp_path / "answers.py"
    hand_in.write_text("def q(:\n    pass\n\n\nw = 2.0\n")
    notices = grade(hand_in, sandbox, tmp_path, "--no-train").notices
    assert len([notice for notice in notices if "not valid Python" in notice]) == 1, notices


def test_trained_solution_reaches_the_mark_and_its_own_loop_is_right(sandbox: str, tmp_path: Path) -> None:
    report = grade(PACK.solution, sandbox, tmp_path, "--recipe", "digits16")
    assert (report.verdict, report.score) == ("passed", PACK.max_score)
    assert report.generation is not None
    generation = report.generation.submitted
    assert generation is not None
    assert generation.accuracy is not None
    assert generation.accuracy.estimate >= PACK.file.accuracy.pass_mark
    assert generation.own_loop is not None
    assert generation.own_loop.status is Outcome.PASSED
    assert report.training is not None
    assert report.training.repaired is None
