"""How an image enters a CLIP-ViL_p model: the encoder's grid, 2-D positions, some or all of its cells, projected."""

import torch
from torch import Tensor, nn

from vln_clip.encoders import Encoder
from vln_clip.errors import InputError
from vln_clip.tasks.pretraining.models.layers import NORM_EPS, Dropout, prepared
from vln_clip.tasks.pretraining.models.sizes import VilSizes

PROBE_SIDE_PX = 64  # of an image that shows which weights a grid depends on


class GridPositions(nn.Module):
    """A learned vector for every row and every column of a grid, in the encoder's space.

    Args:
        num_positions: most rows and most columns.
        grid_width: C.
        std: of the random vectors.
    """

    def __init__(self, num_positions: int, grid_width: int, std: float) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(num_positions, grid_width).normal_(std=std))
        self.columns = nn.Parameter(torch.empty(num_positions, grid_width).normal_(std=std))

    def forward(self, grid: Tensor) -> Tensor:
        """Add the positions of its cells to a grid (B, C, h, w).

        Raises:
            InputError: the grid is larger than the tables, which are never interpolated.
        """
        h, w = grid.shape[2:]
        if max(h, w) > len(self.rows):
            raise InputError(
                f"a grid must have at most num_positions = {len(self.rows)} rows and columns, got {h} x {w} cells; "
                "take smaller images, an encoder with larger cells, or a model with a larger num_positions"
            )
        return grid + self.rows[:h].T[:, :, None] + self.columns[:w].T[:, None]


def sample_cells(cells: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Choose ``count`` cells of each image without replacement.

    Args:
        cells: (B, N, C).
        count: at least 1; all cells come back where there are no more than so many.
        generator: draws them.

    Returns:
        (B, min(count, N), C), in random order: nothing after this depends on the order.
    """
    B, N, C = cells.shape
    if count >= N:
        return cells
    keys = torch.rand(B, N, generator=generator, device=generator.device)
    chosen = keys.topk(count, 1).indices.to(cells.device)  # (B, P)
    return cells.gather(1, chosen[:, :, None].expand(-1, -1, C))


class VisualInput(nn.Module):
    """Positions, sampling and projection of a grid.

    Args:
        grid_width: C.
        sizes: of the model.
        num_patches: cells that are sampled; None takes all.
    """

    def __init__(self, grid_width: int, sizes: VilSizes, num_patches: int | None) -> None:
        super().__init__()
        if num_patches is not None and num_patches < 1:
            raise ValueError(f"num_patches must be at least 1, or None for all cells, got {num_patches}")
        self.num_patches = num_patches
        self.positions = GridPositions(sizes.num_positions, grid_width, sizes.initial_std)
        self.projection = prepared(nn.Linear(grid_width, sizes.width), sizes.initial_std)
        self.norm = nn.LayerNorm(sizes.width, eps=NORM_EPS)
        self.dropout = Dropout(sizes.dropout)

    @torch.no_grad()
    def standardize(self, grid: Tensor) -> None:
        """Let a random projection begin with channels of mean 0 and about one spread over some maps (B, C, h, w).

        Maps of rectified channels have a large mean, which is the same for every cell and hides what is not: models
        that learn from few pairs would look at texts alone for long.
        """
        cells = grid.flatten(2).transpose(1, 2).flatten(0, 1)  # (B * N, C)
        mean, spread = cells.mean(0), cells.std(0)
        self.projection.weight.div_(spread + 0.1 * spread.mean())
        self.projection.bias.copy_(-(self.projection.weight @ mean))

    def forward(self, grid: Tensor, generator: torch.Generator | None) -> Tensor:
        """Turn a grid (B, C, h, w) into tokens (B, V, D); the generator chooses cells where not all are taken."""
        cells = self.positions(grid).flatten(2).transpose(1, 2)  # (B, N, C)
        if self.num_patches is not None and cells.shape[1] > self.num_patches:
            if generator is None:
                raise ValueError(f"num_patches = {self.num_patches} cells are drawn by a generator, got None; pass one")
            cells = sample_cells(cells, self.num_patches, generator)
        return self.dropout(self.norm(self.projection(cells)))


def freeze_unused(encoder: Encoder) -> None:
    """Take the weights that ``encoder.grid`` doesn't depend on, such as a pool's, out of training.

    They would never get a gradient, which optimizers and several ranks would have to be told of.
    """
    named = {name: value for name, value in encoder.named_parameters() if value.requires_grad}
    if not named:
        return
    side_px = max(PROBE_SIDE_PX, encoder.min_side_px)
    image = torch.zeros(1, 3, side_px, side_px, device=next(iter(named.values())).device)
    was_training = encoder.training
    encoder.eval()
    with torch.enable_grad():
        gradients = torch.autograd.grad(encoder.grid(image).sum(), list(named.values()), allow_unused=True)
    encoder.train(was_training)
    for value, gradient in zip(named.values(), gradients, strict=True):
        if gradient is None:
            value.requires_grad_(False)
