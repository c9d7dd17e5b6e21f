import math

import torch
from torch import nn


class SinusoidalPositionEmbedBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, time):
        half = self.dim // 2
        freq = 10000 ** (-torch.arange(half, device=time.device) / (half - 1))
        angle = time.reshape(-1, 1) * freq
        return torch.hstack([torch.sin(angle), torch.cos(angle)])


class EmbedBlock(nn.Module):
    def __init__(self, input_dim, emb_dim):
        super().__init__()
        self.input_dim = input_dim
        self.model = nn.Sequential(
            nn.Linear(input_dim, emb_dim), nn.GELU(), nn.Linear(emb_dim, emb_dim), nn.Unflatten(1, (emb_dim, 1, 1))
        )

    def forward(self, x):
        return self.model(x.view(-1, self.input_dim))
