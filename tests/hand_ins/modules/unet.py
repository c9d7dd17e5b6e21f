import torch
import torch.nn as nn

import blocks
from blocks import DownBlock, EmbedBlock, UpBlock, ResidualConvBlock as Residual
from blocks.embeddings import SinusoidalPositionEmbedBlock


class UNet(nn.Module):
    def __init__(self, T, img_ch, img_size, down_chs=(64, 64, 128), t_embed_dim=8, c_embed_dim=10):
        super().__init__()
        self.T = T
        up_chs = down_chs[::-1]
        size = img_size // 4
        features = down_chs[2] * size**2
        self.down0 = Residual(img_ch, down_chs[0], 8)
        self.down1 = DownBlock(down_chs[0], down_chs[1], 8)
        self.down2 = DownBlock(down_chs[1], down_chs[2], 8)
        self.to_vec = nn.Sequential(nn.Flatten(), nn.GELU())
        self.dense_emb = nn.Sequential(
            nn.Linear(features, down_chs[1]),
            nn.ReLU(),
            nn.Linear(down_chs[1], down_chs[1]),
            nn.ReLU(),
            nn.Linear(down_chs[1], features),
            nn.ReLU(),
        )
        self.sinusoidaltime = SinusoidalPositionEmbedBlock(t_embed_dim)
        self.t_emb1 = EmbedBlock(t_embed_dim, up_chs[0])
        self.t_emb2 = EmbedBlock(t_embed_dim, up_chs[1])
        self.c_emb1 = EmbedBlock(c_embed_dim, up_chs[0])
        self.c_emb2 = EmbedBlock(c_embed_dim, up_chs[1])
        self.up0 = nn.Sequential(
            nn.Unflatten(1, (up_chs[0], size, size)), blocks.GELUConvBlock(up_chs[0], up_chs[0], 8)
        )
        self.up1 = UpBlock(up_chs[0], up_chs[1], 8)
        self.up2 = UpBlock(up_chs[1], up_chs[2], 8)
        self.out = nn.Sequential(
            nn.Conv2d(2 * up_chs[2], up_chs[2], 3, 1, 1),
            nn.GroupNorm(8, up_chs[2]),
            nn.ReLU(),
            nn.Conv2d(up_chs[2], img_ch, 3, 1, 1),
        )

    def forward(self, x, t, c, c_mask):
        down0 = self.down0(x)
        down1 = self.down1(down0)
        down2 = self.down2(down1)
        t = self.sinusoidaltime(t.float() / self.T)
        c = c * c_mask
        up0 = self.up0(self.dense_emb(self.to_vec(down2)))
        up1 = self.up1(self.c_emb1(c) * up0 + self.t_emb1(t), down2)
        up2 = self.up2(self.c_emb2(c) * up1 + self.t_emb2(t), down1)
        return self.out(torch.cat((up2, down0), 1))
