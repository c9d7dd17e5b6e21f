"""What a grading tells whoever listens, while it runs."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from grading.outcomes import Outcome

Stage = Literal["inspect", "check", "train", "generate", "score"]
STAGES: tuple[Stage, ...] = ("inspect", "check", "train", "generate", "score")
Run = Literal["submitted", "repaired"]  # the pipeline as handed in, or with stand-ins for failed blanks


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageStarted(_Event):
    type: Literal["stage_started"] = "stage_started"
    stage: Stage


class StageFinished(_Event):
    type: Literal["stage_finished"] = "stage_finished"
    stage: Stage
    seconds: float


class CheckFinished(_Event):
    type: Literal["check_finished"] = "check_finished"
    blank: str  # id
    check: str
    outcome: Outcome
    message: str


class BlankFinished(_Event):
    type: Literal["blank_finished"] = "blank_finished"
    blank: str  # id
    outcome: Outcome
    points: float
    max_points: float


class TrainingProgress(_Event):
    type: Literal["training_progress"] = "training_progress"
    run: Run
    images_seen: int
    images_total: int
    loss: float  # mean over the images since the last event
    images_per_second: float
    seconds_left: float


class SampleGrid(_Event):
    """A grid of images generated so far, one column per digit."""

    type: Literal["sample_grid"] = "sample_grid"
    run: Run
    images_seen: int  # how far the training was
    png: bytes = Field(repr=False)  # becomes the name of a stored artefact once it leaves the judge


class GenerationProgress(_Event):
    type: Literal["generation_progress"] = "generation_progress"
    run: Run
    images: int
    correct: int
    low: float  # sequential interval for the accuracy
    high: float


Event = Annotated[
    StageStarted | StageFinished | CheckFinished | BlankFinished | TrainingProgress | SampleGrid | GenerationProgress,
    Field(discriminator="type"),
]
Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An `Emit` for callers who do not listen."""
