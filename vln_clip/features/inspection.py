"""What a feature file, or a folder of grid features, holds: printed."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vln_clip.features.formats import check_exists, format_of, read_header, read_rows
from vln_clip.features.grid import GRID_SUFFIX, open_grid
from vln_clip.features.opening import open_image_grids
from vln_clip.features.store import StoreHeader, open_store
from vln_clip.records import NUM_VIEWS

_SAMPLE = 200


def inspect(path: Path) -> None:
    """Print header, shape and norms of one file, or header and shape of a folder of grid features.

    Raises:
        InputError: it cannot be read.
    """
    if path.name.lower().endswith(GRID_SUFFIX):
        _inspect_grid(path)
        return
    if path.is_dir():
        _inspect_folder(path)
        return
    kind = format_of(path)
    check_exists(path)
    _print_header(read_header(path))
    if kind == "store":
        store = open_store(path)
        count, width, dtype = len(store.keys), store.width, str(store.features.dtype).removeprefix("torch.")
        sample = store.features[: min(count, _SAMPLE)].float().numpy()
        example = store.keys[0] if count else "none"
    else:
        count, example = 0, "none"
        kept: list[np.ndarray] = []
        for key, features in read_rows(path):
            example = key if not count else example
            # Files of others may hold several widths, which verify tells of.
            kept += [features] if count < _SAMPLE and (not kept or features.shape == kept[0].shape) else []
            count += 1
        sample = np.stack(kept) if kept else np.zeros((0, NUM_VIEWS, 0), np.float32)
        width, dtype = sample.shape[2], str(sample.dtype)
    norms = np.linalg.norm(sample.reshape(-1, max(width, 1)), axis=1)
    print(f"{path}: {count} viewpoints x {NUM_VIEWS} views x {width} {dtype}, first {example}")
    if len(norms):
        low, mean, high = norms.min(), norms.mean(), norms.max()
        print(f"L2 norm of views (first {_SAMPLE} viewpoints): {low:.3f} to {high:.3f}, mean {mean:.3f}")


def _inspect_grid(path: Path) -> None:
    """Print header and shape of a folder of grid features; every file is opened and held against the index."""
    grid = open_grid(path)
    firsts = [keys[0] for keys in grid.keys.values() if keys]
    maps = [grid[key] for key in firsts]
    _print_header(grid.header)
    shapes = sorted({" x ".join(map(str, features.shape)) for features in maps})
    dtypes = sorted({str(features.dtype).removeprefix("torch.") for features in maps})
    size = f" of {' or '.join(shapes)} {' or '.join(dtypes)}" if maps else ""
    first = f", first {firsts[0]}" if firsts else ""
    print(f"{path}: {len(grid.rows)} maps{size} in {len(grid.keys)} files{first}")


def _inspect_folder(path: Path) -> None:
    """Print what a folder of other programs' grids, one file per image, holds."""
    grids = open_image_grids(path)
    sample = grids.read(list(grids.image_keys)[:1])
    size = f"{' x '.join(map(str, grids.shape))} {str(sample.dtype).removeprefix('torch.')}"
    print(f"{path}: {len(grids.image_keys)} grids, first {grids.image_keys[0]} of {size} (C x h x w)")


def _print_header(header: StoreHeader | None) -> None:
    if header:
        print(json.dumps(asdict(header), indent=2))
