# %%
import glob
import torch
import torch.nn.functional as F
import torch.nn as nn

from torch.optim import Adam
from torch.utils.data import DataLoader
import torchvision
import torchvision.transforms as transforms

# Plots
import matplotlib.pyplot as plt
from torchvision.utils import make_grid

# Helpers of the course
from utils import other_utils
from utils import UNet_utils

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# %%
IMG_SIZE = 28
IMG_CH = 1
BATCH_SIZE = 128
N_CLASSES = 10


def digits_of(size, batch_size):
    steps = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    parts = [torchvision.datasets.MNIST("./data/", download=True, train=part, transform=steps) for part in (True, False)]
    both = torch.utils.data.ConcatDataset(parts)
    return both, DataLoader(both, batch_size=batch_size, shuffle=True, drop_last=True)


data, dataloader = digits_of(IMG_SIZE, BATCH_SIZE)

# %% [markdown]
# ## Setting up diffusion

# %%
nrows = 10
ncols = 15

T = nrows * ncols
B_start = 0.0001
B_end = 0.02
B = torch.linspace(B_start, B_end, T).to(device)

# %%
a = 1.0 - B
a_bar = a.cumprod(0)
sqrt_a_bar = a_bar.sqrt()  # how much of the image
sqrt_one_minus_a_bar = (1.0 - a_bar).sqrt()  # how much noise

# and back again
sqrt_a_inv = (1 / a).sqrt()
pred_noise_coeff = B / (1 - a_bar).sqrt()


# %%
def q(x_0, t):
    t = t.int()
    noise = torch.randn_like(x_0)
    x_t = sqrt_a_bar[t, None, None, None] * x_0 + sqrt_one_minus_a_bar[t, None, None, None] * noise
    return x_t, noise


# %%
plt.figure(figsize=(8, 8))
x_0 = data[0][0].to(device)
for t in range(T):
    x_t, _ = q(x_0, torch.Tensor([t]).type(torch.int64))
    ax = plt.subplot(nrows, ncols, t + 1)
    ax.axis("off")
    other_utils.show_tensor_image(x_t)


# %%
@torch.no_grad()
def reverse_q(x_t, t, e_t):
    t = t.int()
    u_t = sqrt_a_inv[t] * (x_t - pred_noise_coeff[t] * e_t)
    if t[0] == 0:
        return u_t
    else:
        return u_t + B[t - 1].sqrt() * torch.randn_like(x_t)


# %% [markdown]
# ## The U-Net


# %%
class UNet(nn.Module):
    def __init__(self, T, img_ch, img_size, down_chs=(64, 64, 128), t_embed_dim=8, c_embed_dim=10):
        super().__init__()
        self.T = T
        up_chs = down_chs[::-1]
        latent = img_size // 4
        flat = down_chs[2] * latent**2
        small_group_size = 8
        big_group_size = 32

        self.down0 = ResidualConvBlock(img_ch, down_chs[0], small_group_size)
        self.down1 = DownBlock(down_chs[0], down_chs[1], big_group_size)
        self.down2 = DownBlock(down_chs[1], down_chs[2], big_group_size)
        self.to_vec = nn.Sequential(nn.Flatten(), nn.GELU())

        self.dense_emb = nn.Sequential(
            nn.Linear(flat, down_chs[1]),
            nn.ReLU(),
            nn.Linear(down_chs[1], down_chs[1]),
            nn.ReLU(),
            nn.Linear(down_chs[1], flat),
            nn.ReLU(),
        )
        self.sinusoidaltime = SinusoidalPositionEmbedBlock(t_embed_dim)
        self.t_emb1 = EmbedBlock(t_embed_dim, up_chs[0])
        self.t_emb2 = EmbedBlock(t_embed_dim, up_chs[1])
        self.c_embed1 = EmbedBlock(c_embed_dim, up_chs[0])
        self.c_embed2 = EmbedBlock(c_embed_dim, up_chs[1])

        self.up0 = nn.Sequential(
            nn.Unflatten(1, (up_chs[0], latent, latent)),
            GELUConvBlock(up_chs[0], up_chs[0], big_group_size),
        )
        self.up1 = UpBlock(up_chs[0], up_chs[1], big_group_size)
        self.up2 = UpBlock(up_chs[1], up_chs[2], big_group_size)
        self.out = nn.Sequential(
            nn.Conv2d(2 * up_chs[-1], up_chs[-1], 3, 1, 1),
            nn.GroupNorm(small_group_size, up_chs[-1]),
            nn.ReLU(),
            nn.Conv2d(up_chs[-1], img_ch, 3, 1, 1),
        )

    def forward(self, x, t, c, c_mask):
        first = self.down0(x)
        second = self.down1(first)
        third = self.down2(second)
        vector = self.dense_emb(self.to_vec(third))

        t = self.sinusoidaltime(t.float() / self.T)  # from [0, T] to [0, 1]
        c = c * c_mask

        x = self.up0(vector)
        x = self.up1(self.c_embed1(c) * x + self.t_emb1(t), third)
        x = self.up2(self.c_embed2(c) * x + self.t_emb2(t), second)
        return self.out(torch.cat((x, first), 1))


# %%
class DownBlock(nn.Module):
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
class EmbedBlock(nn.Module):
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


# %%
class GELUConvBlock(nn.Module):
    def __init__(self, in_ch, out_ch, group_size):
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(in_ch, out_ch, 3, 1, 1), nn.GroupNorm(group_size, out_ch), nn.GELU())

    def forward(self, x):
        return self.model(x)


