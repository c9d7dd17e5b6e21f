"""The building blocks of the U-Net: each is the same network as the solution's."""

import pytest
import torch

from grading.checking import CheckFailed, assert_close, assert_unchanged, is_close, require
from grading.equivalence import assert_same_module
from grading.recognition import Raised, attempt, name_of, outcomes, recognising

REMEMBERS = "remembers-first-answer"


def assert_same(student, solution, rng, name, arguments, *shapes, hint="", gradients_of=None):
    inputs = [torch.randn(shape, generator=rng) for shape in shapes]
    with recognising(lambda: that_cannot_be_built(student, name, arguments)):
        block = getattr(student, name)(*arguments)
    assert_same_module(
        block,
        getattr(solution, name)(*arguments),
        inputs,
        rng=rng,
        what=f"`{name}{arguments}`",
        gradients_of=range(len(inputs)) if gradients_of is None else gradients_of,
        mistakes=mistaken_blocks(student, arguments),
        hint=hint,
    )


def mistaken_blocks(student, arguments):
    for misconception, block in student.mistaken().items():
        built = attempt(lambda block=block: block(*arguments))
        if not isinstance(built, Raised):
            yield misconception, [built]


def that_cannot_be_built(student, name, arguments):
    """The misconception that leads to a block that fails in the same way."""
    ended = attempt(lambda: getattr(student, name)(*arguments))
    return name_of(ended, outcomes(student.mistaken(), lambda block: block(*arguments)))


def on_inputs(*, several, one):
    """Arguments of the block and shape of its input: several square images or vectors, and a single oblong one."""
    return pytest.mark.parametrize(("arguments", "shape"), [several, one], ids=["several", "one"])


@pytest.mark.blank("GELUConvBlock")
class TestGELUConvBlock:
    @on_inputs(several=((3, 16, 8), (2, 3, 8, 8)), one=((4, 6, 2), (1, 4, 5, 7)))
    def test_convolves_normalises_and_activates(self, student, solution, rng, arguments, shape):
        """Convolves, normalises in groups and applies GELU, in this order"""
        hint = "Look at the order of the three parts, the activation, and what the arguments of the normalisation mean."
        assert_same(student, solution, rng, "GELUConvBlock", arguments, shape, hint=hint)


@pytest.mark.blank("RearrangePoolBlock")
class TestRearrangePoolBlock:
    @on_inputs(several=((4, 2), (2, 4, 8, 8)), one=((3, 1), (1, 3, 4, 10)))
    def test_folds_patches_into_channels(self, student, solution, rng, arguments, shape):
        """Folds each patch of 2x2 pixels into the channels, then convolves"""
        hint = "Look at the order in which the four pixels of a patch and the channels come out."
        assert_same(student, solution, rng, "RearrangePoolBlock", arguments, shape, hint=hint)


@pytest.mark.blank("DownBlock")
class TestDownBlock:
    @on_inputs(several=((4, 8, 4), (2, 4, 8, 8)), one=((6, 4, 1), (1, 6, 4, 10)))
    def test_convolves_twice_then_pools(self, student, solution, rng, arguments, shape):
        """Convolves twice, then pools"""
        hint = "Look at which blocks follow each other, and with which channels."
        assert_same(student, solution, rng, "DownBlock", arguments, shape, hint=hint)


@pytest.mark.blank("UpBlock")
class TestUpBlock:
    @on_inputs(several=((8, 4, 2), (2, 8, 4, 4)), one=((3, 6, 3), (1, 3, 2, 5)))
    def test_joins_and_doubles(self, student, solution, rng, arguments, shape):
        """Joins the skip connection, doubles the size, and convolves"""
        hint = "Look at the order in which `x` and `skip` are joined, and at the blocks that follow."
        assert_same(student, solution, rng, "UpBlock", arguments, shape, shape, hint=hint)


@pytest.mark.blank("ResidualConvBlock")
class TestResidualConvBlock:
    @on_inputs(several=((6, 6, 2), (2, 6, 8, 8)), one=((3, 8, 4), (1, 3, 5, 7)))
    def test_adds_the_first_output(self, student, solution, rng, arguments, shape):
        """Convolves twice, and adds the output of the first block to the output of the second"""
        hint = "Look at the two blocks, at what goes into the second one, and at what is added to its output."
        assert_same(student, solution, rng, "ResidualConvBlock", arguments, shape, hint=hint)


@pytest.mark.blank("SinusoidalPositionEmbedBlock")
class TestSinusoidalPositionEmbedBlock:
    @pytest.mark.parametrize("dim", [32, 6, 8])
    def test_sines_then_cosines(self, student, solution, rng, dim):
        """Embeds times as sines and cosines of the right frequencies"""
        # Times from 0 to 1, as the U-Net gives them, and larger ones, where all frequencies matter
        time = torch.cat((torch.rand(4, generator=rng), 20 * torch.rand(5, generator=rng)))
        other_time = torch.rand(9, generator=rng)
        right = solution.SinusoidalPositionEmbedBlock(dim)
        what = f"the embedding of dimension {dim}"
        with recognising(lambda: misconception_about_embedding(student, dim, time)):
            block = student.SinusoidalPositionEmbedBlock(dim)
            found, (after,) = block.keeping(time)
            assert_close(
                found, right(time), what, hint="Look at the frequencies, and at the order of sines and cosines."
            )
        assert_unchanged({"time": (time, after)})
        assert_close(block(other_time), right(other_time), f"{what}, of other times", mistakes={REMEMBERS: right(time)})
        assert_nothing_to_learn(block, time, found)
        block.eval()
        require(
            is_close(block(time), found),
            expected="the same embedding in both modes",
            found="another one in evaluation mode",
            misconception="differs-in-evaluation",
        )

    def test_batch_of_one(self, student, solution, rng):
        """Takes a batch of one"""
        time = torch.rand(1, generator=rng)
        expected = solution.SinusoidalPositionEmbedBlock(8)(time)
        assert_close(student.SinusoidalPositionEmbedBlock(8)(time), expected, "the embedding of a single time")


def assert_nothing_to_learn(block, time, found):
    """No frequency is a parameter that training would change."""
    if block.parameters():
        gradients = block.vjp([time], [torch.ones_like(found)]).parameters_grad
        learned = [name for name, gradient in gradients.items() if gradient is not None]
        if learned:
            raise CheckFailed(
                expected="no parameters to train",
                found=f"`{learned[0]}`",
                misconception="sinusoidal-trainable",
            )


def misconception_about_embedding(student, dim, time):
    found = attempt(lambda: student.SinusoidalPositionEmbedBlock(dim)(time))
    return name_of(found, outcomes(student.mistaken(), lambda block: block(dim)(time)))


@pytest.mark.blank("EmbedBlock")
class TestEmbedBlock:
    HINT = "Look at the two linear layers and at what stands between them."

    # Sixteen vectors: of a few, some have no number where the approximation of GELU deviates enough to be told
    @on_inputs(several=((5, 8), (16, 5)), one=((8, 6), (1, 8)))
    def test_embeds_vectors(self, student, solution, rng, arguments, shape):
        """Maps each vector to one number per channel"""
        assert_same(student, solution, rng, "EmbedBlock", arguments, shape, hint=self.HINT)

    def test_dimensions_in_between(self, student, solution, rng):
        """Takes vectors with dimensions of size 1 in between"""
        assert_same(student, solution, rng, "EmbedBlock", (5, 8), (16, 1, 1, 1, 5), hint=self.HINT)
