"""Integrity flags: what raises them, and what does not."""

import pytest

from grading.integrity import raise_flags
from grading.outcomes import Outcome
from grading.report import GenerationRun, SecondOpinion, TrainingRun

RIGHT = SecondOpinion(
    images=300,
    agreement=0.98,
    agreement_real=0.98,
    distance=5.6,
    distance_real=3.1,
    training_distance=5.7,
    training_distance_real=3.2,
    copied=0.0,
)


def flags(initial: float = 0.1, passed: bool = True, **changes: float) -> list[str]:
    training = TrainingRun(status=Outcome.PASSED, message="", initial_accuracy=initial)
    generation = GenerationRun(
        status=Outcome.PASSED,
        message="",
        guidance_weight=2,
        passed=passed,
        pass_mark=0.95,
        second_opinion=RIGHT.model_copy(update=changes),
    )
    return [flag.id for flag in raise_flags(training, generation)]


def test_a_right_run_raises_none() -> None:
    assert flags() == []
    assert flags(initial=0.25) == []


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"initial": 0.6}, "drawn_before_training"),
        ({"copied": 0.9}, "copies"),
        ({"copied": 0.9, "passed": False}, "copies"),
        ({"agreement": 0.7}, "classifier_fooled"),
        ({"distance": 12.0}, "classifier_fooled"),
    ],
)
def test_what_is_unusual_raises_its_flag(changes: dict[str, float], flag: str) -> None:
    assert flags(**changes) == [flag]  # type: ignore[arg-type]


def test_readers_that_disagree_about_images_that_show_nothing_raise_none() -> None:
    assert flags(passed=False, agreement=0.3, distance=12.0) == []


def test_agreement_is_measured_by_that_on_real_digits() -> None:
    assert flags(agreement=0.8, agreement_real=0.9) == []


def test_without_generation_only_the_untrained_network_counts() -> None:
    training = TrainingRun(status=Outcome.FAILED, message="", initial_accuracy=0.7)
    assert [flag.id for flag in raise_flags(training, None)] == ["drawn_before_training"]
