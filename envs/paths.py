"""Unlabelled paths for back-translation: shortest paths with the statistics of a labelled split.

Takes the place of EnvDrop's ``aug_paths.json`` where that file is missing; where it is there it is read as any file
of the data set and compiled with ``from_episodes``. Where labelled paths are no shortest ones (RxR), neither are
these: they go by way of a third viewpoint.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vln_clip.connectivity import NavTables
from vln_clip.envs.episodes import TOKEN, VIEWPOINT, EpisodeTable
from vln_clip.envs.ragged import Ragged
from vln_clip.errors import InputError
from vln_clip.records import NUM_HEADINGS, Episode
from vln_clip.tasks.datasets import load_episodes

# Of winding paths: most draws are too long or meet themselves; what is left is drawn from by its hops.
MAX_DRAWS_PER_PATH, POOL_PER_PATH, DRAWS_AT_ONCE = 60, 3, 100_000


def sample_paths(
    tables: NavTables,
    labelled: EpisodeTable,
    count: int,
    seed: int,
    device: torch.device | str = "cpu",
    scans: np.ndarray | None = None,
) -> EpisodeTable:
    """Draw starts and goals whose shortest paths look like the labelled ones.

    A pair qualifies when its shortest path is as many hops as some labelled path and at least as long as the
    shortest of them (R2R: 4 to 6 hops, 5 m). Buildings occur as often as among the labelled paths, numbers of
    hops too; within both every pair is equally likely. Headings are uniform.

    Args:
        tables: the graphs.
        labelled: split to imitate.
        count: number of paths, drawn with replacement.
        seed: same seed, same paths.
        device: of the result.
        scans: indices of buildings, as often as they shall occur; None takes those of the labelled paths.
    """
    start, goal = labelled.viewpoint.cpu().numpy(), labelled.goal.cpu().numpy()
    hops = count_hops(tables, start, goal, limit=len(tables.viewpoint_ids))
    shortest_m = float(tables.distance_m(start, goal).min())
    scans = tables.scan_index[start] if scans is None else scans
    pairs = np.concatenate([_pairs_of_scan(tables, scan) for scan in np.unique(scans)])
    pair_hops = count_hops(tables, pairs[:, 0], pairs[:, 1], limit=int(hops.max()))
    fits = np.isin(pair_hops, hops) & (pair_hops > 0) & (tables.distance_m(pairs[:, 0], pairs[:, 1]) >= shortest_m)
    if not fits.any():
        raise InputError("no pair of viewpoints has a shortest path like the labelled ones; check the training split")
    pairs, pair_hops = pairs[fits], pair_hops[fits]
    weight = _weight(scans, hops, tables.scan_index[pairs[:, 0]], pair_hops)
    rng = np.random.default_rng(seed)
    drawn = pairs[rng.choice(len(pairs), size=count, p=weight)]
    view = NUM_HEADINGS + rng.integers(NUM_HEADINGS, size=count)
    return _unlabelled(trace(tables, drawn[:, 0], drawn[:, 1]), view, device)


def sample_winding_paths(
    tables: NavTables,
    labelled: EpisodeTable,
    count: int,
    seed: int,
    device: torch.device | str = "cpu",
    scans: np.ndarray | None = None,
) -> EpisodeTable:
    """Draw paths that go by way of a third viewpoint, with as many hops as the labelled ones; for RxR.

    Buildings and numbers of hops occur as often as among the labelled paths; no path meets a viewpoint twice.
    Arguments as for ``sample_paths``.
    """
    rng = np.random.default_rng(seed)
    hops = labelled.path.length.cpu().numpy() - 1
    if scans is None:
        scans = tables.scan_index[labelled.viewpoint.cpu().numpy()]
    longest_m, width = _longest_m(tables, labelled), int(hops.max()) + 1
    pool: list[np.ndarray] = []
    for _ in range(0, MAX_DRAWS_PER_PATH * count, DRAWS_AT_ONCE):
        pool.append(_draw_winding(rng, tables, rng.choice(scans, size=DRAWS_AT_ONCE), longest_m, width))
        if sum(map(len, pool)) >= POOL_PER_PATH * count:
            break
    found = np.concatenate(pool)
    found_hops = (found >= 0).sum(1) - 1
    found, found_hops = found[np.isin(found_hops, hops)], found_hops[np.isin(found_hops, hops)]
    if not len(found):
        raise InputError("no path with as many steps as the labelled ones was found; check the training split")
    weight = _weight(scans, hops, tables.scan_index[found[:, 0]], found_hops)
    paths = found[rng.choice(len(found), size=count, p=weight)]
    return _unlabelled(paths, NUM_HEADINGS + rng.integers(NUM_HEADINGS, size=count), device)


def _draw_winding(
    rng: np.random.Generator, tables: NavTables, scans: np.ndarray, longest_m: float, width: int
) -> np.ndarray:
    """Draw one path in each building (N,); return those that are simple and neither too long nor of no hop.

    Args:
        rng: source of start, via-point and goal.
        tables: the graphs.
        scans: (N,) indices of buildings.
        longest_m: most metres.
        width: most viewpoints.

    Returns:
        (n, width) int64, padded at the end with -1.
    """
    start, via, goal = (_draw_places(rng, tables, scans) for _ in range(3))
    kept = tables.distance_m(start, via) + tables.distance_m(via, goal) <= longest_m  # tracing costs; inf drops out
    found = _join(trace(tables, start[kept], via[kept]), trace(tables, via[kept], goal[kept]))
    num_viewpoints = (found >= 0).sum(1)
    found = found[_is_simple(found) & (num_viewpoints <= width) & (num_viewpoints > 1)][:, :width]
    return np.pad(found, ((0, 0), (0, width - found.shape[1])), constant_values=-1)


def read_paths(
    file: Path, dataset: str, data: Path, tables: NavTables, device: torch.device | str = "cpu"
) -> EpisodeTable:
    """Read a file of unlabelled paths such as EnvDrop's ``aug_paths.json``: whole paths or only their two ends."""
    return from_episodes(load_episodes(dataset, str(file.absolute()), data, tables, keep_empty=True), tables, device)


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
    return _unlabelled(compiled.reference(), compiled.view.cpu().numpy(), device)


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


