"""``python -m vln_clip.evaluate``: scores checkpoints and prediction files, with context, intervals, comparisons."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vln_clip import files, log, report, tables
from vln_clip.breakdown import compare_paired, describe
from vln_clip.context import CONTEXT
from vln_clip.errors import InputError, unknown_name
from vln_clip.launch import launched, muted_elsewhere, one_voice
from vln_clip.ranks import ALONE, Ranks
from vln_clip.scoring import (
    Options,
    Result,
    common_dataset,
    context_of,
    find_checkpoint,
    score_any,
    score_checkpoint,
    score_file,
    score_search,
)
from vln_clip.searched import Grid, best_of_grid
from vln_clip.searching import Search, SearchFlags, open_search, require_search
from vln_clip.tasks.groups import GROUPS, natural
from vln_clip.tasks.statistics import MIN_CLUSTERS


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a checkpoint or a prediction file on a split with known goals, or compare several."""

    predictions: Path | None = None
    """prediction file (.json or .json.gz): [{instr_id, trajectory: [[viewpoint, heading, elevation], ...]}]"""
    checkpoint: Path | None = None
    """folder of a run or of one of its checkpoints, in place of --predictions"""
    compare: tuple[Path, ...] = ()
    """runs, checkpoints, prediction files or results.json files: a row each, and paired differences to the first"""
    context: Path | None = None
    """run that gives the rows blind and no_instruction; --checkpoint takes its own run"""
    no_context: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """leave out the rows random, shortest_path, blind and no_instruction"""
    by: tuple[str, ...] = ()
    """also show groups: language, length (of the reference path), scan"""
    ci: bool = True
    """95 % intervals, by bootstrap over paths"""
    format: str | None = None
    """table, markdown, latex or csv; by default table, and for --out what its extension says"""
    out: Path | None = None
    """also write the tables to this file (.txt, .md, .tex, .csv)"""
    json: Path | None = None
    """also write everything to this file"""
    dataset: str = "auto"
    """name of a data set, or auto: the checkpoint's own, or r2r where $VLN_CLIP_DATA holds it, else demo"""
    split: str = "val_unseen"
    """name of a split, NAME@N for N of its paths, or a file (with a /)"""
    language: str | None = None
    """one language of a multilingual data set, or all; by default the checkpoint's own, for files all"""
    features: str | None = None
    """other features of the same width for the checkpoint"""
    allow_missing: bool = False
    """score a prediction file that leaves instructions out"""
    allow_jumps: bool = False
    """score hops that are no edges by their distance, as EnvDrop's evaluator does"""
    allow_foreign: bool = False
    """leave out predictions for instructions of other splits, in place of refusing the file"""
    device: str = "auto"
    """cpu, cuda, …"""
    decoding: Annotated[SearchFlags, tyro.conf.arg(name="")] = field(default_factory=SearchFlags)
    """how the checkpoint's walks are chosen; --search beam stands beside its greedy row"""
    search_grid: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """with --search beam: also score 101 alphas with every averaging, to choose from"""
    simulator: Literal["tables", "mattersim"] = "tables"
    """where candidates and moves come from: our compiled tables, or the module MatterSim where it can be imported"""
    cross_check: bool = False
    """ask MatterSim too and stop at the first difference from the tables (slow)"""


@dataclass
class Evaluation:
    """Everything that is reported.

    Attributes:
        title: what was scored, where.
        rows: ``{agent: metrics}``, each with ``ci`` and ``by`` where asked for; context first.
        scored: names of the rows that were asked for.
        comparisons: ``{agent: fields of Comparison}`` and ``against``, of each scored row after the first.
        search: how the last scored row was searched; None where all was greedy.
        grid: scores of all weightings of the search, where asked for.
    """

    title: str
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    scored: list[str] = field(default_factory=list)
    comparisons: dict[str, dict[str, Any]] = field(default_factory=dict)
    search: Search | None = None
    grid: Grid = field(default_factory=list)


