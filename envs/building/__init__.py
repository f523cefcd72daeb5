"""Bring your own building: panoramas and a table of poses become the public files of a scan."""

from vln_clip.envs.building.check import ScanReport, check_scan
from vln_clip.envs.building.edges import EdgeRules, connect, sight_lines
from vln_clip.envs.building.graph_file import write_graph
from vln_clip.envs.building.map import draw_map
from vln_clip.envs.building.panoramas import find_panoramas
from vln_clip.envs.building.poses import PanoramaPose, read_poses
from vln_clip.envs.building.skybox import SkyboxOptions, write_skyboxes

__all__ = [
    "EdgeRules",
    "PanoramaPose",
    "ScanReport",
    "SkyboxOptions",
    "check_scan",
    "connect",
    "draw_map",
    "find_panoramas",
    "read_poses",
    "sight_lines",
    "write_graph",
    "write_skyboxes",
]
