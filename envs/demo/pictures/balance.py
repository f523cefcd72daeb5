"""Picking questions so that they cannot be answered without the picture, as VQA v2 does: balanced answers."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from vln_clip.envs.demo.pictures.asking import Candidate

# Shares of the questions; yes/no, number and other come as often as in VQA v2, about 38, 12 and 50 %.
SHARES: dict[str, float] = {
    "presence": 0.12,
    "is_color": 0.05,
    "any_color": 0.09,
    "is_room": 0.07,
    "is_place": 0.03,
    "beside": 0.02,
    "count": 0.06,
    "count_color": 0.06,
    "color": 0.12,
    "color_at": 0.03,
    "where": 0.06,
    "where_color": 0.08,
    "room": 0.10,
    "floor": 0.05,
    "what": 0.05,
    "closer": 0.01,
}
# How many answers a topic of these domains has, all equally often.
_EVEN: dict[str, int] = {"yes_no": 2, "choice": 2, "polar": 2, "open": 3, "story": 1}
_MOST = 2  # how many times as often as the rarest answers of a topic its others may come

C = TypeVar("C", bound=Candidate)


def pick(rng: np.random.Generator, found: Sequence[C], count: int, shares: Mapping[str, float] = SHARES) -> list[C]:
    """Pick about ``count`` questions; fewer where there are not so many balanced ones.

    Yes and no come equally often for each form and topic, and so do the two options of a choice and the labels of
    hypotheses. Other answers fill up evenly: the rarer ones of a topic are all taken before more common ones are.

    Args:
        rng: draws which.
        found: what could be asked.
        count: how many are wanted.
        shares: of each form.

    Returns:
        The questions in the order of their pictures.
    """
    forms: dict[str, list[C]] = {form: [] for form in shares}
    for index in rng.permutation(len(found)):
        forms[found[index].form].append(found[index])
    chosen: list[C] = []
    for form, share in shares.items():
        chosen += _pick_form(forms[form], round(count * share))
    return sorted(chosen, key=lambda candidate: (candidate.image_id, candidate.text))


def _pick_form(found: list[C], quota: int) -> list[C]:
    """Fill the quota of a form from (topic, answer) heaps, one of each at a time."""
    topics: dict[str, dict[str, list[C]]] = {}
    for candidate in found:
        topics.setdefault(candidate.topic, {}).setdefault(candidate.answer, []).append(candidate)
    rounds: list[list[list[C]]] = []
    for topic in sorted(topics):
        heaps = [topics[topic][answer] for answer in sorted(topics[topic])]
        num_even = _EVEN.get(heaps[0][0].domain)
        if num_even:
            heaps = heaps if len(heaps) == num_even else []
            layers = [list(same) for same in zip(*heaps, strict=False)]
        else:
            layers = _layers(heaps)
        rounds.append(layers)
    chosen: list[C] = []
    for depth in range(max((len(layers) for layers in rounds), default=0)):
        for layers in rounds:
            if depth < len(layers) and len(chosen) < quota:
                chosen += layers[depth]
    return chosen


def _layers(heaps: list[list[C]]) -> list[list[C]]:
    """Return what is taken in each round: one of every answer while there are some of most answers."""
    if len(heaps) < 2:
        return []
    typical = sorted(len(heap) for heap in heaps)[len(heaps) // 2]
    deepest = min(max(len(heap) for heap in heaps), _MOST * typical)
    return [[heap[depth] for heap in heaps if depth < len(heap)] for depth in range(deepest)]
