"""Diagnosis: from what was measured to the likeliest cause, in words for the student.

A table of rules, the most specific ones first. A cause that explains everything else ends the diagnosis; then come
faults of which there may be several at once; and only where none of them is found, symptoms: how much is read
correctly. Nothing here changes points. The measurements behind the thresholds stand in docs/evaluation.md.
"""

from collections.abc import Sequence
from typing import Literal

from grading.causes import CAUSES, Rule
from grading.facts import Facts
from grading.outcomes import Outcome
from grading.report import Finding, GenerationRun, TrainingRun

UNDIVERSE = 0.6  # likewise; trained reference networks 0.95 or more at any w up to 7
ONE_MISSING = 0.5  # a class below it, while the others together reach `OTHERS_FINE`
OTHERS_FINE = 0.85
OTHER_GREY = 0.35  # difference of mean grey values in [-1, 1]; trained reference networks 0.15
OVERDRIVEN = 0.45  # share of pixels beyond the range of grey; 0.13 at w = 2, 0.26 at w = 5, 0.56 at w = 12
OWN_LOOP_FINE = (
    0.8  # share of the own loop's 50 images; of a network at the pass mark chance leaves fewer once in 10,000
)
BETTER_ELSEWHERE = 0.04  # accuracy that another guidance weight brings at least
RISING = 0.08  # accuracy gained over the last two looks in training; of right ones, which pass, at most 0.07
LEVEL = 0.08  # share of the loss that the second half of training takes away; of a right one 0.12 or more
LEAST_POINTS = 20  # of a curve, so that a tenth of it is a mean


def diagnose(training: TrainingRun, generation: GenerationRun | None) -> list[Finding]:
    """What the measurements of a run show, the likeliest cause first; nothing for a run without fault."""
    facts = Facts(training=training, generation=generation)
    return _apply(CAUSES, facts)[:1] or _apply(FAULTS, facts) or _apply(SYMPTOMS, facts)[:1]


def _apply(rules: Sequence[Rule], facts: Facts) -> list[Finding]:
    return [finding for rule in rules if (finding := rule(facts)) is not None]


def _class_missing(facts: Facts) -> Finding | None:
    missing = [entry for entry in facts.classes if entry.accuracy.estimate < ONE_MISSING]
    rest = [entry for entry in facts.classes if entry not in missing]
    if not 1 <= len(missing) <= 2:
        return None
    share = sum(entry.correct for entry in rest) / sum(entry.images for entry in rest)
    if share < OTHERS_FINE:
        return None
    names = " and ".join(str(entry.label) for entry in missing)
    return Finding(
        id="class_missing",
        title=f"The network has not learnt to draw {names}",
        cause="All other digits are fine, so the network hardly ever met this one in training: an image or a label is "
        "left out, or two digits share a label.",
        evidence="; ".join(f"{entry.label}: {entry.correct} of {entry.images}" for entry in missing)
        + f"; all others together: {share:.0%}.",
        next_step="Check the loss and `get_context_mask` for anything that treats one label differently from others.",
        severity="problem",
    )


def _wrong_scale(facts: Facts) -> Finding | None:
    grey = facts.generation.brightness if facts.generation else None
    if facts.passed or grey is None or abs(grey.mean - grey.mean_real) < OTHER_GREY:
        return None
    return Finding(
        id="wrong_scale",
        title="The images have another range of grey than the data",
        cause="Somewhere images are scaled or shifted: the data lie in [-1, 1], and so should what is generated.",
        evidence=f"Mean grey value {grey.mean:.2f}, of real digits {grey.mean_real:.2f}; {grey.beyond:.0%} of the "
        "pixels lie outside of the range.",
        next_step="Look for a scaling of x_0 in `q` or `get_loss` that nothing undoes.",
        severity="problem",
    )


def _guidance_too_low(facts: Facts) -> Finding | None:
    return _guidance(facts, "low")


