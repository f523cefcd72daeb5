"""Perspective views on the CPU: a view shows each cube face as one projective map, which OpenCV draws.

OpenCV 5 interpolates in floating point; older versions round positions to 1/32 pixel, which is too coarse for the
recorded views of the Matterport3D simulator, so they are not used.
"""

import functools
import logging
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from vln_clip.envs.cubemap import FACE_AXES

logger = logging.getLogger(__name__)
_NEEDED_MAJOR = 5
# A pixel center on the seam of two faces may be claimed by both, never by none.
_SEAM_PX = 1e-6
# Inside a face |s| <= 1 and |t| <= 1: normal - s, normal + s, normal - t, normal + t are not negative.
_INSIDE = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, -1.0], [1.0, 0.0, 1.0]])


@functools.cache
def opencv() -> ModuleType | None:
    """Return OpenCV where it is installed and new enough; say once what is lost where it is not."""
    try:
        import cv2
    except ImportError:
        found = "is not installed"
    else:
        if int(cv2.__version__.split(".")[0]) >= _NEEDED_MAJOR:
            return cv2
        found = f"{cv2.__version__} rounds positions to 1/32 pixel"
    logger.warning(
        f"OpenCV {found}: views are drawn with torch, several times slower on the CPU; "
        f"pip install 'opencv-python-headless>={_NEEDED_MAJOR}'"
    )
    return None


@dataclass(frozen=True)
class Patch:
    """The part of a view that shows one face.

    Attributes:
        view: index of the view.
        face: number of the face.
        matrix: (3, 3) from (column, row, 1) inside the bounding box to texel coordinates of the face with
            a border of one texel.
        box: left, top, right, bottom of the bounding box in the view.
        mask: (bottom - top, right - left) uint8, not 0 where the face is seen; None where it fills the box or
            other patches are drawn over the rest of it.
        source: left, top, right, bottom of the texels that are read.
    """

    view: int
    face: int
    matrix: np.ndarray
    box: tuple[int, int, int, int]
    mask: np.ndarray | None
    source: tuple[int, int, int, int]


def draw_views(faces: np.ndarray, patches: list[Patch], out: np.ndarray) -> None:
    """Draw views.

    Args:
        faces: (6, S, S, 3) uint8 RGB.
        patches: of ``plan_views``, for the size of these faces.
        out: (V, H, W, 3) uint8, is overwritten.
    """
    cv2 = opencv()
    assert cv2 is not None
    textures = _load_textures(cv2, faces, patches)
    canvas, scratch = np.empty((2, *out.shape[1:3], 4), np.uint8)
    for number, patch in enumerate(patches):
        _draw_patch(cv2, textures[patch.face], patch, canvas, scratch, cv2.INTER_LINEAR)
        if number + 1 == len(patches) or patches[number + 1].view != patch.view:
            cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB, dst=out[patch.view])


def draw_ranges(depth_faces: np.ndarray, patches: list[Patch], out: np.ndarray) -> None:
    """Draw stored ranges, each pixel from the nearest texel.

    Args:
        depth_faces: (6, S, S) uint16.
        patches: of ``plan_views``, for the size of these faces.
        out: (V, H, W) uint16, is overwritten.
    """
    cv2 = opencv()
    assert cv2 is not None
    seen = {patch.face for patch in patches}
    textures = {face: cv2.copyMakeBorder(depth_faces[face], 1, 1, 1, 1, cv2.BORDER_REPLICATE) for face in seen}
    scratch = np.empty(out.shape[1:], np.uint16)
    for patch in patches:
        _draw_patch(cv2, textures[patch.face], patch, out[patch.view], scratch, cv2.INTER_NEAREST)


def _draw_patch(
    cv2: ModuleType, texture: np.ndarray, patch: Patch, canvas: np.ndarray, scratch: np.ndarray, interpolation: int
) -> None:
    """Draw one patch into the picture of its view, by way of a scratch picture where it is masked."""
    left, top, right, bottom = patch.box
    size, target = (right - left, bottom - top), canvas[top:bottom, left:right]
    drawn = target if patch.mask is None else scratch[: size[1], : size[0]]
    # With a constant border OpenCV needs half the time that it needs to clamp to the edge by itself.
    cv2.warpPerspective(texture, patch.matrix, size, drawn, interpolation | cv2.WARP_INVERSE_MAP, cv2.BORDER_CONSTANT)
    if patch.mask is not None:
        cv2.copyTo(drawn, patch.mask, target)


