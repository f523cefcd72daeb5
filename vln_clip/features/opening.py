"""Opens grids of images, whoever made them, and checks that they are those that are asked for."""

from pathlib import Path

from vln_clip.encoders.table import WIDTHS
from vln_clip.encoders.tower_files import describe_tower, is_tower, tower_path
from vln_clip.errors import InputError
from vln_clip.features.formats import HDF5_SUFFIXES
from vln_clip.features.grid import GRID_SUFFIX, GridReader, GridStore, open_grid
from vln_clip.features.public_grids import open_folder, open_hdf5_grids

_GRID_AXES = 3


def open_image_grids(path: Path, encoder: str | None = None, preset: str | None = None) -> GridReader:
    """Open the grids of images.

    Args:
        path: a folder NAME.grid, a folder of .npy, .npz or .pth files, or an HDF5 file.
        encoder: registry name that the grids must come from; None for any. Files of other programs do not say: of
            them the number of channels is checked.
        preset: name of the recipe by which they must be made; None for any.

    Raises:
        InputError: missing, damaged, of another kind, encoder or recipe.
    """
    if path.name.lower().endswith((".lmdb", ".mdb")) or (path / "data.mdb").is_file():
        raise InputError(
            f"LMDB files of features cannot be read, got {path}; write each image's array into a folder as .npy file "
            "named after the image (numpy.save), or into an HDF5 file"
        )
    if path.name.lower().endswith(HDF5_SUFFIXES) and path.is_file():
        grids: GridReader = open_hdf5_grids(path)
    elif path.is_dir() and not path.name.endswith(GRID_SUFFIX) and not (path / "index.json").is_file():
        grids = open_folder(path)
    else:
        grids = open_store(path)
    if encoder is not None:
        _check_encoder(grids, path, encoder)
    found = grids.header.preset
    if preset is not None and found and found != preset:
        raise InputError(
            f"grid features must be made with --preset {preset}, got {path} made with {found} ({grids.header.resize}); "
            "extract them again"
        )
    return grids


def open_store(path: Path) -> GridStore:
    """Open a folder NAME.grid of images; one of panoramas is an ``InputError``."""
    store = open_grid(path)
    if not store.rows:
        raise InputError(f"{path} must hold the grid features of at least one image, got none")
    if len(store.shape) != _GRID_AXES:
        raise InputError(
            f"{path} must hold grids (C, h, w) of images, got maps of shape {store.shape}, which are those of views; "
            "extract image files with --images"
        )
    return store


def _check_encoder(grids: GridReader, path: Path, encoder: str) -> None:
    found = grids.header.encoder
    if is_tower(encoder):  # the file may have been moved: its digest counts
        weights, wanted = grids.header.weights, describe_tower(tower_path(encoder))
        if is_tower(found) and weights.split()[-1:] == wanted.split()[-1:]:
            return
    if found and found != encoder:
        raise InputError(
            f"features of another encoder: grid features must come from {encoder}, got {path} which come from {found}; "
            f"extract them with --encoder {encoder}, or ask for {found}"
        )
    known = WIDTHS.get(encoder)
    if known and grids.shape[0] != known.grid:
        raise InputError(
            f"features of another encoder: grids of {encoder} have {known.grid} channels, got {grids.shape[0]} in "
            f"{path}"
        )
