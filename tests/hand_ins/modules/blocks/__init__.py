from .convolutions import DownBlock, GELUConvBlock, RearrangePoolBlock, ResidualConvBlock, UpBlock
from .embeddings import *
