"""From results to a report: points, verdict, tier, and the sentence that sums it up."""

from collections.abc import Sequence

from grading.diagnosis import diagnose
from grading.integrity import raise_flags
from grading.outcomes import InfrastructureFault, Outcome
from grading.report import (
    BlankReport,
    Generation,
    GenerationRun,
    HyperParameter,
    Provenance,
    Report,
    Training,
    TrainingRun,
)
from reference.pack import Pack, Tier


def score_report(
    pack: Pack,
    blanks: Sequence[BlankReport],
    training: Training | None,
    generation: Generation | None,
    notices: Sequence[str],
    provenance: Provenance,
    hyperparameters: Sequence[HyperParameter] = (),
) -> Report:
    """Put the report together.

    The blanks bring their own points. The accuracy points go to the pipeline as submitted once it reaches the pass
    mark; a repaired run earns what the pack says, by default nothing. Findings, flags and hyper-parameters change
    neither points nor verdict.
    """
    submitted = generation.submitted if generation else None
    repaired = generation.repaired if generation else None
    score = sum(blank.points for blank in blanks)
    if _passed(submitted):
        score += pack.file.accuracy.points
    elif _passed(repaired):
        score += pack.file.accuracy.repaired_points
    tier, tier_note = _tier(pack.file.tiers, submitted, training)
    return Report(
        verdict="checks_only" if training is None else "passed" if _passed(submitted) else "failed",
        summary=summarise(blanks, training, submitted, repaired),
        score=score,
        max_score=pack.max_score,
        blanks=list(blanks),
        training=training,
        generation=generation,
        tier=tier,
        tier_note=tier_note,
        findings=[] if training is None else diagnose(training.submitted, submitted),
        hyperparameters=list(hyperparameters),
        flags=[] if training is None else raise_flags(training.submitted, submitted),
        notices=list(notices),
        provenance=provenance,
    )


def rescored(checks: Report, pack: Pack) -> list[BlankReport]:
    """The blanks of an earlier grading, worth what this pack says.

    Raises:
        InfrastructureFault: this pack asks for other blanks, which nobody has checked.
    """
    worth = {blank.id: blank for blank in pack.blanks}
    if {blank.id for blank in checks.blanks} != worth.keys():
        raise InfrastructureFault("This version asks for other blanks than were checked: check them anew.")
    return [
        blank.model_copy(
            update={
                "max_points": worth[blank.id].points,
                "points": worth[blank.id].points if blank.status is Outcome.PASSED else 0.0,
            }
        )
        for blank in checks.blanks
    ]


def reused(earlier: Report, blanks: Sequence[BlankReport], pack: Pack) -> tuple[Training | None, Generation | None]:
    """Training and generation of an earlier grading, judged by this pack's mark.

    A repaired run belongs to the blanks that stand-ins took the place of: where others fail now, it goes.
    """
    training, generation = earlier.training, earlier.generation
    if training is None or generation is None:
        return training, generation
    failed = {blank.id for blank in blanks if blank.status is not Outcome.PASSED}
    repaired = training.repaired
    if repaired is not None and not set(repaired.repaired_blanks) <= failed:
        training = training.model_copy(update={"repaired": None})
        generation = generation.model_copy(update={"repaired": None})
    mark = pack.file.accuracy.pass_mark
    runs = {name: _judged_anew(run, mark) for name, run in generation if isinstance(run, GenerationRun)}
    return training, generation.model_copy(update=runs)


def _judged_anew(run: GenerationRun, mark: float) -> GenerationRun:
    if mark == run.pass_mark or run.accuracy is None:
        return run
    return run.model_copy(update={"pass_mark": mark, "passed": run.accuracy.estimate >= mark})


def _passed(run: GenerationRun | None) -> bool:
    return run is not None and run.passed


def _tier(tiers: Sequence[Tier], run: GenerationRun | None, training: Training | None) -> tuple[str | None, str | None]:
    """The highest tier whose bounds are met, and why a higher one is not that the accuracy alone would reach."""
    if run is None or run.accuracy is None or training is None:
        return None, None
    estimate = run.accuracy.estimate
    note = None
    for tier in sorted(tiers, key=lambda tier: tier.accuracy, reverse=True):
        if estimate < tier.accuracy:
            continue
        missed = _too_slow(tier, training.submitted)
        if missed is None:
            return tier.id, note
        note = note or missed
    return None, note


def _too_slow(tier: Tier, training: TrainingRun) -> str | None:
    """Why training was too slow for this tier; None where it was not, or where it was never looked at."""
    if tier.images_to_95 is None or not training.evaluations:
        return None
    bound = tier.images_to_95 * training.budget
    if training.images_to_95 is not None and training.images_to_95 <= bound:
        return None
    return (
        f"{tier.id.capitalize()} also asks for quick training: 95% read correctly after {bound:,.0f} of "
        f"{training.budget:,} images. Yours got there "
        + (f"after {training.images_to_95:,}." if training.images_to_95 else "only at the end.")
    )


def summarise(
    blanks: Sequence[BlankReport],
    training: Training | None,
    submitted: GenerationRun | None,
    repaired: GenerationRun | None,
) -> str:
    """The sentence or two at the top of a report."""
    return " ".join(filter(None, (_blanks_sentence(blanks), _accuracy_sentence(training, submitted, repaired))))


def _blanks_sentence(blanks: Sequence[BlankReport]) -> str:
    passed = sum(blank.status is Outcome.PASSED for blank in blanks)
    not_attempted = [blank for blank in blanks if blank.status is Outcome.NOT_ATTEMPTED]
    withheld = sum(blank.status is Outcome.WITHHELD for blank in blanks)
    not_checked = sum(blank.status is Outcome.SKIPPED for blank in blanks)
    no_mistake = (Outcome.PASSED, Outcome.NOT_ATTEMPTED, Outcome.WITHHELD, Outcome.SKIPPED)
    wrong = [blank.name for blank in blanks if blank.status not in no_mistake]
    if passed == len(blanks):
        return f"All {len(blanks)} blanks are right."
    if len(not_attempted) == len(blanks):
        return "No blank has been filled in yet."
    sentence = f"{passed} of {len(blanks)} blanks are right"
    if wrong:
        sentence += f"; to look at again: {', '.join(wrong)}"
    if not_checked:
        builds = "it builds" if not_checked == 1 else "they build"
        sentence += f"; {not_checked} not checked, since {builds} on what is not right yet"
    if not_attempted:
        sentence += f"; {len(not_attempted)} not filled in yet"
    if withheld:
        sentence += f"; {withheld} not decided yet, since some of the checks are not shown, and without points so far"
    return sentence + "."


def _accuracy_sentence(
    training: Training | None, submitted: GenerationRun | None, repaired: GenerationRun | None
) -> str:
    if training is None:
        return ""
    if submitted is None or submitted.accuracy is None:
        sentence = "As handed in, the pipeline could not be trained to generate digits."
    else:
        mark = "at or above" if submitted.passed else "below"
        sentence = (
            f"{submitted.accuracy.estimate:.1%} of the generated digits are read correctly, "
            f"{mark} the mark of {submitted.pass_mark:.0%}."
        )
    if repaired is not None and repaired.accuracy is not None:
        sentence += (
            f" With the marked blanks put right, the rest of your work reaches {repaired.accuracy.estimate:.1%}"
            " (for your information; this is not what is graded)."
        )
    return sentence