def main(argv: list[str] | None = None) -> None:
    """Run the program, in as many processes as were launched."""
    with one_voice():
        with muted_elsewhere():
            config = tyro.cli(EvaluateConfig, args=argv, prog="python -m vln_clip.evaluate")
        shown, written = check(config)
        with launched(config.device) as ranks:
            evaluation = evaluate(config, ranks)
        if evaluation is not None:
            tell(config, evaluation, shown, written)


def tell(config: EvaluateConfig, evaluation: Evaluation, shown: str, written: str) -> None:
    """Print and write what was found, in the formats that ``check`` returned."""
    found = make_tables(config, evaluation)
    tables.print_tables(found, shown)
    if config.out is not None:
        tables.write_tables(config.out, found, written)
        log.logger.info("wrote %s", config.out)
    if config.json is not None:
        scored = evaluation.rows[evaluation.scored[-1]] if not config.compare else {}
        more: dict[str, Any] = {}
        if config.compare or evaluation.search is not None:
            more["comparisons"] = evaluation.comparisons
        if evaluation.search is not None:
            more["search"] = evaluation.search.to_json()
        if evaluation.grid:
            more["grid"] = evaluation.grid
        files.save_json(config.json, {**scored, "rows": evaluation.rows, **more})
        log.logger.info("wrote %s", config.json)


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


def check(config: EvaluateConfig) -> tuple[str, str]:
    """Refuse flags that contradict each other, before any work; return the formats to print and to write."""
    given = (config.predictions is not None) + (config.checkpoint is not None) + bool(config.compare)
    if given != 1:
        raise InputError("give either --predictions FILE or --checkpoint FOLDER, or --compare with several of them")
    if len(config.compare) == 1:
        raise InputError(f"--compare must name two or more, got {config.compare[0]} alone")
    if len(set(config.compare)) < len(config.compare):
        raise InputError(f"--compare must name different things, got {', '.join(map(str, config.compare))}")
    if config.predictions is not None and (config.simulator != "tables" or config.cross_check):
        raise InputError("--simulator and --cross-check are for --checkpoint; a prediction file has been walked")
    if require_search(config.decoding) is not None and config.checkpoint is None:
        raise InputError(
            "--search beam is for --checkpoint; to compare searches, write each with vln-clip submit --search beam "
            "--split SPLIT and compare the files"
        )
    if config.search_grid and config.decoding.search != "beam":
        raise InputError("--search-grid must come with --search beam; greedy decoding has nothing to weigh")
    if config.no_context and config.context is not None:
        raise InputError("--context and --no-context exclude each other; leave one out")
    for by in config.by:
        if by not in GROUPS:
            raise unknown_name("--by", by, GROUPS)
    shown = tables.require_format(config.format or "table")
    written = shown if config.format or config.out is None else tables.format_of(config.out)
    return shown, written


def evaluate(config: EvaluateConfig, ranks: Ranks = ALONE) -> Evaluation | None:
    """Score what the flags name, and what stands beside it; None on all ranks but the first, which only walk."""
    search = None
    if config.checkpoint is not None:
        search = open_search(config.decoding, find_checkpoint(config.checkpoint), config.search_grid)
    options = options_of(config, ranks)
    results = score_all(config, options)
    names = unique_names(results, config.compare)
    evaluation = Evaluation(title_of(config, results), scored=names, search=search)
    if search is not None:
        evaluation.title += f"; {search.about}"
        searched, evaluation.grid = score_search(results[0], search, config.split, config.search_grid, ranks)
        results.append(searched)
        names.append(searched.name)
    walked = [result for result in results if result.scores is not None]
    if config.by and not walked:
        raise InputError("--by needs the scores of each instruction, but a results.json has means only; name the run")
    context = context_of(walked[0], config.context, options) if walked and not config.no_context else {}
    if not ranks.is_main:
        return None
    for name, (_, scores) in context.items():
        if name not in names:
            evaluation.rows[name] = describe(scores, walked[0].episodes, walked[0].graph, config.by, config.ci)
    for name, result in zip(names, results, strict=True):
        if result.scores is None:
            evaluation.rows[name] = dict(result.metrics)
        else:
            evaluation.rows[name] = describe(result.scores, result.episodes, result.graph, config.by, config.ci)
    warn_of_sizes(names, results)
    first = results[0]
    for name, result in zip(names[1:], results[1:], strict=True):
        if result.scores is not None and first.scores is not None:
            try:
                found = compare_paired(result.scores, result.episodes, first.scores, first.episodes)
            except InputError as error:
                raise InputError(f"--compare {names[0]} {name}: {error}") from None
            evaluation.comparisons[name] = found | {"against": names[0]}
    return evaluation


