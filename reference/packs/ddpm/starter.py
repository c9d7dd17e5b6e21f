# %% [markdown]
# # Generating digits with a diffusion model
#
# You have seen every part of this before: the variance schedule, the U-Net, time and context embeddings, and guidance.
# Here you put the parts together. At the end your model draws the digit that you ask it for, and an independent
# classifier decides whether it can read them. **Your goal: 95 % of your digits are read as the digit asked for.**
#
# ## How to work with this file
#
# - Wherever you see `FIXME`, something is missing. Replace it; it may stand for a name or for a whole expression.
# - Keep the names of what you define (`alphas`, `q`, `GELUConvBlock`, ...): your answers are found by name. How you get
#   to the result is up to you. You may restructure, add helper functions, or write a block in another way.
# - Each answer is checked by itself. A mistake in one does not make the others wrong, and you may hand in with some
#   `FIXME`s left: they count as not attempted.
# - Values such as `betas`, `T` and `IMG_SIZE` are replaced by others when you are graded, so compute with
#   the names, never with the numbers.
# - Data loading, plotting and training loops may stay in your hand-in. They are not run: your model is trained on the
#   grader's data, always in the same way.
#
# Hand in this module, the notebook made from it, or a zip of modules.

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
#
# Diffusion adds a little noise at each of `T` steps. `betas[t]` is the variance of the noise added in step `t`.

# %%
betas = torch.linspace(BETA_START, BETA_END, T).to(device)

# %% [markdown]
# What is left of an image after one step is governed by $\alpha_t = 1 - \beta_t$, and after all steps up to `t` by
# their product $\bar\alpha_t = \alpha_0 \alpha_1 \cdots \alpha_t$. With it, we can jump to any step at once:
#
# $$q(x_t \mid x_0) = \mathcal{N}\left(x_t;\ \sqrt{\bar\alpha_t}\, x_0,\ (1 - \bar\alpha_t)\, I\right)$$
#
# Each of the following is a tensor with one entry per time step, `[T]`:
#
# - `alphas`: $\alpha_t$
# - `alphas_cumprod`: $\bar\alpha_t$, the cumulative product of the alphas
# - `sqrt_alphas_cumprod`: the factor in front of $x_0$
# - `sqrt_one_minus_alphas_cumprod`: the **standard deviation** of the noise (the formula above shows the variance)

# %%
alphas = FIXME
alphas_cumprod = FIXME
sqrt_alphas_cumprod = FIXME
sqrt_one_minus_alphas_cumprod = FIXME


# %% [markdown]
# ## 2. Forward diffusion
#
# `q` draws a noisy image $x_t$ for a given $x_0$: scale the image, add scaled noise. It returns the noise too, because
# that is what the network will learn to predict.
#
# Some things to take care of:
#
# - `t` holds one time step per image, and they differ within a batch. It often arrives as floats, and a tensor cannot
#   be indexed with floats.
# - A coefficient per image has shape `[B]`; to multiply images `[B, C, H, W]` with it, it needs three more dimensions.
# - `x_0` may be a single image `[C, H, W]`, with `t` of shape `[1]`. `x_t` and `noise` always have the shape of `x_0`.


# %%
def q(x_0, t):
    """Draw x_t given x_0, and return it together with the noise that went in.

    x_0: images, [B, C, H, W] or a single [C, H, W]
    t:   time steps, [B], integers (they may arrive as floats)
    """
    t = t.long()
    noise = FIXME
    mean_coeff = FIXME
    std_coeff = FIXME
    x_t = FIXME
    return x_t.view(x_0.shape), noise


# %% [markdown]
# ## 3. Reverse diffusion
#
# One step back, from $x_t$ to $x_{t-1}$, subtracts the predicted noise $\epsilon_t$ and adds a little fresh noise $z$:
#
# $$x_{t-1} = \frac{1}{\sqrt{\alpha_t}} \left(x_t - \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}}\, \epsilon_t\right)
# + \sigma_t z$$
#
# - `sqrt_recip_alphas` is the first fraction, `pred_noise_coeff` the second; both `[T]`
# - $\sigma_t^2$ may be $\beta_t$, $\beta_{t-1}$ or the posterior variance
#   $\frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t} \beta_t$. All three are in use; choose one.
# - The last step, $t = 0$, adds no noise.

