"""Takes the simulator emulation's pictures: reads skyboxes, keeps some, renders them in the simulator's format."""

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from vln_clip.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


class Camera:
    """A camera that can be pointed anywhere from any viewpoint.

    Args:
        folder: of the scans' images, with or without the final ``v1/scans``.
        width_px: of a picture.
        height_px: of a picture.
        vfov_rad: vertical field of view.
        cache_size: panoramas kept in memory; None for all.
        depth: take depth pictures too.
        prefer: which files to read where both exist: the batched simulator reads the strip, the older one the faces.
    """

    def __init__(
        self,
        folder: Path,
        width_px: int,
        height_px: int,
        vfov_rad: float,
        cache_size: int | None,
        depth: bool,
        prefer: Literal["faces", "strip"],
    ) -> None:
        self.folder, self.cache_size, self.depth, self.prefer = folder, cache_size, depth, prefer
        self.width_px, self.height_px, self.vfov_rad = width_px, height_px, vfov_rad
        self._kept: OrderedDict[tuple[str, str], tuple[Tensor, Tensor | None]] = OrderedDict()

    def shoot(
        self, scan: str, viewpoint_id: str, rotation: np.ndarray, heading_rad: float, elevation_rad: float
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (H, W, 3) uint8 BGR and, where asked for, (H, W) uint16 depth in units of 0.25 mm.

        Raises:
            InputError: an image is missing or damaged.
        """
        from vln_clip.envs.render import render_depth, render_views  # loads PyTorch: only where there are pictures

        faces, depth_faces = self._panorama(scan, viewpoint_id)
        pose = (rotation, [heading_rad], [elevation_rad], self.width_px, self.height_px, self.vfov_rad)
        rgb = render_views(faces, *pose)[0].numpy()
        depth = None if depth_faces is None else render_depth(depth_faces, *pose)[0].numpy()
        return np.ascontiguousarray(rgb[..., ::-1]), depth

    def _panorama(self, scan: str, viewpoint_id: str) -> "tuple[Tensor, Tensor | None]":
        from vln_clip.envs.render import load_skybox, load_skybox_depth

        key = (scan, viewpoint_id)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        folder = self._images(scan)
        depth = load_skybox_depth(folder, viewpoint_id) if self.depth else None
        self._kept[key] = load_skybox(folder, viewpoint_id, prefer=self.prefer), depth
        if self.cache_size is not None and len(self._kept) > self.cache_size:
            self._kept.popitem(last=False)
        return self._kept[key]

    def _images(self, scan: str) -> Path:
        tried = [self.folder / part / scan / "matterport_skybox_images" for part in ("", "v1/scans")]
        for folder in tried:
            if folder.is_dir():
                return folder
        raise InputError(
            f"skyboxes of scan {scan} must be in {tried[0]}, which is no folder; name the folder of the scans with "
            "setDatasetPath, or switch pictures off with setRenderingEnabled(False)"
        )
