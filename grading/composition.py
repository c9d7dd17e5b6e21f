"""Whether answers that pass one by one also work together.

Each check has right values and right parts around the one answer that it looks at. What answers hand to each other is
not seen by any of them: numbers of a type that the next part refuses, shapes that only a check takes. So, once all
blanks are checked, the student's own pipeline runs as a whole, with two time steps and small images: one batch of
training, then sampling. Where it stops, answers are exchanged for right ones until it runs: what has to be exchanged is
what does not fit.
"""

import logging
import time
from collections.abc import Collection

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)

from grading.harvest import Harvest, closure
from grading.order import dependencies_first
from grading.outcomes import OUTCOMES, Outcome
from grading.pipeline import (
    IMAGE_CHANNELS,
    OWN_LOOP_ROOTS,
    TRAINING_ROOTS,
    Network,
    PipelineFault,
    describe,
    harness_chunk,
    recipe_values,
)
from grading.reference import Reference, program_for_pipeline
from grading.seeds import Seeds
from reference.datasets import N_CLASSES
from reference.pack import Recipe
from sandbox.faults import GuestFault
from sandbox.guest_client import Guest
from sandbox.limits import Deadline

ROOTS = (*TRAINING_ROOTS, *OWN_LOOP_ROOTS)
# What is left of a recipe: two time steps are the least with noise in one and none in the other; 12 pixels can be
# halved twice, and are a size that no other check of the network has; 8 channels are what normalisation groups
SMALL = {"image_size": 12, "channels": (8, 8, 8), "timesteps": 2, "batch_size": 6}
SAMPLED = (1, 3)  # images at once: one on its own, as batches of one are easily lost, and several
GUIDANCE_WEIGHT = 2.0  # any but 0, which would leave guidance out
# The solution takes 0.3 s; a hundred times as much means that something never ends
DEADLINE = Deadline(cpu_seconds=30, wall_seconds=120)
SEARCH_SECONDS = 120  # of exchanging answers: 20 of them, each a few tenths of a second where nothing hangs

_log = logging.getLogger(__name__)


def find_misfits(
    harvest: Harvest, passed: Collection[str], reference: Reference, guest: Guest, seeds: Seeds
) -> dict[str, PipelineFault]:
    """The blanks, of those that have passed, that do not work together with the rest, and how that shows.

    Those that have not passed are exchanged from the beginning, and what builds on them is not blamed: it may only fit
    its author's version. Where the whole program of the author runs, where no exchange helps, or where two parts do not
    fit each other and each fits what the assignment has in place of the other, nobody is blamed.
    """
    return _Search(harvest, frozenset(passed), reference, guest, seeds).misfits()


class _Search:
    def __init__(
        self, harvest: Harvest, passed: frozenset[str], reference: Reference, guest: Guest, seeds: Seeds
    ) -> None:
        self._harvest = harvest
        self._reference = reference
        self._guest = guest
        self._seed = seeds.seed("check/together")
        self._ends = time.monotonic() + SEARCH_SECONDS
        blanks = [blank.id for blank in reference.pack.blanks]
        self._has_pipeline = set(ROOTS) <= set(blanks) and reference.pack.harness.exists()
        part = closure(harvest, ROOTS) if self._has_pipeline else frozenset()
        self._wrong = part - passed
        self._fitting = [
            name
            for name in dependencies_first(harvest, [blank for blank in blanks if blank in part & passed])
            if not closure(harvest, [name]) & self._wrong
        ]

    def misfits(self) -> dict[str, PipelineFault]:
        if not self._fitting:
            return {}
        default = self._reference.pack.recipe(None)
        small = default.model_copy(update=SMALL)
        fault = self._fault(self._wrong, small)
        if fault is None:
            return {}
        if self._fault(self._wrong, default) is None:
            _log.warning("a pipeline stops at two time steps, and not with its recipe: %s", fault.message)
            return {}
        if self._wrong and self._is_whole() and self._fault(frozenset(), small) is None:
            return {}
        return self._search(fault, small)

    def _search(self, fault: PipelineFault, recipe: Recipe) -> dict[str, PipelineFault]:
        # What others are made from comes first: a right `q` brings right coefficients along, and would hide them
        helping = []
        for name in self._fitting:
            if self._fault(self._wrong | {name}, recipe) is None:
                if not self._fits_the_assignment(name, recipe):
                    return {name: fault}
                helping.append(name)
            if time.monotonic() > self._ends:
                break
        if helping:
            _log.warning("%s fit the assignment's other parts, and not each other: %s", helping, fault.message)
            return {}
        every = set(self._fitting)
        if time.monotonic() > self._ends or self._fault(self._wrong | every, recipe) is not None:
            _log.warning("a pipeline stops whatever is exchanged: %s", fault.message)
            return {}
        # Several at once: each goes back, what uses the others first, and stays out where it stops the rest
        found: dict[str, PipelineFault] = {}
        for name in reversed(self._fitting):
            own = self._fault(self._wrong | every - {name}, recipe)
            if own is None:
                every.discard(name)
            else:
                found[name] = own
        return found

    def _fits_the_assignment(self, name: str, recipe: Recipe) -> bool:
        """Whether an answer, with what it builds on, works among the assignment's own other parts."""
        if self._reference.pack.blank(name).kind in ("tensor", "number"):
            return False  # none of those parts would use it
        others = closure(self._harvest, ROOTS) - closure(self._harvest, [name])
        return self._fault(self._wrong | others, recipe) is None

    def _is_whole(self) -> bool:
        return all(self._harvest.answers[name].status == "found" for name in self._wrong)

    def _fault(self, exchanged: frozenset[str] | set[str], recipe: Recipe) -> PipelineFault | None:
        """Run the pipeline with these exchanged; what stops it."""
        program = program_for_pipeline(
            self._harvest,
            ROOTS,
            frozenset(exchanged),
            self._reference,
            recipe_values(recipe),
            (harness_chunk(self._reference.pack),),
        )
        generator = torch.Generator().manual_seed(self._seed)
        size = (recipe.batch_size, IMAGE_CHANNELS, recipe.image_size, recipe.image_size)
        images = 2 * torch.rand(size, generator=generator) - 1
        labels = torch.randint(0, N_CLASSES, (recipe.batch_size,), generator=generator)
        try:
            with self._guest.session(DEADLINE, seed=self._seed) as session:
                network = Network(session, program, recipe, "cpu")
                if network.train(images, labels) is None:
                    return PipelineFault(Outcome.FAILED, "The loss of the very first batch is not a finite number.")
                for count in SAMPLED:
                    network.sample(F.one_hot(labels[:count], N_CLASSES).float(), GUIDANCE_WEIGHT)
        except PipelineFault as fault:
            return fault
        except GuestFault as fault:  # no session could be opened for it
            return PipelineFault(OUTCOMES[fault.ending], describe(fault))
        return None
