"""Winding paths: over one or two via-points to the goal, as the guides of RxR walk them."""

import itertools
from collections.abc import Iterator

import numpy as np

from vln_clip.envs.demo.graph import trace
from vln_clip.envs.demo.house import House
from vln_clip.envs.demo.landmarks import Clues, Guide

MIN_STEPS, MAX_STEPS, MIN_DISTANCE_M = 5, 10, 4.0
DETOUR = 1.25  # clearly longer than the shortest path
_CLEAR = 0.3
_NUM_DRAWS = 20_000  # of paths over two via-points, which are too many to try all

Path = tuple[int, ...]


def draw_winding(rng: np.random.Generator, house: House, clues: Clues) -> tuple[list[Guide], list[Guide]]:
    """Draw simple paths over via-points that can be described.

    Args:
        rng: source of paths and their order.
        house: where the paths lie.
        clues: its landmarks.

    Returns:
        The clear paths and those with an unclear step, each in random order; short and long ones, detours and nearly
        shortest paths come by turns as long as there are some.
    """
    found = {}
    for path, length_m in _candidates(rng, house, clues):
        if len(set(path)) == len(path):
            found[path] = length_m / house.distances_m[path[0], path[-1]] >= DETOUR
    paths = list(found)
    groups: dict[tuple[int, bool], list[Guide]] = {}
    for path in (paths[k] for k in rng.permutation(len(paths))):
        groups.setdefault((len(path), found[path]), []).append(clues.guide(path))
    by_turns = [guide for turn in itertools.zip_longest(*groups.values()) for guide in turn if guide]
    clear = [guide for guide in by_turns if guide.clarity >= _CLEAR]
    return clear, [guide for guide in by_turns if guide.clarity < _CLEAR]


def _candidates(rng: np.random.Generator, house: House, clues: Clues) -> Iterator[tuple[Path, float]]:
    """Yield paths of the right size with their lengths in metres; some visit a viewpoint twice."""
    legs, hops, margins = _legs(house, clues)
    away, num = house.distances_m, len(house.points)
    goals = (away >= MIN_DISTANCE_M) & np.array([bool(stops) for stops in clues.stops])
    steps = hops[:, :, None] + hops[None]  # (start, via, goal)
    fits = (np.minimum(margins[:, :, None], margins[None]) > 0) & (steps >= MIN_STEPS) & (steps <= MAX_STEPS)
    for a, b, c in np.argwhere(fits & goals[:, None]).tolist():
        yield legs[a, b] + legs[b, c][1:], float(away[a, b] + away[b, c])
    at = rng.integers(num, size=(_NUM_DRAWS, 4)).T
    pairs = [(at[k], at[k + 1]) for k in range(3)]
    far = sum(hops[pair] for pair in pairs)
    fits = (np.min([margins[pair] for pair in pairs], axis=0) > 0) & (far >= MIN_STEPS) & (far <= MAX_STEPS)
    for a, b, c, d in at.T[fits & goals[at[0], at[3]]].tolist():
        yield legs[a, b] + legs[b, c][1:] + legs[c, d][1:], float(away[a, b] + away[b, c] + away[c, d])


def _legs(house: House, clues: Clues) -> tuple[dict[tuple[int, int], Path], np.ndarray, np.ndarray]:
    """Return the shortest paths between all viewpoints, their steps (N, N), and the margins of their least clear steps.

    A path from a viewpoint to itself has margin 0: it is no leg.
    """
    num = len(house.points)
    best = {pair: step.choices[0][1] if step.choices else 0.0 for pair, step in clues.steps.items()}
    legs: dict[tuple[int, int], Path] = {}
    hops, margins = np.zeros((num, num), int), np.zeros((num, num))
    for start, goal in itertools.permutations(range(num), 2):
        path = legs[start, goal] = tuple(trace(house.predecessors, start, goal))
        hops[start, goal] = len(path) - 1
        margins[start, goal] = min(best[pair] for pair in itertools.pairwise(path))
    return legs, hops, margins