def warn_of_sizes(names: Sequence[str], results: Sequence[Result]) -> None:
    """Warn where the rows of a comparison are means over different numbers of instructions."""
    sizes = {name: round(result.metrics["num_instructions"]) for name, result in zip(names, results, strict=True)}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        log.logger.warning("rows are not over the same instructions: %s; --language takes one language of all", told)


def options_of(config: EvaluateConfig, ranks: Ranks) -> Options:
    """Return how to score; files of a comparison are scored on the data set of its runs."""
    shared = {name: getattr(config, name) for name in Options.__dataclass_fields__ if name != "ranks"}
    own = common_dataset(config.compare, "--compare") if config.dataset == "auto" else None
    return Options(**shared | ({} if own is None else {"dataset": own}), ranks=ranks)


def score_all(config: EvaluateConfig, options: Options) -> list[Result]:
    """Score what the flags name."""
    if config.compare:
        return [score_any(path, options) for path in config.compare]
    if config.predictions is not None:
        return [score_file(config.predictions, options)]
    assert config.checkpoint is not None
    return [score_checkpoint(config.checkpoint, options)]


def unique_names(results: Sequence[Result], paths: Sequence[Path]) -> list[str]:
    """Return a name per row: of a comparison the last part of each path, or all of it where two are called the same."""
    if not paths:
        return [results[0].name if results[0].name not in CONTEXT else results[0].about]
    short = [path.name if path.is_dir() else result.name for path, result in zip(paths, results, strict=True)]
    counts = Counter([*short, *CONTEXT])
    return [str(path) if counts[name] > 1 else name for name, path in zip(short, paths, strict=True)]


def title_of(config: EvaluateConfig, results: Sequence[Result]) -> str:
    """Say what was scored, on what."""
    about = f"{len(results)} agents" if config.compare else results[0].about
    counted = {result.metrics["num_instructions"] for result in results}
    title = f"{about} on {config.split}: {max(counted):.0f} instructions"
    if results[0].scores is not None:
        title += f" of {len({episode.path_id for episode in results[0].episodes})} paths"
    return title


def make_tables(config: EvaluateConfig, evaluation: Evaluation) -> list[tables.Table]:
    """Return all rows, then the groups, then the paired differences."""
    ci = "; 95 % intervals by bootstrap over paths" if config.ci else ""
    found = [report.rows_table(evaluation.title + ci, evaluation.rows)]
    few = f"; none for fewer than {MIN_CLUSTERS} paths" if config.ci else ""
    found += [report.groups_table(f"by {by}{ci}{few}", by, evaluation.rows, natural) for by in config.by]
    found += grid_tables(evaluation, config.split) if evaluation.grid else []
    if evaluation.comparisons:
        explained = "win, loss: only one of the two succeeds; p: sign flips of whole paths"
        title = f"paired differences to {evaluation.scored[0]}; {explained}"
        found.append(report.differences_table(title, evaluation.comparisons))
    return found


def grid_tables(evaluation: Evaluation, split: str) -> list[tables.Table]:
    """Return the best alpha of each averaging and the one asked for, with the exploration and without it."""
    assert evaluation.search is not None
    asked = evaluation.search.weighting
    (same,) = (e for e in evaluation.grid if (e["alpha"], e["average"]) == (asked.alpha, asked.average))
    found = {"asked for": same} | {f"best, {average}": e for average, e in best_of_grid(evaluation.grid).items()}
    shown = []
    for kind, told in (("jumped", "without the exploration, as the reference tunes"), ("walked", "with it")):
        title = f"{evaluation.scored[-1]}, alphas tuned on {split} itself: only for other splits; {told}"
        rows = {f"{name}, alpha {entry['alpha']:g}": entry[kind] for name, entry in found.items()}
        shown.append(report.rows_table(title, rows))
    return shown


if __name__ == "__main__":
    cli()
