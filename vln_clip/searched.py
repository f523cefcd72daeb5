"""What a search finds on a whole split: its walks, the choice among them, and the grid of weights to choose with."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from vln_clip.agents.speaker import Speaker
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.evaluation import Walks, walk_scores
from vln_clip.envs.exploration import exploration, walk_through
from vln_clip.envs.navigation import Navigation
from vln_clip.envs.search import Candidates, Searcher, search
from vln_clip.envs.search_states import align_left
from vln_clip.log import logger
from vln_clip.ranks import ALONE, Ranks
from vln_clip.rescoring import AVERAGES, GRID_ALPHAS, Weighting, choose, speaker_log_prob
from vln_clip.sampler import in_order
from vln_clip.searching import ALPHA, Search, load_speaker
from vln_clip.setting import LoadedFollower
from vln_clip.tasks.metrics import SUCCESS_RATE, Scores, summarize

SEARCH_BATCH = 256  # episodes; each holds a memory per expansion and a score per state of its building
Grid = list[dict[str, Any]]  # an entry per weighting, see `score_grid`


@dataclass(frozen=True, eq=False)
class Searched:
    """What a search found for N episodes, with up to K walks each.

    Attributes:
        rows: (N,) int64, rows of the split in ascending order.
        start_view: (N,) int64.
        num_words: (N,) int64 words after <BOS>, <EOS> included.
        found: walks of all episodes.
        explored: (N, W) int64, viewpoints from the start through all expansions and back, padded with -1.
        speaker: (N, K) float64 log-probabilities of the instructions; None without a speaker.
    """

    rows: Tensor
    start_view: Tensor
    num_words: Tensor
    found: Candidates
    explored: Tensor
    speaker: Tensor | None

    def to(self, device: torch.device | str) -> "Searched":
        """Return the same on a device."""
        found = Candidates(**{name: getattr(self.found, name).to(device) for name in Candidates.__dataclass_fields__})
        rows, view, words = self.rows.to(device), self.start_view.to(device), self.num_words.to(device)
        speaker = None if self.speaker is None else self.speaker.to(device)
        return Searched(rows, view, words, found, self.explored.to(device), speaker)

    def best(self, weighting: Weighting) -> Tensor:
        """Return the walk to take in each episode, (N,)."""
        return choose(self.found.log_prob, self.found.num_decisions, self.speaker, self.num_words, weighting)

    def walks(self, world: Navigation, chosen: Tensor, explore: bool = True) -> Walks:
        """Return what is walked: the exploration, unless it is left out, then the chosen walks (N,)."""
        viewpoint = self.found.viewpoint[torch.arange(len(chosen), device=chosen.device), chosen]
        if explore:
            viewpoint = align_left(torch.cat([self.explored, viewpoint[:, 1:]], 1))
        view, num_actions = walk_through(world, self.start_view, viewpoint)
        arrays = (part.cpu().numpy() for part in (self.rows, viewpoint, view, num_actions))
        return Walks(*arrays)


def search_split(
    world: Navigation,
    agent: Searcher,
    table: EpisodeTable,
    wanted: Search,
    speaker: Speaker | None = None,
    batch_size: int = SEARCH_BATCH,
    ranks: Ranks = ALONE,
    words: EpisodeTable | None = None,
) -> Searched:
    """Search every episode of a split; nothing privileged is used. Several ranks search whole batches each, the same
    that one would: all of them return everything. ``words`` is the split in the speaker's words where the follower
    reads others.
    """  # noqa: D205
    parts = []
    for rows in ranks.deal(list(in_order(len(table), batch_size, table.length))):
        batch = table.batch(rows)
        found = search(world, agent, batch, wanted.beam_size, wanted.max_expansions)
        batch = batch if words is None else words.batch(rows)
        said = None if speaker is None else speaker_log_prob(world, speaker, batch, found)
        explored = exploration(world, found.expanded)
        parts.append(Searched(batch.episode, batch.view, batch.length - 1, found, explored, said))
    if ranks.world > 1:
        parts = [part.to(table.length.device) for part in ranks.gather_dealt([part.to("cpu") for part in parts])]
    order = torch.cat([part.rows for part in parts]).argsort()

    def whole(columns: list[Tensor]) -> Tensor:
        """Join a column of all parts in the order of the split, padded at the end with -1."""
        longest = max(column.shape[-1] for column in columns)
        if columns[0].dim() > 1:
            columns = [pad(column, (0, longest - column.shape[-1]), value=-1) for column in columns]
        return torch.cat(columns)[order]

    names = Candidates.__dataclass_fields__
    found = Candidates(**{name: whole([getattr(part.found, name) for part in parts]) for name in names})
    said = None if speaker is None else whole([part.speaker for part in parts if part.speaker is not None])
    rows, start_view, num_words, explored = (
        whole([getattr(part, name) for part in parts]) for name in ("rows", "start_view", "num_words", "explored")
    )
    return Searched(rows, start_view, num_words, found, explored, said)


def search_checkpoint(loaded: LoadedFollower, split: str, wanted: Search, ranks: Ranks = ALONE) -> Searched:
    """Search a split with a checkpoint's follower, and with the speaker if one is named."""
    speaker = None
    if wanted.speaker is not None:
        speaker = load_speaker(wanted.speaker, loaded)
        logger.info("speaker: %s", wanted.speaker)
    table, words = loaded.setting.table(split), loaded.setting.word_table(split)
    found = search_split(loaded.world, loaded.follower, table, wanted, speaker, ranks=ranks, words=words)
    expanded = (found.found.expanded >= 0).sum(1)
    logger.info(
        "search: %.1f states expanded per instruction, at most %d; %.1f walks found",
        expanded.double().mean().item(),
        int(expanded.max()),
        found.found.mask.sum(1).double().mean().item(),
    )
    return found


