"""Bring your own building: ``python -m vln_clip.scenes build|check|map|example``.

``build`` makes the public files of a scan (connectivity and skyboxes) out of equirectangular panoramas and a table
of poses; ``check`` and ``map`` work on every data folder; ``example`` writes a building to try.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from vln_clip import log, paths
from vln_clip.connectivity.graphs import ScanGraph, graph_path, load_graph, read_scans
from vln_clip.envs import building
from vln_clip.envs.building.check import graph_notes
from vln_clip.envs.building.edges import read_corrections
from vln_clip.envs.building.example import DEPTH_UNIT_M, write_example
from vln_clip.envs.building.graph_file import check_replaceable, check_scan_name
from vln_clip.envs.building.skybox import num_cpus
from vln_clip.errors import InputError

PROG = "python -m vln_clip.scenes"
DESCRIPTION = "Bring your own building: panoramas and poses become the public files of a scan."


@dataclass(frozen=True)
class Build:
    """Make connectivity and skyboxes out of panoramas and a table of poses; a stopped build goes on when run again."""

    panoramas: Path
    """Folder of equirectangular images (360 x 180 degrees, twice as wide as high)."""
    poses: Path
    """Table, .csv or .json: image and/or viewpoint, x_m y_m z_m, heading_deg (or _rad) of the image's middle; optional
    pitch_deg roll_deg camera_height_m; qw qx qy qz in place of angles. z is up, heading 0 is +y, clockwise."""
    out: Path
    """Data folder, laid out like $VLN_CLIP_DATA; other scans in it stay."""
    scan: str | None = None
    """Id of the building; by default the name of the folder that --poses is in."""
    overwrite: bool = False
    """Replace a graph of the same name even where it looks like another building's."""
    depth: Path | None = None
    """Folder of equirectangular 16-bit depth PNGs, one per panorama: edges then need a free line of sight."""
    depth_unit: float = DEPTH_UNIT_M
    """Metres per unit of depth; 0 means no reading."""
    margin: float = 0.25
    """How many metres a depth reading may fall short of the distance to a visible viewpoint."""
    max_distance: float = 4.0
    """Longest edge in metres."""
    max_rise: float = 1.5
    """Largest difference in height of an edge in metres."""
    nearest: int | None = None
    """An edge must lead to one of the so many nearest viewpoints of either end."""
    edges: Path | None = None
    """Corrections, .csv with the columns a, b, edge (1 joins, 0 parts), applied last."""
    camera_height: float = 1.5
    """Metres over the floor, where the table has no camera_height_m."""
    size: int | None = None
    """Edge of a skybox face in pixels; by default as sharp as the panorama, at most 1024."""
    files: Literal["faces", "strip", "both"] = "faces"
    """Six faces, the strip that the batched MatterSim reads, or both."""
    strip_size: int = 512
    """Edge of a face in the strip in pixels."""
    quality: int = 92
    """JPEG quality."""
    workers: int | None = None
    """Processes; by default one per CPU."""


@dataclass(frozen=True)
class Check:
    """Check graphs and skyboxes of a data folder; exit status 2 where something is wrong."""

    data: tyro.conf.Positional[Path | None] = None
    """Data folder; by default $VLN_CLIP_DATA."""
    scan: tuple[str, ...] = ()
    """Only these; by default every scan of scans.txt."""
    images: bool = True
    """Also read every skybox."""
    workers: int | None = None
    """Threads; by default one per CPU."""


@dataclass(frozen=True)
class Map:
    """Draw the maps of scans as PNG files."""

    data: tyro.conf.Positional[Path | None] = None
    """Data folder; by default $VLN_CLIP_DATA."""
    scan: tuple[str, ...] = ()
    """Only these; by default every scan of scans.txt."""
    out: Path = Path(".")
    """Folder for <scan>_map.png."""


@dataclass(frozen=True)
class Example:
    """Write panoramas, depth and poses of one demo house, to try `build` with."""

    out: Path
    """Folder to write into."""
    house: int = 0
    """Number of the house in the demo world."""
    width: int = 1024
    """Width of a panorama in pixels, at most 4096: as sharp as Matterport3D's faces."""
    workers: int | None = None
    """Threads; by default one per CPU."""


Command = (
    Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Map, tyro.conf.subcommand("map")]
    | Annotated[Example, tyro.conf.subcommand("example")]
)


def main(argv: list[str] | None = None) -> None:
    """Run one of the commands."""
    command: Build | Check | Map | Example = tyro.cli(Command, args=argv, prog=PROG, description=DESCRIPTION)
    if isinstance(command, Build):
        build(command)
    elif isinstance(command, Check):
        check(command)
    elif isinstance(command, Map):
        draw_maps(command)
    else:
        example(command)


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


