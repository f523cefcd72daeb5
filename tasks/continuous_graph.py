"""Episodes of continuous environments put onto navigation graphs, so that agents on graphs can be scored on them.

A position on the floor belongs to the nearest viewpoint, whose camera hung somewhat above the floor. What the reference
path leaves out between two viewpoints that are no neighbours is filled in with the shortest way.
"""

import logging
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from vln_clip.errors import InputError
from vln_clip.records import Episode
from vln_clip.tasks.continuous import ContinuousEpisode, ContinuousSplit
from vln_clip.tasks.graph import Graph

logger = logging.getLogger(__name__)

# Cameras of Matterport3D hang 0.73 m to 1.6 m above the floor of R2R-CE; which storey is meant is clear within these.
CAMERA_ABOVE_FLOOR_M = (0.7, 1.7)
MAX_OFFSET_M = 5.0  # farther from every viewpoint, a position is in another frame or building
NOTED_OFFSET_M = 0.5


def match_to_graph(split: ContinuousSplit, graph: Graph) -> list[Episode]:
    """Return the episodes with viewpoints in place of positions; logs how well they fit.

    ``instr_id`` is the continuous episode's, ``path_id`` its trajectory. Start headings are those of the file; R2R-CE
    has R2R's, rounded to 30°, as the discrete simulator does too.

    Args:
        split: as read.
        graph: navigation graphs of its scans.

    Raises:
        InputError: a position far from every viewpoint, or a hop that the graph has no way for.
    """
    floor_m = [np.array([e.start_m]) if e.reference_m is None else e.reference_m for e in split.episodes]
    owner = np.repeat(np.arange(len(floor_m)), [len(positions) for positions in floor_m])
    scans = [split.episodes[k].scan for k in owner.tolist()]
    index, offset_m = nearest_viewpoints(np.concatenate(floor_m), scans, graph)
    _require_near(split, owner, offset_m)
    paths: list[list[int]] = [[] for _ in floor_m]
    for k, viewpoint in zip(owner.tolist(), index.tolist(), strict=True):
        if not paths[k] or paths[k][-1] != viewpoint:
            paths[k].append(viewpoint)
    filled = [_fill(path, episode, split, graph) for path, episode in zip(paths, split.episodes, strict=True)]
    logger.info(
        "%s: %d positions of %d episodes put on the graph; largest offset %.2f m, %d beyond %g m; %d paths filled in",
        *(split.file, len(index), len(paths), offset_m.max(), (offset_m > NOTED_OFFSET_M).sum(), NOTED_OFFSET_M),
        sum(len(whole) > len(path) for whole, path in zip(filled, paths, strict=True)),
    )
    return [
        _episode(episode, [graph.viewpoint_id(i) for i in path])
        for episode, path in zip(split.episodes, filled, strict=True)
    ]


def nearest_viewpoints(floor_m: np.ndarray, scans: Sequence[str], graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """Find the viewpoints nearest to positions on the floor.

    The distance is horizontal, plus (as the other side of a right angle) by how much the camera's height above the
    floor would leave ``CAMERA_ABOVE_FLOOR_M``: within it heights say nothing, and other storeys are far.

    Args:
        floor_m: (M, 3), Matterport's frame.
        scans: the M scans.
        graph: navigation graphs.

    Returns:
        Global indices, (M,), and those distances in metres, (M,).
    """
    index, offset_m = np.zeros(len(floor_m), np.int64), np.zeros(len(floor_m))
    names = np.array(scans)
    low, high = CAMERA_ABOVE_FLOOR_M
    for scan in dict.fromkeys(scans):
        rows = np.flatnonzero(names == scan)
        viewpoints = graph.viewpoints(scan)  # (n,)
        away = graph.position_m(viewpoints)[None] - floor_m[rows, None]  # (m, n, 3)
        outside = np.maximum(0, np.maximum(low - away[..., 2], away[..., 2] - high))
        distance_m = np.sqrt((away[..., :2] ** 2).sum(-1) + outside**2)  # (m, n)
        nearest = distance_m.argmin(1)
        index[rows], offset_m[rows] = viewpoints[nearest], distance_m[np.arange(len(rows)), nearest]
    return index, offset_m


def _require_near(split: ContinuousSplit, owner: np.ndarray, offset_m: np.ndarray) -> None:
    """Raise for the first position that is far from every viewpoint; ``owner`` holds the rows of the episodes."""
    for row in np.flatnonzero(offset_m > MAX_OFFSET_M)[:1].tolist():
        episode = split.episodes[owner[row]]
        raise InputError(
            f"{split.file}: episode {episode.episode_id}: positions must be within {MAX_OFFSET_M:g} m of a viewpoint "
            f"of scan {episode.scan}, got one {offset_m[row]:.1f} m away; is it in Habitat's frame, and the scan right?"
        )


def _fill(path: list[int], episode: ContinuousEpisode, split: ContinuousSplit, graph: Graph) -> list[int]:
    """Put the shortest way between viewpoints that are no neighbours."""
    if len(path) == 1 or graph.is_edge(np.array(path[:-1]), np.array(path[1:])).all():
        return path
    whole = path[:1]
    for a, b in pairwise(path):
        if not np.isfinite(graph.distance_m(np.array(a), np.array(b))):
            raise InputError(
                f"{split.file}: episode {episode.episode_id}: reference_path goes from viewpoint "
                f"{graph.viewpoint_id(a)} to {graph.viewpoint_id(b)}, between which the navigation graph of scan "
                f"{episode.scan} has no way"
            )
        whole += graph.shortest_path(a, b)[1:]
    return whole


def _episode(episode: ContinuousEpisode, path: list[str]) -> Episode:
    """Return the episode on the graph."""
    return Episode(
        episode.instr_id,
        episode.trajectory_id,
        episode.scan,
        path[0],
        episode.heading_rad,
        episode.instruction,
        None if episode.goal_m is None else tuple(path),
        episode.language,
    )
