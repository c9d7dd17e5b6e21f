"""A student's pipeline as programs for a guest, and the network that it makes there."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from grading.events import Run
from grading.harvest import Harvest, closure
from grading.outcomes import OUTCOMES, Outcome
from grading.reference import HARNESS_FILE, OUR_FILES, Reference, program_for_pipeline
from reference.datasets import N_CLASSES
from reference.pack import Recipe
from sandbox.faults import Ending, GuestFault
from sandbox.program import Chunk, Program
from sandbox.session import Session

HARNESS_ERROR = "NoisemarkError"  # by which it says that something of the student's cannot be worked with
IMAGE_CHANNELS = 1  # digits are grey

# What each step needs of the student's answers; the rest follows from what these refer to
TRAINING_ROOTS = ("UNet", "get_loss", "get_context_mask", "c_drop_prob")
GENERATION_ROOTS = ("UNet",)
OWN_LOOP_ROOTS = ("sample_w",)
GUIDANCE_ROOTS = ("w",)


class PipelineFault(Exception):  # noqa: N818  (an outcome, not an error of ours)
    """The pipeline cannot go on because of what the student's code does; carries the outcome and words for it."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The programs that make up one run."""

    run: Run
    recipe: Recipe
    device: str  # "cpu" or "cuda": where the guest has the network
    repaired: tuple[str, ...]  # ids of the blanks that stand-ins take the place of
    missing: tuple[str, ...]  # ids of blanks that training needs, and that are neither there nor repaired
    training: Program
    generation: Program
    own_loop: Program | None  # None: `sample_w` is not there or repaired
    guidance: Program | None  # None: `w` is not there or repaired
    default_guidance_weight: float  # the solution's
    solution_parameters: int  # of the solution's network under this recipe


def build_pipeline(
    harvest: Harvest, reference: Reference, recipe: Recipe, *, run: Run, replaced: frozenset[str], device: str
) -> Pipeline:
    """The pipeline of a hand-in, with stand-ins for the blanks in `replaced`."""
    values = recipe_values(recipe)
    harness = Chunk(file=HARNESS_FILE, line=1, source=reference.pack.harness.read_text(encoding="utf-8"))

    def unusable(roots: tuple[str, ...]) -> set[str]:
        needed = closure(harvest, set(roots) - replaced) | set(roots)
        return {blank for blank in needed - replaced if harvest.answers[blank].status != "found"}

    def program(roots: tuple[str, ...]) -> Program:
        made = program_for_pipeline(harvest, roots, replaced, reference, values, (harness,))
        return _on_device(made, device)

    def optional(roots: tuple[str, ...]) -> Program | None:
        if set(roots) & replaced or unusable(roots):
            return None
        return program_for_pipeline(harvest, roots, replaced, reference, values)

    missing = unusable(TRAINING_ROOTS)
    solution = reference.namespace(**values)
    return Pipeline(
        run=run,
        recipe=recipe,
        device=device,
        repaired=tuple(blank.id for blank in reference.pack.blanks if blank.id in replaced),
        missing=tuple(blank.id for blank in reference.pack.blanks if blank.id in missing),
        training=program(TRAINING_ROOTS),
        generation=program(GENERATION_ROOTS),
        own_loop=optional(OWN_LOOP_ROOTS),
        guidance=optional(GUIDANCE_ROOTS),
        default_guidance_weight=float(solution.w),
        solution_parameters=_solution_parameters(solution, recipe),
    )


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """What the assignment's names stand for under this recipe."""
    return {
        "betas": torch.linspace(recipe.beta_start, recipe.beta_end, recipe.timesteps),
        "T": recipe.timesteps,
        "IMG_CH": IMAGE_CHANNELS,
        "IMG_SIZE": recipe.image_size,
        "N_CLASSES": N_CLASSES,
        "BATCH_SIZE": recipe.batch_size,
        "device": torch.device("cpu"),
    }