def trace(tables: NavTables, start: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Return the viewpoints of shortest paths (N, R), padded at the end with -1; just the start where there is none."""
    here, columns = start.copy(), [start]
    going = here != goal
    while going.any():
        here = np.where(going, tables.next_hop(here, goal), here)
        going &= here >= 0
        columns.append(np.where(going, here, -1))
        going &= here != goal
        here = np.where(here < 0, start, here)
    return np.stack(columns, 1)


def _longest_m(tables: NavTables, labelled: EpisodeTable) -> float:
    """Return the length of the longest path, looking at some at a time: there can be millions."""
    longest_m = 0.0
    for rows in torch.arange(len(labelled)).split(DRAWS_AT_ONCE):
        reference = labelled.reference(rows.numpy())
        here, there = reference[:, :-1], reference[:, 1:]
        hops_m = np.where(there >= 0, tables.distance_m(here, np.where(there >= 0, there, here)), 0)
        longest_m = max(longest_m, float(hops_m.sum(1).max()))
    return longest_m


def _draw_places(rng: np.random.Generator, tables: NavTables, scans: np.ndarray) -> np.ndarray:
    """Draw a viewpoint of each building, (N,)."""
    size = np.bincount(tables.scan_index, minlength=len(tables.scans))
    first = np.cumsum(size) - size  # the viewpoints of a building follow each other
    return first[scans] + rng.integers(size[scans])


def _weight(scans: np.ndarray, hops: np.ndarray, drawn_scans: np.ndarray, drawn_hops: np.ndarray) -> np.ndarray:
    """Return how likely each drawn path should be, so that buildings and hops occur as among the labelled ones."""
    weight = _share(scans, drawn_scans) * _share(hops, drawn_hops)
    cell = drawn_scans * (hops.max() + 1) + drawn_hops
    weight /= np.bincount(cell)[cell]
    return weight / weight.sum()


def _join(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return paths that go on where others end, (N, R), padded at the end with -1; the joint counts once."""
    length = (first >= 0).sum(1)[:, None]
    columns = np.arange(first.shape[1] + second.shape[1])
    ahead = np.pad(first, ((0, 0), (0, second.shape[1])), constant_values=-1)
    behind = columns - length + 1
    late = np.take_along_axis(second, np.clip(behind, 0, second.shape[1] - 1), 1)
    return np.where(columns < length, ahead, np.where(behind < second.shape[1], late, -1))


def _is_simple(paths: np.ndarray) -> np.ndarray:
    """Return which rows (N, R) meet no viewpoint twice, (N,) bool."""
    ordered = np.sort(paths, 1)
    return ~((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(1)


def _pairs_of_scan(tables: NavTables, scan: int) -> np.ndarray:
    """Return every ordered pair of viewpoints of a building (n², 2)."""
    members = np.nonzero(tables.scan_index == scan)[0]
    return np.stack(np.meshgrid(members, members, indexing="ij"), -1).reshape(-1, 2)


def _share(labelled: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return for each drawn value its frequency among the labelled ones."""
    return np.bincount(labelled, minlength=int(drawn.max()) + 1)[drawn] / len(labelled)


def _unlabelled(paths: np.ndarray, view: np.ndarray, device: torch.device | str) -> EpisodeTable:
    """Compile paths (N, R) and start views (N,) without words."""
    length = (paths >= 0).sum(1)
    goal = paths[np.arange(len(paths)), length - 1]
    viewpoint, views, goals = (torch.as_tensor(x, dtype=torch.int64, device=device) for x in (paths[:, 0], view, goal))
    zero, one = torch.zeros_like(viewpoint), torch.ones_like(viewpoint)
    no_words = Ragged(torch.ones(1, dtype=TOKEN, device=device), zero, one, 1, 0)
    # As wide as they came: a batch's padding must not depend on which paths were drawn.
    path = replace(Ragged.of_padded(paths, length, device, dtype=VIEWPOINT, fill=-1), width=paths.shape[1])
    return EpisodeTable(no_words, viewpoint, views, goals, path)