def build(config: Build) -> None:
    """Build a scan: everything is checked before the first picture is drawn, the graph is written last."""
    scan = config.scan or config.poses.resolve().parent.name
    check_scan_name(scan)
    options = building.SkyboxOptions(config.size, config.strip_size, config.quality, config.files)
    rules = building.EdgeRules(config.max_distance, config.max_rise, config.nearest, config.margin)
    poses = building.read_poses(config.poses, config.camera_height)
    if not config.overwrite:
        check_replaceable(config.out / "connectivity", scan, poses)
    images = building.find_panoramas(config.panoramas, poses)
    visible = _sight(config, poses)
    edges = building.connect(np.stack([pose.position_m for pose in poses]), rules, visible)
    if config.edges:
        edges = read_corrections(config.edges, poses, edges)
    folder = config.out / "scans" / scan / "matterport_skybox_images"
    with _bar("skyboxes", len(poses)) as advance:
        kept = building.write_skyboxes(folder, poses, images, options, config.workers or num_cpus(), advance)
    path = building.write_graph(config.out / "connectivity", scan, poses, edges, visible)
    graph = load_graph(path, scan)
    picture = config.out / "scans" / scan / f"{scan}_map.png"
    building.draw_map(graph, picture)
    _tell(building.ScanReport(scan, graph, notes=graph_notes(graph)))
    log.logger.info("skyboxes: %s%s", folder, f" ({kept} of {len(poses)} were there already)" if kept else "")
    log.logger.info("graph: %s, map: %s", path, picture)
    some = "" if read_scans(config.out / "connectivity") == [scan] else f" --scans {scan} --out FILE"
    log.logger.info("next: VLN_CLIP_DATA=%s python -m vln_clip.extract --features NAME%s", config.out, some)


def _sight(config: Build, poses: list[building.PanoramaPose]) -> np.ndarray | None:
    """Return which viewpoints see each other, None without --depth."""
    if config.depth is None:
        log.logger.info(
            "no --depth: edges go by distance alone, also through walls; look at the map, correct with --edges"
        )
        return None
    if not config.depth_unit > 0:
        raise InputError(f"--depth-unit must be more than 0 metres, got {config.depth_unit}")
    files = building.find_panoramas(config.depth, poses, suffixes=(".png",))
    with _bar("depth", len(poses)) as advance:
        return building.sight_lines(
            poses, files, config.depth_unit, config.margin, config.workers or num_cpus(), advance
        )


def check(config: Check) -> None:
    """Check scans; all problems are told before the program fails."""
    data, problems = config.data or paths.data_dir(), 0
    scans = _scans(data, config.scan)
    for scan in scans:
        with _bar(f"skyboxes {scan}", None) as advance:
            report = building.check_scan(data, scan, config.images, config.workers or num_cpus(), advance)
        _tell(report)
        problems += len(report.problems)
    if problems:
        raise InputError(f"{data} must be free of problems, got {problems} in {len(scans)} scans (see above)")


def draw_maps(config: Map) -> None:
    """Draw maps."""
    data = config.data or paths.data_dir()
    for scan, graph in _graphs(data, config.scan):
        path = config.out / f"{scan}_map.png"
        building.draw_map(graph, path)
        print(path)


def example(config: Example) -> None:
    """Write the example and say how to go on."""
    with _bar("panoramas", None) as advance:
        count = write_example(config.out, config.house, config.width, config.workers or num_cpus(), advance)
    out = config.out
    log.logger.info("%d panoramas with depth and %s", count, out / "poses.csv")
    log.logger.info(
        "next: %s build --panoramas %s --poses %s --depth %s --out data --scan example",
        PROG, out / "panoramas", out / "poses.csv", out / "depth",
    )  # fmt: skip


def _scans(data: Path, wanted: tuple[str, ...]) -> list[str]:
    return list(wanted) or read_scans(data / "connectivity")


def _graphs(data: Path, wanted: tuple[str, ...]) -> Iterator[tuple[str, ScanGraph]]:
    for scan in _scans(data, wanted):
        yield scan, load_graph(graph_path(data / "connectivity", scan), scan)


def _tell(report: building.ScanReport) -> None:
    """Print what was found in a scan."""
    print(report.summary())
    for note in report.notes:
        print(f"  note: {note}")
    for problem in report.problems[:10]:
        print(f"  problem: {problem}")
    if len(report.problems) > 10:
        print(f"  and {len(report.problems) - 10} problems more")


@contextmanager
def _bar(name: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yields what to call with (done, total)."""
    with log.progress() as bar:
        task = bar.add_task(name, total=total, status="")
        yield lambda done, count: bar.update(task, completed=done, total=count)


if __name__ == "__main__":
    cli()
