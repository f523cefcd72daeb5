"""``python -m vln_clip.submit``: writes, merges, converts or validates leaderboard submissions."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vln_clip import checkpoint, devices, files, log, setting
from vln_clip.envs.evaluation import predictions, walk_split
from vln_clip.errors import InputError
from vln_clip.launch import launched, muted_elsewhere, one_voice
from vln_clip.ranks import ALONE, Ranks
from vln_clip.searched import search_checkpoint
from vln_clip.searching import SearchFlags, open_search, require_search
from vln_clip.tasks.datasets import ALL_LANGUAGES, DATASETS
from vln_clip.tasks.formats import find_format
from vln_clip.tasks.predictions import read_placed
from vln_clip.tasks.strangers import other_splits, require_of_split
from vln_clip.tasks.submission import Report, merge_lines, write_submission

MODES = "--checkpoint FOLDER (let it walk), --validate FILE (check), --merge FILES --out FILE or --from FILE --out FILE"


@dataclass(frozen=True)
class SubmitConfig:
    """Write, merge, convert or validate a leaderboard submission; what is written is validated too."""

    checkpoint: Path | None = None
    """let this run (folder of a run or of one of its checkpoints) walk the split and write what it did"""
    validate: Path | None = None
    """check a submission, plain or gzipped: format, every id once, right starts, every hop an edge"""
    merge: tuple[Path, ...] = ()
    """merge the per-language files of RxR into --out"""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """convert a prediction file of any format into the data set's, --out"""
    dataset: str = "auto"
    """name of a data set, or auto: the checkpoint's own, or r2r where $VLN_CLIP_DATA holds it, else demo"""
    split: str | None = None
    """split to write or to check; by default the one that the server scores"""
    language: str | None = None
    """one language of a multilingual data set, as --merge takes its files; by default all, or the checkpoint's own"""
    format: str | None = None
    """format of the submission; by default the data set's"""
    out: Path | None = None
    """file to write; with --checkpoint by default submission_SPLIT.json (RxR: .jsonl) in its folder"""
    json: Path | None = None
    """also write the report to this file"""
    all: bool = False
    """print every problem, however many"""
    features: str | None = None
    """with --checkpoint: other features of the same width"""
    device: str = "auto"
    """with --checkpoint: cpu, cuda, …"""
    decoding: Annotated[SearchFlags, tyro.conf.arg(name="")] = field(default_factory=SearchFlags)
    """how the checkpoint's walks are chosen"""


def main(argv: list[str] | None = None) -> None:
    """Run the program, in as many processes as were launched."""
    with one_voice():
        with muted_elsewhere():
            config = tyro.cli(SubmitConfig, args=argv, prog="python -m vln_clip.submit")
        _check_flags(config)
        with launched(config.device) as ranks:
            report = work(config, ranks)
        if report is not None:
            tell(config, report)


def work(config: SubmitConfig, ranks: Ranks) -> Report | None:
    """Do what the flags ask for; None where nothing was checked, or by another rank."""
    report: Report | None
    if config.checkpoint is not None:
        report = write(config, config.checkpoint, ranks)
    elif not ranks.is_main:
        report = None
    elif config.validate is not None:
        report = validate(config, config.validate)
    elif config.source is not None:
        report = convert(config, config.source)
    else:
        report = merge(config)
    return report


def tell(config: SubmitConfig, report: Report) -> None:
    """Print and write what a check has found; problems are an ``InputError``."""
    print("\n".join(report.lines(config.all)))
    if config.json is not None:
        files.save_json(config.json, report.to_json())
    if report.problems:
        total = sum(problem.count for problem in report.problems)
        raise InputError(f"submission {report.file} is not valid: {total} problems, see above")


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


def _check_flags(config: SubmitConfig) -> None:
    """Refuse flags that contradict each other."""
    modes = {"--checkpoint": config.checkpoint, "--validate": config.validate, "--from": config.source}
    given = [name for name, value in (modes | {"--merge": config.merge or None}).items() if value is not None]
    if len(given) != 1:
        raise InputError(f"give either {MODES}, got {' and '.join(given) or 'none of them'}")
    (mode,) = given
    for name, value in (("--features", config.features), ("--device", None if config.device == "auto" else "")):
        if value is not None and mode != "--checkpoint":
            raise InputError(f"{name} is for --checkpoint: with {mode} no agent walks; leave it out")
    if require_search(config.decoding) is not None and mode != "--checkpoint":
        raise InputError(f"--search beam is for --checkpoint: with {mode} no agent walks; leave it out")
    if mode == "--validate" and config.out is not None:
        raise InputError("--out is for what is written, but --validate only checks; --json FILE takes its report")
    if mode in ("--merge", "--from") and config.out is None:
        raise InputError(f"{mode} needs --out FILE for what it writes")
    if config.out is not None and config.out in (config.source, *config.merge):
        raise InputError(f"--out must be another file than what is read, got {config.out} for both")
    if config.format is not None:
        find_format(config.format)