def _guidance_too_high(facts: Facts) -> Finding | None:
    found = _guidance(facts, "high")
    run = facts.generation
    if found is not None or run is None or run.guidance is None or run.brightness is None:
        return found
    if run.guidance_weight <= run.guidance.saturates_at or run.brightness.beyond < OVERDRIVEN:
        return None
    return Finding(
        id="guidance_too_high",
        title="Your guidance weight is very high",
        cause="Guidance this strong pushes pixels far beyond black and white; digits become hard-edged.",
        evidence=f"At your w = {run.guidance_weight:g}, {run.brightness.beyond:.0%} of the pixels lie outside of the "
        f"range of grey values. In the sweep, accuracy is level from w = {run.guidance.saturates_at:g} on.",
        next_step="Compare your digits with those at a smaller w.",
        severity="advice",
    )


def _guidance(facts: Facts, side: Literal["low", "high"]) -> Finding | None:
    """Another weight reads clearly better; it has to lie on the other side of the student's own."""
    run = facts.generation
    if run is None or not run.sweep or run.accuracy is None:
        return None
    own = run.guidance_weight
    best = max(run.sweep, key=lambda point: point.accuracy.estimate)
    gain = best.accuracy.estimate - run.accuracy.estimate
    if gain < BETTER_ELSEWHERE or best.accuracy.low <= run.accuracy.estimate:
        return None
    if (best.guidance_weight > own) != (side == "low"):
        return None
    return Finding(
        id=f"guidance_too_{side}",
        title=f"Your guidance weight is too {side}",
        cause="The network can do better than it is asked to: "
        + (
            "with so little guidance digits stay vague."
            if side == "low"
            else "with so much guidance images are pushed beyond what digits look like."
        ),
        evidence=f"At your w = {own:g}, {run.accuracy.estimate:.1%} are read correctly; at w = "
        f"{best.guidance_weight:g}, {best.accuracy.estimate:.0%} of {best.images}.",
        next_step="Try a few values of w in `sample_w` and compare the digits.",
        severity="advice" if run.passed else "problem",
    )


def _own_loop(facts: Facts) -> Finding | None:
    """The network is good, and the student's own way of drawing with it is not."""
    loop = facts.generation.own_loop if facts.generation else None
    if not facts.passed or loop is None or loop.status in (Outcome.PASSED, Outcome.SKIPPED):
        return None
    drawn_well = loop.images > 0 and loop.correct / loop.images >= OWN_LOOP_FINE
    read = f" Of its {loop.images} images, {loop.correct} are read correctly." if loop.images else ""
    return Finding(
        id="own_loop",
        title="Your own sampling loop does something else than the reverse process",
        cause="The digits that count are drawn from your network by the grader's own loop. Yours is `sample_w` with "
        "all that it uses: `reverse_q`, and the coefficients that this one reads. What is wrong may lie in any of "
        "them, or in code that changes one of their values later.",
        evidence=f"{loop.message}{read}",
        next_step="Print the coefficients just before you sample, and compare them with what you computed at first; "
        "then follow one step of the loop.",
        severity="advice" if drawn_well else "problem",
    )


def _idle_layers(facts: Facts) -> Finding | None:
    moments = facts.training.gradients
    if facts.passed or not moments:
        return None
    idle = [name for name in moments[-1].zero if all(name in moment.zero for moment in moments)]
    if not idle:
        return None
    return Finding(
        id="idle_layers",
        title="Some layers learn nothing",
        cause="Their gradient is zero from the first batch to the last: their output is not used, or is multiplied by "
        "zero.",
        evidence=f"As your network tells: {', '.join(idle)}.",
        next_step="Follow what these layers return in `forward`.",
        severity="problem",
    )


