"""Random numbers: every source that student code may draw from follows the judge's seed.

Generators of a program's own, such as a `torch.Generator` at module level, are noted when they are made, so that
`reseed` finds those that exist. One that is made later keeps the seed that it is given: a function that makes its
generator anew with a fixed seed in each call draws the same noise each time, and the judge is to see that. What would
be seeded by the system's entropy is seeded from a stream of the judge's seed.
"""

import contextlib
import functools
import random
import weakref
from collections.abc import Callable
from typing import Any

import numpy
import torch

from . import devices

_made: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # in order of their making
_count = 0
_entropy = random.Random()  # noqa: S311  (must be repeatable)
# The originals
_seed_numpy, _seed_python = numpy.random.seed, random.seed


def _note(generator: Any) -> None:
    global _count
    _made[_count] = generator
    _count += 1


def entropy() -> int:
    """A seed for what is not given one."""
    return _entropy.getrandbits(63)


class TorchGenerator(torch.Generator):
    """A `torch.Generator` that `reseed` finds."""

    def __new__(cls, device: Any = "cpu") -> "TorchGenerator":
        """Note it."""
        made = super().__new__(cls, devices.resolve(device))  # type: ignore[call-arg]
        _note(made)
        return made

    def seed(self) -> int:
        """Seed it anew."""
        seed = entropy()
        self.manual_seed(seed)
        return seed

    def follow(self, seed: int) -> None:
        """Begin the stream of `seed`."""
        self.manual_seed(seed)


class NumpyGenerator(numpy.random.Generator):
    """A `numpy.random.Generator` that `reseed` finds."""

    def __init__(self, bit_generator: Any) -> None:
        super().__init__(bit_generator)
        _note(self)

    def follow(self, seed: int) -> None:
        """Begin the stream of `seed`."""
        self.bit_generator.state = type(self.bit_generator)(seed).state


class NumpyRandomState(numpy.random.RandomState):
    """A `numpy.random.RandomState` that `reseed` finds."""

    def __init__(self, seed: Any = None) -> None:
        super().__init__(entropy() % 2**32 if seed is None else seed)
        _note(self)

    def follow(self, seed: int) -> None:
        """Begin the stream of `seed`."""
        with contextlib.suppress(TypeError):  # of another kind than the usual one, which cannot be seeded anew
            self.seed(seed % 2**32)


class PythonRandom(random.Random):
    """A `random.Random` that `reseed` finds."""

    def __init__(self, x: Any = None) -> None:
        super().__init__(entropy() if x is None else x)
        _note(self)

    def follow(self, seed: int) -> None:
        """Begin the stream of `seed`."""
        random.Random.seed(self, seed)


def _default_rng(seed: Any = None) -> numpy.random.Generator:
    made = _original_default_rng(entropy() if seed is None else seed)
    return made if isinstance(made, NumpyGenerator) else NumpyGenerator(made.bit_generator)


_original_default_rng = numpy.random.default_rng


def _seed_torch() -> int:
    seed = entropy()
    torch.manual_seed(seed)
    return seed


def _seeded(original: Callable[..., None], bits: int) -> Callable[..., None]:
    """`random.seed` or `numpy.random.seed`, which take the system's entropy where they are given nothing."""

    @functools.wraps(original)
    def seed(value: Any = None, *args: Any, **kwargs: Any) -> None:
        original(entropy() % 2**bits if value is None else value, *args, **kwargs)

    return seed


def watch() -> None:
    """Have every generator made from now on be noted. Call it before student code is loaded."""
    for kind, original in (
        (TorchGenerator, torch.Generator),
        (NumpyGenerator, numpy.random.Generator),
        (NumpyRandomState, numpy.random.RandomState),
        (PythonRandom, random.Random),
    ):
        for name in ("__name__", "__qualname__", "__module__"):  # what messages tell of it
            setattr(kind, name, getattr(original, name))
    torch.Generator = TorchGenerator  # type: ignore[misc]
    numpy.random.Generator = NumpyGenerator  # type: ignore[misc]
    numpy.random.RandomState = NumpyRandomState  # type: ignore[misc]
    random.Random = PythonRandom  # type: ignore[misc]
    numpy.random.default_rng = _default_rng
    torch.seed = torch.random.seed = _seed_torch
    numpy.random.seed = _seeded(_seed_numpy, 32)
    random.seed = _seeded(_seed_python, 63)


def reseed(seed: int) -> None:
    """Seed torch, numpy and random, and each generator that exists: to a stream of its own."""
    torch.default_generator.manual_seed(seed)  # `torch.manual_seed` asks for every kind of device, which takes 2 ms
    if torch.version.cuda is not None:
        torch.cuda.manual_seed_all(seed)
    _seed_numpy(seed % 2**32)
    _seed_python(seed)
    _entropy.seed(f"entropy of {seed}")
    for number, generator in _made.items():
        stream = numpy.random.SeedSequence([seed % 2**64, number])
        generator.follow(int(stream.generate_state(1, numpy.uint64)[0] >> 1))