def _style(config: SubmitConfig, dataset: str, out: Path | None = None) -> tuple[str, str]:
    """Return format and split; a name to write to must end as the format's files do."""
    style = config.format or DATASETS[dataset].submission
    row = find_format(style)
    if out is not None and not out.name.removesuffix(".gz").endswith(row.ending):
        raise InputError(f"--out must end in {row.ending} or {row.ending}.gz for a submission of {style}, got {out}")
    tests = DATASETS[dataset].tests
    if config.split is None and not tests:
        raise InputError(f"--split must be given for {dataset}, which has no test split of its own")
    return style, config.split or tests[0]


def _open(config: SubmitConfig, dataset: str, split: str) -> setting.Setting:
    """Open a split whose words nobody reads."""
    device, language = devices.pick_device("cpu"), config.language or ALL_LANGUAGES
    return setting.open_setting(dataset, [split], device, vocabulary=setting.NO_WORDS, language=language)


def validate(config: SubmitConfig, path: Path) -> Report:
    """Check a submission against its split."""
    dataset = setting.find_dataset(config.dataset)
    style, split = _style(config, dataset)
    return check(_open(config, dataset, split), split, style, path)


def check(data: setting.Setting, split: str, style: str, path: Path) -> Report:
    """Check a submission with the row of its format."""
    row = find_format(style)
    episodes = data.splits[split].episodes
    run = row.function("validate")
    report: Report
    if row.on_graph:
        report = run(path, episodes, data.tables, other_splits(data.dataset.name, data.data, split))
    else:
        continuous = data.splits[split].continuous
        starts = None if continuous is None else {e.instr_id: e.start_m for e in continuous.episodes}
        report = run(path, [episode.instr_id for episode in episodes], starts)
    return report


def write(config: SubmitConfig, path: Path, ranks: Ranks = ALONE) -> Report | None:
    """Let a checkpoint walk the split and write what it did; None on all ranks but the first, which only walk."""
    device, folder = devices.pick_device(ranks.device or config.device), setting.find_checkpoint(path)
    wanted = open_search(config.decoding, folder)
    if config.dataset == "auto":
        dataset = checkpoint.load(folder).header["dataset"]
    else:
        dataset = setting.find_dataset(config.dataset)
    style, split = _style(config, dataset, config.out)
    loaded = ranks.first_here(
        lambda: setting.load_follower(path, dataset, [split], device, config.features, language=config.language)
    )
    table = loaded.setting.table(split)
    about = {"checkpoint": str(path), "iteration": loaded.header["iteration"], "features": loaded.features}
    name = "".join(c if c.isalnum() or c in "_@-" else "-" for c in split)
    if wanted is None:
        walks = walk_split(loaded.world, loaded.follower, table, loaded.header["max_action"], ranks=ranks)
    else:
        searched = search_checkpoint(loaded, split, wanted, ranks)
        walks = searched.walks(loaded.world, searched.best(wanted.weighting))
        about["search"] = wanted.to_json()
        name += f"_{wanted.name}"
    if not ranks.is_main:
        return None
    out = config.out or folder / f"submission_{name}{find_format(style).ending}"
    data = loaded.setting
    write_submission(out, predictions(loaded.world, table, walks), style, data.splits[split], data.tables)
    files.save_json(out.with_suffix(".about.json"), about)
    return check(data, split, style, out)


def convert(config: SubmitConfig, source: Path) -> Report:
    """Write a prediction file in the format of the data set; with ``--language`` only what it holds in that one."""
    assert config.out is not None
    dataset = setting.find_dataset(config.dataset)
    style, split = _style(config, dataset, config.out)
    data = _open(config, dataset, split)
    wanted = {episode.instr_id for episode in data.splits[split].episodes}
    placed = read_placed(source)
    require_of_split(source, placed, wanted, dataset, data.data, split)
    found = [prediction for _, prediction in placed if prediction.instr_id in wanted]
    if len(found) < len(placed):
        log.logger.info("left out %d predictions of %s that are not asked for", len(placed) - len(found), source)
    write_submission(config.out, found, style, data.splits[split], data.tables)
    return check(data, split, style, config.out)


def merge(config: SubmitConfig) -> Report | None:
    """Merge per-language files, and check them against the split where the data set is named."""
    assert config.out is not None
    named = config.dataset != "auto"
    dataset = setting.find_dataset(config.dataset) if named else "rxr"
    style, split = _style(config, dataset, config.out)
    data = _open(config, dataset, split) if named else None
    num_written = merge_lines(config.merge, config.out)
    log.logger.info("wrote %s: %d predictions of %d files", config.out, num_written, len(config.merge))
    if data is None:
        log.logger.warning("not checked against a split: --dataset rxr does that where RxR is in $VLN_CLIP_DATA")
        return None
    return check(data, split, style, config.out)


if __name__ == "__main__":
    cli()