def _load_textures(cv2: ModuleType, faces: np.ndarray, patches: list[Patch]) -> dict[int, np.ndarray]:
    """Copy the texels that are read.

    Each texture has a fourth channel, with which OpenCV warps about three times faster than without, and a copied
    border of one texel, so that filtering clamps to the edge of the face.
    """
    textures = {}
    size = faces.shape[1]
    for face in {patch.face for patch in patches}:
        rectangles = np.array([patch.source for patch in patches if patch.face == face])
        left, top = rectangles[:, :2].min(axis=0)
        right, bottom = rectangles[:, 2:].max(axis=0)
        # Texels outside of the rectangle stay unwritten; nothing that is read there survives the masks.
        texture = np.empty((size + 2, size + 2, 4), np.uint8)
        inside, rows = texture[1:-1, 1:-1], slice(top, bottom + 2)
        cv2.cvtColor(faces[face, top:bottom, left:right], cv2.COLOR_RGB2RGBA, dst=inside[top:bottom, left:right])
        texture[0], texture[-1] = texture[1], texture[-2]
        texture[rows, 0], texture[rows, -1] = texture[rows, 1], texture[rows, -2]
        textures[face] = texture
    return textures


def plan_views(matrices: np.ndarray, width_px: int, height_px: int, size_px: int) -> list[Patch]:
    """Work out which part of which view shows which face.

    Args:
        matrices: (V, 3, 3) of ``cubemap.pixel_matrices``.
        width_px: width of a view.
        height_px: height of a view.
        size_px: edge S of a face.

    Returns:
        Patches, view by view; the first of a view is not masked, the others are drawn over it.
    """
    local = FACE_AXES @ matrices[:, None]  # (V, 6, 3, 3): normal, s and t of (column, row, 1)
    half = size_px / 2
    to_texel = np.array([[half + 0.5, half, 0], [half + 0.5, 0, half], [1, 0, 0]])  # behind a border of 1 texel
    texel = to_texel @ local  # (V, 6, 3, 3)
    first, stop = _spans(_INSIDE @ local, width_px, height_px)
    area = np.maximum(stop - first, 0).sum(axis=-1)  # (V, 6)
    patches = []
    for view in range(len(matrices)):
        order = sorted(np.flatnonzero(area[view]), key=lambda face: -area[view, face])
        for rank, face in enumerate(order):
            span = first[view, face], stop[view, face]
            patches.append(_make_patch(view, int(face), texel[view, face], span, rank > 0, size_px))
    return patches


def _spans(inside: np.ndarray, width_px: int, height_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the columns at which each row of each view shows each face, which is one range per row.

    Args:
        inside: (V, 6, 4, 3), linear forms of (column, row, 1) that are not negative on the face.
        width_px: width of a view.
        height_px: height of a view.

    Returns:
        First column and the one after the last, (V, 6, H) int16 each; empty where the first is not smaller.
    """
    slope = inside[..., :1]  # (V, 6, 4, 1)
    at_zero = inside[..., 1:2] * np.arange(height_px) + inside[..., 2:]  # (V, 6, 4, H)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -at_zero / slope
    low = np.where(slope > 0, crossing, np.where((slope == 0) & (at_zero < 0), np.inf, 0.0)).max(axis=2)
    high = np.where(slope < 0, crossing, np.inf).min(axis=2)
    first = np.ceil(np.clip(low - _SEAM_PX, 0, width_px))
    stop = np.floor(np.clip(high + _SEAM_PX, -1, width_px - 1)) + 1
    return first.astype(np.int16), stop.astype(np.int16)


def _make_patch(
    view: int, face: int, texel: np.ndarray, span: tuple[np.ndarray, np.ndarray], masked: bool, size_px: int
) -> Patch:
    """Turn the ranges of columns of one face in one view, (H,) each, into a patch."""
    first, stop = span
    rows = np.flatnonzero(first < stop)
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(first[rows].min()), int(stop[rows].max())
    # Along a row s and t have their extremes at its ends.
    ends = np.array([first[rows], stop[rows] - 1])
    at_ends = texel[:, 0, None, None] * ends + (texel[:, 1, None] * rows + texel[:, 2, None])[:, None]  # (3, 2, h)
    texels = at_ends[:2] / at_ends[2] - 1  # without the border
    (low_s, low_t), (high_s, high_t) = texels.min(axis=(1, 2)).tolist(), texels.max(axis=(1, 2)).tolist()
    source = max(0, int(low_s)), max(0, int(low_t)), min(size_px, int(high_s) + 2), min(size_px, int(high_t) + 2)
    columns = np.arange(left, right, dtype=np.int16)
    begin, end = first[top:bottom, None], stop[top:bottom, None]
    mask = ((columns >= begin) & (columns < end)).view(np.uint8) if masked else None
    shift = np.array([[1.0, 0.0, left], [0.0, 1.0, top], [0.0, 0.0, 1.0]])
    return Patch(view, face, texel @ shift, (left, top, right, bottom), mask, source)
