"""The U-Net: which block stands in which slot, and what the whole network computes."""

import ast

import pytest
import torch

from grading.checking import CheckFailed, assert_close, assert_tensor
from grading.equivalence import assert_same_module, assert_same_when_large, parameters_of
from grading.misfits import call_plainly
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
# multiples of 32. The larger image tells rules for the size in the bottleneck apart that agree on the smaller one:
# a quarter is 5, a third 6, the root 4.
IMG_CH, IMG_SIZE, T_EMBED_DIM, C_EMBED_DIM = 2, 8, 12, 6
LARGER_IMG_SIZE = 20
WITH_GROUPS = {"down_chs": (8, 16, 24), "small_group_size": 4, "big_group_size": 8}
WITHOUT_GROUPS = {"down_chs": (32, 64, 96)}
# (small, big) in the course's U-Nets, then other pairs that somebody may have settled on
GROUPS = ((8, 32), (8, 8), (32, 32), (4, 8), (8, 16), (16, 32), (4, 32), (16, 16), (4, 4))


def arguments_for(student, solution, img_size):
    """Positional and keyword arguments for the student's class, and the solution's for the same network."""
    names = student.parameter_names()
    first = {"T": solution.T, "img_ch": IMG_CH, "img_size": img_size}
    embedding = {"t_embed_dim": T_EMBED_DIM, "c_embed_dim": C_EMBED_DIM}
    if names is None:
        return list(first.values()), {}, {**first, "down_chs": (64, 64, 128)}
    groups = WITH_GROUPS if {"small_group_size", "big_group_size"} <= set(names) else WITHOUT_GROUPS
    rest = {name: value for name, value in {**groups, **embedding}.items() if name in names}
    wanted = {**first, "down_chs": (64, 64, 128), **rest}
    if set(first) <= set(names):
        return [], {**first, **rest}, wanted
    return list(first.values()), rest, wanted


def build(student, solution, img_size=IMG_SIZE):
    """The student's network, and the solution's arguments for the same network."""
    positional, keywords, wanted = arguments_for(student, solution, img_size)
    return student.UNet(*positional, **keywords), wanted


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
        parameters = parameters_of(build(student, solution)[0])
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


def draw_inputs(rng, solution, wanted, img_size=IMG_SIZE):
    """Images, time steps, context and mask.

    Among the time steps are the first and the last one. The contexts are a digit, an empty one, and others between, and
    the mask has a draw for each of their entries, as `get_context_mask` makes it, or keeps or drops all of them.
    """
    classes = wanted.get("c_embed_dim", 10)
    last = solution.T - 1
    t = torch.cat((torch.tensor([0, last]), torch.randint(1, last, (4,), generator=rng)))
    digits = torch.eye(classes)[torch.randint(0, classes, (2,), generator=rng)]
    c = torch.cat((digits, torch.randn(3, classes, generator=rng), torch.zeros(1, classes)))
    half = torch.arange(classes) % 2  # a mask that neither keeps nor drops all of a row, in another order for each
    mixed = [half[torch.randperm(classes, generator=rng)] for _ in range(3)]
    c_mask = torch.stack((torch.ones(classes), *mixed, torch.zeros(classes), torch.ones(classes))).float()
    images = torch.randn(len(t), IMG_CH, img_size, img_size, generator=rng)
    return images, t.float(), c, c_mask


def test_predicts_noise(student, solution, rng):
    """Computes what the U-Net of the assignment computes"""
    network, wanted = build(student, solution)
    pairs = ({"small_group_size": small, "big_group_size": big} for small, big in GROUPS)
    candidates = [wanted] if "small_group_size" in wanted else [{**wanted, **pair} for pair in pairs]
    same = assert_same_module(
        network,
        [solution.UNet(**candidate) for candidate in candidates],
        draw_inputs(rng, solution, wanted),
        rng=rng,
        what="`UNet`",
        mistakes=mistaken_networks(student, candidates),
        hint="Look at which block stands where, at the skip connections, and at what time and context are joined with.",
    )
    larger, _ = build(student, solution, LARGER_IMG_SIZE)
    assert_same_when_large(
        larger,
        solution.UNet(**{**candidates[same.index], "img_size": LARGER_IMG_SIZE}),
        same.matching,
        [value[:2] for value in draw_inputs(rng, solution, wanted, LARGER_IMG_SIZE)],
        rng=rng,
        what=f"`UNet` with `img_size={LARGER_IMG_SIZE}`",
    )


def mistaken_networks(student, candidates):
    for misconception, network in student.mistaken().items():
        built = attempt(lambda network=network: [network(**candidate) for candidate in candidates])
        if not isinstance(built, Raised):
            yield misconception, built


SAME = "It should be the same in both forms."


def test_forms_of_its_inputs(student, solution, rng):
    """Takes context as integers, time steps and masks in every form that is in use, and a batch of one"""
    network, wanted = build(student, solution)
    x, t, _, c_mask = draw_inputs(rng, solution, wanted)
    classes = c_mask.shape[1]
    c_hot = torch.nn.functional.one_hot(torch.randint(0, classes, (len(x),), generator=rng), classes)
    c = c_hot.float()
    whole = assert_tensor(network(x, t, c, c_mask), x.shape, "the output of `UNet`")
    as_drawn = call_plainly(network, x, t.long(), c_hot, c_mask)  # as `get_context_mask` and `torch.randint` make them
    assert_close(as_drawn, whole, "the output for time steps and context in integers", hint=SAME)
    assert_close(network(x, t.view(-1, 1, 1, 1), c, c_mask), whole, "the output for t of shape [B, 1, 1, 1]", hint=SAME)
    column = c_mask[:, :1]
    by_row = network(x, t, c, column.expand(c_mask.shape).contiguous())
    assert_close(network(x, t, c, column), by_row, "the output with a mask [B, 1]", hint=SAME)
    one = network(x[:1], t[:1], c[:1], c_mask[:1])
    assert_close(one, whole[:1], "the output for a batch of one", hint="It should not depend on the other images.")
