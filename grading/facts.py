"""What a diagnosis looks at: the measurements of a run, and what follows from them."""

from dataclasses import dataclass

from grading.report import ClassReport, Conditioning, Denoising, GenerationRun, Interval, TrainingRun

# The error of the predicted noise over the training loss: 0.98 to 1.07 where both are about the same noise, and 0.80 to
# 0.93 without square roots in q (docs/evaluation.md): the lower bound lies half way
SAME_NOISE = (0.955, 1.18)
TINY = 0.25  # share of the reference network's parameters


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a rule may look at."""

    training: TrainingRun
    generation: GenerationRun | None

    @property
    def accuracy(self) -> Interval | None:
        return self.generation.accuracy if self.generation else None

    @property
    def estimate(self) -> float:
        """Share read correctly; 0 where nothing was generated."""
        return self.accuracy.estimate if self.accuracy else 0.0

    @property
    def passed(self) -> bool:
        return self.generation is not None and self.generation.passed

    @property
    def classes(self) -> list[ClassReport]:
        return self.generation.classes if self.generation else []

    @property
    def denoising(self) -> Denoising | None:
        return self.training.denoising

    @property
    def conditioning(self) -> Conditioning | None:
        return self.generation.conditioning if self.generation else None

    @property
    def first_loss(self) -> float:
        return self.training.loss[0].loss

    @property
    def last_loss(self) -> float:
        """Mean of the last tenth of the curve, at least one point."""
        points = self.training.loss[-max(1, len(self.training.loss) // 10) :]
        return sum(point.loss for point in points) / len(points)

    @property
    def diversities(self) -> list[float]:
        return [entry.diversity.feature_distance for entry in self.classes if entry.diversity]

    @property
    def fits(self) -> bool:
        """Whether the error of the predicted noise is what the training loss says it is."""
        found = self.denoising
        if found is None or not self.training.loss or self.last_loss <= 0:
            return False
        return SAME_NOISE[0] <= found.right_context / self.last_loss <= SAME_NOISE[1]

    @property
    def too_small(self) -> bool:
        """Whether the network has far fewer parameters than one that is built as described."""
        run = self.training
        return 0 < run.parameters < TINY * run.solution_parameters
