"""What pack authors assert with: comparisons and statistics whose failures are words for a student.

`torch.testing` is not used: its first use imports some 500 modules. A statistical helper raises a false alarm with a
probability of at most `FALSE_ALARM`; each says why.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

# Probability that a right answer fails one statistical check. A cohort of a thousand students with ten such checks each
# then meets a wrong verdict once in a hundred thousand courses.
FALSE_ALARM = 1e-9

# Relative to the largest expected value. A right answer in float32 that sums in another order, or computes in float64
# inside, deviates by 1e-7 to 1e-5 in the deepest network checked here; the smallest mistake that the checks are meant
# for (the tanh approximation of GELU) by 5e-4.
TOLERANCE = 1e-4

# On the variance of noise that should be 1: 1.5 % of its standard deviation. Of the 200,000 draws that a check of noise
# should make, those that are 1 % too small then always pass, and those that are 2 % too small always fail; without a
# tolerance, chance would decide about the former.
SIZE_TOLERANCE = 0.03

_UNITS = ("image", "channel", "row", "column")

# Beyond how many standard deviations values of noise are counted. A little above round numbers: noise that is cut off
# at one of them has a standard deviation that is a little smaller.
TAILS = (2.6, 3.1, 3.6)


class CheckFailed(AssertionError):  # noqa: N818
    """The answer is not what was asked for. The message says what was found, in words for a student."""

    def __init__(
        self,
        message: str = "",
        *,
        expected: str | None = None,
        found: str | None = None,
        misconception: str | None = None,
    ) -> None:
        """`misconception`: the id of the one that shows in the answer; the pack has words for it."""
        super().__init__(message or misconception)
        self.message = message
        self.expected = expected
        self.found = found
        self.misconception = misconception


def require(
    condition: bool,
    message: str = "",
    *,
    expected: str | None = None,
    found: str | None = None,
    misconception: str | None = None,
) -> None:
    """Raise `CheckFailed` unless the condition holds."""
    if not condition:
        raise CheckFailed(message, expected=expected, found=found, misconception=misconception)


def assert_tensor(
    found: object,
    shape: Sequence[int],
    what: str,
    *,
    floating: bool = True,
) -> Tensor:
    """A finite tensor of this shape; return it.

    Where `floating`, it must be of float32, as what goes into a check is. Computing in double precision inside is fine,
    but layers refuse to mix the types, and in half precision betas of 1e-4 would vanish beside 1.
    """
    if not isinstance(found, Tensor):
        raise CheckFailed(
            f"{_capital(what)} should be a tensor.",
            expected="a tensor",
            found=_kind(found),
            misconception=_missed(found, "too-many-results"),
        )
    require(
        list(found.shape) == list(shape),
        f"{_capital(what)} has the wrong shape.",
        expected=f"shape {list(shape)}",
        found=f"shape {list(found.shape)}",
    )
    if floating:
        assert_type(found.dtype, what)
    finite = torch.isfinite(found) if found.is_floating_point() else torch.ones_like(found, dtype=torch.bool)
    require(
        bool(finite.all()),
        f"{_capital(what)} contains {int((~finite).sum())} values that are not finite (NaN or infinity).",
        expected="finite numbers",
        found="NaN or infinity",
    )
    return found


def assert_type(found: torch.dtype, what: str) -> None:
    """The type is float32, the one that layers compute in."""
    is_double = found == torch.float64
    require(
        found == torch.float32,
        "" if is_double else f"{_capital(what)} has the wrong type of number.",
        expected=f"{what} in float32, which is what the layers of the network take",
        found=str(found).removeprefix("torch."),
        misconception="double-precision" if is_double else None,
    )


def assert_close(
    found: object,
    expected: Tensor,
    what: str,
    *,
    tolerance: float = TOLERANCE,
    mistakes: Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]] | None = None,
    hint: str = "",
) -> None:
    """The tensor agrees with the expected one.

    Args:
        found: what the student's code returned.
        expected: what it should be.
        what: the thing compared, as the student knows it; begins the message.
        tolerance: largest deviation allowed, relative to the largest expected value.
        mistakes: what known misconceptions would have produced on the same inputs, by their ids; or what computes
            that, which is called only where the tensor is wrong.
        hint: said where no known misconception fits.
    """
    if isinstance(found, Tensor) and not is_close(found, expected, tolerance):
        for misconception, mistaken in (mistakes() if callable(mistakes) else mistakes or {}).items():
            if is_close_or_nan(found, mistaken, tolerance):
                raise CheckFailed(misconception=misconception)
    tensor = assert_tensor(found, expected.shape, what, floating=expected.is_floating_point())
    if is_close(tensor, expected, tolerance):
        return
    deviation = (tensor.double() - expected.double()).abs()
    place = _place_of_largest(deviation)
    at = f" at {place}" if place else ""
    share = float((deviation > tolerance * _scale(expected)).double().mean())
    raise CheckFailed(
        f"{_capital(what)} is not what it should be: {_percent(share)} of the values deviate, by up to "
        f"{float(deviation.max()):.3g}{at}.{' ' + hint if hint else ''}",
        expected="the solution's value, which is not told",
        found=f"{float(tensor[tuple(place)]):.4g}{at}" if place else f"{float(tensor):.4g}",
    )


def is_close(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE, *, least_scale: float = 1e-6) -> bool:
    """Whether the tensors agree in shape and, to a tolerance relative to the largest expected value, in values.

    Where all expected values are smaller than `least_scale`, the tolerance is relative to that.
    """
    if found.shape != expected.shape:
        return False
    if not expected.numel():
        return True
    return bool((found.double() - expected.double()).abs().max() <= tolerance * max(_scale(expected), least_scale))


def is_close_or_nan(found: Tensor, mistaken: Tensor, tolerance: float = TOLERANCE) -> bool:
    """`is_close`, where NaN agrees with NaN."""
    if found.shape != mistaken.shape or not torch.equal(found.isnan(), mistaken.isnan()):
        return False
    return is_close(found.double().nan_to_num(), mistaken.double().nan_to_num(), tolerance)


def shares(found: Tensor, *parts: Tensor) -> tuple[Tensor, Tensor]:
    """How much of each part is in each image of a result, by least squares, and what is left over.

    Args:
        found: [B, ...].
        parts: what it should be a sum of, each multiplied by one number per image, [B, ...].

    Returns:
        The numbers, [B, len(parts)], and the largest deviation of each image from their sum, [B], in double precision.
    """
    columns = torch.stack([part.double().flatten(1) for part in parts], 1)
    result = found.double().flatten(1)
    products = columns @ columns.mT
    # The pseudo-inverse takes parts that are zero or alike, for which no numbers are the right ones
    numbers = (torch.linalg.pinv(products) @ (columns @ result[..., None])).squeeze(-1)
    return numbers, (result - (numbers[:, None] @ columns).squeeze(1)).abs().amax(1)


def assert_one_per_image(found: object, batch: int, what: str) -> Tensor:
    """A tensor with one number for each image, which may have dimensions of size 1 behind; return it."""
    shape = list(found.shape) if isinstance(found, Tensor) else None
    require(
        shape is not None and shape[:1] == [batch] and math.prod(shape) == batch,
        f"{_capital(what)} should be one number for each image.",
        expected=f"a tensor of shape [{batch}]",
        found=_kind(found) if shape is None else f"shape {shape}",
    )
    assert isinstance(found, Tensor)
    return found


def assert_unchanged(arguments: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """A call has left its arguments as they were, in values and shape: what went in and what is left of it, by name."""
    for name, (before, after) in arguments.items():
        same_shape = before.shape == after.shape
        require(
            same_shape and torch.equal(before, after),
            expected=f"the same {name} as before the call",
            found=f"other {name}" if same_shape else f"{name} of shape {list(after.shape)}, not {list(before.shape)}",
            misconception="changed-argument",
        )


def assert_pair(found: object, what: str) -> tuple[Any, Any]:
    """Two values, as a tuple or a list; return them."""
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise CheckFailed(
            f"{_capital(what)} should be two values.",
            expected="two values",
            found=_kind(found),
            misconception="result-missing" if isinstance(found, Tensor) else _missed(found),
        )
    return found[0], found[1]


def assert_number(found: object, what: str) -> float:
    """A finite number, or a tensor that holds just one; return it as a float."""
    if isinstance(found, Tensor) and found.numel() == 1:
        found = found.item()
    if isinstance(found, bool) or not isinstance(found, int | float):
        kind = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise CheckFailed(f"{_capital(what)} should be a number.", expected="a number", found=kind)
    require(math.isfinite(found), f"{_capital(what)} is not finite.", expected="a finite number", found=str(found))
    return float(found)


def assert_standard_normal(found: Tensor, what: str) -> None:
    """The values look like draws from N(0, 1). Whether they are independent is for `assert_white`.

    Four tests, each with a quarter of `FALSE_ALARM` for n independent draws:

    - mean: sqrt(n) * mean is N(0, 1) exactly;
    - sum of squares: chi-squared with n degrees of freedom, bounded by Laurent and Massart (2000), Lemma 1:
      P(X - n >= 2 sqrt(n x) + 2 x) <= exp(-x) and P(n - X >= 2 sqrt(n x)) <= exp(-x);
    - distribution function: Dvoretzky, Kiefer and Wolfowitz with Massart's constant (1990):
      P(sup |F_n - F| > e) <= 2 exp(-2 n e^2);
    - how many values are large, beside their own spread, which the distribution function hardly shows:
      `share_is_plausible`.
    """
    values = found.double().flatten()
    try:
        _assert_standard_normal(values, what)
    except CheckFailed as failure:
        failure.misconception = _misconception_about_noise(values)
        if failure.misconception is not None:
            failure.message = ""
        raise
    n = len(values)
    standardised = values.abs() / float(values.square().mean().sqrt())
    for bound in TAILS:
        beyond, expected = int((standardised > bound).sum()), 2 * NormalDist().cdf(-bound)
        require(
            share_is_plausible(beyond, n, expected, false_alarm=FALSE_ALARM / 4 / len(TAILS)),
            f"{_capital(what)} is not normally distributed.",
            expected=f"about {n * expected:.0f} of {n} values beyond {bound:g} times the standard deviation",
            found=f"{beyond} of them",
        )


def _assert_standard_normal(values: Tensor, what: str) -> None:
    n = len(values)
    alpha = FALSE_ALARM / 4
    mean = float(values.mean())
    require(
        abs(mean) * math.sqrt(n) <= -NormalDist().inv_cdf(alpha / 2),
        f"{_capital(what)} should have mean 0.",
        expected="mean 0",
        found=f"mean {mean:.3f}",
    )
    excess = float(values.square().sum()) - n
    x = math.log(2 / alpha)
    require(
        -max(2 * math.sqrt(n * x), SIZE_TOLERANCE * n)
        <= excess
        <= max(2 * math.sqrt(n * x) + 2 * x, SIZE_TOLERANCE * n),
        f"{_capital(what)} should have standard deviation 1.",
        expected="standard deviation 1",
        found=f"standard deviation {math.sqrt(1 + excess / n):.3f}",
    )
    require(
        _gap_to_normal(values) <= math.sqrt(math.log(2 / alpha) / (2 * n)),
        f"{_capital(what)} is not normally distributed.",
        expected="a normal distribution",
        found="another distribution of the same mean and spread",
    )


def _misconception_about_noise(values: Tensor) -> str | None:
    """What numbers that are not standard normal are instead: constant, uniform, or normal of another size."""
    ordered = values.sort().values
    low, high, spread = float(ordered[0]), float(ordered[-1]), float(ordered.std())
    if not high - low > 1e-6:
        return "no-noise"
    # The critical value of Kolmogorov and Smirnov at a probability of 1 in 1000
    bound = 1.95 / math.sqrt(len(ordered))
    if _gap((ordered - low) / (high - low)) <= bound:
        return "uniform-noise"
    is_normal = _gap(torch.special.ndtr(ordered / spread)) <= bound
    return "noise-scaled" if is_normal and abs(spread - 1) > 0.01 else None


def _gap_to_normal(values: Tensor) -> float:
    """The largest distance between the distribution function of the values and that of N(0, 1), at points of a grid.

    On a grid of 1/128, since sorting many values takes ten times as long; no distribution that is worth telling from
    the normal one hides between its points.
    """
    bins, end = 2048, 8.0
    below = (values < -end).sum() + torch.histc(values, bins, -end, end).cumsum(0)
    grid = torch.linspace(-end, end, bins + 1, dtype=values.dtype)[1:]
    return float((below / len(values) - torch.special.ndtr(grid)).abs().max())


def _gap(cdf: Tensor) -> float:
    """The largest distance between a distribution function, at values in order, and the one that was observed."""
    n = len(cdf)
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    return float(torch.maximum((steps[1:] - cdf).max(), (cdf - steps[:-1]).max()))


def assert_unrelated(first: Tensor, second: Tensor, message: str = "", *, misconception: str | None = None) -> None:
    """Two draws of noise are independent of each other.

    Independent normal vectors of n entries, each less its mean, lie in n - 1 dimensions, and the cosine r between them
    satisfies P(|r| >= s) <= 2 (1 - s^2)^((n - 2) / 2) (the share of a sphere in two caps), solved here for s.
    """
    n = first.numel()
    bound = math.sqrt(1 - (FALSE_ALARM / 2) ** (2 / (n - 2)))
    a, b = (values.double().flatten() - values.double().mean() for values in (first, second))
    require(
        abs(float(torch.nn.functional.cosine_similarity(a, b, dim=0))) <= bound, message, misconception=misconception
    )


def assert_white(noise: Tensor, what: str) -> None:
    """Noise, [B, C, H, W], is standard normal, and drawn by itself for each image, each channel and each pixel.

    Beside `assert_standard_normal` three tests, each with a third of `FALSE_ALARM`:

    - correlations between images, channels and pixels at every distance, all of them from one Fourier transform. Such a
      correlation is z' A z / n with A = (P + P') / 2 for a permutation P that moves everything, so the trace of A is 0,
      the sum of its squares n at most and its largest eigenvalue 1 at most; then the lemma of Laurent and Massart gives
      P(|z' A z| >= 2 sqrt(n x) + 2 x) <= 2 exp(-x);
    - parts that many values have in common, too small for a correlation to show: the means over each choice of
      dimensions, scaled to variance 1, have a chi-squared sum of squares;
    - another size in some image or channel: its sum of squares is chi-squared too.
    """
    spread = float(noise.std())
    if spread > 1e-6:  # otherwise it is constant, which `assert_standard_normal` has a name for
        # First, since the other tests say something about independent draws only; and whatever mean and size they have
        standardised = (noise.float() - noise.mean()) / spread
        _assert_not_correlated(standardised, what)
        _assert_nothing_in_common(standardised, what)
    assert_standard_normal(noise, what)
    _assert_of_one_size(noise, what)


def _assert_not_correlated(noise: Tensor, what: str) -> None:
    n = noise.numel()
    power = torch.fft.rfftn(noise).abs().square()
    correlations = torch.fft.irfftn(power, noise.shape).flatten()[1:] / n
    x = math.log(3 * 2 * n / FALSE_ALARM)  # n distances, and both signs
    largest = correlations.abs().argmax()
    found = float(correlations[largest])
    if abs(found) <= 2 * math.sqrt(x / n) + 2 * x / n:
        return
    # Distances go round: the last image stands beside the first
    place = torch.unravel_index(largest + 1, noise.shape)
    apart = [min(int(index), size - int(index)) for index, size in zip(place, noise.shape, strict=True)]
    between = next(dim for dim, distance in enumerate(apart) if distance)
    name = "one-draw-for-the-batch" if between == 0 else "noise-shared-within-image"
    is_shared = found > 0.95  # whether there is the same noise twice, not only similar noise
    distances = " and ".join(_count(distance, unit) for distance, unit in zip(apart, _UNITS, strict=True) if distance)
    raise CheckFailed(
        ""
        if is_shared
        else f"{_capital(what)} is not drawn anew for each {_UNITS[between] if between < 2 else 'pixel'}.",
        expected="values that have nothing to do with each other",
        found=f"a correlation of {found:.2f} between values that are {distances} apart",
        misconception=name if is_shared else None,
    )


def _assert_nothing_in_common(noise: Tensor, what: str) -> None:
    dims = [dim for dim, size in enumerate(noise.shape) if size > 1]
    choices = [choice for number in range(1, len(dims)) for choice in itertools.combinations(dims, number)]
    x = math.log(3 * max(len(choices), 1) / FALSE_ALARM)
    for choice in choices:
        means = noise.mean(choice, dtype=torch.float64)
        n = means.numel()
        excess = float(means.square().sum()) * noise.numel() / n - n
        require(
            excess <= 2 * math.sqrt(n * x) + 2 * x,
            f"{_capital(what)} has a part that many values have in common.",
            expected="a draw of its own for each value",
            found=f"means over all {' and '.join(f'{_UNITS[dim]}s' for dim in choice)} that are too large for that",
        )


def _assert_of_one_size(noise: Tensor, what: str) -> None:
    squares = noise.double().square().flatten(2)
    n, variances = squares.shape[-1], squares.mean(-1)
    x = math.log(3 * 2 * variances.numel() / FALSE_ALARM)
    low, high = 1 - 2 * math.sqrt(x / n), 1 + 2 * math.sqrt(x / n) + 2 * x / n
    wrong = variances[(variances < low) | (variances > high)]
    require(
        not wrong.numel(),
        f"{_capital(what)} is larger in some images than in others.",
        expected="standard deviation 1 in each image",
        found=f"standard deviation {float(wrong.sqrt()[0]) if wrong.numel() else 1:.3f} in one of them",
    )


def share_is_plausible(hits: int, draws: int, probability: float, *, false_alarm: float = FALSE_ALARM) -> bool:
    """Whether `hits` of `draws` independent draws of this probability can be chance.

    Chernoff: P(share >= a) <= exp(-n KL(a || p)) for a >= p, likewise below; each side has half of `false_alarm`.
    """
    if not 0 < probability < 1:
        return hits == draws * probability
    share = hits / draws
    divergence = 0.0
    if share > 0:
        divergence += share * math.log(share / probability)
    if share < 1:
        divergence += (1 - share) * math.log((1 - share) / (1 - probability))
    return draws * divergence <= math.log(2 / false_alarm)


def variance_is_plausible(values: Tensor, low: float, high: float) -> bool:
    """Whether independent normal draws of mean 0 can have a variance between `low` and `high`.

    The bounds of Laurent and Massart as in `assert_standard_normal`, half of `FALSE_ALARM` for each side.
    """
    n = values.numel()
    total = float(values.double().square().sum())
    x = math.log(2 / FALSE_ALARM)
    return low * (n - 2 * math.sqrt(n * x)) <= total <= high * (n + 2 * math.sqrt(n * x) + 2 * x)


def _kind(found: object) -> str:
    if found is None:
        return "nothing"
    return f"{len(found)} values" if isinstance(found, tuple | list) else f"a {type(found).__name__}"


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _missed(found: object, several: str | None = None) -> str | None:
    """The misconception behind a result that is nothing, or several values."""
    if found is None:
        return "nothing-returned"
    return several if isinstance(found, tuple | list) else None


def _scale(expected: Tensor) -> float:
    # 1e-6: a tensor of zeros still needs a tolerance; ten times the resolution of float32 beside 1
    return max(float(expected.double().abs().max()), 1e-6)


def _place_of_largest(deviation: Tensor) -> list[int]:
    return [int(index) for index in torch.unravel_index(deviation.argmax(), deviation.shape)]


def _percent(share: float) -> str:
    return "all" if share > 0.995 else f"{max(share, 0.01):.0%}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
