"""Whether a folder of grid features is sound, and complete for folders of images; read map by map."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vln_clip.errors import InputError
from vln_clip.features.audit import known_widths
from vln_clip.features.grid import GRID_SUFFIX, GridReader, GridStore, open_grid
from vln_clip.features.opening import open_image_grids

_SHOWN = 3


def verify_grids(path: Path, wanted: Sequence[str] = ()) -> bool:
    """Print what is found in a folder of grid features; return whether nothing is wrong.

    Args:
        path: NAME.grid of images or of views, or a folder of another program's files.
        wanted: keys of images that must be there.
    """
    try:
        is_store = path.name.endswith(GRID_SUFFIX) or (path / "index.json").is_file()
        grids: GridReader = open_grid(path) if is_store else open_image_grids(path)
        keys = list(grids.image_keys)
        shape = " x ".join(map(str, grids.shape))
        problems = list(_problems(grids))
    except InputError as error:
        print(f"{path}: UNREADABLE\n  problem: {error}")
        return False
    print(f"{path}: {len(keys):,} maps of {shape}, {grids.header.encoder or 'unknown encoder'}")
    lacking = [key for key in wanted if key not in grids]
    if wanted:
        print(f"  images: {len(wanted) - len(lacking):,} of {len(wanted):,}")
    problems += [f"{len(lacking):,} images have no grid: {_some(lacking)}"] if lacking else []
    for problem in problems:
        print(f"  problem: {problem}")
    print(f"  {'WRONG' if problems else 'sound' + (' and complete' if wanted else '')}")
    return not problems


def _problems(grids: GridReader) -> Iterator[str]:
    """Read every map once."""
    bad, zero = [], []
    keys = list(grids.image_keys)
    if not keys:
        yield "it must hold at least one map, got none"
    if isinstance(grids, GridStore) and len(keys) < sum(map(len, grids.keys.values())):
        yield "some keys occur more than once"
    for key in keys:
        values = grids.read([key]).float().numpy()
        if not np.isfinite(values).all():
            bad.append(key)
        elif not values.any():
            zero.append(key)
    if bad:
        yield f"{len(bad):,} maps have values that are not finite: {_some(bad)}"
    if zero:
        yield f"{len(zero):,} maps are all zero: {_some(zero)}"
    known = known_widths(grids.header.encoder)
    if known and keys and grids.shape[-3] != known.grid:
        yield f"grid features of {grids.header.encoder} have {known.grid} channels, got {grids.shape[-3]}"


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (" and others" if len(keys) > _SHOWN else "")
