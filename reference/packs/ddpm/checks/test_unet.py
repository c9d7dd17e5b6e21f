"""The U-Net: which block stands in which slot, and what the whole network computes."""

import ast

import pytest
import torch

from grading.checking import CheckFailed, assert_close, assert_tensor
from grading.equivalence import assert_same_module
from grading.recognition import Raised, attempt
from sandbox.faults import GuestFault

pytestmark = pytest.mark.blank("UNet")

# What each kind of block does to an image. Blocks that do the same fit in each other's place.
EFFECTS = {
    "GELUConvBlock": "keeps height and width",
    "ResidualConvBlock": "keeps height and width",
    "RearrangePoolBlock": "halves height and width and keeps the number of channels",
    "DownBlock": "halves height and width and changes the number of channels",
    "UpBlock": "takes a skip connection and doubles height and width",
    "EmbedBlock": "makes one number per channel from a vector",
    "SinusoidalPositionEmbedBlock": "makes a vector from a time",
}

# The slots, and what each has to do; `c_embed1` is the other family of names.
SLOTS = {
    "down0": ("ResidualConvBlock", "The way in should add what its first convolution makes to what the second makes."),
    "down1": ("DownBlock", "On the way down the channels change first, and the size is halved last."),
    "down2": ("DownBlock", "On the way down the channels change first, and the size is halved last."),
    "t_emb1": ("EmbedBlock", "It should turn the embedded time into one number per channel."),
    "t_emb2": ("EmbedBlock", "It should turn the embedded time into one number per channel."),
    "c_emb1": ("EmbedBlock", "It should turn the context into one number per channel."),
    "c_emb2": ("EmbedBlock", "It should turn the context into one number per channel."),
    "c_embed1": ("EmbedBlock", "It should turn the context into one number per channel."),
    "c_embed2": ("EmbedBlock", "It should turn the context into one number per channel."),
    "up0": ("GELUConvBlock", "After the bottleneck a single convolution is enough."),
    "up1": ("UpBlock", "On the way up a skip connection is joined, and the size is doubled."),
    "up2": ("UpBlock", "On the way up a skip connection is joined, and the size is doubled."),
}

MISCONCEPTIONS = {
    "down0": "unet-way-in",
    "down1": "unet-way-down",
    "down2": "unet-way-down",
    "t_emb1": "unet-embedding",
    "t_emb2": "unet-embedding",
    "c_emb1": "unet-embedding",
    "c_emb2": "unet-embedding",
    "c_embed1": "unet-embedding",
    "c_embed2": "unet-embedding",
    "up0": "unet-bottleneck",
    "up1": "unet-way-up",
    "up2": "unet-way-up",
}

# Sizes of no recipe. Where group sizes are no arguments, the course's own are in the class, so the channels are
# multiples of 32.
IMG_CH, IMG_SIZE, T_EMBED_DIM, C_EMBED_DIM = 2, 8, 12, 6
WITH_GROUPS = {"down_chs": (8, 16, 24), "small_group_size": 4, "big_group_size": 8}
WITHOUT_GROUPS = {"down_chs": (32, 64, 96)}
# (small, big) in the course's U-Nets, then other pairs that somebody may have settled on
GROUPS = ((8, 32), (8, 8), (32, 32), (4, 8), (8, 16), (16, 32), (4, 32), (16, 16), (4, 4))


def arguments_for(student, solution):
    """Positional and keyword arguments for the student's class, and the solution's for the same network."""
    names = student.parameter_names()
    first = {"T": solution.T, "img_ch": IMG_CH, "img_size": IMG_SIZE}
    embedding = {"t_embed_dim": T_EMBED_DIM, "c_embed_dim": C_EMBED_DIM}
    if names is None:
        return list(first.values()), {}, {**first, "down_chs": (64, 64, 128)}
    groups = WITH_GROUPS if {"small_group_size", "big_group_size"} <= set(names) else WITHOUT_GROUPS
    rest = {name: value for name, value in {**groups, **embedding}.items() if name in names}
    wanted = {**first, "down_chs": (64, 64, 128), **rest}
    if set(first) <= set(names):
        return [], {**first, **rest}, wanted
    return list(first.values()), rest, wanted


def build(student, solution):
    """The student's network, its parameters, and the solution's arguments for the same network."""
    positional, keywords, wanted = arguments_for(student, solution)
    network = student.UNet(*positional, **keywords)
    return network, network.parameters(), wanted


def prints(solution):
    """Parameter names of each kind of block: they tell which kind stands in a slot."""
    arguments = {"RearrangePoolBlock": (4, 1), "EmbedBlock": (4, 4), "SinusoidalPositionEmbedBlock": (4,)}
    return {
        fingerprint(getattr(solution, name)(*arguments.get(name, (4, 4, 1))).named_parameters()): name
        for name in EFFECTS
        if name != "SinusoidalPositionEmbedBlock"
    }


