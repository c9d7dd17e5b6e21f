"""Reports as gradings write them, for tests of what shows them. Every list is filled, every optional field is used."""

import io
import math
from collections.abc import Iterable
from datetime import UTC, datetime

from PIL import Image, ImageDraw

from grading.outcomes import Outcome
from grading.report import (
    BlankReport,
    Brightness,
    CheckReport,
    Classifier,
    ClassReport,
    Conditioning,
    Denoising,
    Diversity,
    Evaluation,
    Finding,
    Flag,
    Generation,
    GenerationRun,
    Gradients,
    Guidance,
    HyperParameter,
    Interval,
    LossPoint,
    Misread,
    OwnLoopReport,
    Production,
    Provenance,
    Report,
    SecondOpinion,
    Speed,
    SweepPoint,
    Training,
    TrainingRun,
)
from reference.pack import Blank, Pack, load_pack

GRID = "generated-submitted.png"
OWN_LOOP = "own-loop-submitted.png"
REPAIRED_GRID = "generated-repaired.png"
MISREAD = "misread-submitted.png"
FILMSTRIP = "filmstrip-submitted.png"

# Four mistakes as students make them, with what a check says of each
MISTAKES = {
    "q": CheckReport(
        name="formula",
        title="mixes the image and the noise in the right proportions",
        outcome=Outcome.FAILED,
        message="The coefficients of the image and of the noise are swapped.",
        expected="x_t = sqrt_alphas_cumprod[t] * x_0 + sqrt_one_minus_alphas_cumprod[t] * noise",
        found="at t = 3 the image arrives with a factor of 0.06 in place of 0.998",
        seconds=0.021,
    ),
    "UpBlock": CheckReport(
        name="joins_and_doubles",
        title="concatenates the skip connection before it upsamples",
        outcome=Outcome.CRASHED,
        message="RuntimeError: Given transposed=1, weight of size [48, 24, 2, 2], expected input[2, 24, 8, 8] to have "
        "48 channels, but got 24 channels instead",
        expected="an output of shape [2, 24, 16, 16]",
        found="an exception in forward, at solution.py line 131",
        output="x torch.Size([2, 24, 8, 8])\nskip torch.Size([2, 24, 8, 8])\n",
        seconds=0.034,
    ),
    "get_context_mask": CheckReport(
        name="share_dropped",
        title="keeps a share of 1 - drop_prob of the context",
        outcome=Outcome.FAILED,
        message="The mask keeps what it should drop: the probability is the wrong way round.",
        expected="about 90% of the entries kept at drop_prob = 0.1",
        found="10.1% of 40,000 entries kept",
        seconds=0.018,
    ),
    "sample_w": CheckReport(
        name="guidance",
        title="combines both predictions of the noise",
        outcome=Outcome.TIMED_OUT,
        message="sample_w did not come back within 20 seconds.",
        expected=None,
        found="it was still in step t = 150 of a loop that never counts down",
        seconds=20.0,
    ),
}


def wilson(correct: int, images: int) -> Interval:
    z = 1.96  # of the normal distribution, for 95 %
    share = correct / images
    middle = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z / (1 + z * z / images) * math.sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    return Interval(estimate=share, low=max(0.0, middle - half), high=min(1.0, middle + half), confidence=0.95)


