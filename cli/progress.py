"""What is going on, while it goes on: bars in a terminal, lines in a pipe. For gradings here and on a server alike."""

import sys
from types import TracebackType
from typing import Protocol, Self

from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from cli.console import TONES, err, say
from grading.events import (
    BlankFinished,
    CheckFinished,
    Event,
    GenerationProgress,
    Stage,
    StageFinished,
    StageStarted,
    TrainingProgress,
)
from grading.outcomes import Outcome
from grading.text import neutralise
from grading.wording import WORDING

_DOING: dict[Stage, str] = {
    "inspect": "Reading the hand-in",
    "check": "Checking the blanks",
    "train": "Training",
    "generate": "Generating digits",
    "score": "Putting the report together",
}
_LINES_PER_RUN = 10  # of training, in a pipe: enough to see that it moves, few enough for a log


class Display(Protocol):
    """Takes events, as `grading.events.Emit` has them."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def __call__(self, event: Event) -> None: ...


def display(blanks: int) -> Display:
    """Bars where stderr is a terminal, lines elsewhere. `blanks` is how many there are to check."""
    return Bars(blanks) if sys.stderr.isatty() else Lines()


def describe_training(event: TrainingProgress) -> str:
    return (
        f"{event.images_seen:,} of {event.images_total:,} images, loss {event.loss:.3f}, "
        f"{event.images_per_second:,.0f} images/s, {_clock(event.seconds_left)} left"
    )


def describe_generation(event: GenerationProgress) -> str:
    share = event.correct / event.images if event.images else 0.0
    return f"{event.images:,} images, {share:.1%} read correctly (between {event.low:.1%} and {event.high:.1%})"


class Lines:
    """One line per finished blank, a few per training."""

    def __init__(self) -> None:
        self._told = -1  # tenths of the training that a line has told of

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                say(f"{_DOING[event.stage]} ...")
                self._told = -1
            case BlankFinished():
                say(f"  {WORDING[event.outcome].symbol} {event.blank}: {WORDING[event.outcome].words}")
            case TrainingProgress():
                tenth = _LINES_PER_RUN * event.images_seen // max(event.images_total, 1)
                if tenth != self._told:
                    self._told = tenth
                    say(f"  {_labelled(event, describe_training(event))}")
            case GenerationProgress():
                say(f"  {_labelled(event, describe_generation(event))}")
            case StageFinished():
                say(f"  {event.seconds:.1f} s")


class Bars:
    """One bar per stage."""

    def __init__(self, blanks: int) -> None:
        self._blanks = blanks
        self._progress = Progress(
            SpinnerColumn(finished_text=Text("✓", style=TONES["good"])),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TimeElapsedColumn(),
            _Detail(),
            console=err(),
        )
        self._tasks: dict[tuple[str, str], int] = {}  # (stage, run) -> task

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.__exit__(exception_type, exception, traceback)

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted(stage="check"):
                self._update("check", total=self._blanks)
            case StageStarted(stage="inspect" | "score" as stage):
                self._update(stage)
            case CheckFinished():
                self._update("check", detail=f"{WORDING[event.outcome].symbol} {event.blank}: {event.check}")
            case BlankFinished():
                self._update("check", advance=1)
                if event.outcome is not Outcome.PASSED:
                    wording = WORDING[event.outcome]
                    self._progress.console.print(
                        Text(f"  {wording.symbol} {neutralise(event.blank)}: {wording.words}", TONES[wording.tone])
                    )
            case TrainingProgress():
                self._update(
                    "train",
                    event.run,
                    total=event.images_total,
                    completed=event.images_seen,
                    detail=describe_training(event),
                )
            case GenerationProgress():
                self._update("generate", event.run, detail=describe_generation(event))
            case StageFinished():
                self._finish(event.stage)

    def _update(
        self,
        stage: Stage,
        run: str = "",
        *,
        total: int | None = None,
        completed: int | None = None,
        advance: int | None = None,
        detail: str | None = None,
    ) -> None:
        key = (stage, run)
        if key not in self._tasks:
            label = f"{_DOING[stage]} (repaired)" if run == "repaired" else _DOING[stage]
            self._tasks[key] = self._progress.add_task(label, total=total, detail="")
        fields = {} if detail is None else {"detail": detail}
        self._progress.update(self._tasks[key], total=total, completed=completed, advance=advance, **fields)  # type: ignore[arg-type]

    def _finish(self, finished: Stage) -> None:
        for (stage, _), task in self._tasks.items():
            if stage == finished:
                total = self._progress.tasks[task].total or 1
                self._progress.update(self._progress.tasks[task].id, total=total, completed=total)


class _Detail(ProgressColumn):
    """What the events say, as text: it may hold a student's words."""

    def render(self, task: Task) -> Text:
        return Text(neutralise(task.fields["detail"]), overflow="ellipsis", no_wrap=True)


def _labelled(event: TrainingProgress | GenerationProgress, text: str) -> str:
    return f"repaired run: {text}" if event.run == "repaired" else text


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(round(seconds), 0), 60)
    return f"{minutes}:{rest:02d}"
