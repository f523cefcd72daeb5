"""The plan of a whole world: houses, paths and instructions of every split, without any picture."""

import itertools
from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.config import DemoConfig
from vln_clip.envs.demo.graph import trace
from vln_clip.envs.demo.house import House, make_house
from vln_clip.envs.demo.landmarks import Clues, Guide, find_clues
from vln_clip.envs.demo.language import describe
from vln_clip.envs.demo.rxr import Rxr, plan_rxr

SPLITS = ("train", "val_seen", "val_unseen", "test")
NUM_INSTRUCTIONS = 3
MIN_STEPS, MAX_STEPS, MIN_DISTANCE_M = 3, 6, 6.0
_CLEAR = 0.3
_WORDS_SEED, _PICK_SEED = 1_000_003, 1_000_033


@dataclass(frozen=True)
class PathRecord:
    """One path; the fields of the R2R files. Unlabelled paths have no instructions."""

    path_id: int
    scan: str
    distance: float
    heading: float
    path: tuple[str, ...]
    instructions: tuple[str, ...]


@dataclass(frozen=True)
class World:
    """Houses and paths.

    Attributes:
        houses: of all splits.
        splits: labelled paths of R2R with their goals (the files of the test split hide them).
        unlabelled: the other paths of the training houses that can be described as clearly, for back-translation.
        rxr: winding paths with instructions in three languages.
    """

    houses: tuple[House, ...]
    splits: dict[str, tuple[PathRecord, ...]]
    unlabelled: tuple[PathRecord, ...]
    rxr: Rxr


def plan_world(config: DemoConfig) -> World:
    """Generate everything but the pictures."""
    houses = tuple(make_house(config.seed, number) for number in range(config.num_houses))
    unseen = config.num_train_houses + config.num_unseen_houses
    quotas = (
        ("train", range(config.num_train_houses), config.num_train_paths),
        ("val_seen", range(config.num_train_houses), config.num_val_seen_paths),
        ("val_unseen", range(config.num_train_houses, unseen), config.num_val_unseen_paths),
        ("test", range(unseen, config.num_houses), config.num_test_paths),
    )
    clues = tuple(find_clues(house) for house in houses)
    guides = {house.number: _draw_guides(config.seed, house, clues[house.number]) for house in houses}
    splits: dict[str, tuple[PathRecord, ...]] = {}
    path_ids = itertools.count(1)
    for split, numbers, count in quotas:
        records = []
        for k, number in enumerate(numbers):
            share = count // len(numbers) + (k < count % len(numbers))
            for guide in [guides[number].pop() for _ in range(min(share, len(guides[number])))]:
                records.append(_make_record(config.seed, houses[number], guide, next(path_ids)))
        if len(records) < count:
            raise ValueError(f"num_{split}_paths must fit into its houses, got {count}; at most {len(records)} fit")
        splits[split] = tuple(records)
    unlabelled = tuple(
        _make_record(config.seed, houses[number], guide, next(path_ids), labelled=False)
        for number in range(config.num_train_houses)
        for guide in guides[number]
        if guide.clarity >= _CLEAR
    )
    return World(houses, splits, unlabelled, plan_rxr(config, houses, clues))


def _draw_guides(seed: int, house: House, clues: Clues) -> list[Guide]:
    """Return the usable paths of a house in the order in which splits take them from the end.

    Clear paths come first (at the end of the list), in random order; paths with an unclear step follow.
    """
    guides = []
    for start, goal in np.argwhere(house.distances_m >= MIN_DISTANCE_M).tolist():
        path = trace(house.predecessors, start, goal)
        if MIN_STEPS <= len(path) - 1 <= MAX_STEPS:
            guide = clues.guide(path)
            if guide.clarity > 0:
                guides.append(guide)
    rng = np.random.default_rng([seed, house.number, _PICK_SEED])
    mixed = [guides[i] for i in rng.permutation(len(guides))]
    return sorted(mixed, key=lambda guide: min(guide.clarity, _CLEAR))


def _make_record(seed: int, house: House, guide: Guide, path_id: int, labelled: bool = True) -> PathRecord:
    """Draw the first heading and write the instructions of a path."""
    rng = np.random.default_rng([seed, path_id, _WORDS_SEED])
    heading = round(float(rng.uniform(0, 2 * np.pi)), 3)
    texts: list[str] = []
    while labelled and len(texts) < NUM_INSTRUCTIONS:
        text = describe(rng, house, guide, len(texts))
        if text not in texts:
            texts.append(text)
    distance = round(float(house.distances_m[guide.path[0], guide.path[-1]]), 2)
    ids = tuple(house.viewpoint_ids[index] for index in guide.path)
    return PathRecord(path_id, house.scan, distance, heading, ids, tuple(texts))