# %%
sqrt_recip_alphas = FIXME
pred_noise_coeff = FIXME


# %%
@torch.no_grad()
def reverse_q(x_t, t, e_t):
    """Take one step back: draw x_{t-1} given x_t and the predicted noise e_t.

    x_t, e_t: images and predicted noise, [B, C, H, W]
    t:        the time step, the same for the whole batch: [1] or one per image, [B]; integer or float
    """
    t = t.long().view(-1)[0]
    mean = FIXME
    if t == FIXME:
        return mean
    return mean + FIXME


# %% [markdown]
# ## 4. The building blocks of the U-Net
#
# Note on `group_size`: it is the first argument of `nn.GroupNorm`, which is the **number of groups** that the channels
# are divided into. (The course calls it a size; we keep its name.)
#
# The first block: a 3x3 convolution, group normalisation, GELU. Height and width stay as they are.


# %%
class GELUConvBlock(nn.Module):
    """3x3 convolution, group normalisation, GELU. Keeps height and width."""

    def __init__(self, in_ch, out_ch, group_size):
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(FIXME, FIXME, 3, 1, 1),
            nn.GroupNorm(FIXME, FIXME),
            FIXME,
        )

    def forward(self, x):
        return self.model(x)


# %% [markdown]
# Max pooling throws three of four values away. This block keeps them: each patch of 2x2 pixels becomes four channels.
# In the notation of einops, `b c (h p1) (w p2) -> b (c p1 p2) h w`. Then a `GELUConvBlock` brings the channels back
# to `in_chs`, so that only height and width are halved.


# %%
class RearrangePoolBlock(nn.Module):
    """Fold each 2x2 patch into the channels, then convolve back to in_chs. Halves height and width."""

    def __init__(self, in_chs, group_size):
        super().__init__()
        self.rearrange = FIXME
        self.conv = GELUConvBlock(FIXME, FIXME, group_size)

    def forward(self, x):
        return self.conv(self.rearrange(x))


# %% [markdown]
# On the way down: two `GELUConvBlock`s, of which the first changes the number of channels, then a
# `RearrangePoolBlock`.


# %%
class DownBlock(nn.Module):
    """Two GELUConvBlocks, then a RearrangePoolBlock. Halves height and width."""

    def __init__(self, in_chs, out_chs, group_size):
        super().__init__()
        self.model = nn.Sequential(
            FIXME,
            FIXME,
            FIXME,
        )

    def forward(self, x):
        return self.model(x)


# %% [markdown]
# On the way up: the image `x` and its skip connection, both with `in_chs` channels, are joined along the channels, in
# this order. A transposed convolution (2x2, stride 2) doubles height and width and brings the channels to `out_chs`,
# and four `GELUConvBlock`s follow.


# %%
class UpBlock(nn.Module):
    """Join the skip connection, double height and width, then four GELUConvBlocks."""

    def __init__(self, in_chs, out_chs, group_size):
        super().__init__()
        self.model = nn.Sequential(
            nn.ConvTranspose2d(FIXME, FIXME, 2, 2),
            GELUConvBlock(out_chs, out_chs, group_size),
            GELUConvBlock(out_chs, out_chs, group_size),
            GELUConvBlock(out_chs, out_chs, group_size),
            GELUConvBlock(out_chs, out_chs, group_size),
        )

    def forward(self, x, skip):
        x = FIXME
        return self.model(x)


# %% [markdown]
# A residual connection helps gradients to reach the early layers. Here the **output of the first** `GELUConvBlock` is
# added to the output of the second one. (The input cannot be added: it may have another number of channels.)


# %%
class ResidualConvBlock(nn.Module):
    """Two GELUConvBlocks; the output of the first is added to the output of the second."""

    def __init__(self, in_chs, out_chs, group_size):
        super().__init__()
        self.conv1 = GELUConvBlock(in_chs, out_chs, group_size)
        self.conv2 = GELUConvBlock(out_chs, out_chs, group_size)

    def forward(self, x):
        return FIXME


