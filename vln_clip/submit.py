"""``python -m vln_clip.submit``: writes the R2R submission of a checkpoint, or validates one."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from vln_clip import files, log, setting
from vln_clip.envs.evaluation import predictions, walk_split
from vln_clip.errors import InputError
from vln_clip.tasks.submission import validate_submission, write_submission


@dataclass(frozen=True)
class SubmitConfig:
    """Write the leaderboard submission of a checkpoint, or validate one before it is uploaded."""

    checkpoint: Path | None = None
    """folder of a run or of one of its checkpoints"""
    validate: Path | None = None
    """submission (.json or .json.gz) to check: every id once, right starts, every hop an edge"""
    dataset: str = "auto"
    """demo, r2r or auto: the checkpoint's own, or r2r where $VLN_CLIP_DATA holds it"""
    split: str = "test"
    """split to write or to check"""
    out: Path | None = None
    """file to write; by default submission_SPLIT.json in the checkpoint's folder"""
    features: str | None = None
    """other features of the same width"""
    device: str = "auto"
    """cpu, cuda, …"""


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    config = tyro.cli(SubmitConfig, args=argv, prog="python -m vln_clip.submit")
    if (config.checkpoint is None) == (config.validate is None):
        raise InputError("give either --checkpoint FOLDER to write a submission or --validate FILE to check one")
    if config.validate is not None:
        validate(config, config.validate)
    else:
        assert config.checkpoint is not None
        write(config, config.checkpoint)


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


def validate(config: SubmitConfig, path: Path) -> None:
    """Check a submission; anything wrong is an ``InputError`` that counts the problems and names the first."""
    dataset = setting.find_dataset(config.dataset)
    data = setting.open_setting(dataset, [config.split], setting.pick_device("cpu"), vocabulary=setting.NO_WORDS)
    report = validate_submission(path, data.splits[config.split].episodes, data.tables)
    report.require_valid()
    log.logger.info("%s", report)


def write(config: SubmitConfig, path: Path) -> None:
    """Let a checkpoint walk the split and write what it did."""
    device = setting.pick_device(config.device)
    dataset = None if config.dataset == "auto" else setting.find_dataset(config.dataset)
    loaded = setting.load_follower(path, dataset, [config.split], device, config.features)
    table = loaded.setting.table(config.split)
    walks = walk_split(loaded.world, loaded.follower, table, loaded.header["max_action"])
    name = "".join(c if c.isalnum() or c in "_@-" else "-" for c in config.split)
    out = config.out or setting.find_checkpoint(path) / f"submission_{name}.json"
    write_submission(out, predictions(loaded.world, table, walks))
    about = {"checkpoint": str(path), "iteration": loaded.header["iteration"], "features": loaded.features}
    files.save_json(out.with_suffix(".about.json"), about)
    report = validate_submission(out, loaded.setting.splits[config.split].episodes, loaded.setting.tables)
    report.require_valid()
    log.logger.info("%s", report)


if __name__ == "__main__":
    cli()