def score_grid(world: Navigation, table: EpisodeTable, searched: Searched, asked: float = ALPHA) -> Grid:
    """Score every weighting of the reference's grid (``--paramSearch``).

    Args:
        world: gives distances.
        table: the split that was searched, with goals.
        searched: what was found, with a speaker.
        asked: an alpha more, if it is not on the grid.

    Returns:
        An entry per weighting: alpha, average, and the means of all metrics with the exploration (``walked``) and
        without it (``jumped``).
    """
    first = torch.zeros_like(searched.rows)
    scores: dict[str, list[Scores]] = {"walked": [], "jumped": []}
    for rank in range(searched.found.log_prob.shape[1]):
        # Absent walks are never chosen; the first stands in for them.
        chosen = torch.where(searched.found.mask[:, rank], rank, first)
        for name, explore in (("walked", True), ("jumped", False)):
            scores[name].append(walk_scores(world, table, searched.walks(world, chosen, explore)))
    entries = []
    for average in AVERAGES:
        for alpha in sorted({*GRID_ALPHAS, asked}):
            best = searched.best(Weighting(alpha, average)).cpu().numpy()
            means = {name: summarize(_pick(parts, best)) for name, parts in scores.items()}
            entries.append({"alpha": alpha, "average": average, **means})
    return entries


def _pick(parts: list[Scores], best: np.ndarray) -> Scores:
    """Return the scores of the chosen walks (N,) from those of each rank."""
    return {name: np.stack([part[name] for part in parts])[best, np.arange(len(best))] for name in parts[0]}


def best_of_grid(entries: Grid) -> dict[str, dict[str, Any]]:
    """Return the entry with the highest success rate for each kind of averaging; the lowest alpha of equals."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        average, rate = entry["average"], entry["walked"][SUCCESS_RATE]
        if average not in found or rate > found[average]["walked"][SUCCESS_RATE]:
            found[average] = entry
    return found
