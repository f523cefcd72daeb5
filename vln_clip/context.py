"""The rows that no result should be read without: random, shortest path, and the same agent without instructions.

The row of an agent that sees nothing needs a model of its own; ``vln_clip.evaluate`` takes the run's.
"""

from dataclasses import replace

import torch
from torch import Tensor

from vln_clip.agents.baselines import RandomAgent, StopAgent
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.evaluation import walk_scores, walk_split
from vln_clip.envs.navigation import Navigation
from vln_clip.envs.ragged import Ragged
from vln_clip.ranks import ALONE, Ranks
from vln_clip.rollout import Agent, Feedback, greedy, teacher_forced
from vln_clip.tasks.metrics import Scores, summarize

RANDOM, SHORTEST_PATH, BLIND, NO_INSTRUCTION = "random", "shortest_path", "blind", "no_instruction"
CONTEXT = (RANDOM, SHORTEST_PATH, BLIND, NO_INSTRUCTION)

Scored = tuple[dict[str, float], Scores]  # means, and the values of every instruction


def context_rows(
    world: Navigation,
    table: EpisodeTable,
    follower: Agent | None,
    max_action: int,
    generator: torch.Generator,
    rows: Tensor | None = None,
    num_leading: int = 1,
    ranks: Ranks = ALONE,
) -> dict[str, Scored]:
    """Walk a split at random, along shortest paths and, with a follower, without instructions.

    Args:
        world: where to walk, with the follower's features.
        table: a split with goals.
        follower: what ``no_instruction`` is of, in evaluation mode; None leaves that row out.
        max_action: most decisions per episode.
        generator: of the random agent, on the world's device.
        rows: (n,) rows of the split; None for all.
        num_leading: tokens before the words (``Vocabulary.num_leading``).
        ranks: who share the work, but for the random walks: one generator draws all of them.

    Returns:
        ``{row: (metrics, scores)}``, scores in the order of the split.
    """
    found = {
        RANDOM: score_agent(world, table, RandomAgent(generator), max_action, rows=rows),
        SHORTEST_PATH: score_agent(
            world, table, StopAgent(), max_action, feedback=teacher_forced, rows=rows, ranks=ranks
        ),
    }
    if follower is not None:
        found[NO_INSTRUCTION] = score_agent(
            world, without_instruction(table, num_leading), follower, max_action, rows=rows, ranks=ranks
        )
    return found


def score_agent(
    world: Navigation,
    table: EpisodeTable,
    agent: Agent,
    max_action: int,
    *,
    feedback: Feedback = greedy,
    rows: Tensor | None = None,
    ranks: Ranks = ALONE,
) -> Scored:
    """Let an agent walk a split, or some rows of it; return the means and the values of every instruction."""
    walks = walk_split(world, agent, table, max_action, feedback=feedback, rows=rows, ranks=ranks)
    scores = walk_scores(world, table, walks)
    return summarize(scores), scores


def without_instruction(table: EpisodeTable, num_leading: int = 1) -> EpisodeTable:
    """Return a split whose instructions are empty: of each only what stands around its words is left.

    That is ``<BOS>``, in a vocabulary of several languages the language's tag, and ``<EOS>``; of what a text encoder
    reads its begin and end.
    """
    if not isinstance(table.tokens, Ragged):
        return replace(table, tokens=table.tokens.emptied())
    assert bool((table.length > num_leading).all()), "instructions must begin and end with a special token"
    flat, first = table.tokens.flat, table.tokens.first
    leading = first[:, None] + torch.arange(num_leading, device=first.device)
    last = first + table.length - 1
    kept = flat[torch.cat([leading, last[:, None]], 1)]  # (N, num_leading + 1)
    begin = torch.arange(len(table), device=first.device) * (num_leading + 1)
    length = torch.full_like(first, num_leading + 1)
    return replace(table, tokens=Ragged(kept.flatten(), begin, length, num_leading + 1, table.tokens.fill))
