"""What the checks accept can be trained too: the harness hands over what the checks hand over."""

from dataclasses import replace

import pytest
import torch
from pipelines import PACK, RECIPE, REFERENCE, pipeline

from grading.check import run_checks
from grading.events import ignore
from grading.hand_in import read_hand_in
from grading.harvest import harvest
from grading.outcomes import Outcome
from grading.pipeline import Network
from grading.seeds import Seeds
from sandbox.limits import Deadline

SOLUTION = PACK.solution.read_text(encoding="utf-8")

Change = tuple[str, str]

SIGNATURE = """\
        self,
        T,
        img_ch,
        img_size,
        down_chs=(64, 64, 128),
        t_embed_dim=8,
        c_embed_dim=10,
        small_group_size=8,
        big_group_size=8,
    ):
        super().__init__()
"""


def signature(parameters: str, body: str = "") -> Change:
    """The solution's U-Net with other parameters; `body`: what gives them their names again."""
    return SIGNATURE, f"        self, {parameters}\n    ):\n        super().__init__()\n{body}"


REST = "down_chs=(64, 64, 128), t_embed_dim=8, c_embed_dim=10, small_group_size=8, big_group_size=8"
OWN_NAMES = "        T, img_ch, img_size = steps, channels, size\n"
FIXED = "        down_chs, t_embed_dim, c_embed_dim, small_group_size, big_group_size = (64, 64, 128), 8, 10, 8, 32\n"

UNETS = {
    "own names": [signature(f"steps, channels, size, {REST}", OWN_NAMES)],
    "own names, some of them": [signature(f"steps, img_ch, size, {REST}", "        T, img_size = steps, size\n")],
    "own names and nothing else": [signature("steps, channels, size", OWN_NAMES + FIXED)],
    "another order": [signature(f"img_size, img_ch, T, {REST}")],
    "without widths of embeddings": [
        signature("T, img_ch, img_size, down_chs=(64, 64, 128)", FIXED.replace("(64, 64, 128)", "down_chs"))
    ],
    "a context of another width by default": [
        signature("T, img_ch, img_size, " + REST.replace("c_embed_dim=10", "c_embed_dim=16"))
    ],
}
OTHERS = {
    "a mask with one entry for each image": [
        ("torch.ones_like(c_hot).float() - drop_prob", "torch.full((len(c), 1), 1.0 - drop_prob)")
    ],
    "a share that is a tensor": [("c_drop_prob = 0.1", "c_drop_prob = torch.tensor([0.1])")],
    "groups of a fixed number": [
        ("            nn.GroupNorm(group_size, out_ch),\n            nn.GELU(),\n        )\n", "        )\n"),
        (
            "        return self.model(x)\n\n\n# %%\nclass RearrangePoolBlock",
            "        return F.gelu(F.group_norm(self.model(x), 32))\n\n\n# %%\nclass RearrangePoolBlock",
        ),
    ],
}


@pytest.mark.parametrize("changes", [*UNETS.values(), *OTHERS.values()], ids=[*UNETS, *OTHERS])
def test_a_network_is_built_and_trained(guest, changes: list[Change]) -> None:
    made = pipeline(*changes)
    with guest.session(Deadline(cpu_seconds=60, wall_seconds=240), seed=1) as session:
        network = Network(session, made.training, RECIPE, "cpu")
        images = torch.randn(RECIPE.batch_size, 1, RECIPE.image_size, RECIPE.image_size)
        assert network.train(images, torch.arange(RECIPE.batch_size) % 10) is not None
        predicted = network.predict(images[:2], torch.tensor([3, 0]), torch.eye(10)[:2], torch.ones(2, 10))
    assert predicted.shape == images[:2].shape


@pytest.mark.parametrize("changes", UNETS.values(), ids=UNETS)
def test_the_checks_accept_it(guest, changes: list[Change]) -> None:
    source = SOLUTION
    for old, new in changes:
        source = source.replace(old, new)
    found = harvest(read_hand_in("answers.py", source.encode()), PACK)
    # As if nothing else had been attempted: its checks alone
    answers = {
        name: answer if name == "UNet" else replace(answer, status="not_attempted")
        for name, answer in found.answers.items()
    }
    reports = run_checks(replace(found, answers=answers), PACK, REFERENCE, guest, Seeds(b"key", "0"), ignore)
    (report,) = (report for report in reports if report.id == "UNet")
    assert report.status is Outcome.PASSED, report
