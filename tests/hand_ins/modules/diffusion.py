import torch
import torch.nn.functional as F

import schedule as s
from schedule import T, betas, device as dev


def extract(values, t):
    return values[t.long()][:, None, None, None]


def q(x_0, t):
    noise = torch.randn_like(x_0)
    x_t = extract(s.sqrt_alphas_cumprod, t) * x_0 + extract(s.sqrt_one_minus_alphas_cumprod, t) * noise
    return x_t.view(x_0.shape), noise


@torch.inference_mode()
def reverse_q(x_t, t, e_t):
    t = t.long().view(-1)[:1]
    x = extract(s.sqrt_recip_alphas, t) * (x_t - extract(s.pred_noise_coeff, t) * e_t)
    if t.item() == 0:
        return x
    return x + extract(betas, t).sqrt() * torch.randn_like(x)


def get_loss(model, x_0, t, *context):
    x_t, noise = q(x_0, t)
    return F.mse_loss(noise, model(x_t, t, *context))


@torch.no_grad()
def sample_w(model, c, w):
    from config import IMG_CH, IMG_SIZE

    c2 = torch.cat([c, c])
    mask = torch.cat([torch.ones_like(c), torch.zeros_like(c)]).float()
    x = torch.randn(len(c), IMG_CH, IMG_SIZE, IMG_SIZE, device=dev)
    for i in range(T - 1, -1, -1):
        t = torch.full((2 * len(c),), i, device=dev)
        keep, drop = model(torch.cat([x, x]), t, c2, mask).chunk(2)
        x = reverse_q(x, t[: len(c)], torch.lerp(drop, keep, 1.0 + w))
    return x