def grid_png(columns: int = 10, rows: int = 6, size: int = 16) -> bytes:
    """Handwriting-like scribbles, one column per digit."""
    image = Image.new("L", (columns * (size + 2) + 2, rows * (size + 2) + 2), 24)
    draw = ImageDraw.Draw(image)
    for row in range(rows):
        for column in range(columns):
            draw.text((column * (size + 2) + 6 + row % 2, row * (size + 2) + 3), str(column % 10), fill=255 - 12 * row)
    file = io.BytesIO()
    image.resize((3 * image.width, 3 * image.height), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


ARTIFACTS = {GRID: grid_png(), OWN_LOOP: grid_png(rows=5), REPAIRED_GRID: grid_png()}
ARTIFACTS |= {MISREAD: grid_png(columns=3, rows=1), FILMSTRIP: grid_png(columns=9, rows=4)}


def passed_check(name: str, title: str) -> CheckReport:
    return CheckReport(name=name, title=title, outcome=Outcome.PASSED, message="")


def blank_report(blank: Blank, line: int, wrong: CheckReport | None = None) -> BlankReport:
    good = [passed_check("dimensions_in_between", "has the right shape and type")]
    good.append(passed_check("forms_of_its_inputs", "agrees on random inputs"))
    return BlankReport(
        id=blank.id,
        name=blank.id,
        title=blank.title,
        concept=blank.concept,
        status=wrong.outcome if wrong else Outcome.PASSED,
        points=0 if wrong else blank.points,
        max_points=blank.points,
        message=wrong.message if wrong else "",
        found_as=blank.aliases[0] if blank.aliases else blank.id,
        file="solution.py",
        line=line,
        checks=[good[0], wrong] if wrong else good,
    )


def not_attempted(blank: Blank) -> BlankReport:
    return BlankReport(
        id=blank.id,
        name=blank.id,
        title=blank.title,
        concept=blank.concept,
        status=Outcome.NOT_ATTEMPTED,
        points=0,
        max_points=blank.points,
        message=f"`{blank.id}` still holds its placeholder.",
    )


def training_run(**changes: object) -> TrainingRun:
    losses = [
        LossPoint(images_seen=n * 1280, loss=0.06 + 0.9 * math.exp(-n / 4) + 0.01 * (n % 3)) for n in range(1, 41)
    ]
    run = TrainingRun(
        status=Outcome.PASSED,
        message="",
        images=51200,
        seconds=61.4,
        images_per_second=834.0,
        budget=51200,
        parameters=152_433,
        solution_parameters=152_433,
        loss=losses,
        initial_accuracy=0.104,
        evaluations=[
            Evaluation(images_seen=seen, images=100, accuracy=wilson(correct, 100))
            for seen, correct in ((8533, 22), (17066, 91), (25600, 94), (34133, 97), (42666, 99))
        ],
        images_to_90=17066,
        images_to_95=34133,
        gradients=[
            Gradients(images_seen=8533, norm=0.31),
            Gradients(images_seen=17066, norm=0.22),
        ],
        denoising=Denoising(right_context=0.054, wrong_context=0.079, no_context=0.06),
        weight_rms=0.09,
    )
    return run.model_copy(update=changes)


def generation_run(correct_per_class: Iterable[int] = (20,) * 10, **changes: object) -> GenerationRun:
    each = 20
    per_class = list(correct_per_class)
    correct, images = sum(per_class), each * len(per_class)
    sweep = [(0, 43), (0.5, 47), (1, 49), (2, 50), (3, 50), (5, 48), (7, 45)]
    run = GenerationRun(
        status=Outcome.PASSED,
        message="",
        guidance_weight=2.0,
        images=images,
        correct=correct,
        accuracy=wilson(correct, images),
        sequential=Interval(estimate=correct / images, low=0.951, high=1.0, confidence=0.999),
        passed=correct / images >= 0.95,
        pass_mark=0.95,
        classes=[
            ClassReport(
                label=label,
                images=each,
                correct=count,
                accuracy=wilson(count, each),
                level="good" if count >= 18 else "below_floor" if count >= 16 else "red_flag",
                diversity=Diversity(pixel_variance=1.2, feature_distance=1.05),
            )
            for label, count in enumerate(per_class)
        ],
        sweep=[
            SweepPoint(guidance_weight=w, images=50, accuracy=wilson(count, 50), diversity=2 - w / 7)
            for w, count in sweep
        ],
        guidance=Guidance(best_weight=2, saturates_at=1),
        conditioning=Conditioning(
            images=50, followed=0.98, stayed=0.02, unconditional=[0.1, 0.06, 0.1, 0.1, 0.08, 0.1, 0.12, 0.1, 0.14, 0.1]
        ),
        second_opinion=SecondOpinion(
            images=200,
            agreement=0.99,
            agreement_real=0.983,
            distance=5.6,
            distance_real=3.1,
            training_distance=5.7,
            training_distance_real=3.2,
            copied=0.0,
        ),
        brightness=Brightness(mean=-0.25, mean_real=-0.39, beyond=0.13),
        production=Production(
            images_per_second=84.5,
            batches=[
                Speed(batch=1, images_per_second=7.9),
                Speed(batch=10, images_per_second=46.1),
                Speed(batch=100, images_per_second=85.7),
            ],
            memory_bytes=250 * 2**20,
        ),
        misread=[
            Misread(asked=8, read_as=3, confidence=0.94),
            Misread(asked=9, read_as=5, confidence=0.71),
            Misread(asked=1, read_as=8, confidence=0.49),
        ],
        misread_artifact=MISREAD,
        own_loop=OwnLoopReport(
            status=Outcome.PASSED,
            message="Every one of the 150 steps follows from the one before.",
            images=50,
            correct=49,
            artifact=OWN_LOOP,
            filmstrip=FILMSTRIP,
            filmstrip_times=[149, 131, 112, 94, 75, 56, 38, 19],
        ),
        artifact=GRID,
    )
    return run.model_copy(update=changes)


def provenance(**changes: object) -> Provenance:
    facts = Provenance(
        submission_sha256="5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592",
        pack="ddpm",
        pack_version="7c211433f02071597741e6ff5a8ea34789abbf437c211433f02071597741e6ff",
        recipe="digits16",
        dataset="scikit-learn's handwritten digits",
        classifier=Classifier(name="digits16", sha256="0cc175b9c0f1b6a8" * 4, accuracy=wilson(590, 597)),
        seed="9f86d081884c7d65",
        backend="bubblewrap",
        isolation="bubblewrap 0.8.0: namespaces for processes, network and users, seccomp, limits by rlimit",
        sandboxed=True,
        device="cpu",
        versions={"noisemark": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        seconds={"inspect": 0.1, "check": 3.2, "train": 61.4, "generate": 14.9, "score": 0.2},
        graded_at=datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC),
    )
    return facts.model_copy(update=changes)


def passing(pack: Pack | None = None) -> Report:
    """A right solution: every blank passed, gold."""
    pack = pack or load_pack("ddpm")
    blanks = [blank_report(blank, 30 + 9 * place) for place, blank in enumerate(pack.blanks)]
    return Report(
        verdict="passed",
        summary="All 21 blanks are right. 99.0% of the generated digits are read correctly, at or above the mark of "
        "95%.",
        score=pack.max_score,
        max_score=pack.max_score,
        blanks=blanks,
        training=Training(submitted=training_run()),
        generation=Generation(submitted=generation_run((20, 20, 20, 20, 20, 19, 20, 20, 19, 20))),
        tier="gold",
        hyperparameters=[
            HyperParameter(name="w", value=2.0, place="solution.py, line 340", range="safe", advice=""),
        ],
        provenance=provenance(),
    )


def four_mistakes(pack: Pack | None = None) -> Report:
    """Four mistakes and a blank left open; the pipeline as submitted cannot be trained, the repaired one passes."""
    pack = pack or load_pack("ddpm")
    blanks = []
    for place, blank in enumerate(pack.blanks):
        if blank.id == "w":
            blanks.append(not_attempted(blank))
        else:
            blanks.append(blank_report(blank, 30 + 9 * place, MISTAKES.get(blank.id)))
    return Report(
        verdict="failed",
        summary="16 of 21 blanks are right; to look at again: q, UpBlock, get_context_mask, sample_w; 1 not filled in "
        "yet. As handed in, the pipeline could not be trained to generate digits. With the marked blanks put right, "
        "the rest of your work reaches 97.0% (for your information; this is not what is graded).",
        score=sum(blank.points for blank in blanks),
        max_score=pack.max_score,
        blanks=blanks,
        training=Training(
            submitted=training_run(
                status=Outcome.CRASHED,
                message="The network could not be built: UpBlock raised RuntimeError (solution.py, line 131).",
                images=0,
                seconds=0.0,
                images_per_second=0.0,
                parameters=0,
                loss=[],
                initial_accuracy=None,
            ),
            repaired=training_run(repaired_blanks=["q", "UpBlock", "get_context_mask", "sample_w", "w"]),
        ),
        generation=Generation(
            repaired=generation_run((20, 19, 20, 18, 20, 19, 20, 20, 19, 19), artifact=REPAIRED_GRID, own_loop=None)
        ),
        notices=["utils.py: `ddpm_utils` exists only on the course's machines; it was replaced by an inert object."],
        provenance=provenance(),
    )


FINDING = Finding(
    id="guidance_too_low",
    title="Your guidance weight is too low",
    cause="The network can do better than it is asked to: with so little guidance digits stay vague.",
    evidence="At your w = 0, 88.5% are read correctly; at w = 2, 100% of 50.",
    next_step="Try a few values of w in `sample_w` and compare the digits.",
    severity="problem",
)


def below_mark(pack: Pack | None = None) -> Report:
    """Everything runs, but too few digits can be read; graded without a sandbox."""
    report = passing(pack)
    return report.model_copy(
        update={
            "verdict": "failed",
            "summary": "All 21 blanks are right. 88.5% of the generated digits are read correctly, below the mark of "
            "95%.",
            "score": report.score - 40,
            "generation": Generation(submitted=generation_run((20, 19, 18, 15, 18, 16, 19, 18, 16, 18))),
            "tier": None,
            "tier_note": "Silver also asks for quick training: 95% read correctly after 43,008 of 51,200 images. Yours "
            "got there only at the end.",
            "findings": [FINDING],
            "flags": [
                Flag(
                    id="copies",
                    title="Generated images lie close to training images",
                    evidence="12% of 200 images lie far closer to a training image than held-out real digits do.",
                )
            ],
            "hyperparameters": [
                HyperParameter(
                    name="learning rate",
                    value=0.01,
                    place="solution.py, line 352",
                    range="failing",
                    advice="Steps this large can throw a network back. 5e-5 to 2e-4 is a good range.",
                ),
            ],
            "provenance": provenance(
                sandboxed=False, backend="none", isolation="none: the student's code ran with this account's rights"
            ),
        }
    )


def untouched_starter(pack: Pack | None = None) -> Report:
    """Checks only, and no blank filled in."""
    pack = pack or load_pack("ddpm")
    return Report(
        verdict="checks_only",
        summary="No blank has been filled in yet.",
        score=0,
        max_score=pack.max_score,
        blanks=[not_attempted(blank) for blank in pack.blanks],
        provenance=provenance(classifier=None),
    )
