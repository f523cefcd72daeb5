"""MoVie (Nguyen et al. 2021): residual convolutions over the image, modulated by the question.

The reference's batch normalizations are frozen at the identity (scale 1, shift 0, mean 0, variance 1 - ε) and do not
exist here. Axes beyond those of records.py: C channels, H × W cells.
"""

import torch
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Weighs channels by what the whole image holds, then cells by the mean of their weighed channels.

    Args:
        width: C.
        ratio: by which the hidden layer is narrower.
    """

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, width // ratio, bias=False)
        self.excite = nn.Linear(width // ratio, width, bias=False)
        self.gate = nn.Conv2d(1, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh x (B, C, H, W)."""
        channels = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))  # (B, C)
        x = x * channels[:, :, None, None]
        return x * torch.sigmoid(self.gate(x.mean(1, keepdim=True)))


class MovieBottleneck(nn.Module):
    """A bottleneck whose first convolution also sees the input weighed by the question.

    Args:
        in_width: channels in.
        width: channels within.
        out_width: channels out.
        question_width: D of the question.
        shortcut: convolve what the result is added to; only possible to leave out where ``in_width == out_width``.
    """

    def __init__(self, in_width: int, width: int, out_width: int, question_width: int, shortcut: bool) -> None:
        super().__init__()
        self.reduce = nn.Linear(in_width, width, bias=False)  # a 1 × 1 convolution
        self.weigh = nn.Linear(question_width, in_width)
        self.reduce_weighed = nn.Linear(in_width, width)  # another
        self.convolve = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.expand = nn.Conv2d(width, out_width, 1, bias=False)
        self.excite = SqueezeExcite(out_width)
        self.shortcut = nn.Conv2d(in_width, out_width, 1, bias=False) if shortcut else None

    def forward(self, x: Tensor, question: Tensor) -> Tensor:
        """Map x (B, in, H, W) and question (B, D) to (B, out, H, W)."""
        # reduce(x) + reduce_weighed(x ⊙ s) is one product with the sum of the first weight and the second one, its
        # columns scaled by s: half the work on all cells.
        scale = self.weigh(question)  # (B, in)
        weight = torch.addcmul(self.reduce.weight, self.reduce_weighed.weight, scale[:, None])  # (B, width, in)
        reduced = torch.baddbmm(self.reduce_weighed.bias[:, None], weight, x.flatten(2))  # (B, width, H·W)
        hidden = torch.relu(reduced).unflatten(2, x.shape[2:])
        out = self.excite(self.expand(torch.relu(self.convolve(hidden))))
        return torch.relu(out + (x if self.shortcut is None else self.shortcut(x)))


class Movie(nn.Module):
    """Bottlenecks in a row, then the mean over the image, normalized.

    Args:
        grid_width: C of the image.
        width: channels within a bottleneck.
        out_width: of the result.
        question_width: D of the question.
        num_blocks: at least 1; only the first has a convolved shortcut.
    """

    def __init__(self, grid_width: int, width: int, out_width: int, question_width: int, num_blocks: int) -> None:
        super().__init__()
        first = MovieBottleneck(grid_width, width, out_width, question_width, shortcut=True)
        others = [
            MovieBottleneck(out_width, width, out_width, question_width, shortcut=False) for _ in range(num_blocks - 1)
        ]
        self.blocks = nn.ModuleList([first, *others])
        self.norm = nn.LayerNorm(out_width)

    def forward(self, image: Tensor, question: Tensor) -> Tensor:
        """Describe an image (B, C, H, W) in the light of a question (B, D) as (B, out_width)."""
        x = image
        for block in self.blocks:
            x = block(x, question)
        return self.norm(x.mean((2, 3)))
