"""Causes: faults each of which explains all that follows from it. The rules of a diagnosis that end it.

Each looks for one cause by facts that tell it from the others. The measurements behind the thresholds stand in
docs/evaluation.md.
"""

from collections.abc import Callable

from grading.facts import Facts
from grading.integrity import COPIED, MOST_DRAWN_UNTRAINED
from grading.outcomes import Outcome
from grading.report import Finding

FLAT_LOSS = 0.7  # share of the first loss that is left at the end; networks that learn are below 0.2
VANISHED = 1e-5  # norm of all gradients; networks that learn stay above 0.1
EXPLODED = 1e3  # they stay below 12, in the first batch
LARGE_WEIGHTS = (
    0.4  # root mean square; trained reference networks 0.09, with steps a hundred times too large 0.8 to 1.1
)
ONE_PICTURE = 0.02  # feature distance over that of real digits, where noise changes nothing
UNLEARNT = 0.5  # of that error: a network that has learnt nothing has 1, trained ones 0.05 to 0.13
NO_EFFECT = 1e-3  # relative difference of two errors of the predicted noise below which they are the same
WEAK_EFFECT = (
    0.08  # of a wrong context on that error; trained reference networks 0.40 to 0.46, mask inverted 0.03 to 0.05
)

Rule = Callable[[Facts], Finding | None]


def _training_stopped(facts: Facts) -> Finding | None:
    run = facts.training
    if run.status in (Outcome.PASSED, Outcome.NOT_ATTEMPTED):
        return None
    return Finding(
        id="training_stopped",
        title="Training did not reach its end",
        cause="Training could not go on with what the code does; the message says with what. A loss that is no longer "
        "a number comes from a division by zero, a root or logarithm of a negative number, or values that grow without "
        "bound.",
        evidence=f"After {run.images:,} images: {run.message}",
        next_step="Run your own training for a few batches and print the loss and the largest value of each step.",
        severity="problem",
    )


def _drawn_glyphs(facts: Facts) -> Finding | None:
    initial = facts.training.initial_accuracy or 0.0
    largest = max(facts.diversities, default=1.0)
    if initial < MOST_DRAWN_UNTRAINED and not (largest < ONE_PICTURE and facts.estimate >= MOST_DRAWN_UNTRAINED):
        return None
    return Finding(
        id="drawn_glyphs",
        title="The digits do not come out of the noise",
        cause="For each digit there is one picture, whatever noise it starts from. A diffusion model turns different "
        "noise into different digits.",
        evidence=f"Images of one digit differ at most {largest:.2f} times as much as real ones; before training "
        f"{initial:.0%} were read correctly.",
        next_step="Let the network predict the noise in x from x itself, as the assignment has it.",
        severity="problem",
    )


def _copies(facts: Facts) -> Finding | None:
    opinion = facts.generation.second_opinion if facts.generation else None
    if opinion is None or opinion.copied < COPIED:
        return None
    return Finding(
        id="copies",
        title="Many generated digits are very close to training images",
        cause="The network seems to give back images that it has been trained on. That happens where it stores images, "
        "or is trained very long on few of them.",
        evidence=f"{opinion.copied:.0%} of {opinion.images} images lie far closer to a training image than real digits "
        "that it has never seen.",
        next_step="Look for anything in the network or the loss that keeps images. A person will have a look too.",
        severity="problem",
    )


def _no_learning(facts: Facts) -> Finding | None:
    run = facts.training
    if facts.passed or not run.loss or facts.last_loss < FLAT_LOSS * facts.first_loss:
        return None
    norms = [moment.norm for moment in run.gradients]
    evidence = f"The loss began at {facts.first_loss:.3f} and ended at {facts.last_loss:.3f}."
    if norms and max(norms) < VANISHED:
        return Finding(
            id="gradients_vanish",
            title="Almost no gradient reaches the network",
            cause="The loss depends so little on the network that training cannot move it: a product with something "
            "tiny, a saturated function, or a part that is detached.",
            evidence=f"{evidence} The largest gradient has norm {max(norms):.1e}.",
            next_step="Follow the prediction from the network's last layer to the loss, and look for `detach`, "
            "`no_grad` or a factor near zero.",
            severity="problem",
        )
    if norms and max(norms) > EXPLODED:
        return Finding(
            id="gradients_explode",
            title="Gradients grow without bound",
            cause="Somewhere values grow from layer to layer or with time.",
            evidence=f"{evidence} The largest gradient has norm {max(norms):.1e}.",
            next_step="Check that every block normalises as asked, and what the loss is multiplied by.",
            severity="problem",
        )
    return Finding(
        id="does_not_train",
        title="The loss does not fall",
        cause="Either the network cannot see what it needs (the noised image, the time), or the loss compares things "
        "that have nothing to do with each other.",
        evidence=evidence,
        next_step="Check that the loss compares the prediction with the very noise that went into x_t.",
        severity="problem",
    )


