"""The demo world: a seeded generator of furnished houses in the public file formats.

Floor plan (``floorplan``), furniture (``furniture``, ``designs``, ``palette``), viewpoints and graph (``graph``,
``house``), what can be seen and named (``sight``, ``landmarks``), R2R's paths and instructions (``world``,
``language``), RxR's (``winding``, ``languages``, ``rxr``, ``rxr_files``), pictures (``raycast``, ``shading``), files
and cache (``build``, ``making``), maps (``draw``). ``pictures``: views of the same
houses with questions and captions.
"""

from vln_clip.envs.demo.build import build_demo, demo_data, demo_folder
from vln_clip.envs.demo.config import DemoConfig

__all__ = ["DemoConfig", "build_demo", "demo_data", "demo_folder"]