# %%
class RearrangePoolBlock(nn.Module):
    def __init__(self, in_chs, group_size):
        super().__init__()
        self.rearrange = Rearrange("b c (h p1) (w p2) -> b (c p1 p2) h w", p1=2, p2=2)
        self.conv = GELUConvBlock(4 * in_chs, in_chs, group_size)

    def forward(self, x):
        return self.conv(self.rearrange(x))


# %%
class ResidualConvBlock(nn.Module):
    def __init__(self, in_chs, out_chs, group_size):
        super().__init__()
        self.conv1 = GELUConvBlock(in_chs, out_chs, group_size)
        self.conv2 = GELUConvBlock(out_chs, out_chs, group_size)

    def forward(self, x):
        once = self.conv1(x)
        return once + self.conv2(once)


# %%
class SinusoidalPositionEmbedBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, time):
        half = self.dim // 2
        steps = torch.arange(half, device=time.device)
        waves = time[:, None] * torch.exp(steps * -(math.log(10000) / (half - 1)))[None, :]
        return torch.cat((waves.sin(), waves.cos()), dim=-1)


# %%
class UpBlock(nn.Module):
    def __init__(self, in_chs, out_chs, group_size):
        super().__init__()
        layers = [nn.ConvTranspose2d(2 * in_chs, out_chs, 2, 2)]
        layers += [GELUConvBlock(out_chs, out_chs, group_size) for _ in range(4)]
        self.model = nn.Sequential(*layers)

    def forward(self, x, skip):
        return self.model(torch.cat((x, skip), 1))


# %%
model = UNet_utils.UNet(T, IMG_CH, IMG_SIZE, down_chs=(64, 64, 128), t_embed_dim=8, c_embed_dim=N_CLASSES)
print("Num params: ", sum(p.numel() for p in model.parameters()))
model = torch.compile(model.to(device))

# %% [markdown]
# ## Training


# %%
def get_context_mask(c, drop_prob):
    c_hot = F.one_hot(c.to(torch.int64), num_classes=N_CLASSES).to(device)
    c_mask = torch.bernoulli(torch.ones_like(c_hot).float() - drop_prob).to(device)
    return c_hot, c_mask


# %%
def get_loss(model, x_0, t, *model_args):
    x_noisy, noise = q(x_0, t)
    noise_pred = model(x_noisy, t/T, *model_args)
    return F.mse_loss(noise, noise_pred)


# %%
def sample_images(model, img_ch, img_size, ncols, *model_args):
    x_t = torch.randn((1, img_ch, img_size, img_size), device=device)
    plt.figure(figsize=(8, 8))
    for i in range(0, T)[::-1]:
        t = torch.full((1,), i, device=device).float()
        x_t = reverse_q(x_t, t, model(x_t, t, *model_args))
        if i % (T / ncols) == 0:
            other_utils.show_tensor_image(x_t.detach().cpu())
    plt.show()


# %%
optimizer = Adam(model.parameters(), lr=0.001)
epochs = 5
preview_c = 0

model.train()
for epoch in range(epochs):
    for step, batch in enumerate(dataloader):
        c_drop_prob = 0.1
        optimizer.zero_grad()

        t = torch.randint(0, T, (BATCH_SIZE,), device=device).float()
        x = batch[0].to(device)
        c_hot, c_mask = get_context_mask(batch[1], c_drop_prob)
        loss = get_loss(model, x, t, c_hot, c_mask)
        loss.backward()
        optimizer.step()

        if step % 100 == 0:
            print(f"Epoch {epoch} | Step {step:03d} | Loss: {loss.item()} | C: {preview_c}")
            c_drop_prob = 0  # the preview keeps its context
            c_hot, c_mask = get_context_mask(torch.Tensor([preview_c]), c_drop_prob)
            sample_images(model, IMG_CH, IMG_SIZE, ncols, c_hot, c_mask)
            preview_c = (preview_c + 1) % N_CLASSES

# %% [markdown]
# ## Sampling


# %%
@torch.no_grad()
def sample_w(model, c, w):
    n_samples = len(c)
    w = torch.tensor([w]).float()
    w = w[:, None, None, None].to(device)
    x_t = torch.randn(n_samples, IMG_CH, IMG_SIZE, IMG_SIZE).to(device)

    c = c.repeat(len(w), 1)
    c = c.repeat(2, 1)
    c_mask = torch.ones_like(c).to(device)
    c_mask[n_samples:] = 0.0

    for i in range(0, T)[::-1]:
        t = torch.tensor([i]).to(device)
        t = t.repeat(n_samples, 1, 1, 1)
        x_t = x_t.repeat(2, 1, 1, 1)
        t = t.repeat(2, 1, 1, 1)

        e_t = model(x_t, t, c, c_mask)
        e_t_keep_c = e_t[:n_samples]
        e_t_drop_c = e_t[n_samples:]
        e_t = (1 + w) * e_t_keep_c - w * e_t_drop_c

        x_t = x_t[:n_samples]
        t = t[:n_samples]
        x_t = reverse_q(x_t, t, e_t)
    return x_t


# %%
model.eval()
w = 2.0  # Change me
c = torch.arange(N_CLASSES).to(device)
c_drop_prob = 0
c_hot, c_mask = get_context_mask(c, c_drop_prob)

x_0 = sample_w(model, c_hot, 1.0)
other_utils.to_image(make_grid(x_0.cpu(), nrow=N_CLASSES))

# %%
x_0.shape

# %%
from run_assessment import run_assessment

# %%
run_assessment(model, sample_w, w)
