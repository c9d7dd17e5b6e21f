"""Small pipelines for tests: the reference solution, changed here and there, at a size that trains in a second."""

from grading.hand_in import read_hand_in
from grading.harvest import harvest
from grading.pipeline import Pipeline, build_pipeline
from grading.reference import Reference
from reference.pack import load_pack

PACK = load_pack("ddpm")
REFERENCE = Reference(PACK)
RECIPE = PACK.recipe("digits16").model_copy(
    update={
        "image_size": 8,
        "channels": (8, 8, 8),
        "timesteps": 20,
        "beta_end": 0.3,  # 20 steps have to reach noise
        "batch_size": 16,
        "images": 96,
        "warmup_images": 16,
        "ema_half_life_images": 16,
    }
)


def pipeline(*changes: tuple[str, str], replaced: frozenset[str] = frozenset(), append: str = "") -> Pipeline:
    """The solution with pieces of its text replaced and some appended, as a pipeline."""
    source = PACK.solution.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    content = (source + append).encode()
    answers = harvest(read_hand_in("solution.py", content), PACK)
    return build_pipeline(answers, REFERENCE, RECIPE, run="submitted", replaced=replaced, device="cpu")
