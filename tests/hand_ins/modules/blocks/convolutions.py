from typing import Final

import torch
from einops.layers.torch import Rearrange
from torch import nn

KERNEL: Final = 3


def extract(*layers):
    return nn.Sequential(*layers)


def GELUConv(i, o, g):
    return extract(nn.Conv2d(i, o, KERNEL, padding=KERNEL // 2), nn.GroupNorm(g, o), nn.GELU())


class GELUConvBlock(nn.Module):
    def __init__(self, in_ch, out_ch, group_size):
        super().__init__()
        self.model = GELUConv(in_ch, out_ch, group_size)

    def forward(self, x):
        return self.model(x)


class RearrangePoolBlock(nn.Module):
    def __init__(self, in_chs, group_size):
        super().__init__()
        self.model = extract(
            Rearrange("b c (h p1) (w p2) -> b (c p1 p2) h w", p1=2, p2=2),
            GELUConvBlock(4 * in_chs, in_chs, group_size),
        )

    def forward(self, x):
        return self.model(x)


class DownBlock(nn.Module):
    def __init__(self, in_chs, out_chs, group_size):
        super().__init__()
        self.model = extract(
            GELUConvBlock(in_chs, out_chs, group_size),
            GELUConvBlock(out_chs, out_chs, group_size),
            RearrangePoolBlock(out_chs, group_size),
        )

    def forward(self, x):
        return self.model(x)


class UpBlock(nn.Module):
    def __init__(self, in_chs, out_chs, group_size):
        super().__init__()
        layers = [nn.ConvTranspose2d(2 * in_chs, out_chs, 2, 2)]
        layers += [GELUConvBlock(out_chs, out_chs, group_size) for _ in range(4)]
        self.model = extract(*layers)

    def forward(self, x, skip):
        return self.model(torch.cat((x, skip), 1))


class ResidualConvBlock(nn.Module):
    def __init__(self, in_chs, out_chs, group_size):
        super().__init__()
        self.conv1 = GELUConvBlock(in_chs, out_chs, group_size)
        self.conv2 = GELUConvBlock(out_chs, out_chs, group_size)

    def forward(self, x):
        x1 = self.conv1(x)
        return self.conv2(x1).add(x1)
