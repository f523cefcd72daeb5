"""The simulator's settings: what can be chosen before it is initialised, and what still counts afterwards."""

import math
import operator
import warnings
from pathlib import Path


class Settings:
    """The setters of the MatterSim API with its defaults."""

    def __init__(self) -> None:
        self._nav_graph: Path | None = None
        self._dataset: Path | None = None
        self._rendering, self._discretized, self._restricted = True, False, True
        self._preloading, self._depth = False, False
        self._width, self._height, self._vfov = 320, 240, 0.8
        self._min_elevation, self._max_elevation = -0.94, 0.94
        self._batch_size, self._cache_size, self._seed = 1, 200, 1
        self._generation: str | None = None
        self._min_cos = 0.0

    def _set(self, setter: str, **values: object) -> None:
        """Take settings that count before initialisation only."""
        if self._generation is not None:
            warnings.warn(f"{setter} has no effect after initialisation; call it before", stacklevel=3)
            return
        vars(self).update(values)

    def setDatasetPath(self, path: str) -> None:
        """Set the folder of the scans' images, with or without the final ``v1/scans``."""
        self._set("setDatasetPath", _dataset=Path(path))

    def setNavGraphPath(self, path: str) -> None:
        """Set the folder of the connectivity files."""
        self._set("setNavGraphPath", _nav_graph=Path(path))

    def setRenderingEnabled(self, value: bool) -> None:
        """Switch pictures on (default) or off."""
        self._set("setRenderingEnabled", _rendering=bool(value))

    def setDiscretizedViewingAngles(self, value: bool) -> None:
        """Turn and tilt in steps of 30 degrees, with three elevations; off by default."""
        self._set("setDiscretizedViewingAngles", _discretized=bool(value))

    def setRestrictedNavigation(self, value: bool) -> None:
        """List only what lies in the field of view (default), or every neighbour."""
        self._set("setRestrictedNavigation", _restricted=bool(value))

    def setPreloadingEnabled(self, value: bool) -> None:
        """Keep every panorama that was read, without limit; nothing is read ahead of its use."""
        self._set("setPreloadingEnabled", _preloading=bool(value))

    def setDepthEnabled(self, value: bool) -> None:
        """Switch depth pictures on; off by default."""
        self._set("setDepthEnabled", _depth=bool(value))

    def setBatchSize(self, size: int) -> None:
        """Set the number of agents of the batched API."""
        if operator.index(size) < 1:
            raise ValueError(f"batch size must be at least 1, got {size}")
        self._set("setBatchSize", _batch_size=operator.index(size))

    def setCacheSize(self, size: int) -> None:
        """Set how many panoramas are kept in memory."""
        self._set("setCacheSize", _cache_size=operator.index(size))

    def setSeed(self, seed: int) -> None:
        """Seed the choice of random viewpoints."""
        self._set("setSeed", _seed=operator.index(seed))

    def setCameraResolution(self, width: int, height: int) -> None:
        """Set the picture's size in pixels. Once initialised this changes what is navigable, not the pictures."""
        if operator.index(width) < 1 or operator.index(height) < 1:
            raise ValueError(f"camera resolution must be at least 1 pixel each way, got {width} x {height}")
        self._width, self._height = operator.index(width), operator.index(height)
        self._field_of_view("setCameraResolution")

    def setCameraVFOV(self, vfov: float) -> None:
        """Set the vertical field of view in radians; as ``setCameraResolution`` once initialised."""
        if not 0 < vfov < math.pi:
            raise ValueError(f"camera vfov must be radians between 0 and π, got {vfov}")
        self._vfov = float(vfov)
        self._field_of_view("setCameraVFOV")

    def setElevationLimits(self, min: float, max: float) -> bool:
        """Limit the elevation of the continuous simulator, radians: -π/2 < min < 0 < max < π/2, else False."""
        if not (-math.pi / 2 < min < 0 < max < math.pi / 2):
            return False
        self._min_elevation, self._max_elevation = float(min), float(max)
        return True

    def _field_of_view(self, setter: str) -> None:
        """Let a changed field of view decide on visibility, as the simulator does at any time."""
        # The half angle is linear in the aspect ratio there (40° for 640x480 and 60°), not the rendered one.
        half_rad = self._vfov * self._width / self._height / 2
        self._min_cos = math.cos(half_rad) if self._restricted else -math.inf
        if self._generation is not None:
            warnings.warn(
                f"{setter} after initialisation changes which locations are navigable, but not the pictures",
                stacklevel=4,  # past the simulator's own _field_of_view
            )
