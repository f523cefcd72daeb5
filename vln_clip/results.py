"""The end of a training run: every split scored with every agent, and the leaderboard file of the test split."""

from typing import Any

from vln_clip import checkpoint, files, log
from vln_clip.agents.baselines import RandomAgent, StopAgent
from vln_clip.agents.follower import Follower
from vln_clip.envs.evaluation import predictions, score_walks, walk_split
from vln_clip.envs.navigation import Navigation
from vln_clip.job import Job, criteria
from vln_clip.rollout import Agent, teacher_forced
from vln_clip.run import LAST
from vln_clip.setting import build_follower
from vln_clip.tasks.submission import write_submission

BEST = "best_val_unseen"


def score_split(job: Job, world: Navigation, agent: Agent, split: str, **options: Any) -> dict[str, float]:
    """Walk a whole split and return its metrics."""
    table = job.setting.table(split)
    return score_walks(world, table, walk_split(world, agent, table, job.config.follower.max_action, **options))


def load_stage(job: Job, stage: str, which: str, world: Navigation) -> Follower:
    """Load a trained follower of this run."""
    folder = job.run.checkpoint(stage, which)
    follower = build_follower(job.setting, job.config.model, world.bank.width, seed=0)
    checkpoint.restore_weights(follower, checkpoint.load(folder).weights, folder)
    return follower.eval()


def evaluate_all(job: Job, agents: dict[str, Navigation]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``{split: {row: {metric: value}}}``; every row names the features it really saw."""
    results: dict[str, dict[str, dict[str, Any]]] = {}
    scored = [name for name in job.setting.splits if job.setting.table(name).has_goals]
    for split in scored:
        generator = job.generator("random")
        rows: dict[str, dict[str, Any]] = {
            "random": score_split(job, job.world, RandomAgent(generator), split) | {"features": "none"},
            "shortest_path": score_split(job, job.world, StopAgent(), split, feedback=teacher_forced)
            | {"features": "none"},
        }
        for name in ("blind", "follower", "back_translated"):
            if name not in agents:
                continue
            world = agents[name]
            used = {"features": job.features if world is job.world else "none"}
            which: dict[str, str] = {name: BEST}
            if name != "blind":
                which |= {f"{name}{suffix}": f"{BEST}{suffix}" for suffix, _ in criteria(job)}
                which[f"{name}_last"] = LAST
            for row, checkpoint_name in which.items():
                rows[row] = score_split(job, world, load_stage(job, name, checkpoint_name, world), split) | used
        if job.config.features == "none":
            rows["blind"] = rows["follower"]
        results[split] = rows
    return results


def write_test_submission(job: Job, stage: str) -> None:
    """Write the leaderboard file of the test split, and beside it what it was made with."""
    test = next((split for split in job.setting.dataset.tests if split in job.setting.splits), None)
    if test is None:
        log.logger.warning("there is no test split in %s: no submission written", job.setting.data)
        return
    table = job.setting.table(test)
    follower = load_stage(job, stage, BEST, job.world)
    walks = walk_split(job.world, follower, table, job.config.follower.max_action)
    path = job.run.folder / f"submission_{test}.json"
    write_submission(path, predictions(job.world, table, walks))
    about = {"agent": stage, "checkpoint": BEST, "features": job.features, "config": job.config.to_json()}
    if job.unlabelled is not None:
        about["unlabelled_paths"] = job.unlabelled_source
    files.save_json(path.with_suffix(".about.json"), about)
