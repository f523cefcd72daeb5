"""``pixels``: color and edge statistics of a view through a fixed random projection. It has no weights.

What the demo world's agents see with where no network's weights are at hand. A navigation model scores
candidates bilinearly in the features, so the statistics are made to be linearly useful: the share of each
color in the view and in its center (square root, so that a small bright object counts), edge strength by
direction, brightness. The definition includes the size at which views are rendered, 128 x 96.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vln_clip.encoders.base import Encoder, Preprocess, pool_from
from vln_clip.errors import InputError

DEFAULT_WIDTH = 640
WIDTH_PX, HEIGHT_PX, CELL_PX = 128, 96, 16
VERSION = "pixels-3"  # change it whenever the numbers that come out change
_NUM_HUES, _NUM_GRAYS, _NUM_EDGES = 12, 4, 4
_NUM_COLORS = 2 * _NUM_HUES + 1 + _NUM_GRAYS  # vivid hues, pale hues, brown, black to white
_NUM_STATS = _NUM_COLORS + _NUM_EDGES + 2  # and brightness: mean and spread
_LEVELS = 32  # per channel, in the color table
_CONTEXTS = (3, 7)  # cells high and wide
_NUM_PLACES = 6  # row and column, and a wave along each
_NUM_GRID = (1 + len(_CONTEXTS)) * _NUM_STATS + _NUM_PLACES
# Rows and columns of cells, and weight: the whole view, and more than that its center column, where a candidate is.
# Finer regions let small training sets be learned by heart: in the demo world they cost 6 points on val_unseen.
_REGIONS = [((0, 6), (0, 8), 1.0), ((0, 6), (3, 5), 1.5)]
_SEED = 20210713


class PixelsEncoder(Encoder):
    """Statistics of a view, projected to any width.

    Where the width is at least the number of statistics the projection is orthonormal and loses nothing.
    Pooled features have L2 norms of about 4: at five times that, agents of the demo world learn more by heart and see
    less (val_unseen success rate of a follower 70 instead of 79 % with 400 labelled paths). ``grid`` has one
    vector per 16 x 16 pixels, which tells what is around them and where they lie, too.
    """

    trainable = False
    for_small_images = True
    min_side_px = CELL_PX
    table: Tensor
    projection: Tensor
    cell_projection: Tensor
    mean: Tensor
    gain: Tensor
    regions: Tensor
    region_weights: Tensor

    def __init__(self, name: str, width: int = DEFAULT_WIDTH):
        super().__init__()
        self.name, self.pooled_width, self.grid_width = name, width, width
        self.image_size_px = (HEIGHT_PX, WIDTH_PX)
        self.transform = Preprocess(self.image_size_px, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "squash", "bilinear")
        self.weights, self.pooling = VERSION, f"{len(_REGIONS)} regions x {_NUM_STATS} statistics"
        mean, gain = _scales()
        for key, value in {
            "table": color_table(),
            "projection": projection(len(_REGIONS) * _NUM_STATS, width),
            "cell_projection": projection(_NUM_GRID, width),
            "mean": mean,
            "gain": gain,
            "regions": _region_matrix(),
            "region_weights": torch.tensor([[weight] for _, _, weight in _REGIONS]),
        }.items():
            self.register_buffer(key, value, persistent=False)

    def pooled(self, images: Tensor) -> Tensor:
        """Return the projected statistics of all regions, (B, D); see ``Encoder.pooled``."""
        return self._pool(self._sized_cells(images))

    def pooled_with_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``pooled`` as a function of the cells' statistics (B, S, 6, 8); see ``Encoder.pooled_with_map``."""
        with torch.no_grad():
            cells = self._sized_cells(images).permute(0, 3, 1, 2)
        return pool_from(cells, lambda grid: self._pool(grid.permute(0, 2, 3, 1)))

    def _sized_cells(self, images: Tensor) -> Tensor:
        """Return the statistics of the cells of images of any size, (B, 6, 8, S)."""
        if images.shape[-2:] != self.image_size_px:
            images = F.interpolate(images, size=self.image_size_px, mode="bilinear", antialias=True)
        return self._cells(images)

    def _pool(self, cells: Tensor) -> Tensor:
        """Pool the cells of views, (B, 6, 8, S) to (B, D)."""
        regions = self.regions @ cells.flatten(1, 2)  # (B, R, S)
        return (self._standardize(regions) * self.region_weights).flatten(1) @ self.projection

    def grid(self, images: Tensor) -> Tensor:
        """Return each cell with its surroundings and its place, projected, (B, C, h // 16, w // 16).

        The last map of a network knows of each cell what is around it and where it lies; so does this one.
        """
        cells = self._standardize(self._cells(images)).permute(0, 3, 1, 2)  # (B, S, h', w')
        around = [F.avg_pool2d(cells, size, 1, size // 2, count_include_pad=False) for size in _CONTEXTS]
        places = _places(cells.shape[2], cells.shape[3]).to(cells.device).expand(len(cells), -1, -1, -1)
        known = torch.cat([cells, *around, places], 1)
        return (known.permute(0, 2, 3, 1) @ self.cell_projection).permute(0, 3, 1, 2)

    def _cells(self, images: Tensor) -> Tensor:
        """Average the raw statistics over cells of 16 x 16 pixels.

        Args:
            images: (B, 3, h, w) float32 in [0, 1].

        Returns:
            (B, h // 16, w // 16, S): shares of colors (sum 1), mean edge strengths, mean brightness and its square.
        """
        rows, columns = images.shape[-2] // CELL_PX, images.shape[-1] // CELL_PX
        images = images[..., : rows * CELL_PX, : columns * CELL_PX]
        B = images.shape[0]
        codes = (images * (_LEVELS - 1) + 0.5).to(torch.int32).clamp_(0, _LEVELS - 1)
        codes = (codes[:, 0] * _LEVELS + codes[:, 1]) * _LEVELS + codes[:, 2]  # (B, h, w)
        bags = codes.view(B, rows, CELL_PX, columns, CELL_PX).transpose(2, 3).reshape(-1, CELL_PX * CELL_PX)
        colors = F.embedding_bag(bags, self.table, mode="mean").view(B, rows, columns, _NUM_COLORS)
        brightness = F.avg_pool2d(images.mean(1, keepdim=True), 2)  # edges at half size: cheaper, less noise
        edges = edge_strengths(brightness)
        maps = torch.cat([edges, brightness, brightness.square()], 1)
        maps = F.avg_pool2d(maps, CELL_PX // 2).permute(0, 2, 3, 1)
        return torch.cat([colors, maps], -1)

    def _standardize(self, stats: Tensor) -> Tensor:
        """Take roots, then bring every statistic to a comparable scale: (…, S) to (…, S)."""
        shares, mean, square = _root(stats[..., :-2]), stats[..., -2:-1], stats[..., -1:]
        spread = _root(square - mean.square())
        return (torch.cat([shares, mean, spread], -1) - self.mean) * self.gain


def _places(rows: int, columns: int) -> Tensor:
    """Return where each cell of a grid lies, (1, 6, rows, columns) in [-1, 1]."""
    y = torch.linspace(-1, 1, rows)[:, None].expand(rows, columns)
    x = torch.linspace(-1, 1, columns)[None].expand(rows, columns)
    waves = [wave(torch.pi * axis) for axis in (x, y) for wave in (torch.sin, torch.cos)]
    return torch.stack([x, y, *waves])[None]


def edge_strengths(brightness: Tensor) -> Tensor:
    """Return absolute differences across vertical, horizontal and both diagonal edges.

    Args:
        brightness: (B, 1, h, w) in [0, 1].

    Returns:
        (B, 4, h, w) in [0, 1], zero at the last row and column.
    """
    here, right = brightness[..., :-1, :-1], brightness[..., :-1, 1:]
    below, corner = brightness[..., 1:, :-1], brightness[..., 1:, 1:]
    strengths = torch.cat([here - right, here - below, here - corner, right - below], 1).abs_()
    return F.pad(strengths, (0, 1, 0, 1))


@cache
def color_table() -> Tensor:
    """Return the share that each quantised color has in each color bin.

    Returns:
        (32768, 29) float32, rows sum to 1: 12 vivid hues from red on, the same 12 pale, brown, black, dark
        gray, light gray, white. Row ``(32 r + g) 32 + b`` for 5-bit channels.
    """
    axis = np.arange(_LEVELS) / (_LEVELS - 1)
    rgb = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    value, chroma = rgb.max(1), rgb.max(1) - rgb.min(1)
    saturation = chroma / np.maximum(value, 1e-9)
    hue = _hue(rgb, value, chroma) * _NUM_HUES  # in bins
    colored = np.clip((chroma - 0.04) / 0.08, 0, 1)
    vivid = colored * np.clip((chroma * (0.5 + 0.5 * saturation) - 0.12) / 0.23, 0, 1)
    orange = np.clip(1.5 - np.abs(hue - 0.9), 0, 1)  # hues of about 0 to 45 degrees
    brown = colored * orange * np.clip((0.68 - value) / 0.15, 0, 1) * np.clip((0.92 - saturation) / 0.15, 0, 1)
    hues = _soft_bins(hue, _NUM_HUES, wrap=True)
    grays = _soft_bins(value * (_NUM_GRAYS - 1), _NUM_GRAYS, wrap=False)
    rest = 1 - brown
    parts = [hues * (vivid * rest)[:, None], hues * ((colored - vivid).clip(0) * rest)[:, None]]
    table = np.concatenate([*parts, brown[:, None], grays * (1 - colored)[:, None]], 1)
    table /= table.sum(1, keepdims=True)
    return torch.from_numpy(table.astype(np.float32))


def projection(num_stats: int, width: int) -> Tensor:
    """Return a fixed random matrix: orthonormal rows where ``width >= num_stats``, else orthonormal columns.

    The bits of PCG64 are the same everywhere; entries are rounded so that those of the matrix are too.

    Returns:
        (num_stats, width) float32, scaled so that norms are kept on average.
    """
    raw = np.random.PCG64(_SEED).random_raw(4 * num_stats * width).reshape(4, num_stats, width)
    noise = (raw >> np.uint64(11)).astype(np.float64).sum(0) * 2.0**-52 - 4.0  # sum of four uniforms in [-1, 1)
    tall = noise.T if width >= num_stats else noise
    basis, triangle = np.linalg.qr(tall)
    basis = basis * np.sign(np.diag(triangle))
    matrix = basis.T if width >= num_stats else basis * (num_stats / width) ** 0.5
    return torch.from_numpy((np.round(matrix * 2.0**20) * 2.0**-20).astype(np.float32))


def create(name: str, pretrained: bool | Path | str = True) -> Encoder:
    """Make the encoder; ``pixels`` has 640 columns, ``pixels:W`` has W. Weights are never needed."""
    del pretrained
    width = name.partition(":")[2] or str(DEFAULT_WIDTH)
    if not width.isdecimal() or not 1 <= int(width) <= 8192:
        raise InputError(f"width of pixels:WIDTH must be 1 to 8192, got {width!r}")
    return PixelsEncoder(name, int(width))


def _root(x: Tensor) -> Tensor:
    """Return the square root, 0 below 0; its gradient is 0 there, not infinite: what is absent speaks for nothing."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def _hue(rgb: np.ndarray, value: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Return hue in [0, 1), 0 = red, as HSV defines it."""
    r, g, b = rgb.T
    safe = np.maximum(chroma, 1e-9)
    sector = np.where(value == r, (g - b) / safe, np.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    return (sector / 6) % 1.0


def _soft_bins(position: np.ndarray, count: int, wrap: bool) -> np.ndarray:
    """Share each position between its two nearest bins: (n,) to (n, count), rows sum to 1."""
    low = np.floor(position).astype(int)
    part = position - low
    high = (low + 1) % count if wrap else np.minimum(low + 1, count - 1)
    rows = np.arange(len(position))
    shares = np.zeros((len(position), count))
    np.add.at(shares, (rows, low % count), 1 - part)
    np.add.at(shares, (rows, high), part)
    return shares


def _region_matrix() -> Tensor:
    """Return the weights that average cells over regions, (R, 48)."""
    weights = torch.zeros(len(_REGIONS), HEIGHT_PX // CELL_PX, WIDTH_PX // CELL_PX)
    for weight, (rows, columns, _) in zip(weights, _REGIONS, strict=True):
        weight[slice(*rows), slice(*columns)] = 1
    weights = weights.flatten(1)
    return weights / weights.sum(1, keepdim=True)


def _scales() -> tuple[Tensor, Tensor]:
    """Return typical value and gain of each statistic, (S,) each: rare vivid colors are turned up, grays down."""
    groups = [  # count, typical value, gain (about 0.4 / standard deviation in the demo world)
        (_NUM_HUES, 0.08, 3.0),
        (_NUM_HUES, 0.09, 2.4),
        (1, 0.20, 2.4),
        (_NUM_GRAYS, 0.25, 2.0),
        (_NUM_EDGES, 0.16, 6.0),
        (1, 0.58, 2.4),
        (1, 0.18, 4.8),
    ]
    mean = torch.cat([torch.full((count,), typical) for count, typical, _ in groups])
    gain = torch.cat([torch.full((count,), gain) for count, _, gain in groups])
    return mean, gain