class Network:
    """The student's network in a session of a guest. Every method raises `PipelineFault`."""

    def __init__(self, session: Session, program: Program, pipeline: Pipeline) -> None:
        self._session = session
        self._recipe = pipeline.recipe
        _ask(session.load, program)
        recipe = pipeline.recipe
        config = {
            "device": pipeline.device,
            "T": recipe.timesteps,
            "img_ch": IMAGE_CHANNELS,
            "img_size": recipe.image_size,
            "down_chs": list(recipe.channels),
            "batch_size": recipe.batch_size,
            "images": recipe.images,
            "learning_rate": recipe.learning_rate,
            "warmup_images": recipe.warmup_images,
            "ema_half_life_images": recipe.ema_half_life_images,
        }
        _ask(session.call, "noisemark_build", config)

    def manifest(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of its parameters and buffers."""
        found = _ask(self._session.call, "noisemark_manifest")
        if not isinstance(found, dict) or not all(
            isinstance(name, str) and isinstance(shape, list) and all(type(extent) is int for extent in shape)
            for name, shape in found.items()
        ):
            raise PipelineFault(Outcome.CRASHED, "The network does not say what it consists of.")
        return {name: tuple(shape) for name, shape in found.items()}

    def train(self, images: Tensor, labels: Tensor) -> float | None:
        """Train on some batches; the mean loss, or None where it is no longer a number."""
        loss = _ask(self._session.call, "noisemark_train", images, labels)
        if loss is not None and not isinstance(loss, float):
            raise PipelineFault(Outcome.CRASHED, "Training does not say what its loss is.")
        return loss

    def gradient_norms(self) -> dict[str, float]:
        """Norm of each parameter's gradient in the latest batch, by name, as the guest tells: finite, not negative."""
        try:
            found = _ask(self._session.call, "noisemark_gradients")
        except PipelineFault:
            return {}  # advice alone rests on it
        if not isinstance(found, dict) or not all(
            isinstance(name, str) and isinstance(norm, float) and math.isfinite(norm) and norm >= 0
            for name, norm in found.items()
        ):
            return {}
        return found

    def peak_memory(self) -> int | None:
        """Most bytes that the guest's process has held, as it tells."""
        found = _ask(self._session.call, "noisemark_peak_memory")
        return found if isinstance(found, int) and found > 0 else None

    def weights(self, manifest: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """The trained weights; they must be those of the manifest."""
        found = _ask(self._session.call, "noisemark_weights", True)
        if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
            raise PipelineFault(Outcome.FAILED, "Training returned something else than weights.")
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        if shapes != manifest:
            name = next(name for name in [*shapes, *manifest] if shapes.get(name) != manifest.get(name))
            raise PipelineFault(
                Outcome.FAILED,
                "The trained network is not the one that was built: its weights or buffers have another "
                f"{'shape' if name in shapes.keys() & manifest.keys() else 'name'}, {name!r}.",
            )
        return found

    def set_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Give it trained weights."""
        _ask(self._session.call, "noisemark_set_weights", dict(weights))

    def predict(self, x: Tensor, t: Tensor, context: Tensor, mask: Tensor, *, average: bool = False) -> Tensor:
        """The noise that it sees in x [B, C, H, W] at t [B], given one-hot context and mask, [B, classes].

        `average`: by the moving average of its parameters, in the middle of training.
        """
        name = "noisemark_predict_average" if average else "noisemark_predict"
        found = _ask(self._session.call, name, x, t, context, mask)
        if not isinstance(found, Tensor):
            raise PipelineFault(Outcome.FAILED, "UNet does not return a tensor.")
        if found.shape != x.shape:
            raise PipelineFault(
                Outcome.FAILED,
                f"UNet returns shape {list(found.shape)} for images of shape {list(x.shape)}; it must predict one "
                "number of noise for each pixel.",
            )
        return found.float()


def count_parameters(manifest: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers a network consists of."""
    return sum(math.prod(shape) for shape in manifest.values())


def _solution_parameters(solution: SimpleNamespace, recipe: Recipe) -> int:
    with torch.device("meta"):  # shapes alone: no memory, no random numbers
        network = solution.UNet(recipe.timesteps, IMAGE_CHANNELS, recipe.image_size, recipe.channels)
    return sum(parameter.numel() for parameter in network.parameters())


def _ask(verb: Any, *args: Any) -> Any:
    try:
        return verb(*args)
    except GuestFault as fault:
        outcome = Outcome.FAILED if fault.exception == HARNESS_ERROR else OUTCOMES[fault.ending]
        raise PipelineFault(outcome, describe(fault)) from fault


def describe(fault: GuestFault) -> str:
    """What a guest did, in words for the student."""
    if fault.exception == HARNESS_ERROR:  # its own words
        return f"{fault.message}."
    what = f"raised {fault.exception}: {fault.message}" if fault.ending is Ending.RAISED else fault.message
    place = f" (line {fault.line} of {fault.file})" if fault.file not in (None, *OUR_FILES) and fault.line else ""
    return f"Your code {what}{place}."


def _on_device(program: Program, device: str) -> Program:
    """Move the values that a program is given to a device before its code runs."""
    if device == "cpu":
        return program
    names = [name for name, value in program.values.items() if isinstance(value, Tensor)]
    source = f"import torch\ndevice = torch.device({device!r})\n"
    source += "".join(f"{name} = {name}.to(device)\n" for name in names)
    move = Chunk(file=HARNESS_FILE, line=1, source=source)
    return replace(program, stand_ins=(move, *program.stand_ins), chunks=(move, *program.chunks))
