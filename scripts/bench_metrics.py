"""Measures scoring: ``VLN_CLIP_DATA=… python scripts/bench_metrics.py [--predictions FILE] [--json FILE]``.

Ours against a plain implementation, a loop over episodes with distances from nested dictionaries, in one process on
the same predictions; the two must agree. The plain one trusts the files, ours checks every hop first. Loading is not
part of it. Without --predictions each walk is a seeded random walk of six moves.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import tyro

from vln_clip import devices, log, setting
from vln_clip.connectivity import NavTables
from vln_clip.records import SUCCESS_RADIUS_M, Episode, Prediction
from vln_clip.tasks.metrics import METRICS, Scores, score_indices, score_predictions
from vln_clip.tasks.predictions import check_walks, match, pad, read_predictions
from vln_clip.tasks.statistics import RESAMPLES, compare, intervals

Distances = dict[str, dict[str, dict[str, float]]]
REPEATS = 5


@dataclass(frozen=True)
class BenchConfig:
    """Measure how long it takes to score a split."""

    predictions: Path | None = None
    """prediction file; None takes random walks"""
    dataset: str = "auto"
    """name of a data set, or auto"""
    split: str = "val_unseen"
    """split with goals"""
    json: Path | None = None
    """also write the figures to this file"""


def random_walks(episodes: Sequence[Episode], tables: NavTables) -> list[Prediction]:
    """Return a seeded random walk of six moves per episode."""
    rng, found = np.random.default_rng(0), []
    for episode in episodes:
        walk = [tables.index(episode.scan, episode.start)]
        for _ in range(6):
            neighbors = tables.neighbor[walk[-1]]
            walk.append(int(rng.choice(neighbors[neighbors >= 0])))
        found.append(Prediction(episode.instr_id, tuple((tables.viewpoint_id(i), 0.0, 0.0) for i in walk)))
    return found


def all_distances(episodes: Sequence[Episode], tables: NavTables) -> Distances:
    """Return distances in metres by scan and two viewpoint ids, as the plain implementation wants them."""
    rows: dict[str, list[int]] = {}
    for index, (scan, _) in enumerate(tables.keys):
        rows.setdefault(scan, []).append(index)
    found: Distances = {}
    for scan in {episode.scan for episode in episodes}:
        names = [tables.viewpoint_id(index) for index in rows[scan]]
        indices = np.array(rows[scan])
        table = tables.distance_m(indices[:, None], indices[None]).tolist()
        found[scan] = {a: dict(zip(names, row, strict=True)) for a, row in zip(names, table, strict=True)}
    return found


def plain_scores(predictions: Sequence[Prediction], episodes: Sequence[Episode], distances: Distances) -> Scores:
    """Score one episode after the other, as the formulas are written (specification 8)."""
    by_id = {prediction.instr_id: prediction for prediction in predictions}
    rows = [plain_score(by_id[e.instr_id].trajectory, e.path or (), distances[e.scan]) for e in episodes]
    return {name: np.array([row[name] for row in rows]) for name in METRICS}


def plain_score(
    poses: Sequence[tuple[str, float, float]], path: Sequence[str], d: dict[str, dict[str, float]]
) -> dict[str, float]:
    """Score one episode."""
    walk = [pose[0] for k, pose in enumerate(poses) if k == 0 or pose[0] != poses[k - 1][0]]
    goal = path[-1]
    length_m = sum(d[a][b] for a, b in pairwise(walk))
    reference_m = sum(d[a][b] for a, b in pairwise(path))
    shortest_m, nav_error = d[path[0]][goal], d[walk[-1]][goal]
    oracle_error = min(d[a][goal] for a in walk)
    success = float(nav_error < SUCCESS_RADIUS_M)
    cost = [[0.0] + [math.inf] * len(path)] + [[math.inf] * (len(path) + 1) for _ in walk]
    for i, a in enumerate(walk):
        for j, b in enumerate(path):
            cost[i + 1][j + 1] = d[a][b] + min(cost[i][j + 1], cost[i + 1][j], cost[i][j])
    dtw = cost[-1][-1]
    ndtw = math.exp(-dtw / (SUCCESS_RADIUS_M * len(path)))
    coverage = sum(math.exp(-min(d[a][b] for a in walk) / SUCCESS_RADIUS_M) for b in path) / len(path)
    expected_m = coverage * reference_m
    total_m = expected_m + abs(expected_m - length_m)
    return {
        "nav_error": nav_error,
        "oracle_error": oracle_error,
        "steps": len(poses) - 1,
        "lengths": length_m,
        "success_rate": success,
        "oracle_rate": float(oracle_error < SUCCESS_RADIUS_M),
        "spl": success * shortest_m / max(shortest_m, length_m, 0.01),
        "ndtw": ndtw,
        "sdtw": ndtw * success,
        "cls": coverage * (expected_m / total_m if total_m > 0 else 1.0),
        "dtw": dtw,
    }


def elapsed_ms(work: Callable[[], object]) -> float:
    """Return the median time of some repeats after a warm-up."""
    work()
    times = []
    for _ in range(REPEATS):
        began_s = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began_s))
    return median(times)


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    config = tyro.cli(BenchConfig, args=argv)
    dataset = setting.find_dataset(config.dataset)
    data = setting.open_setting(dataset, [config.split], devices.pick_device("cpu"), words=())
    episodes, tables = data.splits[config.split].episodes, data.tables
    predictions = random_walks(episodes, tables) if config.predictions is None else read_predictions(config.predictions)
    distances = all_distances(episodes, tables)
    ours = score_predictions(predictions, episodes, tables)[1]
    plain = plain_scores(predictions, episodes, distances)
    for name in METRICS:
        np.testing.assert_allclose(ours[name], plain[name], rtol=0, atol=1e-9, err_msg=name)
    clusters = [episode.path_id for episode in episodes]
    zero = {name: np.zeros(len(episodes)) for name in METRICS}
    paired = match(predictions, episodes)
    walks = pad(check_walks(*paired, tables)[0])
    reference = pad([[tables.index(e.scan, viewpoint) for viewpoint in e.path or ()] for e in episodes])
    figures = {
        "arrays_ms": elapsed_ms(lambda: score_indices(walks, ours["steps"], reference, tables)),
        "ours_ms": elapsed_ms(lambda: score_predictions(predictions, episodes, tables)),
        "plain_ms": elapsed_ms(lambda: plain_scores(predictions, episodes, distances)),
        "intervals_ms": elapsed_ms(lambda: intervals(ours, clusters)),
        "comparison_ms": elapsed_ms(lambda: compare(ours, zero, clusters)),
    }
    print(
        f"{dataset} {config.split}: {len(episodes)} instructions of {len(set(clusters))} paths, {len(METRICS)} metrics"
    )
    print(f"  ours (files matched, walks checked)  {figures['ours_ms']:8.1f} ms")
    print(f"  ours, walks already in arrays        {figures['arrays_ms']:8.1f} ms")
    print(f"  plain loop over episodes             {figures['plain_ms']:8.1f} ms")
    ratios = [figures["plain_ms"] / figures[name] for name in ("ours_ms", "arrays_ms")]
    print(f"  ratio of that to the two above       {ratios[0]:8.1f} {ratios[1]:.1f}")
    print(f"  intervals, {RESAMPLES:,} resamples          {figures['intervals_ms']:8.1f} ms")
    print(f"  paired comparison                    {figures['comparison_ms']:8.1f} ms")
    if config.json is not None:
        config.json.write_text(json.dumps(figures | {"instructions": len(episodes)}) + "\n")


if __name__ == "__main__":
    log.program(main)
