"""What is shown while a grading runs."""

import io

import pytest
from rich.console import Console

from cli import progress
from cli.progress import Bars, Lines
from grading.events import (
    BlankFinished,
    CheckFinished,
    Event,
    GenerationProgress,
    StageFinished,
    StageStarted,
    TrainingProgress,
)
from grading.outcomes import Outcome


def training(images: int) -> TrainingProgress:
    return TrainingProgress(
        run="submitted", images_seen=images, images_total=51200, loss=0.0712, images_per_second=834, seconds_left=61
    )


EVENTS: list[Event] = [
    StageStarted(stage="inspect"),
    StageFinished(stage="inspect", seconds=0.1),
    StageStarted(stage="check"),
    CheckFinished(blank="q", check="q_[bold]mixes", outcome=Outcome.FAILED, message="\x1b[2J"),
    BlankFinished(blank="q", outcome=Outcome.FAILED, points=0, max_points=4),
    BlankFinished(blank="w", outcome=Outcome.PASSED, points=1, max_points=1),
    StageFinished(stage="check", seconds=3.2),
    StageStarted(stage="train"),
    *(training(images) for images in range(1280, 51201, 1280)),
    StageFinished(stage="train", seconds=61.0),
    StageStarted(stage="generate"),
    GenerationProgress(run="repaired", images=200, correct=194, low=0.91, high=0.99),
    StageFinished(stage="generate", seconds=9.0),
]


def test_lines_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines() as emit:
        for event in EVENTS:
            emit(event)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "  ✗ q: not right yet\n" in captured.err
    assert "  51,200 of 51,200 images, loss 0.071, 834 images/s, 1:01 left\n" in captured.err
    assert "  repaired run: 200 images, 97.0% read correctly (between 91.0% and 99.0%)\n" in captured.err
    assert captured.err.count("loss") == 11  # one per tenth, and one at the end
    assert "\x1b" not in captured.err


def test_bars_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "err", lambda: Console(file=screen, force_terminal=True, width=160))
    with Bars(21) as emit:
        for event in EVENTS:
            emit(event)
    shown = screen.getvalue()
    assert "q: q_[bold]mixes" in shown  # text, not markup
    assert "51,200 of 51,200 images, loss 0.071, 834 images/s, 1:01 left" in shown
    assert "Generating digits (repaired)" in shown
    assert "200 images, 97.0% read correctly (between 91.0% and 99.0%)" in shown