# %% [markdown]
# The network must know the time step. As in the Transformer, a time $\tau$ becomes a vector of sines and cosines of
# different frequencies, here first all the sines, then all the cosines. With $d$ = `dim // 2`:
#
# $$f_i = 10000^{-i / (d - 1)}, \quad i = 0, \ldots, d - 1 \qquad
# \tau \mapsto \left(\sin f_0\tau, \ldots, \sin f_{d-1}\tau, \cos f_0\tau, \ldots, \cos f_{d-1}\tau\right)$$


# %%
class SinusoidalPositionEmbedBlock(nn.Module):
    """Embed a time [B] as [B, dim]: dim // 2 sines, then dim // 2 cosines, of falling frequency."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, time):
        half_dim = self.dim // 2
        step = FIXME
        frequencies = torch.exp(-step * torch.arange(half_dim, device=time.device))
        angles = time[:, None] * frequencies[None, :]
        return FIXME


# %% [markdown]
# `EmbedBlock` turns such a vector into one number per channel: linear layer, GELU, linear layer. The result is shaped
# `[B, emb_dim, 1, 1]`, so that it can be added to, or multiplied with, a batch of images. The input is usually
# `[B, input_dim]`, but dimensions of size 1 may stand in between, as in `[B, 1, 1, 1, input_dim]`.


# %%
class EmbedBlock(nn.Module):
    """Map a vector to one number per channel: [.., input_dim] -> [B, emb_dim, 1, 1]."""

    def __init__(self, input_dim, emb_dim):
        super().__init__()
        self.input_dim = input_dim
        self.model = nn.Sequential(
            nn.Linear(FIXME, FIXME),
            FIXME,
            nn.Linear(FIXME, FIXME),
            nn.Unflatten(1, (emb_dim, 1, 1)),
        )

    def forward(self, x):
        return self.model(x.view(-1, self.input_dim))


# %% [markdown]
# ## 5. The U-Net: which block stands in which slot?
#
# Seven kinds of block are there; put the right one in each slot. The comments say what a slot has to do. Some wrong
# choices fit and merely learn less well, others do not fit at all: think about what a block does to the number of
# channels, and to height and width.


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
        self.down0 = FIXME(img_ch, down_chs[0], small_group_size)

        # Down, halving the size at each step
        self.down1 = FIXME(down_chs[0], down_chs[1], big_group_size)
        self.down2 = FIXME(down_chs[1], down_chs[2], big_group_size)
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
        self.sinusoidaltime = FIXME(t_embed_dim)
        self.t_emb1 = FIXME(t_embed_dim, up_chs[0])
        self.t_emb2 = FIXME(t_embed_dim, up_chs[1])
        self.c_emb1 = FIXME(c_embed_dim, up_chs[0])
        self.c_emb2 = FIXME(c_embed_dim, up_chs[1])

        # Up, doubling the size at each step
        self.up0 = nn.Sequential(
            nn.Unflatten(1, (up_chs[0], latent_size, latent_size)),
            FIXME(up_chs[0], up_chs[0], big_group_size),  # keeps the size
        )
        self.up1 = FIXME(up_chs[0], up_chs[1], big_group_size)
        self.up2 = FIXME(up_chs[1], up_chs[2], big_group_size)

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
#
# The context is the digit to draw, one-hot encoded. For guidance, the network must also learn to draw without being
# told what: now and then the context is dropped, by multiplying it with a mask.
#
# - `c_hot`: `[B, N_CLASSES]`, 1 at the label and 0 elsewhere. A batch need not contain every digit.
# - `c_mask`: each entry is 0 with probability `drop_prob` and 1 otherwise, drawn at random. One draw per image
#   (`[B, 1]`) and one per entry (`[B, N_CLASSES]`) are both in use.
# - The network multiplies the two and feeds the product to a linear layer, so the product must be floating point.


# %%
def get_context_mask(c, drop_prob):
    """One-hot encode the labels c, and draw a mask that drops context with probability drop_prob.

    c:         labels, [B], integers from 0 to N_CLASSES - 1
    drop_prob: a number from 0 to 1
    """
    c_hot = FIXME
    c_mask = FIXME
    return c_hot, c_mask


# %% [markdown]
# The loss compares the noise that went in with the noise that the model predicts: the mean of the squared difference.
# Pass `t` on as it is; the U-Net divides by `T` itself.


# %%
def get_loss(model, x_0, t, *context):
    """Mean squared error of the model's noise prediction.

    model:   called as model(x_t, t, *context), returns the predicted noise, shaped like x_t
    x_0:     images, [B, C, H, W]
    t:       time steps, [B], from 0 to T - 1
    context: c_hot and c_mask, passed on to the model
    """
    x_t, noise = FIXME
    noise_pred = FIXME
    return FIXME


# %% [markdown]
# How often should the context be dropped during training? Never, and there is nothing to guide away from; too often,
# and the model hardly learns which digit is which. A small share is customary.

# %%
c_drop_prob = FIXME

# %% [markdown]
# ## 7. Sampling with guidance
#
# Start from pure noise, and step back from `t = T - 1` to `0`. In each step the model predicts the noise twice, with
# context ($\epsilon_{keep}$) and without ($\epsilon_{drop}$), in one batch of double size. Guidance exaggerates the
# difference:
#
# $$\epsilon_t = (1 + w)\, \epsilon_{keep} - w\, \epsilon_{drop}$$
#
# With $w = 0$ this is the plain conditional model.


# %%
@torch.no_grad()
def sample_w(model, c, w):
    """Generate one image per row of c, guided with weight w.

    model: called as model(x_t, t, c, c_mask), returns the predicted noise, shaped like x_t
    c:     one-hot context, [B, N_CLASSES], floats
    w:     guidance weight, an integer or a float
    """
    n_samples = len(c)
    x_t = torch.randn(n_samples, IMG_CH, IMG_SIZE, IMG_SIZE).to(device)

    # Twice the batch: with context, and without
    c = c.repeat(2, 1)
    c_mask = torch.ones_like(c).float()
    c_mask[n_samples:] = FIXME

    for i in range(T)[::-1]:
        t = torch.tensor([i]).to(device)
        e_t = model(x_t.repeat(2, 1, 1, 1), t.repeat(2 * n_samples), c, c_mask)
        e_t_keep = e_t[:n_samples]
        e_t_drop = e_t[n_samples:]
        e_t = FIXME
        x_t = FIXME
    return x_t


# %% [markdown]
# Which weight gives digits that are easy to read, yet not all alike? Try some once your model is trained.

# %%
w = FIXME

# %% [markdown]
# ## 8. Try it
#
# Set `TRAIN` to `True` to train on your own machine with the small digits that come with scikit-learn, some minutes on
# an ordinary processor. This part is for you; it is not graded.

# %%
TRAIN = False
BATCH_SIZE = 128
EPOCHS = 30  # 30 times 1,797 digits

if TRAIN:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images).float()[:, None] / 8 - 1  # from 0 .. 16 to -1 .. 1
    images = F.interpolate(images, size=IMG_SIZE, mode="bilinear")
    labels = torch.tensor(digits.target)

    model = UNet(T, IMG_CH, IMG_SIZE, down_chs=(16, 24, 32), c_embed_dim=N_CLASSES).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH_SIZE):
            x_0 = images[batch].to(device)
            t = torch.randint(0, T, (len(batch),), device=device).float()
            c_hot, c_mask = get_context_mask(labels[batch].to(device), c_drop_prob)
            optimizer.zero_grad()
            loss = get_loss(model, x_0, t, c_hot, c_mask)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1:2}: loss of the last batch {loss.item():.3f}")

# %%
if TRAIN:
    import matplotlib.pyplot as plt

    model.eval()
    c = torch.eye(N_CLASSES, device=device).repeat(5, 1)
    generated = sample_w(model, c, w).cpu()
    figure, axes = plt.subplots(5, N_CLASSES, figsize=(N_CLASSES, 5))
    for axis, image in zip(axes.flat, generated, strict=True):
        axis.imshow(image[0], cmap="gray", vmin=-1, vmax=1)
        axis.axis("off")
    plt.show()
