"""Unlabelled paths for back-translation: shortest paths with the statistics of a labelled split.

Takes the place of EnvDrop's ``aug_paths.json`` where that file is missing; where it is there it is read as any R2R
file and compiled with ``from_episodes``.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vln_clip.connectivity import NavTables
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.errors import InputError
from vln_clip.records import NUM_HEADINGS, Episode
from vln_clip.tasks import r2r


def sample_paths(
    tables: NavTables, labelled: EpisodeTable, count: int, seed: int, device: torch.device | str = "cpu"
) -> EpisodeTable:
    """Draw starts and goals whose shortest paths look like the labelled ones.

    A pair qualifies when its shortest path is as many hops as some labelled path and at least as long as the
    shortest of them (R2R: 4 to 6 hops, 5 m). Buildings occur as often as among the labelled paths, numbers of
    hops too; within both every pair is equally likely. Headings are uniform.

    Args:
        tables: the graphs.
        labelled: split to imitate; only its buildings are used.
        count: number of paths, drawn with replacement.
        seed: same seed, same paths.
        device: of the result.
    """
    start, goal = labelled.viewpoint.cpu().numpy(), labelled.goal.cpu().numpy()
    hops = count_hops(tables, start, goal, limit=len(tables.viewpoint_ids))
    shortest_m = float(tables.distance_m(start, goal).min())
    pairs = np.concatenate([_pairs_of_scan(tables, scan) for scan in np.unique(tables.scan_index[start])])
    pair_hops = count_hops(tables, pairs[:, 0], pairs[:, 1], limit=int(hops.max()))
    fits = np.isin(pair_hops, hops) & (tables.distance_m(pairs[:, 0], pairs[:, 1]) >= shortest_m)
    if not fits.any():
        raise InputError("no pair of viewpoints has a shortest path like the labelled ones; check the training split")
    pairs, pair_hops = pairs[fits], pair_hops[fits]
    weight = _share(tables.scan_index[start], tables.scan_index[pairs[:, 0]]) * _share(hops, pair_hops)
    cell = tables.scan_index[pairs[:, 0]] * (hops.max() + 1) + pair_hops
    weight /= np.bincount(cell)[cell]
    rng = np.random.default_rng(seed)
    drawn = pairs[rng.choice(len(pairs), size=count, p=weight / weight.sum())]
    view = NUM_HEADINGS + rng.integers(NUM_HEADINGS, size=count)
    return _unlabelled(drawn[:, 0], view, drawn[:, 1], device)


def read_paths(
    file: Path, dataset: str, data: Path, tables: NavTables, device: torch.device | str = "cpu"
) -> EpisodeTable:
    """Read a file of unlabelled paths such as EnvDrop's ``aug_paths.json``: whole paths or only their two ends."""
    return from_episodes(
        r2r.load_episodes(dataset, str(file.absolute()), data, tables, keep_empty=True), tables, device
    )


def require_buildings(file: Path, table: EpisodeTable, labelled: EpisodeTable, tables: NavTables) -> None:
    """Raise ``InputError`` where paths lead through other buildings than the labelled ones, such as val_unseen's."""
    known = np.unique(tables.scan_index[labelled.viewpoint.cpu().numpy()])
    scans = tables.scan_index[table.viewpoint.cpu().numpy()]
    foreign = np.flatnonzero(~np.isin(scans, known))
    if len(foreign):
        scan, _ = tables.keys[int(table.viewpoint[foreign[0]])]
        raise InputError(
            f"{file}: unlabelled paths must lie in training buildings, or validation is no longer unseen, got "
            f"{len(foreign)} elsewhere, the first in scan {scan!r}; take them out"
        )


def from_episodes(episodes: Sequence[Episode], tables: NavTables, device: torch.device | str = "cpu") -> EpisodeTable:
    """Compile the paths of a file; instructions are ignored, one path counts once."""
    paths = list({episode.path_id: episode for episode in episodes}.values())
    hidden = next((path.path_id for path in paths if path.goal is None), None)
    if hidden is not None:
        raise InputError(f"paths for back-translation must have a goal, but path {hidden} has only a start")
    empty = np.ones((len(paths), 1), dtype=np.int64)
    compiled = EpisodeTable.compile(paths, tables, empty, empty[:, 0], device)
    return _unlabelled(
        compiled.viewpoint.cpu().numpy(), compiled.view.cpu().numpy(), compiled.goal.cpu().numpy(), device
    )


def count_hops(tables: NavTables, start: np.ndarray, goal: np.ndarray, limit: int) -> np.ndarray:
    """Return the hops of shortest paths (N,); -1 where unreachable or more than ``limit``."""
    here, hops = start.copy(), np.full(len(start), -1)
    for hop in range(limit + 1):
        hops[(here == goal) & (hops < 0)] = hop
        going = (hops < 0) & (here >= 0)
        if not going.any():
            break
        here[going] = tables.next_hop(here[going], goal[going])
    return hops


def _pairs_of_scan(tables: NavTables, scan: int) -> np.ndarray:
    """Return every ordered pair of viewpoints of a building (n², 2)."""
    members = np.nonzero(tables.scan_index == scan)[0]
    return np.stack(np.meshgrid(members, members, indexing="ij"), -1).reshape(-1, 2)


def _share(labelled: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return for each drawn value its frequency among the labelled ones."""
    return np.bincount(labelled, minlength=int(drawn.max()) + 1)[drawn] / len(labelled)


def _unlabelled(start: np.ndarray, view: np.ndarray, goal: np.ndarray, device: torch.device | str) -> EpisodeTable:
    viewpoint, views, goals = (torch.as_tensor(x, dtype=torch.int64, device=device) for x in (start, view, goal))
    tokens = torch.ones(len(viewpoint), 1, dtype=torch.int64, device=device)
    return EpisodeTable(tokens, tokens[:, 0], viewpoint, views, goals, np.empty((len(viewpoint), 0), dtype=np.int64))
