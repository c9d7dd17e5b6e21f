"""The report: what a grading says. This is the published schema; `api` and `cli` know it without torch."""

import json
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from grading.outcomes import Outcome

SCHEMA_VERSION = 1  # raised when a field changes its meaning or goes; new fields alone do not raise it


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Part):
    """A share with its confidence interval."""

    estimate: float  # 0..1
    low: float
    high: float
    confidence: float  # 0.95 for Wilson intervals, 0.999 for the sequential one


class Misconception(_Part):
    """Which known misconception the answer shows, told by what it does."""

    id: str
    says: str
    why: str
    topic: str  # of the course, that explains it


class CheckReport(_Part):
    name: str  # of the pytest function, without `test_`
    title: str  # in words
    outcome: Outcome
    message: str  # what was found; empty when the check passed
    expected: str | None = None  # in words, never the answer itself
    found: str | None = None
    misconception: Misconception | None = None
    output: str | None = None  # what the student's code printed, visible checks only
    seconds: float = 0.0


class BlankReport(_Part):
    id: str
    name: str  # canonical
    title: str
    concept: str
    status: Outcome
    points: float
    max_points: float
    message: str
    found_as: str | None = None  # the name under which it was handed in
    file: str | None = None
    line: int | None = None
    misconception: Misconception | None = None  # the first that a check recognised
    checks: list[CheckReport] = []


class LossPoint(_Part):
    images_seen: int
    loss: float


class TrainingRun(_Part):
    status: Outcome
    message: str
    repaired_blanks: list[str] = []  # ids of the blanks that stand-ins took the place of
    images: int = 0  # images seen
    seconds: float = 0.0
    images_per_second: float = 0.0
    parameters: int = 0
    loss: list[LossPoint] = []
    initial_accuracy: float | None = None  # of the freshly initialised network: must be near chance


class Training(_Part):
    submitted: TrainingRun  # the pipeline as handed in: this one counts
    repaired: TrainingRun | None = None  # with stand-ins for failed blanks: diagnostic


class ClassReport(_Part):
    label: int
    images: int
    correct: int
    accuracy: Interval  # Wilson


class SweepPoint(_Part):
    guidance_weight: float
    images: int
    accuracy: Interval  # Wilson


class OwnLoopReport(_Part):
    """Images from the student's own `sample_w`."""

    status: Outcome
    message: str
    images: int = 0
    correct: int = 0
    artifact: str | None = None  # name of the grid


class GenerationRun(_Part):
    status: Outcome
    message: str
    guidance_weight: float
    images: int = 0
    correct: int = 0
    accuracy: Interval | None = None  # Wilson, 95 %
    sequential: Interval | None = None  # 99.9 %, what the early decision rests on
    passed: bool = False
    pass_mark: float
    classes: list[ClassReport] = []
    sweep: list[SweepPoint] = []
    own_loop: OwnLoopReport | None = None
    artifact: str | None = None  # name of the final grid


class Generation(_Part):
    submitted: GenerationRun | None = None  # None where the pipeline as handed in could not be trained
    repaired: GenerationRun | None = None


class Classifier(_Part):
    name: str
    sha256: str
    accuracy: Interval  # on held-out real digits


class Provenance(_Part):
    submission_sha256: str
    pack: str
    pack_version: str
    recipe: str
    dataset: str
    classifier: Classifier | None
    seed: str  # fingerprint of the seed's source, not the seed
    backend: str
    isolation: str  # in words, and what is missing
    sandboxed: bool  # False: student code ran without a sandbox; shown in red
    device: str
    versions: dict[str, str]
    seconds: dict[str, float]  # per stage
    graded_at: datetime


class Report(_Part):
    """What one grading says."""

    schema_version: int = SCHEMA_VERSION
    verdict: Literal["passed", "failed", "checks_only"]  # passed: the pass mark is reached by the pipeline as submitted
    summary: str  # one sentence for the student
    score: float
    max_score: float
    blanks: list[BlankReport]
    training: Training | None = None  # None: checks only
    generation: Generation | None = None
    tier: str | None = None
    notices: list[str] = []  # about the hand-in as a whole
    provenance: Provenance


if __name__ == "__main__":  # python -m grading.report > docs/report.schema.json
    print(json.dumps(Report.model_json_schema(), indent=2))
