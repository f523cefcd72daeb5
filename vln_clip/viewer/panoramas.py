"""Equirectangular pictures of viewpoints, drawn from skyboxes: as wide as a page has room for, or none."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vln_clip import log
from vln_clip.envs.render import render_equirectangular
from vln_clip.features.extraction import Panorama
from vln_clip.features.pipeline import num_cpus
from vln_clip.viewer.faces import load_faces
from vln_clip.viewer.skyboxes import SkyboxFinder

QUALITY = 80  # of JPEG
WIDTHS_PX = (1024, 768, 512)
MAX_WIDTH_PX = 8192
_SAMPLES = 8  # drawn first, to tell whether all will have room
_BASE64 = 4 / 3


@dataclass(frozen=True)
class Panoramas:
    """Pictures of a page.

    Attributes:
        width_px: of each; the height is half of it.
        pictures: JPEG files, in the order of ``viewpoints``.
        viewpoints: global viewpoints.
    """

    width_px: int
    pictures: tuple[bytes, ...]
    viewpoints: tuple[int, ...]

    @property
    def size_bytes(self) -> float:
        """Return what the pictures take up in a page, where they stand as text."""
        return _text_bytes(self.pictures)


def panorama_jpeg(folder: Path, viewpoint_id: str, rotation: np.ndarray, width_px: int) -> bytes:
    """Draw the panorama of a viewpoint.

    Args:
        folder: with its skybox files.
        viewpoint_id: its id.
        rotation: (3, 3), skybox camera to world.
        width_px: width, even; the height is half of it.

    Returns:
        A JPEG file: heading 0 (+y) in the middle, headings increasing to the right, straight up at the upper edge.

    Raises:
        InputError: its skybox files are missing or damaged.
    """
    picture = render_equirectangular(load_faces(folder, viewpoint_id), rotation, width_px).numpy()
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def draw_panoramas(
    viewpoints: Sequence[int], finder: SkyboxFinder, room_bytes: float, width_px: int | None = None
) -> tuple[Panoramas | None, list[str]]:
    """Draw the panoramas of a page, in the largest of the usual widths for which there is room.

    Args:
        viewpoints: global viewpoints to draw, each once.
        finder: of their skyboxes.
        room_bytes: what all pictures together may take up in the page.
        width_px: the width to take, even; None chooses among ``WIDTHS_PX``.

    Returns:
        The pictures, None where there are no skyboxes or no room; and what a viewer must be told.

    Raises:
        InputError: a skybox file is damaged.
    """
    found = [(viewpoint, place) for viewpoint in viewpoints if (place := finder.find(viewpoint)) is not None]
    if not found:
        return None, ["no panoramas: the data folder holds no skyboxes of these buildings"]
    notes = []
    if len(found) < len(viewpoints):
        notes.append(f"{len(viewpoints) - len(found)} of {len(viewpoints)} viewpoints have no skybox, so no panorama")
    drawn, places = [viewpoint for viewpoint, _ in found], [place for _, place in found]
    widths = _widths_px(places[0]) if width_px is None else (width_px,)
    for width in widths:
        samples = _draw(places[:: -(-len(places) // _SAMPLES)], width)
        if _text_bytes(samples) / len(samples) * len(places) > room_bytes:
            continue
        pictures = _draw(places, width)
        if _text_bytes(pictures) <= room_bytes:
            if width < widths[0]:
                notes.append(f"panoramas are {width} px wide: wider ones do not fit into {_megabytes(room_bytes)}")
            return Panoramas(width, tuple(pictures), tuple(drawn)), notes
    need = _text_bytes(samples) / len(samples) * len(places)
    notes.append(
        f"panoramas are left out: {len(places)} of {widths[-1]} px need about {_megabytes(need)}, and there is room "
        f"for {_megabytes(room_bytes)}; fewer episodes (--limit, --episode) or a larger --max-mb bring them back"
    )
    return None, notes


def _widths_px(place: Panorama) -> tuple[int, ...]:
    """Return the widths to try: those of which a skybox fills at least every second pixel around the horizon."""
    size_px = load_faces(place.folder, place.viewpoint_id).shape[1]
    useful = tuple(width for width in WIDTHS_PX if width <= 2 * 4 * size_px)
    return useful or WIDTHS_PX[-1:]


def _draw(places: Sequence[Panorama], width_px: int) -> list[bytes]:
    """Draw panoramas, several at a time."""
    with log.progress() as bar, ThreadPoolExecutor(num_cpus()) as pool:
        task = bar.add_task("panoramas", total=len(places), status=f"{width_px} px")
        pictures = []
        for picture in pool.map(lambda p: panorama_jpeg(p.folder, p.viewpoint_id, p.rotation, width_px), places):
            pictures.append(picture)
            bar.advance(task)
    return pictures


def _text_bytes(pictures: Sequence[bytes]) -> float:
    return sum(map(len, pictures)) * _BASE64


def _megabytes(size_bytes: float) -> str:
    return f"{max(size_bytes, 0) / 1e6:.1f} MB"
