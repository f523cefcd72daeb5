"""A plain captioning Transformer after specification 3.2, whose state dict has the names of the public checkpoints.

Nothing is cached or shared, and masks are built as the specification says; dropout is left out.
"""

import math

import torch
from torch import nn


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a_2, self.b_2 = nn.Parameter(torch.rand(width) + 0.5), nn.Parameter(torch.randn(width) / 10)

    def forward(self, x):
        return self.a_2 * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.b_2


class Attention(nn.Module):
    def __init__(self, width, num_heads):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.num_heads = num_heads

    def forward(self, query, memory, mask=None):
        q, k, v = (
            linear(x).view(len(x), -1, self.num_heads, x.shape[-1] // self.num_heads).transpose(1, 2)
            for linear, x in zip(self.linears, (query, memory, memory), strict=False)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(query.shape)
        return self.linears[3](mixed)


class FeedForward(nn.Module):
    def __init__(self, width, hidden_width):
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(width, hidden_width), nn.Linear(hidden_width, width)

    def forward(self, x):
        return self.w_2(self.w_1(x).relu())


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = Norm(width)

    def forward(self, x, layer):
        return x + layer(self.norm(x))


class Layer(nn.Module):
    def __init__(self, width, hidden_width, num_heads, attentions):
        super().__init__()
        for name in attentions:
            self.add_module(name, Attention(width, num_heads))
        self.feed_forward = FeedForward(width, hidden_width)
        self.sublayer = nn.ModuleList(Residual(width) for _ in range(len(attentions) + 1))

    def forward(self, x, mask=None, memory=None):
        x = self.sublayer[0](x, lambda y: self.self_attn(y, y, mask))
        if memory is not None:
            x = self.sublayer[1](x, lambda y: self.src_attn(y, memory))
        return self.sublayer[-1](x, self.feed_forward)


class Stack(nn.Module):
    def __init__(self, num_layers, *sizes):
        super().__init__()
        self.layers = nn.ModuleList(Layer(*sizes) for _ in range(num_layers))
        self.norm = Norm(sizes[0])

    def forward(self, x, *rest):
        for layer in self.layers:
            x = layer(x, *rest)
        return self.norm(x)


class Words(nn.Module):
    def __init__(self, vocabulary_size, width):
        super().__init__()
        self.lut = nn.Embedding(vocabulary_size, width)


class Positions(nn.Module):
    def __init__(self, width, count=5000):
        super().__init__()
        angle = torch.arange(count)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
        table = torch.zeros(1, count, width)
        table[0, :, 0::2], table[0, :, 1::2] = angle.sin(), angle.cos()
        self.register_buffer("pe", table)


class Generator(nn.Module):
    def __init__(self, vocabulary_size, width):
        super().__init__()
        self.proj = nn.Linear(width, vocabulary_size)


class PublicCaptioner(nn.Module):
    def __init__(self, vocabulary_size, grid_width, width=16, hidden_width=32, num_layers=2, num_heads=8):
        super().__init__()
        sizes = (num_layers, width, hidden_width, num_heads)
        self.att_embed = nn.Sequential(nn.Linear(grid_width, width), nn.ReLU(), nn.Dropout(0.5))
        self.model = nn.Module()
        self.model.encoder = Stack(*sizes, ("self_attn",))
        self.model.decoder = Stack(*sizes, ("self_attn", "src_attn"))
        self.model.tgt_embed = nn.Sequential(Words(vocabulary_size, width), Positions(width))
        self.model.generator = Generator(vocabulary_size, width)
        self.eval()

    def forward(self, grid, tokens):
        """Grid (B, C, h, w) and one caption per image (B, L) to log-probabilities (B, L, W)."""
        memory = self.model.encoder(self.att_embed(grid.flatten(2).transpose(1, 2)))
        words, positions = self.model.tgt_embed
        L = tokens.shape[1]
        x = words.lut(tokens) * math.sqrt(memory.shape[-1]) + positions.pe[:, :L]
        real = tokens != 0
        real[:, 0] = True
        mask = real[:, None] & torch.ones(L, L, dtype=torch.bool).tril()
        return self.model.generator.proj(self.model.decoder(x, mask, memory)).log_softmax(-1)
