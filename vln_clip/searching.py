"""Search in place of greedy decoding, for whole splits: its flags, its speaker, its walks, and the grid of weights."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from vln_clip import checkpoint
from vln_clip.agents.speaker import Speaker
from vln_clip.config import ModelConfig, from_json
from vln_clip.envs.episodes import EpisodeTable, in_order
from vln_clip.envs.evaluation import Walks, walk_scores
from vln_clip.envs.exploration import exploration, walk_through
from vln_clip.envs.navigation import Navigation
from vln_clip.envs.search import MAX_EXPANSIONS, Candidates, Searcher, align_left, search
from vln_clip.errors import InputError
from vln_clip.log import logger
from vln_clip.rescoring import AVERAGES, BOTH, GRID_ALPHAS, Weighting, choose, speaker_log_prob
from vln_clip.setting import LoadedFollower, build_speaker, run_of
from vln_clip.tasks.metrics import SUCCESS_RATE, Scores, summarize

SEARCH_BATCH = 256  # episodes; each holds a memory per expansion and a score per state of its building
BEAM_SIZE, ALPHA = 5, 0.5
Grid = list[dict[str, Any]]  # an entry per weighting, see `score_grid`
DEFAULT_SPEAKER = Path("checkpoints", "speaker", "best_val_unseen_bleu")  # in a run's folder


@dataclass(frozen=True)
class SearchFlags:
    """How walks are chosen; everything below --search is for beam alone."""

    search: Literal["greedy", "beam"] = "greedy"
    """greedy: the best action at every step; beam: state-factored search, its exploration walked and counted"""
    beam_size: int | None = None
    """walks to find per instruction (by default 5)"""
    alpha: float | None = None
    """weight of the speaker in choosing one of them, 0 to 1 (by default 0.5); the follower has the rest"""
    average: Literal["both", "speaker", "follower", "none"] | None = None
    """whose log-probability is divided by its length before they are added up (by default both)"""
    speaker: Path | None = None
    """folder of a speaker's checkpoint or its run (by default the best of the checkpoint's own run)"""
    max_expansions: int | None = None
    """most states to expand per instruction (by default 300)"""


@dataclass(frozen=True)
class Search:
    """A search as it is done: the flags with their defaults filled in."""

    beam_size: int = BEAM_SIZE
    alpha: float = ALPHA
    average: str = BOTH
    speaker: Path | None = None
    max_expansions: int = MAX_EXPANSIONS

    @property
    def name(self) -> str:
        """Return what follows the agent's name in its row."""
        return f"beam{self.beam_size}"

    def to_json(self) -> dict[str, Any]:
        """Return what a file made with it tells."""
        return {"search": "beam"} | asdict(self) | {"speaker": None if self.speaker is None else str(self.speaker)}


def require_search(flags: SearchFlags) -> Search | None:
    """Check the flags; return the search they ask for, None for greedy decoding."""
    given = {name: value for name, value in asdict(flags).items() if name != "search" and value is not None}
    if flags.search == "greedy":
        if given:
            names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InputError(f"{names} must come with --search beam; greedy decoding searches nothing")
        return None
    found = Search(**given)
    for name in ("beam_size", "max_expansions"):
        if getattr(found, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(found, name)}")
    if not 0 <= found.alpha <= 1:
        raise InputError(f"--alpha must be from 0 (the follower alone) to 1 (the speaker alone), got {found.alpha}")
    return found


def find_speaker(wanted: Path | None, follower: Path) -> Path:
    """Return the folder of the speaker to use.

    Args:
        wanted: a speaker's checkpoint or its run; None for the speaker of the follower's run.
        follower: folder of the follower's checkpoint.
    """
    named = wanted or run_of(follower)
    if named is not None:
        for folder in (named, named / DEFAULT_SPEAKER):
            if (folder / checkpoint.FILE).is_file():
                return folder
    if wanted is not None:
        raise InputError(f"--speaker must be the folder of a speaker's checkpoint or of its run, got {wanted}")
    where = follower if named is None else named
    raise InputError(
        f"{where} holds no speaker ({DEFAULT_SPEAKER}) to choose walks with; name one with --speaker FOLDER, or leave "
        "the choice to the follower with --alpha 0"
    )


def load_speaker(folder: Path, loaded: LoadedFollower) -> Speaker:
    """Open a speaker that reads the follower's words and sees its features."""
    saved = checkpoint.load(folder)
    header = saved.header
    if header.get("stage") != "speaker":
        raise InputError(f"--speaker {folder} must be a speaker's checkpoint, but is of stage {header.get('stage')!r}")
    for key in ("features", "feature_width", "feature_fingerprints", "words"):
        if header[key] != loaded.header[key]:
            what = "words" if key == "words" else "features"
            told = "" if key == "words" else f": {header['features']} there, {loaded.header['features']} here"
            raise InputError(f"--speaker {folder} was trained on other {what} than the follower{told}; name another")
    speaker = build_speaker(loaded.setting, from_json(ModelConfig, header["model"]), header["feature_width"], seed=0)
    checkpoint.restore_weights(speaker, saved.weights, folder)
    return speaker.eval()


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
) -> Searched:
    """Search every episode of a split; nothing privileged is used."""
    parts = []
    for rows in in_order(len(table), batch_size, table.length):
        batch = table.batch(rows)
        found = search(world, agent, batch, wanted.beam_size, wanted.max_expansions)
        said = None if speaker is None else speaker_log_prob(world, speaker, batch, found)
        explored = exploration(world, found.expanded)
        parts.append(Searched(batch.episode, batch.view, batch.length - 1, found, explored, said))
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


def search_checkpoint(loaded: LoadedFollower, folder: Path, split: str, wanted: Search, grid: bool = False) -> Searched:
    """Search a split with a checkpoint's follower, and its speaker where one is needed."""
    speaker = None
    if wanted.alpha > 0 or grid:
        where = find_speaker(wanted.speaker, folder)
        speaker = load_speaker(where, loaded)
        logger.info("speaker: %s", where)
    elif wanted.speaker is not None:
        raise InputError("--speaker must come with an --alpha above 0; 0 leaves the choice to the follower alone")
    table = loaded.setting.table(split)
    found = search_split(loaded.world, loaded.follower, table, wanted, speaker)
    expanded = (found.found.expanded >= 0).sum(1)
    logger.info(
        "search: %.1f states expanded per instruction, at most %d; %.1f walks found",
        expanded.double().mean().item(),
        int(expanded.max()),
        found.found.mask.sum(1).double().mean().item(),
    )
    return found


def weighting(wanted: Search) -> Weighting:
    """Return how a search weighs follower and speaker."""
    return Weighting(wanted.alpha, wanted.average)


def score_grid(world: Navigation, table: EpisodeTable, searched: Searched) -> Grid:
    """Score every weighting of the reference's grid (``--paramSearch``).

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
        for alpha in GRID_ALPHAS:
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
