"""Integrity flags: measurements that a person should look at. They change no points by themselves."""

from grading.report import Flag, GenerationRun, TrainingRun

# Thresholds beside what was measured: docs/evaluation.md
COPIED = 0.1  # share of copies among the generated images; trained networks 0.00
MOST_DRAWN_UNTRAINED = 0.5  # read correctly before training; chance reaches 0.25 of 100 images once in 10^5 gradings
LEAST_AGREEMENT = 0.85  # of both readers, as a share of their agreement on real digits; trained networks 0.97 or more
MOST_DISTANCE = 3.5  # to the nearest real digit, over that of real digits; trained networks 1.7 to 2.7, noise about 5


def raise_flags(training: TrainingRun, generation: GenerationRun | None) -> list[Flag]:
    """The flags of a run."""
    flags = []
    if training.initial_accuracy is not None and training.initial_accuracy >= MOST_DRAWN_UNTRAINED:
        flags.append(
            Flag(
                id="drawn_before_training",
                title="The network draws digits before it is trained",
                evidence=f"{training.initial_accuracy:.0%} of the untrained network's images are read as asked; "
                "guessing gives about 10%.",
            )
        )
    opinion = generation.second_opinion if generation else None
    if generation is None or opinion is None:
        return flags
    if opinion.copied >= COPIED:
        flags.append(
            Flag(
                id="copies",
                title="Generated images lie close to training images",
                evidence=f"{opinion.copied:.0%} of {opinion.images} images lie far closer to a training image than "
                f"held-out real digits do; median distance {opinion.training_distance:.2f}, of real digits "
                f"{opinion.training_distance_real:.2f}.",
            )
        )
    # Images that show nothing are read at random by both readers: only where they earn points is that a question
    far = opinion.distance > MOST_DISTANCE * opinion.distance_real
    if generation.passed and (opinion.agreement < LEAST_AGREEMENT * opinion.agreement_real or far):
        flags.append(
            Flag(
                id="classifier_fooled",
                title="The second reader does not confirm the classifier",
                evidence=f"Nearest neighbours among real digits agree on {opinion.agreement:.0%} of the generated "
                f"images and on {opinion.agreement_real:.0%} of real ones; median distance to the nearest real digit "
                f"{opinion.distance:.2f}, of real digits {opinion.distance_real:.2f}.",
            )
        )
    return flags
