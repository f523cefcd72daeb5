"""The RxR part of a world: winding paths with instructions in English, Hindi and Telugu."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.config import DemoConfig
from vln_clip.envs.demo.house import House
from vln_clip.envs.demo.landmarks import Clues, Guide
from vln_clip.envs.demo.languages import english, hindi, telugu
from vln_clip.envs.demo.languages.clauses import plan_clauses
from vln_clip.envs.demo.languages.grammar import Grammar
from vln_clip.envs.demo.winding import draw_winding

GRAMMARS: dict[str, Grammar] = {
    "en-US": english.UNITED_STATES,
    "en-IN": english.INDIA,
    "hi-IN": hindi.HINDI,
    "te-IN": telugu.TELUGU,
}
TRAIN_TAGS = ("en-US", "en-IN", "hi-IN", "hi-IN", "te-IN", "te-IN")
_ORDER_SEED, _WORDS_SEED = 1_000_037, 1_000_039


@dataclass(frozen=True)
class RxrInstruction:
    """An instruction and the tag of its language, a key of ``GRAMMARS``; the text of unlabelled ones is empty."""

    instruction_id: int
    tag: str
    text: str


@dataclass(frozen=True)
class RxrPath:
    """A path with its instructions; the heading is where the guide looks first, radians."""

    path_id: int
    scan: str
    heading: float
    path: tuple[str, ...]
    instructions: tuple[RxrInstruction, ...]


@dataclass(frozen=True)
class Rxr:
    """All RxR paths of a world.

    Attributes:
        seed: of the world.
        splits: labelled paths with their goals (the files of the test split hide them), by the names of RxR.
        unlabelled: further paths of the training houses, for back-translation.
    """

    seed: int
    splits: dict[str, tuple[RxrPath, ...]]
    unlabelled: tuple[RxrPath, ...]


def plan_rxr(config: DemoConfig, houses: Sequence[House], clues: Sequence[Clues]) -> Rxr:
    """Choose the paths of every split and write their instructions.

    Raises:
        ValueError: a split wants more paths than its houses have.
    """
    unseen = config.num_train_houses + config.num_unseen_houses
    train = range(config.num_train_houses)
    quotas = (
        ("train", train, config.num_rxr_train_paths, "num_rxr_train_paths"),
        ("val_seen", train, config.num_rxr_val_seen_paths, "num_rxr_val_seen_paths"),
        ("val_unseen", range(len(train), unseen), config.num_rxr_val_unseen_paths, "num_rxr_val_unseen_paths"),
        ("test_standard", range(unseen, config.num_houses), config.num_rxr_test_paths, "num_rxr_test_paths"),
    )
    pools = [_Pool(config.seed, house, clues[house.number]) for house in houses]
    author = _Author(config.seed)
    splits: dict[str, tuple[RxrPath, ...]] = {}
    for split, numbers, count, field in quotas:
        taken = [(houses[number], guide) for number, guide in _deal(pools, numbers, count)]
        if len(taken) < count:
            raise ValueError(f"{field} must fit into its houses, got {count}; at most {len(taken)} fit")
        splits[split] = tuple(author.write(house, guide, _tags(split, k)) for k, (house, guide) in enumerate(taken))
    spare = _deal(pools, train, config.num_rxr_aug_paths, clear_only=True)
    unlabelled = tuple(author.leave_blank(houses[number], guide) for number, guide in spare)
    return Rxr(config.seed, splits, unlabelled)


def _tags(split: str, index: int) -> tuple[str, ...]:
    """Return the languages of a path's instructions: two of each for training, otherwise one of each."""
    return TRAIN_TAGS if split == "train" else (TRAIN_TAGS[index % 2], "hi-IN", "te-IN")


class _Pool:
    """The winding paths of a house; splits take the clear ones first."""

    def __init__(self, seed: int, house: House, clues: Clues):
        self.clear, self.unclear = draw_winding(np.random.default_rng([seed, house.number, _ORDER_SEED]), house, clues)

    def take(self, clear_only: bool) -> Guide | None:
        """Return a path that nobody has taken; None where there is none left."""
        if self.clear:
            return self.clear.pop(0)
        return self.unclear.pop(0) if self.unclear and not clear_only else None


def _deal(pools: Sequence[_Pool], numbers: range, count: int, clear_only: bool = False) -> list[tuple[int, Guide]]:
    """Take paths from houses in turn, leaving out empty ones, up to a count; return them house by house."""
    taken: list[tuple[int, Guide]] = []
    left = list(numbers)
    while left and len(taken) < count:
        turn = [(number, pools[number].take(clear_only)) for number in left[: count - len(taken)]]
        taken += [(number, guide) for number, guide in turn if guide]
        left = [number for number in left if (number, None) not in turn]
    return sorted(taken, key=lambda item: item[0])


class _Author:
    """Numbers paths and instructions and writes the texts."""

    def __init__(self, seed: int):
        self._seed = seed
        self._path_ids, self._instruction_ids = itertools.count(1), itertools.count(1)

    def write(self, house: House, guide: Guide, tags: Sequence[str]) -> RxrPath:
        """Write instructions in the given languages, all different."""
        path_id = next(self._path_ids)
        rng = np.random.default_rng([self._seed, path_id, _WORDS_SEED])
        heading = _draw_heading(rng)
        texts: list[tuple[str, str]] = []
        for tag, group in itertools.groupby(tags):
            grammar, count = GRAMMARS[tag], len(list(group))
            said = grammar.say_differently(rng, lambda variant: plan_clauses(rng, house, guide, variant), count)
            texts += [(tag, text) for text in said]
        return self._record(house, guide, path_id, heading, texts)

    def leave_blank(self, house: House, guide: Guide) -> RxrPath:
        """Make an unlabelled path: one empty instruction in each of the three languages."""
        path_id = next(self._path_ids)
        heading = _draw_heading(np.random.default_rng([self._seed, path_id, _WORDS_SEED]))
        tags = (TRAIN_TAGS[path_id % 2], "hi-IN", "te-IN")
        return self._record(house, guide, path_id, heading, [(tag, "") for tag in tags])

    def _record(
        self, house: House, guide: Guide, path_id: int, heading: float, texts: Sequence[tuple[str, str]]
    ) -> RxrPath:
        instructions = tuple(RxrInstruction(next(self._instruction_ids), tag, text) for tag, text in texts)
        ids = tuple(house.viewpoint_ids[index] for index in guide.path)
        return RxrPath(path_id, house.scan, heading, ids, instructions)


def _draw_heading(rng: np.random.Generator) -> float:
    return round(float(rng.uniform(0, 2 * np.pi)), 3)