def _collapse(facts: Facts) -> Finding | None:
    collapsed = [str(entry.label) for entry in facts.classes if entry.collapsed]
    if not collapsed:
        return None
    return Finding(
        id="collapse",
        title="Images of one digit are nearly all the same",
        cause="The noise that an image starts from hardly matters any more.",
        evidence=f"Digits {', '.join(collapsed)}: at most a tenth of the variety of real ones.",
        next_step="Check that the network sees the noised image and not the label alone.",
        severity="problem",
    )


def _undiverse(facts: Facts) -> Finding | None:
    if not facts.passed or not facts.diversities:
        return None
    mean = sum(facts.diversities) / len(facts.diversities)
    if mean >= UNDIVERSE:
        return None
    return Finding(
        id="undiverse",
        title="Digits are clear but much alike",
        cause="Images of one digit vary less than handwriting does; strong guidance does that.",
        evidence=f"Images of one digit differ {mean:.2f} times as much as real ones.",
        next_step="Try a lower guidance weight, and compare several images of one digit.",
        severity="advice",
    )


def _still_improving(facts: Facts) -> Finding | None:
    looks = facts.training.evaluations
    if facts.passed or facts.accuracy is None or len(looks) < 3:
        return None
    gain = looks[-1].accuracy.estimate - looks[-3].accuracy.estimate
    if gain < RISING:
        return None
    return Finding(
        id="still_improving",
        title="The network was still getting better",
        cause="It learns, but more slowly than one built as described.",
        evidence=f"{looks[-3].accuracy.estimate:.0%} after {looks[-3].images_seen:,} images, "
        f"{looks[-1].accuracy.estimate:.0%} after {looks[-1].images_seen:,}.",
        next_step="Look for what makes learning harder: a missing normalisation, skip connection or embedding.",
        severity="problem",
    )


def _plateau(facts: Facts) -> Finding | None:
    points = facts.training.loss
    if facts.passed or facts.accuracy is None or len(points) < LEAST_POINTS:
        return None
    middle = sum(point.loss for point in points[len(points) // 2 :][: len(points) // 10]) / (len(points) // 10)
    if facts.last_loss < (1 - LEVEL) * middle:
        return None
    return Finding(
        id="plateau",
        title="Learning levelled off early",
        cause="From the middle of training on, the loss hardly falls: something keeps the network from seeing more, "
        "such as a time that it is not told, or a block that passes too little on.",
        evidence=f"The loss was {middle:.3f} half way and {facts.last_loss:.3f} at the end; "
        f"{facts.estimate:.1%} read correctly.",
        next_step="Check how time is embedded, and that the skip connections reach the way up.",
        severity="problem",
    )


def _below_mark(facts: Facts) -> Finding | None:
    run = facts.generation
    if run is None or run.accuracy is None or run.passed or not run.classes or not facts.training.loss:
        return None
    estimate = run.accuracy.estimate
    if estimate < 0.5:
        title, step = "Most digits cannot be read", "Work through the blanks that are marked first."
    elif estimate < 0.9:
        title, step = "Many digits are misread", "Compare the misread digits: which strokes are missing?"
    else:
        title, step = "Nearly there", "Compare the digits at other guidance weights."
    worst = min(run.classes, key=lambda entry: entry.accuracy.estimate)
    return Finding(
        id="below_mark",
        title=title,
        cause="The measurements do not single out a cause; training and loss look usual.",
        evidence=f"{estimate:.1%} read correctly, the mark is {run.pass_mark:.0%}; fewest of digit {worst.label}: "
        f"{worst.correct} of {worst.images}. The loss ended at {facts.last_loss:.3f}.",
        next_step=step,
        severity="problem",
    )


FAULTS: tuple[Rule, ...] = (
    _class_missing,
    _wrong_scale,
    _guidance_too_low,
    _guidance_too_high,
    _own_loop,
    _idle_layers,
    _collapse,
    _undiverse,
)
SYMPTOMS: tuple[Rule, ...] = (_still_improving, _plateau, _below_mark)
