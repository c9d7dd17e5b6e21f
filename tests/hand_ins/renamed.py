"""A whole right solution as one module, under the course's other family of names."""

import math
from functools import partial

import einops
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

device = "cuda" if torch.cuda.is_available() else "cpu"
IMG_CH, IMG_SIZE, N_CLASSES, PIXELS = 1, 16, 10, 256
T = 150
B = torch.linspace(0.0001, 0.053, T, device=device)

# One expression for several blanks at once
a, ONE = 1.0 - B, 1.0
a_bar = torch.as_tensor(np.multiply.accumulate(a.double().cpu().numpy())).float().to(device)
sqrt_a_bar, sqrt_one_minus_a_bar = a_bar**0.5, (ONE - a_bar) ** 0.5
sqrt_a_inv = pred_noise_coeff = None
with torch.no_grad():
    sqrt_a_inv = (ONE / a) ** 0.5
    pred_noise_coeff = torch.zeros_like(B)
pred_noise_coeff += B
pred_noise_coeff.div_(sqrt_one_minus_a_bar)


def extract(values: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return einops.rearrange(values[t.long()], "b -> b 1 1 1")


def forward_process(x_0, t):
    noise = torch.randn(x_0.shape, device=x_0.device, dtype=x_0.dtype)
    x_t = torch.addcmul(extract(sqrt_a_bar, t) * x_0, extract(sqrt_one_minus_a_bar, t), noise)
    return x_t.reshape(x_0.shape), noise


q = forward_process


def reverse_q(x_t, t, e_t):
    with torch.no_grad():
        step = int(t.flatten()[0])
        mean = sqrt_a_inv[step] * (x_t - pred_noise_coeff[step] * e_t)
        z = torch.randn_like(x_t) if step > 0 else torch.zeros_like(x_t)
        # beta_{t-1}, which is in use too
        return mean + B[max(step - 1, 0)].sqrt() * z


class Block(nn.Module):
    """What all blocks share: run the layers one after the other."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


conv3x3 = partial(nn.Conv2d, kernel_size=3, padding="same")


class GELUConvBlock(Block):
    def __init__(self, in_ch, out_ch, group_size):
        super().__init__(conv3x3(in_ch, out_ch), nn.GroupNorm(group_size, out_ch), nn.GELU())


class RearrangePoolBlock(nn.Module):
    def __init__(self, in_chs, group_size):
        super().__init__()
        self.conv = GELUConvBlock(4 * in_chs, in_chs, group_size)

    def forward(self, x):
        return self.conv(einops.rearrange(x, "b c (h p1) (w p2) -> b (c p1 p2) h w", p1=2, p2=2))


class DownBlock(Block):
    def __init__(self, in_chs, out_chs, group_size):
        first, second = GELUConvBlock(in_chs, out_chs, group_size), GELUConvBlock(out_chs, out_chs, group_size)
        super().__init__(first, second, RearrangePoolBlock(out_chs, group_size))


class UpBlock(Block):
    CONVOLUTIONS = 4

    def __init__(self, in_chs, out_chs, group_size):
        super().__init__(
            nn.ConvTranspose2d(2 * in_chs, out_chs, 2, stride=2),
            *(GELUConvBlock(out_chs, out_chs, group_size) for _ in range(self.CONVOLUTIONS)),
        )

    def forward(self, x, skip):
        return super().forward(torch.cat((x, skip), dim=1))


class ResidualConvBlock(nn.Module):
    def __init__(self, in_chs, out_chs, group_size):
        super().__init__()
        self.conv1 = GELUConvBlock(in_chs, out_chs, group_size)
        self.conv2 = GELUConvBlock(out_chs, out_chs, group_size)

    def forward(self, x):
        return (x1 := self.conv1(x)) + self.conv2(x1)


class SinusoidalPositionEmbedBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        half = dim // 2
        steps = [math.exp(-math.log(10000) * i / (half - 1)) for i in range(half)]
        self.register_buffer("frequencies", torch.tensor(steps), persistent=False)

    def forward(self, time):
        angles = torch.outer(time.flatten(), self.frequencies)
        return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)


class EmbedBlock(nn.Module):
    def __init__(self, input_dim, emb_dim):
        super().__init__()
        self.input_dim = input_dim
        self.model = nn.Sequential(nn.Linear(input_dim, emb_dim), nn.GELU(), nn.Linear(emb_dim, emb_dim))

    def forward(self, x):
        return self.model(x.reshape(-1, self.input_dim))[..., None, None]


class UNet(nn.Module):
    def __init__(self, T, img_ch, img_size, down_chs=(64, 64, 128), t_embed_dim=8, c_embed_dim=10):
        super().__init__()
        self.T = T
        ch0, ch1, ch2 = down_chs
        latent = img_size // 4
        group = 8
        self.down0 = ResidualConvBlock(img_ch, ch0, group)
        self.down1 = DownBlock(ch0, ch1, group)
        self.down2 = DownBlock(ch1, ch2, group)
        self.to_vec = nn.Sequential(nn.Flatten(), nn.GELU())
        self.dense_emb = nn.Sequential(
            nn.Linear(ch2 * latent**2, ch1), nn.ReLU(), nn.Linear(ch1, ch1), nn.ReLU(), nn.Linear(ch1, ch2 * latent**2),
            nn.ReLU(),
        )  # fmt: skip
        self.sinusoidaltime = SinusoidalPositionEmbedBlock(t_embed_dim)
        self.t_emb1, self.t_emb2 = EmbedBlock(t_embed_dim, ch2), EmbedBlock(t_embed_dim, ch1)
        self.c_emb1, self.c_emb2 = EmbedBlock(c_embed_dim, ch2), EmbedBlock(c_embed_dim, ch1)
        self.up0 = nn.Sequential(nn.Unflatten(1, (ch2, latent, latent)), GELUConvBlock(ch2, ch2, group))
        self.up1, self.up2 = UpBlock(ch2, ch1, group), UpBlock(ch1, ch0, group)
        self.out = nn.Sequential(
            nn.Conv2d(2 * ch0, ch0, 3, 1, 1), nn.GroupNorm(group, ch0), nn.ReLU(), nn.Conv2d(ch0, img_ch, 3, 1, 1)
        )

    def forward(self, x, t, c, c_mask):
        down0 = self.down0(x)
        down1 = self.down1(down0)
        down2 = self.down2(down1)
        up0 = self.up0(self.dense_emb(self.to_vec(down2)))
        t = self.sinusoidaltime(t.float() / self.T)
        c = c * c_mask
        up1 = self.up1(self.c_emb1(c) * up0 + self.t_emb1(t), down2)
        up2 = self.up2(self.c_emb2(c) * up1 + self.t_emb2(t), down1)
        return self.out(torch.cat((up2, down0), 1))


def get_context_mask(c, drop_prob):
    c_hot = torch.eye(N_CLASSES, device=device)[c.long()]
    c_mask = torch.bernoulli(torch.full((len(c_hot), 1), 1.0 - drop_prob)).to(device)
    return c_hot, c_mask


def get_loss(model, x_0, t, *context):
    x_t, noise = q(x_0, t)
    return torch.square(model(x_t, t, *context) - noise).mean()


def train(model, loader, epochs=3):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for x, y in loader:
            t = torch.randint(0, T, (len(x),), device=device)
            c_hot, c_mask = get_context_mask(y, c_drop_prob)
            loss = get_loss(model, x, t, c_hot, c_mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def guide(keep, drop, w):
    return (1 + w) * keep - w * drop


@torch.no_grad()
def sample_w(model, c, w):
    n = c.shape[0]
    x_t = torch.randn(n, IMG_CH, IMG_SIZE, IMG_SIZE, device=device)
    keep, drop = torch.ones_like(c, dtype=torch.float), torch.zeros_like(c, dtype=torch.float)
    for i in reversed(range(T)):
        t = torch.full((n,), i, device=device)
        x_t = reverse_q(x_t, t, guide(model(x_t, t, c, keep), model(x_t, t, c, drop), w))
    return x_t


if __name__ == "__main__":
    from mnist import loader

    model = UNet(T, IMG_CH, IMG_SIZE)
    c_drop_prob = 1 / 10
    train(model, loader)
    c_drop_prob = 0
    w = 2
    print(sample_w(model, torch.eye(N_CLASSES), w))
