"""The judge's own reverse loop: DDIM with classifier-free guidance.

The network only ever predicts noise; everything that makes an image of it happens here.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)
from torch import Tensor

from reference.datasets import N_CLASSES
from reference.pack import Recipe

# Of the T of training. 20 or 50 read no better and cost two and five times as much (docs/recipes.md).
DDIM_STEPS = 10

# An absurd guidance weight would overflow and have an honest network return NaN. Images lie in [-1, 1], and noise
# hardly ever reaches 6: what is cut here shows no digit any more.
LARGEST = 100.0

NO_CONTEXT = -1.0  # the guidance weight at which (1 + w) e(c) - w e() is e(): any digit at all

Predict = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # x, t, context, mask -> noise


def alphas_cumprod(recipe: Recipe) -> Tensor:
    """The cumulative product of 1 - beta, [T] (Ho et al. 2020, section 2)."""
    return torch.cumprod(1 - torch.linspace(recipe.beta_start, recipe.beta_end, recipe.timesteps), 0)


def start_noise(recipe: Recipe, count: int, generator: torch.Generator) -> Tensor:
    """What `count` images begin as: standard normal, [count, 1, size, size]."""
    return torch.randn(count, 1, recipe.image_size, recipe.image_size, generator=generator)


def ddim(
    predict: Predict,
    recipe: Recipe,
    noise: Tensor,
    classes: Tensor,
    guidance_weight: float,
    steps: int = DDIM_STEPS,
    *,
    clip: bool = True,
) -> Tensor:
    """Images [B, 1, size, size] made from noise by the deterministic DDIM (Song et al. 2021, eq. 12 with sigma = 0).

    Args:
        predict: the network; whatever it raises goes through.
        recipe: whose schedule the network was trained with.
        noise: [B, 1, size, size].
        classes: what each image is to show, as the network was taught to call it, [B].
        guidance_weight: w in e = (1 + w) e(c) - w e() (Ho & Salimans 2022, eq. 6).
        steps: how many of the T steps are taken, evenly spread.
        clip: whether the image predicted in each step is kept within [-1, 1], where images lie (static thresholding,
            Saharia et al. 2022, section 2.3). Without it, now and then a trained network runs off into noise
            (docs/recipes.md); what guidance does to contrast shows without it only.
    """
    signal = alphas_cumprod(recipe)
    times = torch.linspace(recipe.timesteps - 1, 0, steps).round().long()
    context = F.one_hot(classes, N_CLASSES).float()
    x_t = noise
    for index, t in enumerate(times):
        e_t = guided_noise(predict, x_t, int(t), context, guidance_weight)
        now = signal[t]
        then = signal[times[index + 1]] if index + 1 < steps else torch.ones(())
        x_0 = (x_t - (1 - now).sqrt() * e_t) / now.sqrt()
        if clip and index + 1 < steps:
            x_0 = x_0.clamp(-1, 1)
            e_t = (x_t - now.sqrt() * x_0) / (1 - now).sqrt()
        x_t = then.sqrt() * x_0 + (1 - then).sqrt() * e_t
        x_t = x_t.nan_to_num().clamp(-LARGEST, LARGEST)
    return x_t


def guided_noise(predict: Predict, x_t: Tensor, t: int, context: Tensor, guidance_weight: float) -> Tensor:
    """The guided prediction: with and without context at once, or one of them alone where the other has no weight."""
    count = len(x_t)
    mask = torch.ones_like(context)
    if guidance_weight in (0, NO_CONTEXT):
        used = mask if guidance_weight == 0 else torch.zeros_like(context)
        return predict(x_t, torch.full((count,), t), context, used)
    both = predict(
        x_t.repeat(2, 1, 1, 1),
        torch.full((2 * count,), t),
        context.repeat(2, 1),
        torch.cat((mask, torch.zeros_like(mask))),
    )
    return (1 + guidance_weight) * both[:count] - guidance_weight * both[count:]
