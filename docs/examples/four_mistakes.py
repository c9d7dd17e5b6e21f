# %% [markdown]
# # Generating digits with a diffusion model: a hand-in with four typical mistakes
#
# What `scripts/demo` submits beside the right solution. The mistakes: a missing square root in
# `sqrt_one_minus_alphas_cumprod`, no skip connection in `ResidualConvBlock`, an inverted mask in
# `get_context_mask`, and a guidance weight that is shifted by one in `sample_w`.

# %%
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from einops.layers.torch import Rearrange

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

IMG_CH = 1  # channels: the digits are grey
IMG_SIZE = 16  # height and width in pixels
N_CLASSES = 10  # the digits 0 to 9
T = 150  # steps of the diffusion process
BETA_START = 0.0001
BETA_END = 0.053

# %% [markdown]
# ## 1. The variance schedule

# %%
betas = torch.linspace(BETA_START, BETA_END, T).to(device)

# %%
alphas = 1.0 - betas
alphas_cumprod = torch.cumprod(alphas, dim=0)
sqrt_alphas_cumprod = torch.sqrt(alphas_cumprod)
sqrt_one_minus_alphas_cumprod = 1.0 - alphas_cumprod


# %% [markdown]
# ## 2. Forward diffusion


# %%
def q(x_0, t):
    """Draw x_t given x_0, and return it together with the noise that went in.

    x_0: images, [B, C, H, W] or a single [C, H, W]
    t:   time steps, [B], integers (they may arrive as floats)
    """
    t = t.long()
    noise = torch.randn_like(x_0)
    mean_coeff = sqrt_alphas_cumprod[t].view(-1, 1, 1, 1)
    std_coeff = sqrt_one_minus_alphas_cumprod[t].view(-1, 1, 1, 1)
    x_t = mean_coeff * x_0 + std_coeff * noise
    return x_t.view(x_0.shape), noise


# %% [markdown]
# ## 3. Reverse diffusion

# %%
sqrt_recip_alphas = torch.sqrt(1.0 / alphas)
pred_noise_coeff = betas / torch.sqrt(1.0 - alphas_cumprod)


# %%
@torch.no_grad()
def reverse_q(x_t, t, e_t):
    """Take one step back: draw x_{t-1} given x_t and the predicted noise e_t.

    x_t, e_t: [B, C, H, W]
    t:        time steps, the same for the whole batch
    """
    t = t.long().view(-1)[0]
    mean = sqrt_recip_alphas[t] * (x_t - pred_noise_coeff[t] * e_t)
    if t == 0:
        return mean
    return mean + torch.sqrt(betas[t]) * torch.randn_like(x_t)


# %% [markdown]
# ## 4. The building blocks of the U-Net


# %%
class GELUConvBlock(nn.Module):
    """3x3 convolution, group normalisation, GELU. Keeps height and width."""

    def __init__(self, in_ch, out_ch, group_size):
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(in_ch, out_ch, 3, 1, 1),
            nn.GroupNorm(group_size, out_ch),
            nn.GELU(),
        )

    def forward(self, x):
        return self.model(x)


# %%
class RearrangePoolBlock(nn.Module):
    """Fold each 2x2 patch into the channels, then convolve back to in_chs. Halves height and width."""

    def __init__(self, in_chs, group_size):
        super().__init__()
        self.rearrange = Rearrange("b c (h p1) (w p2) -> b (c p1 p2) h w", p1=2, p2=2)
        self.conv = GELUConvBlock(4 * in_chs, in_chs, group_size)

    def forward(self, x):
        return self.conv(self.rearrange(x))


# %%
class DownBlock(nn.Module):
    """Two GELUConvBlocks, then a RearrangePoolBlock. Halves height and width."""

    def __init__(self, in_chs, out_chs, group_size):
        super().__init__()
        self.model = nn.Sequential(
            GELUConvBlock(in_chs, out_chs, group_size),
            GELUConvBlock(out_chs, out_chs, group_size),
            RearrangePoolBlock(out_chs, group_size),
        )

    def forward(self, x):
        return self.model(x)


# %%
class UpBlock(nn.Module):
    """Join the skip connection, double height and width, then four GELUConvBlocks."""

    def __init__(self, in_chs, out_chs, group_size):
        super().__init__()
        self.model = nn.Sequential(
            nn.ConvTranspose2d(2 * in_chs, out_chs, 2, 2),
            GELUConvBlock(out_chs, out_chs, group_size),
            GELUConvBlock(out_chs, out_chs, group_size),
            GELUConvBlock(out_chs, out_chs, group_size),
            GELUConvBlock(out_chs, out_chs, group_size),
        )

    def forward(self, x, skip):
        x = torch.cat((x, skip), dim=1)
        return self.model(x)


# %%
class ResidualConvBlock(nn.Module):
    """Two GELUConvBlocks; the output of the first is added to the output of the second."""

    def __init__(self, in_chs, out_chs, group_size):
        super().__init__()
        self.conv1 = GELUConvBlock(in_chs, out_chs, group_size)
        self.conv2 = GELUConvBlock(out_chs, out_chs, group_size)

    def forward(self, x):
        x1 = self.conv1(x)
        return self.conv2(x1)


