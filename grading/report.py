"""The report: what a grading says. This is the published schema; `api` and `cli` know it without torch."""

import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from grading.outcomes import Outcome

SCHEMA_VERSION = 1  # raised when a field changes its meaning or goes; new fields alone do not raise it


# Name of the check that a blank fails where it passes alone and does not work together with the rest
WORKS_TOGETHER = "works_together"


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


class Evaluation(_Part):
    """A quick look in the course of training: images from the moving average of the weights, read by the judge."""

    images_seen: int
    images: int  # drawn for it
    accuracy: Interval  # Wilson


class Gradients(_Part):
    """Gradients of the loss as the guest tells them: advice, never a grade."""

    images_seen: int
    norm: float  # of all together, before it is bounded
    zero: list[str] = []  # parameters whose gradient is exactly zero, the first few


class Denoising(_Part):
    """Mean squared error of the noise that the trained network predicts in real digits, noised by the judge.

    1 is what a network reaches that always predicts zero.
    """

    right_context: float
    wrong_context: float  # another digit's
    no_context: float


class TrainingRun(_Part):
    status: Outcome
    message: str
    repaired_blanks: list[str] = []  # ids of the blanks that stand-ins took the place of
    images: int = 0  # images seen
    seconds: float = 0.0
    images_per_second: float = 0.0
    budget: int = 0  # images that the recipe trains on
    parameters: int = 0
    solution_parameters: int = 0  # of the reference solution under the same recipe
    loss: list[LossPoint] = []
    initial_accuracy: float | None = None  # of the freshly initialised network: must be near chance
    evaluations: list[Evaluation] = []
    images_to_90: int | None = None  # images seen at the first evaluation that read 90 % correctly
    images_to_95: int | None = None
    gradients: list[Gradients] = []
    denoising: Denoising | None = None
    weight_rms: float | None = None  # root mean square of the trained weights


class Training(_Part):
    submitted: TrainingRun  # the pipeline as handed in: this one counts
    repaired: TrainingRun | None = None  # with stand-ins for failed blanks: diagnostic


class Diversity(_Part):
    """How different images of one digit are from each other, over the same for real ones: 1 is like real ones."""

    pixel_variance: float
    feature_distance: float  # mean distance of two images in the classifier's features


class ClassReport(_Part):
    label: int
    images: int
    correct: int
    accuracy: Interval  # Wilson
    level: Literal["good", "below_floor", "red_flag"] = "good"  # feedback, never points
    diversity: Diversity | None = None
    collapsed: bool = False  # the images of this digit are nearly all the same


class SweepPoint(_Part):
    guidance_weight: float
    images: int
    accuracy: Interval  # Wilson
    diversity: float | None = None  # feature distance over that of real digits, mean over the ten digits


class Guidance(_Part):
    """What the sweep shows."""

    best_weight: float  # the smallest of those that read best
    saturates_at: float  # the first weight whose estimate lies within the best one's interval


class Conditioning(_Part):
    """What the context does: from the same noise, another digit asked for, and none."""

    images: int  # of each kind
    followed: float  # share read as the other digit when that is asked for
    stayed: float  # share still read as the first one
    unconditional: list[float]  # without context: share read as each digit


class SecondOpinion(_Part):
    """The nearest real digits, to images that were read as asked and to held-out real ones (`..._real`)."""

    images: int
    agreement: float  # share that the five nearest neighbours read as the classifier does
    agreement_real: float
    distance: float  # median distance to the nearest digit of the classifier's split; pixels in [-1, 1]
    distance_real: float
    training_distance: float  # likewise, to the nearest image of the generator's split
    training_distance_real: float
    copied: float  # share that lies far closer to a training image than held-out digits do


class Brightness(_Part):
    """Grey values of the generated images, black -1 and white 1, beside those of real digits."""

    mean: float
    mean_real: float
    beyond: float  # share of pixels outside of [-1.1, 1.1] where predicted images are not kept within [-1, 1]


class Speed(_Part):
    batch: int  # images at once
    images_per_second: float


class Production(_Part):
    """What the network takes to be used. Seconds are the judge's, of the network alone."""

    images_per_second: float  # of the run that counts
    batches: list[Speed] = []
    memory_bytes: int | None = None  # most that the guest has held, as it tells; None: it does not tell


class Misread(_Part):
    """An image of the gallery, in the order of the picture."""

    asked: int
    read_as: int
    confidence: float  # the classifier's, in the digit that it read


class OwnLoopReport(_Part):
    """Images from the student's own `sample_w`."""

    status: Outcome
    message: str
    images: int = 0
    correct: int = 0
    artifact: str | None = None  # name of the grid
    filmstrip: str | None = None  # name of the picture
    filmstrip_times: list[int] = []  # t of its columns; the finished images come after them


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
    guidance: Guidance | None = None
    conditioning: Conditioning | None = None
    second_opinion: SecondOpinion | None = None
    brightness: Brightness | None = None
    production: Production | None = None
    misread: list[Misread] = []  # the worst, at most ten
    misread_artifact: str | None = None
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
    image: str | None = None  # digest of the image that the guest ran in; None: it was none
    sandboxed: bool  # False: student code ran without a sandbox; shown in red
    device: str
    edition: str | None = None  # of the course, that the hand-in was recognised as being of
    corrections: list[str] = []  # of what that edition gives, by name
    corrections_off: list[str] = []  # that the assignment does without
    versions: dict[str, str]
    seconds: dict[str, float]  # per stage
    reused: list[str] = []  # stages whose results an earlier grading of the same hand-in had found
    graded_at: datetime


class Finding(_Part):
    """Something that the measurements show, with its likely cause."""

    id: str
    title: str
    cause: str
    evidence: str  # with numbers
    next_step: str
    severity: Literal["problem", "advice"]


class HyperParameter(_Part):
    """A value that the hand-in sets, for the student's own training: advice, never points."""

    name: str  # as advice calls it: w, learning rate, ...
    value: float
    place: str  # file and line
    range: Literal["safe", "risky", "failing"]
    advice: str


class Flag(_Part):
    """Something for a person to look at. It changes no points by itself."""

    id: Literal["copies", "classifier_fooled", "drawn_before_training"]
    title: str
    evidence: str


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
    tier_note: str | None = None  # why the next tier was missed, where the accuracy alone would have reached it
    findings: list[Finding] = []  # the likeliest cause first
    hyperparameters: list[HyperParameter] = []
    flags: list[Flag] = []  # for a person to confirm
    notices: list[str] = []  # about the hand-in as a whole
    provenance: Provenance


def outcome(report: Report) -> dict[str, Any]:
    """What a report says, in short: all that gradebooks and diffs need of it."""
    submitted = report.generation.submitted if report.generation else None
    accuracy = submitted.accuracy if submitted else None
    blank_points = sum(blank.points for blank in report.blanks)
    blank_maximum = sum(blank.max_points for blank in report.blanks)
    return {
        "verdict": report.verdict,
        "summary": report.summary,
        "score": report.score,
        "max_score": report.max_score,
        "tier": report.tier,
        "accuracy": accuracy and accuracy.model_dump(include={"estimate", "low", "high"}),
        "accuracy_points": report.score - blank_points,
        "accuracy_max": report.max_score - blank_maximum,
        "blanks": {
            blank.id: {"status": blank.status, "points": blank.points, "max_points": blank.max_points}
            for blank in report.blanks
        },
        "flags": [flag.id for flag in report.flags],
        "corrections_off": report.provenance.corrections_off,
    }


if __name__ == "__main__":  # python -m grading.report > docs/report.schema.json
    print(json.dumps(Report.model_json_schema(), indent=2))
