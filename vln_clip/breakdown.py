"""Breaks scores down for ``vln_clip.evaluate``: means, intervals, groups, and paired differences of two agents."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from vln_clip.errors import InputError
from vln_clip.log import logger
from vln_clip.records import Episode
from vln_clip.tasks import statistics
from vln_clip.tasks.graph import Graph
from vln_clip.tasks.groups import group_keys
from vln_clip.tasks.metrics import Scores, summarize


def describe(
    scores: Scores, episodes: Sequence[Episode], graph: Graph, by: Sequence[str] = (), ci: bool = True
) -> dict[str, Any]:
    """Return everything about the scores of one agent.

    Args:
        scores: N instructions.
        episodes: N, in the same order.
        graph: gives path lengths.
        by: groups wanted, of ``tasks.groups.GROUPS``.
        ci: whether intervals are wanted.

    Returns:
        ``{metric: value}``; with ``ci: {metric: (low, high)}`` and ``by: {by: {group: the same}}`` where asked for.
    """
    found = _means(scores, episodes, ci)
    if by:
        found["by"] = {
            name: {
                key: _means(statistics.select(scores, rows), [episodes[row] for row in rows.tolist()], ci)
                for key, rows in statistics.group_rows(group_keys(name, episodes, graph)).items()
            }
            for name in by
        }
    return found


def _means(scores: Scores, episodes: Sequence[Episode], ci: bool) -> dict[str, Any]:
    """Return the means, and the intervals under ``ci``."""
    found: dict[str, Any] = dict(summarize(scores))
    if ci:
        found["ci"] = statistics.intervals(scores, [episode.path_id for episode in episodes])
    return found


def compare_paired(
    scores: Scores, episodes: Sequence[Episode], baseline: Scores, baseline_episodes: Sequence[Episode]
) -> dict[str, Any]:
    """Return the fields of ``statistics.Comparison`` of an agent with a baseline, on the instructions that both have.

    Raises:
        InputError: they have none in common.
    """
    row_of = {episode.instr_id: row for row, episode in enumerate(baseline_episodes)}
    pairs = [(row, row_of[e.instr_id]) for row, e in enumerate(episodes) if e.instr_id in row_of]
    if not pairs:
        raise InputError(
            f"agents must answer the same instructions to be compared, but {_about(baseline_episodes)} and "
            f"{_about(episodes)} share none; score each alone with --predictions"
        )
    if len(pairs) < max(len(episodes), len(baseline_episodes)):
        logger.info("paired differences are over the %d instructions that both have", len(pairs))
    ours, theirs = np.array(pairs).T
    clusters = [episodes[row].path_id for row in ours.tolist()]
    found = statistics.compare(statistics.select(scores, ours), statistics.select(baseline, theirs), clusters)
    return asdict(found) | {"num_instructions": len(pairs)}


def _about(episodes: Sequence[Episode]) -> str:
    """Say how many instructions there are in which languages."""
    return f"{len(episodes)} instructions in {', '.join(sorted({episode.language for episode in episodes}))}"
