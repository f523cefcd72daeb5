"""Views with many sentences each, for training on pairs of images and texts.

Views in any direction, up and down too, as panoramas and pictures show them. Their sentences are captions, questions
with an answer and clauses of instructions, all true of what is seen (but for the slips of those who answer).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.house import CAMERA_M, make_house
from vln_clip.envs.demo.language import mention
from vln_clip.envs.demo.pictures.annotators import ten_answers
from vln_clip.envs.demo.pictures.asking import candidates
from vln_clip.envs.demo.pictures.captions import tell
from vln_clip.envs.demo.pictures.seen import Facts, Seen, read_facts
from vln_clip.envs.demo.pictures.views import camera_axes
from vln_clip.envs.demo.pictures.words import with_article
from vln_clip.envs.demo.raycast import cast_picture, make_scene, shade_picture, solids_around

NUM_CAPTIONS, NUM_ANSWERED, NUM_CLAUSES = 6, 4, 4  # sentences of a view at most
_SEED = 1_000_151
_LEVEL_RAD, _STEEP_RAD = (-0.05, 0.30), (-0.55, 0.55)  # of views below the horizon: as in pictures, as in panoramas
_STEEP = 0.35  # share of the latter
_CENTERED = 3.0  # how much more often instructions name what stands in the middle
_ABSENT = 0.2  # how much more rarely questions are taken whose answer is no or none
_LEAST_SHARE = 0.03  # of a view that something is named in instructions


@dataclass(frozen=True)
class DescribedView:
    """A view, (H, W, 3) uint8 RGB, and its sentences, at least one."""

    rgb: np.ndarray
    sentences: tuple[str, ...]


def described_views(seed: int, number: int, count: int, size_px: tuple[int, int]) -> Iterator[DescribedView]:
    """Draw views of house ``number``, all different ones; the same arguments give the same views.

    Args:
        seed: of the demo world.
        number: of the house.
        count: of views that are drawn; those that show nothing with a name are left out.
        size_px: height and width, even.
    """
    scene = make_scene(make_house(seed, number))
    rng = np.random.default_rng([seed, number, _SEED])
    order = rng.permutation(np.arange(count) % len(scene.house.points))
    solids: dict[int, np.ndarray] = {}
    for index, viewpoint in enumerate(order.tolist()):
        eye = np.array([*scene.house.points[viewpoint], CAMERA_M], dtype=np.float32)
        if viewpoint not in solids:
            solids[viewpoint] = solids_around(scene, eye)
        down_rad = float(rng.uniform(*(_STEEP_RAD if rng.random() < _STEEP else _LEVEL_RAD)))
        axes = camera_axes(float(rng.uniform(0, 2 * np.pi)), down_rad, size_px[0] / size_px[1])
        cast = cast_picture(scene, solids[viewpoint], eye, axes, size_px)
        facts = read_facts(1_000_000 * (number + 1) + index, scene, axes, cast)
        found = sentences(rng, seed, facts)
        if found:
            yield DescribedView(shade_picture(scene, cast), found)


def sentences(rng: np.random.Generator, seed: int, facts: Facts) -> tuple[str, ...]:
    """Return sentences about a view; none where nothing in it has a name."""
    told = tell(rng, facts, NUM_CAPTIONS) if facts.clear else []
    if facts.room:
        told.append(f"{with_article(facts.room)}.".capitalize())
    if not told:
        return ()
    return (*told, *_answered(rng, seed, facts), *_clauses(rng, facts))


def _answered(rng: np.random.Generator, seed: int, facts: Facts) -> list[str]:
    """Return questions with what somebody answers."""
    asked = candidates(seed, facts)
    weights = np.array([_ABSENT if candidate.answer in ("no", "0") else 1.0 for candidate in asked])
    count = min(NUM_ANSWERED, len(asked))
    texts = []
    for index in rng.choice(len(asked), count, replace=False, p=weights / weights.sum()).tolist():
        answers = ten_answers(seed, facts.image_id * 1000 + index, asked[index])
        texts.append(f"{asked[index].text} {answers[int(rng.integers(len(answers)))]['answer']}")
    return texts


def _clauses(rng: np.random.Generator, facts: Facts) -> list[str]:
    """Return clauses of instructions about what is large and in the middle."""
    things = [thing for thing in facts.clear if thing.color and thing.share >= _LEAST_SHARE]
    if not things:
        return []
    weights = np.array([_weight(thing) for thing in things])
    picked = rng.choice(len(things), NUM_CLAUSES, p=weights / weights.sum()).tolist()
    found = [mention(rng, things[i].name, str(things[i].color), things[i].room) for i in picked]
    return [text[0].upper() + text[1:] + "." for text in dict.fromkeys(found)]


def _weight(thing: Seen) -> float:
    return thing.share**0.5 * (1 + _CENTERED * max(1 - 3 * abs(thing.center - 0.5), 0))
