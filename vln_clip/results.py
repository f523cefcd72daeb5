"""The end of a training run: every split scored with every agent, and the leaderboard file of the test split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vln_clip import checkpoint, files, log
from vln_clip.agents.follower import Follower
from vln_clip.checkpoint import Checkpoint
from vln_clip.context import NO_INSTRUCTION, RANDOM, SHORTEST_PATH, Scored, context_rows, score_agent
from vln_clip.end_to_end import extract_kept
from vln_clip.envs.evaluation import predictions, walk_split
from vln_clip.envs.navigation import Navigation
from vln_clip.job import Job, criteria, rewards
from vln_clip.records import Episode
from vln_clip.run import LAST
from vln_clip.setting import TRAIN, build_follower
from vln_clip.tasks.formats import find_format
from vln_clip.tasks.statistics import summarize_by
from vln_clip.tasks.submission import write_submission
from vln_clip.trained_tower import TRAINED, follower_weights, trained_features

BEST = "best_val_unseen"
BACK_TRANSLATED, PRE_EXPLORED = "back_translated", "pre_explored"

# A larger training split (RxR, R4R) is scored on so many of its instructions: its scores are only looked at.
MOST_OF_TRAIN = 20_000


def load_stage(job: Job, stage: str, which: str, world: Navigation) -> tuple[Follower, Navigation]:
    """Load a trained follower of this run.

    Returns:
        The follower, and the world as it sees it: ``world``, or with features of the encoder that it was trained with.
    """
    follower = build_follower(job.setting, job.config.model, world.bank.width, seed=0)
    saved, folder = job.load(stage, which), job.run.checkpoint(stage, which)
    checkpoint.restore_weights(follower, follower_weights(saved), folder)
    if TRAINED in saved.header:
        world = job.ranks.first_here(lambda: _own_world(job, saved, folder))
    return follower.eval(), world


def _own_world(job: Job, saved: Checkpoint, folder: Path) -> Navigation:
    """Return the world with features of a checkpoint's own encoder, extracted where they are not in the cache."""
    features, c, data = trained_features(saved, folder), job.config, job.setting
    assert features is not None
    assert job.views is not None
    extract_kept(job.views.rendered, features, data.data, data.dataset.world, data.device)
    return job.setting.world(job.setting.stores(features), c.simulator, c.cross_check, **rewards(c))


def evaluate_all(job: Job, agents: dict[str, Navigation]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``{split: {row: {metric: value}}}``; every row names the features it really saw.

    Rows of multilingual data sets also have ``by_language: {language: {metric: value}}``.
    """
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for split in job.setting.splits:
        table, rows = job.setting.table(split), None
        if not table.has_goals:
            continue
        if split == TRAIN and len(table) > MOST_OF_TRAIN:
            order = torch.randperm(len(table), generator=torch.Generator().manual_seed(job.seed("train_rows")))
            rows = order[:MOST_OF_TRAIN].sort().values
        log.logger.info("scoring %d instructions of %s", len(table) if rows is None else len(rows), split)
        episodes = table.episodes if rows is None else [table.episodes[row] for row in rows.tolist()]
        scored = score_rows(job, agents, split, rows)
        results[split] = {name: _row(job, episodes, *found) for name, found in scored.items()}
    return results


def score_rows(
    job: Job, agents: dict[str, Navigation], split: str, rows: Tensor | None
) -> dict[str, tuple[Scored, str]]:
    """Walk a split, or some rows of it, with every agent; return scores and the features seen, context first."""
    table, max_action = job.setting.table(split), job.config.follower.max_action
    final = BACK_TRANSLATED if BACK_TRANSLATED in agents else "follower"
    follower, seen = load_stage(job, final, BEST, job.world)
    leading = job.setting.num_leading
    found = context_rows(seen, table, follower, max_action, job.generator("random"), rows, leading, job.ranks)
    scored = {name: (found[name], "none") for name in (RANDOM, SHORTEST_PATH)}
    scored[NO_INSTRUCTION] = found[NO_INSTRUCTION], job.features
    for name in ("blind", "follower", BACK_TRANSLATED, PRE_EXPLORED):
        if name not in agents:
            continue
        world = agents[name]
        used = job.features if world is job.world else "none"
        which: dict[str, str] = {name: BEST}
        if name != "blind":
            which |= {f"{name}{suffix}": f"{BEST}{suffix}" for suffix, _ in criteria(job)}
            which[f"{name}_last"] = LAST
        for row, chosen in which.items():
            agent, seen = load_stage(job, name, chosen, world)
            scored[row] = score_agent(seen, table, agent, max_action, rows=rows, ranks=job.ranks), used
    if job.config.features == "none":
        scored["blind"] = scored["follower"]
    return scored


def _row(job: Job, episodes: Sequence[Episode], scored: Scored, features: str) -> dict[str, Any]:
    """Return a row of the results."""
    metrics, scores = scored
    row: dict[str, Any] = metrics | {"features": features}
    if job.setting.dataset.is_multilingual:
        row["by_language"] = summarize_by(scores, [episode.language for episode in episodes])
    return row


def write_test_submission(job: Job, stage: str, suffix: str = "") -> None:
    """Write the leaderboard file of the test split, and beside it what it was made with."""
    test = next((split for split in job.setting.dataset.tests if split in job.setting.splits), None)
    if test is None:
        log.logger.warning("there is no test split in %s: no submission written", job.setting.data)
        return
    table = job.setting.table(test)
    follower, world = load_stage(job, stage, BEST, job.world)
    walks = walk_split(world, follower, table, job.config.follower.max_action, ranks=job.ranks)
    unlabelled = job.load(stage, BEST).header.get("unlabelled_paths")
    if not job.ranks.is_main:
        return
    style = job.setting.dataset.submission
    path = job.run.folder / f"submission_{test}{suffix}{find_format(style).ending}"
    split, tables = job.setting.splits[test], job.setting.tables
    write_submission(path, predictions(world, table, walks), style, split, tables)
    about = {"agent": stage, "checkpoint": BEST, "features": job.features, "config": job.config.to_json()}
    if unlabelled is not None:
        about["unlabelled_paths"] = unlabelled
    files.save_json(path.with_suffix(".about.json"), about)
