"""From results to a report: points, verdict, tier, and the sentence that sums it up."""

from collections.abc import Sequence

from grading.outcomes import Outcome
from grading.report import BlankReport, Generation, GenerationRun, Provenance, Report, Training
from reference.pack import Pack, Tier


def score_report(
    pack: Pack,
    blanks: Sequence[BlankReport],
    training: Training | None,
    generation: Generation | None,
    notices: Sequence[str],
    provenance: Provenance,
) -> Report:
    """Put the report together.

    The blanks bring their own points. The accuracy points go to the pipeline as submitted once it reaches the pass
    mark; a repaired run earns what the pack says, by default nothing.
    """
    submitted = generation.submitted if generation else None
    repaired = generation.repaired if generation else None
    score = sum(blank.points for blank in blanks)
    if _passed(submitted):
        score += pack.file.accuracy.points
    elif _passed(repaired):
        score += pack.file.accuracy.repaired_points
    return Report(
        verdict="checks_only" if training is None else "passed" if _passed(submitted) else "failed",
        summary=_summary(blanks, training, submitted, repaired),
        score=score,
        max_score=pack.max_score,
        blanks=list(blanks),
        training=training,
        generation=generation,
        tier=_tier(pack.file.tiers, submitted),
        notices=list(notices),
        provenance=provenance,
    )


def _passed(run: GenerationRun | None) -> bool:
    return run is not None and run.passed


def _tier(tiers: Sequence[Tier], run: GenerationRun | None) -> str | None:
    """The highest tier whose bound the estimate reaches."""
    if run is None or run.accuracy is None:
        return None
    reached = [tier for tier in tiers if run.accuracy.estimate >= tier.accuracy]
    return max(reached, key=lambda tier: tier.accuracy).id if reached else None


def _summary(
    blanks: Sequence[BlankReport],
    training: Training | None,
    submitted: GenerationRun | None,
    repaired: GenerationRun | None,
) -> str:
    return " ".join(filter(None, (_blanks_sentence(blanks), _accuracy_sentence(training, submitted, repaired))))


def _blanks_sentence(blanks: Sequence[BlankReport]) -> str:
    passed = sum(blank.status is Outcome.PASSED for blank in blanks)
    not_attempted = [blank for blank in blanks if blank.status is Outcome.NOT_ATTEMPTED]
    wrong = [blank.name for blank in blanks if blank.status not in (Outcome.PASSED, Outcome.NOT_ATTEMPTED)]
    if passed == len(blanks):
        return f"All {len(blanks)} blanks are right."
    if len(not_attempted) == len(blanks):
        return "No blank has been filled in yet."
    sentence = f"{passed} of {len(blanks)} blanks are right"
    if wrong:
        sentence += f"; to look at again: {', '.join(wrong)}"
    if not_attempted:
        sentence += f"; {len(not_attempted)} not filled in yet"
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