def _training_diverges(facts: Facts) -> Finding | None:
    rms = facts.training.weight_rms
    if facts.passed or rms is None or rms < LARGE_WEIGHTS:
        return None
    return Finding(
        id="training_diverges",
        title="Training takes steps that are too large",
        cause="Weights that are this large come from updates far beyond what the network can follow: a learning rate "
        "much too high, or a factor that acts like one.",
        evidence=f"Weights ended at a root mean square of {rms:.2f}, several times what is usual; the loss at "
        f"{facts.last_loss:.3f}.",
        next_step="Look for what multiplies weights or updates in your network and loss; in your own training, lower "
        "the learning rate.",
        severity="problem",
    )


def _mask_inverted(facts: Facts) -> Finding | None:
    found = facts.denoising
    if facts.passed or found is None or facts.too_small:
        return None
    effect = found.wrong_context / found.right_context - 1
    backwards = abs(effect) < NO_EFFECT and found.no_context < (1 - NO_EFFECT) * found.right_context
    rarely = NO_EFFECT <= effect < WEAK_EFFECT and found.no_context < (1 + WEAK_EFFECT) * found.right_context
    if not backwards and not (rarely and facts.fits):
        return None
    return Finding(
        id="mask_inverted",
        title="Context is dropped where it should be kept",
        cause="The network makes better use of context where the mask drops it than where it is kept: the mask works "
        "the wrong way round."
        if backwards
        else "The network does well without context and hardly uses it: in training the mask dropped nearly all of it.",
        evidence=f"Error of the predicted noise with the right digit {found.right_context:.4f}, with a wrong one "
        f"{found.wrong_context:.4f}, without {found.no_context:.4f}.",
        next_step="Print a few masks of `get_context_mask` with a small drop probability, and check how the network "
        "uses them: where the mask is 1, context is kept.",
        severity="problem",
    )


def _conditioning_without_effect(facts: Facts) -> Finding | None:
    found, drawn = facts.denoising, facts.conditioning
    if facts.passed or found is None or found.right_context > UNLEARNT:
        return None
    effects = [found.wrong_context / found.right_context - 1, found.no_context / found.right_context - 1]
    if max(map(abs, effects)) >= NO_EFFECT:
        return None
    followed = f" Asked for another digit from the same noise, {drawn.followed:.0%} follow." if drawn else ""
    return Finding(
        id="conditioning_without_effect",
        title="The network does not look at the digit asked for",
        cause="Its prediction is the same for every digit and for none: context does not reach the layers that use it.",
        evidence=f"Error of the predicted noise with the right digit {found.right_context:.4f}, with a wrong one "
        f"{found.wrong_context:.4f}, without {found.no_context:.4f}.{followed}",
        next_step="Follow the context from the arguments of `forward` to the two places where it is embedded.",
        severity="problem",
    )


def _other_noise(facts: Facts) -> Finding | None:
    found = facts.denoising
    if facts.passed or found is None or not facts.training.loss or facts.fits:
        return None
    return Finding(
        id="other_noise",
        title="Training solves another task than the one that digits are generated with",
        cause="In training the images are noised in another way, or the loss measures something else, than the "
        "reverse process expects.",
        evidence=f"The loss ended at {facts.last_loss:.3f}. On images noised as the assignment describes, the mean "
        f"squared error of the same network is {found.right_context:.3f}.",
        next_step="Look again at `q` and what it is made of, then at `get_loss`.",
        severity="problem",
    )


def _network_too_small(facts: Facts) -> Finding | None:
    run = facts.training
    if facts.passed or not facts.too_small:
        return None
    return Finding(
        id="network_too_small",
        title="The network is very small",
        cause="It has too few parameters to tell noise from digits: a width is written into it in place of the one "
        "that it is given, or blocks are left out.",
        evidence=f"{run.parameters:,} parameters; a network built as described has {run.solution_parameters:,}. The "
        f"loss ended at {facts.last_loss:.3f}.",
        next_step="Build every level with the widths in `down_chs`, and check that no block is missing.",
        severity="problem",
    )


# In this order: what makes all other measurements meaningless first, then what only one fault can look like
CAUSES: tuple[Rule, ...] = (
    _training_stopped,
    _drawn_glyphs,
    _copies,
    _no_learning,
    _training_diverges,
    _mask_inverted,
    _conditioning_without_effect,
    _other_noise,
    _network_too_small,
)