# %%
class SinusoidalPositionEmbedBlock(nn.Module):
    """Embed a time [B] as [B, dim]: dim/2 sines, then dim/2 cosines, of falling frequency."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, time):
        half_dim = self.dim // 2
        step = math.log(10000) / (half_dim - 1)
        frequencies = torch.exp(-step * torch.arange(half_dim, device=time.device))
        angles = time[:, None] * frequencies[None, :]
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


# %%
class EmbedBlock(nn.Module):
    """Map a vector to one number per channel: [.., input_dim] -> [B, emb_dim, 1, 1]."""

    def __init__(self, input_dim, emb_dim):
        super().__init__()
        self.input_dim = input_dim
        self.model = nn.Sequential(
            nn.Linear(input_dim, emb_dim),
            nn.GELU(),
            nn.Linear(emb_dim, emb_dim),
            nn.Unflatten(1, (emb_dim, 1, 1)),
        )

    def forward(self, x):
        return self.model(x.view(-1, self.input_dim))


# %% [markdown]
# ## 5. The U-Net: which block stands in which slot?


# %%
class UNet(nn.Module):
    """Predict the noise in x [B, img_ch, img_size, img_size] at time t, given the context c and its mask."""

    def __init__(
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
        self.T = T
        up_chs = down_chs[::-1]
        latent_size = img_size // 4  # halved twice

        # The way in: keeps the size and has a residual connection
        self.down0 = ResidualConvBlock(img_ch, down_chs[0], small_group_size)

        # Down, halving the size at each step
        self.down1 = DownBlock(down_chs[0], down_chs[1], big_group_size)
        self.down2 = DownBlock(down_chs[1], down_chs[2], big_group_size)
        self.to_vec = nn.Sequential(nn.Flatten(), nn.GELU())

        # The bottleneck
        latent_features = down_chs[2] * latent_size**2
        self.dense_emb = nn.Sequential(
            nn.Linear(latent_features, down_chs[1]),
            nn.ReLU(),
            nn.Linear(down_chs[1], down_chs[1]),
            nn.ReLU(),
            nn.Linear(down_chs[1], latent_features),
            nn.ReLU(),
        )

        # Time and context
        self.sinusoidaltime = SinusoidalPositionEmbedBlock(t_embed_dim)
        self.t_emb1 = EmbedBlock(t_embed_dim, up_chs[0])
        self.t_emb2 = EmbedBlock(t_embed_dim, up_chs[1])
        self.c_emb1 = EmbedBlock(c_embed_dim, up_chs[0])
        self.c_emb2 = EmbedBlock(c_embed_dim, up_chs[1])

        # Up, doubling the size at each step
        self.up0 = nn.Sequential(
            nn.Unflatten(1, (up_chs[0], latent_size, latent_size)),
            GELUConvBlock(up_chs[0], up_chs[0], big_group_size),
        )
        self.up1 = UpBlock(up_chs[0], up_chs[1], big_group_size)
        self.up2 = UpBlock(up_chs[1], up_chs[2], big_group_size)

        # The way out
        self.out = nn.Sequential(
            nn.Conv2d(2 * up_chs[2], up_chs[2], 3, 1, 1),
            nn.GroupNorm(small_group_size, up_chs[2]),
            nn.ReLU(),
            nn.Conv2d(up_chs[2], img_ch, 3, 1, 1),
        )

    def forward(self, x, t, c, c_mask):
        down0 = self.down0(x)
        down1 = self.down1(down0)
        down2 = self.down2(down1)
        latent = self.dense_emb(self.to_vec(down2))

        t = self.sinusoidaltime(t.float() / self.T)  # from 0 .. T-1 to 0 .. 1
        c = c * c_mask
        up0 = self.up0(latent)
        up1 = self.up1(self.c_emb1(c) * up0 + self.t_emb1(t), down2)
        up2 = self.up2(self.c_emb2(c) * up1 + self.t_emb2(t), down1)
        return self.out(torch.cat((up2, down0), dim=1))


# %% [markdown]
# ## 6. Context, loss and training


# %%
def get_context_mask(c, drop_prob):
    """One-hot encode the labels c [B], and draw a mask that drops each with probability drop_prob."""
    c_hot = F.one_hot(c.long(), num_classes=N_CLASSES).to(device)
    c_mask = torch.bernoulli(torch.ones_like(c_hot).float() * drop_prob).to(device)
    return c_hot, c_mask


# %%
def get_loss(model, x_0, t, *context):
    """Mean squared error of the model's noise prediction."""
    x_t, noise = q(x_0, t)
    noise_pred = model(x_t, t, *context)
    return F.mse_loss(noise_pred, noise)


# %%
c_drop_prob = 0.1

# %% [markdown]
# ## 7. Sampling with guidance


# %%
@torch.no_grad()
def sample_w(model, c, w):
    """Generate one image per row of c, guided with weight w.

    c: one-hot context, [B, N_CLASSES]
    w: guidance weight, a number
    """
    n_samples = len(c)
    x_t = torch.randn(n_samples, IMG_CH, IMG_SIZE, IMG_SIZE).to(device)

    # Twice the batch: with context, and without
    c = c.repeat(2, 1)
    c_mask = torch.ones_like(c).float()
    c_mask[n_samples:] = 0.0

    for i in range(T)[::-1]:
        t = torch.full((n_samples,), i).to(device)
        e_t = model(x_t.repeat(2, 1, 1, 1), t.repeat(2), c, c_mask)
        e_t_keep = e_t[:n_samples]
        e_t_drop = e_t[n_samples:]
        e_t = w * e_t_keep + (1 - w) * e_t_drop
        x_t = reverse_q(x_t, t, e_t)
    return x_t


# %%
w = 2.0
