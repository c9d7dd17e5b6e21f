"""Points, verdict, tier and summary, from results to report."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.outcomes import Outcome
from grading.report import (
    BlankReport,
    Evaluation,
    Generation,
    GenerationRun,
    Interval,
    Provenance,
    Training,
    TrainingRun,
)
from grading.scoring import score_report
from reference.pack import load_pack

PACK = load_pack("ddpm")
PROVENANCE = Provenance(
    submission_sha256="0" * 64,
    pack=PACK.id,
    pack_version=PACK.version,
    recipe="digits16",
    dataset="digits",
    classifier=None,
    seed="0" * 16,
    backend="none",
    isolation="none",
    sandboxed=False,
    device="cpu",
    versions={},
    seconds={},
    graded_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def blanks(failed: frozenset[str] = frozenset(), outcome: Outcome = Outcome.FAILED) -> list[BlankReport]:
    return [
        BlankReport(
            id=blank.id,
            name=blank.id,
            title=blank.title,
            concept=blank.concept,
            status=outcome if blank.id in failed else Outcome.PASSED,
            points=0 if blank.id in failed else blank.points,
            max_points=blank.points,
            message="",
        )
        for blank in PACK.blanks
    ]


def trained() -> Training:
    return Training(submitted=TrainingRun(status=Outcome.PASSED, message=""))


def generated(estimate: float) -> GenerationRun:
    return GenerationRun(
        status=Outcome.PASSED,
        message="",
        guidance_weight=2.0,
        accuracy=Interval(estimate=estimate, low=estimate, high=estimate, confidence=0.95),
        passed=estimate >= PACK.file.accuracy.pass_mark,
        pass_mark=PACK.file.accuracy.pass_mark,
    )


def test_everything_right_earns_every_point() -> None:
    report = score_report(PACK, blanks(), trained(), Generation(submitted=generated(0.99)), [], PROVENANCE)
    assert (report.verdict, report.score, report.tier) == ("passed", PACK.max_score, "gold")
    assert report.summary.startswith("All 21 blanks are right. 99.0% of the generated digits are read correctly")


def test_without_training_the_verdict_is_about_the_checks_alone() -> None:
    report = score_report(PACK, blanks(), None, None, [], PROVENANCE)
    assert report.verdict == "checks_only"
    assert report.score == PACK.max_score - PACK.file.accuracy.points


def test_a_repaired_run_earns_nothing_and_is_told_apart() -> None:
    generation = Generation(submitted=generated(0.5), repaired=generated(0.97))
    report = score_report(PACK, blanks(frozenset({"q"})), trained(), generation, [], PROVENANCE)
    assert (report.verdict, report.tier) == ("failed", None)
    assert report.score == PACK.max_score - PACK.file.accuracy.points - PACK.blank("q").points
    assert "to look at again: q" in report.summary
    assert "reaches 97.0% (for your information" in report.summary


def test_untouched_starter_is_summed_up_kindly() -> None:
    everything = frozenset(blank.id for blank in PACK.blanks)
    report = score_report(PACK, blanks(everything, Outcome.NOT_ATTEMPTED), None, None, [], PROVENANCE)
    assert report.summary == "No blank has been filled in yet."
    assert report.score == 0


@pytest.mark.parametrize(
    ("estimate", "tier"),
    [(1.0, "gold"), (0.98, "gold"), (0.979, "silver"), (0.95, "silver"), (0.9, "bronze"), (0.89, None)],
)
def test_tier_is_the_highest_reached(estimate: float, tier: str | None) -> None:
    report = score_report(PACK, blanks(), trained(), Generation(submitted=generated(estimate)), [], PROVENANCE)
    assert report.tier == tier


def looked_at(images_to_95: int | None) -> Training:
    look = Evaluation(images_seen=100, images=100, accuracy=Interval(estimate=0.5, low=0.4, high=0.6, confidence=0.95))
    run = TrainingRun(
        status=Outcome.PASSED, message="", budget=1000, evaluations=[look], images_to_95=images_to_95, images_to_90=1
    )
    return Training(submitted=run)


@pytest.mark.parametrize(
    ("images_to_95", "estimate", "tier", "note"),
    [
        (840, 0.99, "gold", None),
        (841, 0.99, "silver", "after 840 of 1,000 images. Yours got there after 841."),
        (None, 0.99, "silver", "Yours got there only at the end."),
        (None, 0.96, "silver", None),  # its accuracy would not have been gold either
    ],
)
def test_gold_asks_for_quick_training_and_says_where_it_was_missed(
    images_to_95: int | None, estimate: float, tier: str, note: str | None
) -> None:
    generation = Generation(submitted=generated(estimate))
    report = score_report(PACK, blanks(), looked_at(images_to_95), generation, [], PROVENANCE)
    assert report.tier == tier
    assert (report.verdict, report.score) == ("passed", PACK.max_score)
    assert (report.tier_note is None) == (note is None)
    assert (note or "") in (report.tier_note or "")


def test_findings_and_flags_change_no_points() -> None:
    training = Training(
        submitted=TrainingRun(status=Outcome.PASSED, message="", initial_accuracy=0.9, weight_rms=0.1),
    )
    generation = Generation(submitted=generated(0.99))
    report = score_report(PACK, blanks(), training, generation, [], PROVENANCE)
    assert [finding.id for finding in report.findings] == ["drawn_glyphs"]
    assert [flag.id for flag in report.flags] == ["drawn_before_training"]
    assert (report.verdict, report.score) == ("passed", PACK.max_score)


@given(st.frozensets(st.sampled_from([blank.id for blank in PACK.blanks])), st.floats(0, 1))
def test_score_is_the_sum_of_what_was_earned_and_never_leaves_its_range(
    failed: frozenset[str], estimate: float
) -> None:
    report = score_report(PACK, blanks(failed), trained(), Generation(submitted=generated(estimate)), [], PROVENANCE)
    lost = sum(PACK.blank(blank).points for blank in failed)
    if estimate < PACK.file.accuracy.pass_mark:
        lost += PACK.file.accuracy.points
    assert report.score == pytest.approx(PACK.max_score - lost)
    assert 0 <= report.score <= report.max_score
