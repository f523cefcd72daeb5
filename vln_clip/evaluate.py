"""``python -m vln_clip.evaluate``: scores a checkpoint or a prediction file on a split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vln_clip import files, log, setting
from vln_clip.envs.evaluation import score_walks, walk_split
from vln_clip.errors import InputError
from vln_clip.report import print_metrics
from vln_clip.tasks.metrics import score_predictions, summarize
from vln_clip.tasks.predictions import read_predictions


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a checkpoint or a prediction file on a split with known goals."""

    predictions: Path | None = None
    """prediction file (.json or .json.gz): [{instr_id, trajectory: [[viewpoint, heading, elevation], ...]}]"""
    checkpoint: Path | None = None
    """folder of a run or of one of its checkpoints, in place of --predictions"""
    dataset: str = "auto"
    """demo, r2r or auto: the checkpoint's own, or r2r where $VLN_CLIP_DATA holds it"""
    split: str = "val_unseen"
    """name of a split, NAME@N for N of its paths, or a file (with a /)"""
    json: Path | None = None
    """also write the metrics to this file"""
    features: str | None = None
    """other features of the same width for the checkpoint"""
    allow_missing: bool = False
    """score a prediction file that leaves instructions out"""
    allow_jumps: bool = False
    """score hops that are no edges by their distance, as EnvDrop's evaluator does"""
    device: str = "auto"
    """cpu, cuda, …"""
    simulator: Literal["tables", "mattersim"] = "tables"
    """where candidates and moves come from: our compiled tables, or the module MatterSim where it can be imported"""
    cross_check: bool = False
    """ask MatterSim too and stop at the first difference from the tables (slow)"""


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    config = tyro.cli(EvaluateConfig, args=argv, prog="python -m vln_clip.evaluate")
    if (config.predictions is None) == (config.checkpoint is None):
        raise InputError("give either --predictions FILE or --checkpoint FOLDER")
    if config.predictions is not None:
        if config.simulator != "tables" or config.cross_check:
            raise InputError("--simulator and --cross-check are for --checkpoint; a prediction file has been walked")
        metrics, about = score_file(config, config.predictions)
    else:
        assert config.checkpoint is not None
        metrics, about = score_checkpoint(config, config.checkpoint)
    print_metrics(f"{about} on {config.split}: {metrics['num_instructions']} instructions", metrics)
    if config.json is not None:
        files.save_json(config.json, metrics)
        log.logger.info("wrote %s", config.json)


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


def score_file(config: EvaluateConfig, path: Path) -> tuple[dict[str, float], str]:
    """Score a prediction file; return metrics and what was scored."""
    predictions = read_predictions(path)
    dataset = setting.find_dataset(config.dataset)
    data = setting.open_setting(dataset, [config.split], setting.pick_device("cpu"), vocabulary=setting.NO_WORDS)
    try:
        _, scores = score_predictions(
            predictions,
            data.splits[config.split].episodes,
            data.tables,
            allow_missing=config.allow_missing,
            allow_jumps=config.allow_jumps,
        )
    except InputError as error:
        raise InputError(
            f"{path}: {error} (--allow-missing scores an incomplete file, --allow-jumps hops that are no edges)"
        ) from None
    return summarize(scores), str(path)


def score_checkpoint(config: EvaluateConfig, path: Path) -> tuple[dict[str, float], str]:
    """Let a checkpoint walk the split greedily; return metrics and what was scored."""
    device = setting.pick_device(config.device)
    dataset = None if config.dataset == "auto" else setting.find_dataset(config.dataset)
    simulator = (config.simulator, config.cross_check)
    loaded = setting.load_follower(path, dataset, [config.split], device, config.features, *simulator)
    table = loaded.setting.table(config.split)
    if not table.has_goals:
        raise InputError(f"--split {config.split} hides its goals; write its submission with vln-clip submit")
    walks = walk_split(loaded.world, loaded.follower, table, loaded.header["max_action"])
    setting.log_cross_check(loaded.world)
    return score_walks(loaded.world, table, walks), f"{path} ({loaded.features} features)"


if __name__ == "__main__":
    cli()