def fingerprint(parameters):
    return tuple((name, value.dim()) for name, value in parameters)


def block_in(slot, parameters, known):
    """The kind of block in a slot, or None where it is none of ours."""
    inside = [(name.removeprefix(f"{slot}."), v) for name, v in parameters.items() if name.startswith(f"{slot}.")]
    for candidate in (inside, [(name.partition(".")[2], value) for name, value in inside]):  # in an nn.Sequential too
        if fingerprint(candidate) in known:
            return known[fingerprint(candidate)]
    return None


def blocks_by_name(source):
    """The kind of block in each slot as the source has it, for a network that cannot be built."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            slot = node.targets[0].attr
            for part in ast.walk(node.value):
                if slot in SLOTS and is_call_of_name(part) and part.func.id in EFFECTS:
                    found[slot] = part.func.id
    return found


def is_call_of_name(node):
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def test_blocks_in_slots(student, solution):
    """Has the right block in each slot"""
    try:
        _, parameters, _ = build(student, solution)
    except GuestFault:
        blocks = blocks_by_name(student.source())
        if all(found == SLOTS[slot][0] for slot, found in blocks.items()):
            raise
    else:
        known = prints(solution)
        blocks = {slot: block_in(slot, parameters, known) for slot in SLOTS}
    wrong = {}  # slots by what is to be said of them: the same mistake in two slots is told once
    for slot, said in SLOTS.items():
        found = blocks.get(slot)
        if found is not None and found != said[0]:
            wrong.setdefault((found, *said), []).append(slot)
    if wrong:
        slots = {slot: right for (_, right, _), group in wrong.items() for slot in group}
        raise CheckFailed(
            " ".join(describe(group, *said) for said, group in wrong.items()),
            expected=", ".join(f"{slot}: {wanted(right, blocks[slot])}" for slot, right in slots.items()),
            found=", ".join(f"{slot}: {blocks[slot]}" for slot in slots),
            misconception=MISCONCEPTIONS[next(iter(slots))],
        )


def describe(slots, found, right, purpose):
    """What is wrong with slots that hold the same block."""
    names = " and ".join(f"`{slot}`" for slot in slots)
    if EFFECTS[found] == EFFECTS[right]:
        return f"A {found} fits into {names}, but is not the block asked for. {purpose}"
    return f"A {found} does not fit into {names}: it {EFFECTS[found]}. {purpose}"


def wanted(right, found):
    """A block in words that do not give its name away."""
    return f"{'another' if EFFECTS[found] == EFFECTS[right] else 'a'} block that {EFFECTS[right]}"


SAME = "It should be the same in both forms."


def draw_inputs(rng, solution, wanted):
    """Images, time steps, context and mask."""
    batch, classes = 3, wanted.get("c_embed_dim", 10)
    t = torch.randint(1, solution.T, (batch,), generator=rng).float()
    c = torch.eye(classes)[torch.randint(0, classes, (batch,), generator=rng)]
    c_mask = torch.tensor([[1.0], [0.0], [1.0]]).expand(batch, classes).contiguous()
    return torch.randn(batch, IMG_CH, IMG_SIZE, IMG_SIZE, generator=rng), t, c, c_mask


def test_predicts_noise(student, solution, rng):
    """Computes what the U-Net of the assignment computes"""
    network, _, wanted = build(student, solution)
    x, t, c, c_mask = draw_inputs(rng, solution, wanted)
    pairs = ({"small_group_size": small, "big_group_size": big} for small, big in GROUPS)
    candidates = [wanted] if "small_group_size" in wanted else [{**wanted, **pair} for pair in pairs]
    assert_same_module(
        network,
        [solution.UNet(**candidate) for candidate in candidates],
        (x, t, c, c_mask),
        rng=rng,
        what="`UNet`",
        mistakes=mistaken_networks(student, candidates),
        hint="Look at which block stands where, at the skip connections, and at what time and context are joined with.",
    )


def mistaken_networks(student, candidates):
    for misconception, network in student.mistaken().items():
        built = attempt(lambda network=network: [network(**candidate) for candidate in candidates])
        if not isinstance(built, Raised):
            yield misconception, built


def test_forms_of_its_inputs(student, solution, rng):
    """Takes time steps as integers or floats, a mask with one entry per image, and a batch of one"""
    network, _, wanted = build(student, solution)
    x, t, c, c_mask = draw_inputs(rng, solution, wanted)
    whole = assert_tensor(network(x, t, c, c_mask), x.shape, "the output of `UNet`")
    assert_close(network(x, t.long(), c, c_mask), whole, "the output for integer time steps", hint=SAME)
    assert_close(network(x, t, c, c_mask[:, :1]), whole, "the output with a mask [B, 1]", hint=SAME)
    one = network(x[:1], t[:1], c[:1], c_mask[:1])
    assert_close(one, whole[:1], "the output for a batch of one", hint="It should not depend on the other images.")
