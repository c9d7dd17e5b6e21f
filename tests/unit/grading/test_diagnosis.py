"""The rules of the diagnosis: over what was measured in trainings with known faults, and over facts made up for a rule.

`tests/validity/diagnoses.py --record` trains the former; here nothing is trained.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from grading.causes import CAUSES
from grading.diagnosis import FAULTS, SYMPTOMS, diagnose
from grading.integrity import raise_flags
from grading.intervals import wilson
from grading.outcomes import Outcome
from grading.report import Finding, GenerationRun, Gradients, LossPoint, OwnLoopReport, TrainingRun

RECORDED = json.loads((Path(__file__).parents[2] / "validity" / "facts.json").read_text())
SOLUTION = "the solution"


def runs(title: str = SOLUTION) -> tuple[TrainingRun, GenerationRun]:
    recorded = RECORDED[title]
    return TrainingRun.model_validate(recorded["training"]), GenerationRun.model_validate(recorded["generation"])


def first(training: TrainingRun, generation: GenerationRun | None) -> Finding | None:
    return next(iter(diagnose(training, generation)), None)


@pytest.mark.parametrize("title", RECORDED)
def test_a_trained_fault_is_found_first(title: str) -> None:
    finding = first(*runs(title))
    assert (finding.id if finding else "none") == RECORDED[title]["finding"]


def test_every_fault_was_recorded() -> None:
    assert {entry["finding"] for entry in RECORDED.values()} == {
        "none",
        "class_missing",
        "conditioning_without_effect",
        "copies",
        "drawn_glyphs",
        "guidance_too_high",
        "guidance_too_low",
        "mask_inverted",
        "network_too_small",
        "other_noise",
        "training_diverges",
    }


def test_the_solution_is_gold_and_raises_no_flag() -> None:
    assert RECORDED[SOLUTION]["tier"] == "gold"
    assert raise_flags(*runs()) == []


@pytest.mark.parametrize("title", RECORDED)
def test_only_copies_are_flagged(title: str) -> None:
    flags = [flag.id for flag in raise_flags(*runs(title))]
    assert flags == (["copies"] if RECORDED[title]["finding"] == "copies" else [])


@pytest.mark.parametrize("title", RECORDED)
def test_findings_are_in_words_and_name_numbers(title: str) -> None:
    for finding in diagnose(*runs(title)):
        assert any(character.isdigit() for character in finding.evidence)
        for text in (finding.title, finding.cause, finding.next_step):
            assert text[0].isupper()
            assert "sqrt" not in text  # never the formula


def changed(
    training: dict[str, Any] | None = None, generation: dict[str, Any] | None = None, correct: int | None = None
) -> Finding | None:
    """The first finding about the solution's run with some facts replaced; `correct` of 200 images."""
    old_training, old_generation = runs()
    update = generation or {}
    if correct is not None:
        update |= {"accuracy": wilson(correct, 200), "images": 200, "correct": correct, "passed": correct >= 190}
    return first(old_training.model_copy(update=training or {}), old_generation.model_copy(update=update))


def curve(*losses: float) -> list[LossPoint]:
    return [LossPoint(images_seen=100 * (place + 1), loss=loss) for place, loss in enumerate(losses)]


def gradients(norm: float, *zero: str) -> list[Gradients]:
    return [Gradients(images_seen=seen, norm=norm, zero=list(zero)) for seen in (100, 200)]


def test_nothing_is_found_in_a_right_run() -> None:
    assert changed() is None


FLAT = curve(1.0, 1.01, 0.99, 1.0)
NO_SWEEP: dict[str, Any] = {"sweep": []}


@pytest.mark.parametrize(
    ("training", "generation", "correct", "finding"),
    [
        ({"status": Outcome.FAILED, "message": "The loss stopped being a finite number."}, {}, 0, "training_stopped"),
        ({"loss": FLAT}, {}, 20, "does_not_train"),
        ({"loss": FLAT, "gradients": gradients(1e-9)}, {}, 20, "gradients_vanish"),
        ({"loss": FLAT, "gradients": gradients(1e6)}, {}, 20, "gradients_explode"),
        ({"initial_accuracy": 0.9}, {}, 200, "drawn_glyphs"),
        ({"weight_rms": 3.0}, {}, 60, "training_diverges"),
        ({"parameters": 2000}, {}, 60, "network_too_small"),
        ({"gradients": gradients(0.3, "out.0.weight")}, NO_SWEEP, 100, "idle_layers"),
        ({"denoising": None}, NO_SWEEP, 60, "below_mark"),
        ({}, NO_SWEEP, 150, "below_mark"),
        ({}, NO_SWEEP, 185, "below_mark"),
    ],
)
def test_facts_lead_to_their_finding(
    training: dict[str, Any], generation: dict[str, Any], correct: int, finding: str
) -> None:
    # The looks in training say that the solution was at 100 % before; without them that is not in the way
    found = changed({"evaluations": []} | training, generation, correct)
    assert found is not None
    assert found.id == finding


def test_other_grey_values_are_named() -> None:
    brightness = runs()[1].brightness
    assert brightness is not None
    grey = brightness.model_copy(update={"mean": 0.2})
    found = changed(generation={"brightness": grey, **NO_SWEEP}, correct=100)
    assert found is not None
    assert found.id == "wrong_scale"
    assert "0.20" in found.evidence


@pytest.mark.parametrize(("share", "finding"), [(0.05, "collapse"), (0.5, "undiverse")])
def test_too_little_variety_is_named_though_all_is_read_correctly(share: float, finding: str) -> None:
    classes = []
    for entry in runs()[1].classes:
        assert entry.diversity is not None
        diversity = entry.diversity.model_copy(update={"feature_distance": share})
        classes.append(entry.model_copy(update={"diversity": diversity, "collapsed": share < 0.1}))
    found = changed(generation={"classes": classes})
    assert found is not None
    assert found.id == finding


def test_a_network_that_still_improves_is_told_so() -> None:
    looks = runs()[0].evaluations
    rising = [
        look.model_copy(update={"accuracy": wilson(correct, 100)})
        for look, correct in zip(looks, (10, 20, 30, 50, 70), strict=True)
    ]
    found = changed({"evaluations": rising}, NO_SWEEP, 150)
    assert found is not None
    assert found.id == "still_improving"
    level = [look.model_copy(update={"accuracy": wilson(70, 100)}) for look in looks]
    found = changed({"evaluations": level}, NO_SWEEP, 150)
    assert found is not None
    assert found.id == "below_mark"


def test_a_loss_that_stays_level_is_told_so() -> None:
    early = [1 / (1 + place) for place in range(10)]
    found = changed(
        {"denoising": None, "evaluations": [], "loss": curve(*early, *[0.1] * 30)}, NO_SWEEP | {"classes": []}, 150
    )
    assert found is not None
    assert found.id == "plateau"
    assert "0.100 half way and 0.100 at the end" in found.evidence


def test_advice_about_guidance_follows_what_was_measured() -> None:
    """A weight outside of the usual range at which all is well is no finding."""
    sweep = [point.model_copy(update={"accuracy": wilson(98, 100)}) for point in runs()[1].sweep]
    for weight in (0.0, 1.0, 8.0):
        assert changed(generation={"guidance_weight": weight, "sweep": sweep}) is None


@pytest.mark.parametrize(("weight", "best", "finding"), [(0.0, 3.0, "low"), (7.0, 1.0, "high")])
def test_a_weight_that_others_beat_is_too_low_or_too_high(weight: float, best: float, finding: str) -> None:
    sweep = [
        point.model_copy(update={"accuracy": wilson(98 if point.guidance_weight == best else 60, 100)})
        for point in runs()[1].sweep
    ]
    found = changed(generation={"guidance_weight": weight, "sweep": sweep}, correct=120)
    assert found is not None
    assert found.id == f"guidance_too_{finding}"
    assert f"w = {best:g}" in found.evidence


def test_reports_from_before_these_measurements_have_no_finding_but_the_symptom() -> None:
    training = TrainingRun(status=Outcome.PASSED, message="", images=100, loss=curve(1.0, 0.1))
    generation = GenerationRun(
        status=Outcome.PASSED, message="", guidance_weight=2, pass_mark=0.95, passed=True, accuracy=wilson(99, 100)
    )
    assert diagnose(training, generation) == []
    assert diagnose(TrainingRun(status=Outcome.NOT_ATTEMPTED, message=""), None) == []


@pytest.mark.parametrize(("correct", "severity"), [(4, "problem"), (50, "advice")])
def test_an_own_loop_that_strays_is_found_although_the_network_is_good(correct: int, severity: str) -> None:
    loop = OwnLoopReport(status=Outcome.FAILED, message="It strays.", images=50, correct=correct)
    found = changed(generation={"own_loop": loop})
    assert found is not None
    assert (found.id, found.severity) == ("own_loop", severity)
    assert f"It strays. Of its 50 images, {correct} are read correctly." == found.evidence
    assert changed(generation={"own_loop": loop.model_copy(update={"status": Outcome.SKIPPED})}) is None


def test_no_rule_is_left_out() -> None:
    import grading.causes
    import grading.diagnosis

    helpers = {"_guidance", "_apply"}
    for module, tables in ((grading.causes, (CAUSES,)), (grading.diagnosis, (FAULTS, SYMPTOMS))):
        defined = {name for name, value in vars(module).items() if name.startswith("_") and callable(value)} - helpers
        assert {name for name in defined if not name.startswith("__")} == {
            rule.__name__ for table in tables for rule in table
        }
