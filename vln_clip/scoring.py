"""What ``vln_clip.evaluate`` scores: prediction files, checkpoints that walk, a run's results, and their context."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vln_clip import checkpoint, devices, setting
from vln_clip.config import PRESETS
from vln_clip.connectivity import NavTables
from vln_clip.context import BLIND, CONTEXT, NO_INSTRUCTION, Scored, context_rows, score_agent
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.evaluation import walk_scores
from vln_clip.errors import InputError, unknown_name
from vln_clip.job import SEEDS
from vln_clip.log import logger
from vln_clip.ranks import ALONE, Ranks
from vln_clip.reading import parse_json, read_bytes
from vln_clip.records import Episode, Prediction
from vln_clip.report import check_results
from vln_clip.searched import Grid, score_grid, search_checkpoint
from vln_clip.searching import Search
from vln_clip.setting import LoadedFollower, Setting
from vln_clip.tasks.datasets import ALL_LANGUAGES, DATASETS
from vln_clip.tasks.documents import ID_KEYS
from vln_clip.tasks.formats import find_format
from vln_clip.tasks.metrics import METRICS, NUM_INSTRUCTIONS, Scores, score_predictions, summarize
from vln_clip.tasks.predictions import read_placed
from vln_clip.tasks.strangers import require_of_split

BEST = "best_val_unseen"
BEST_AGENTS = ("back_translated", "follower")  # rows of a results.json that stand for the run, the first that is there
FILE_SEED = 1  # of the random agent beside a prediction file; beside a checkpoint it is the run's


@dataclass(frozen=True)
class Options:
    """How to score: the flags of ``vln_clip.evaluate`` by the same names, and the processes that share the walking."""

    dataset: str
    split: str
    language: str | None = None
    device: str = "auto"
    features: str | None = None
    allow_missing: bool = False
    allow_jumps: bool = False
    allow_foreign: bool = False
    simulator: str = "tables"
    cross_check: bool = False
    ranks: Ranks = ALONE


@dataclass(frozen=True, eq=False)
class Result:
    """Scores of one agent on a split.

    Attributes:
        name: of its row.
        about: what was scored, for the title.
        metrics: means.
        scores: of each instruction; None where only the means are known.
        episodes: that were scored, in the order of the scores.
        setting: the opened data set; None where only the means are known.
        loaded: the follower and its world, where one walked.
        folder: its checkpoint.
    """

    name: str
    about: str
    metrics: dict[str, float]
    scores: Scores | None = None
    episodes: Sequence[Episode] = ()
    setting: Setting | None = None
    loaded: LoadedFollower | None = None
    folder: Path | None = None

    @property
    def graph(self) -> NavTables:
        """Return the graphs of the data set."""
        assert self.setting is not None
        return self.setting.tables


def score_any(path: Path, options: Options) -> Result:
    """Score what a path means: a run's or a checkpoint's folder, a prediction file, or a run's ``results.json``."""
    if not path.exists():
        raise InputError(
            f"{path} must be a run's folder, a checkpoint's, a prediction file or a results.json, but does not exist"
        )
    if path.is_dir():
        return score_checkpoint(path, options)
    try:
        content = parse_json(read_bytes(path), path)
    except InputError:  # JSON lines, or what the reader of prediction files has a better word for
        content = None
    if isinstance(content, dict) and not content.keys() & set(ID_KEYS):
        return score_results(path, content, options)
    return score_file(path, options)


def open_file(path: Path, options: Options) -> tuple[list[Prediction], Setting]:
    """Read a prediction file and open its split; predictions of other splits are refused unless they are allowed."""
    dataset = setting.find_dataset(options.dataset)
    try:
        placed = read_placed(path)
    except InputError as error:
        if find_format(DATASETS[dataset].submission).on_graph:
            raise
        raise InputError(
            f"{error}; on {dataset} walks of viewpoints are scored here, positions of continuous agents in Habitat"
        ) from None
    device, language = devices.pick_device("cpu"), options.language or ALL_LANGUAGES
    data = setting.open_setting(dataset, [options.split], device, vocabulary=setting.NO_WORDS, language=language)
    if not options.allow_foreign:
        wanted = {episode.instr_id for episode in data.splits[options.split].episodes}
        try:
            require_of_split(path, placed, wanted, dataset, data.data, options.split)
        except InputError as error:
            raise InputError(f"{error}; --allow-foreign leaves such predictions out") from None
    return [prediction for _, prediction in placed], data


def score_file(path: Path, options: Options) -> Result:
    """Score a prediction file."""
    predictions, data = open_file(path, options)
    try:
        instr_ids, scores = score_predictions(
            predictions,
            data.splits[options.split].episodes,
            data.tables,
            allow_missing=options.allow_missing,
            allow_jumps=options.allow_jumps,
        )
    except InputError as error:
        raise InputError(
            f"{path}: {error} (--allow-missing scores an incomplete file, --allow-jumps hops that are no edges)"
        ) from None
    by_id = {episode.instr_id: episode for episode in data.splits[options.split].episodes}
    episodes = [by_id[instr_id] for instr_id in instr_ids]
    return Result(stem_of(path), str(path), summarize(scores), scores, episodes, data)


def stem_of(path: Path) -> str:
    """Return what a prediction file is called in tables: its name without endings."""
    return path.name.removesuffix(".gz").removesuffix(".json").removesuffix(".jsonl")


def score_checkpoint(path: Path, options: Options) -> Result:
    """Let a checkpoint walk the split greedily."""
    folder = find_checkpoint(path)
    loaded = load(folder, options)
    table = scored_table(loaded.setting, options.split)
    metrics, scores = score_agent(
        loaded.world, table, loaded.follower, loaded.header["max_action"], ranks=options.ranks
    )
    setting.log_cross_check(loaded.world)
    which = "" if folder.name == BEST else f"_{folder.name}"
    return Result(
        loaded.header["stage"] + which,
        f"{path} ({loaded.features} features)",
        metrics,
        scores,
        table.episodes,
        loaded.setting,
        loaded,
        folder,
    )


def score_search(
    greedy: Result, wanted: Search, split: str, grid: bool = False, ranks: Ranks = ALONE
) -> tuple[Result, Grid]:
    """Let a checkpoint that walked greedily search the split; return that, and all weightings where asked for."""
    assert greedy.loaded is not None
    loaded, table = greedy.loaded, scored_table(greedy.loaded.setting, split)
    searched = search_checkpoint(loaded, split, wanted, ranks)
    scores = walk_scores(loaded.world, table, searched.walks(loaded.world, searched.best(wanted.weighting)))
    entries = score_grid(loaded.world, table, searched, wanted.alpha) if grid and ranks.is_main else []
    name = f"{greedy.name}_{wanted.name}"
    return replace(greedy, name=name, metrics=summarize(scores), scores=scores), entries


def score_results(path: Path, content: dict, options: Options) -> Result:
    """Read the means of a run's best agent from its ``results.json``, in the language that the options ask for."""
    split = options.split
    if not all(
        isinstance(rows, dict) and all(isinstance(row, dict) for row in rows.values()) for rows in content.values()
    ):
        raise InputError(f"{path} must be a list of predictions or a run's results.json, got another JSON object")
    check_results(content, path)
    if split not in content:
        raise unknown_name(f"--split of {path}", split, content)
    agent = next((name for name in BEST_AGENTS if name in content[split]), None)
    if agent is None:
        raise InputError(f"{path} must have a row {' or '.join(BEST_AGENTS)} for {split}, got {list(content[split])}")
    trained_on = run_dataset(path)
    if trained_on is not None and options.dataset not in ("auto", trained_on):
        raise InputError(f"{path} must be of the data set {options.dataset} to be compared, but is of {trained_on}")
    row = _in_language(content[split][agent], f"{path}: {agent} on {split}", trained_on, options.language)
    metrics = {name: row[name] for name in (*METRICS, NUM_INSTRUCTIONS) if name in row}
    logger.info(
        "%s holds means only: no intervals, groups or paired differences; the run's folder in its place gives them",
        path,
    )
    return Result(f"{path.parent.name}/{agent}", str(path), metrics)


def run_dataset(results: Path) -> str | None:
    """Return the data set of a ``results.json`` by the ``config.json`` beside it, None where that tells none."""
    path = results.with_name("config.json")
    config = parse_json(read_bytes(path), path) if path.is_file() else None
    name = config.get("dataset") if isinstance(config, dict) else None
    return name if name in DATASETS else None


def _in_language(row: dict, where: str, dataset: str | None, language: str | None) -> dict:
    """Return the part of a row of ``results.json`` in one language; None leaves the row as the run wrote it."""
    languages = () if dataset is None else DATASETS[dataset].languages
    spoken: dict[str, dict] = row.get("by_language") or dict.fromkeys(languages, row)
    if language is None:
        return row
    wanted = languages if language == ALL_LANGUAGES else (language,)
    if any(tag not in spoken for tag in wanted):
        raise InputError(f"{where} must have scores for --language {language}, got {', '.join(spoken) or 'none'} only")
    return row if language == ALL_LANGUAGES else spoken[language]


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder that a path means, as ``setting.find_checkpoint``, with clearer refusals."""
    if not path.exists():
        raise InputError(f"{path} must be a run's folder or a checkpoint's, but does not exist")
    try:
        return setting.find_checkpoint(path)
    except InputError:
        if (path / "config.json").is_file():
            raise InputError(
                f"{path} must be a run with a checkpoint, but has saved none yet; train it on with its own command"
            ) from None
        raise


def dataset_of(path: Path) -> str:
    """Return the data set that a run's or a checkpoint's follower was trained on."""
    return str(checkpoint.load(find_checkpoint(path)).header["dataset"])


def common_dataset(paths: Sequence[Path], flag: str) -> str | None:
    """Return the data set of the runs, checkpoints and ``results.json`` files among some paths, None without any.

    Raises:
        InputError: they are of several; ``flag`` says what named them.
    """
    found: dict[Path, str] = {}
    for path in paths:
        own = dataset_of(path) if path.is_dir() else run_dataset(path) if path.name == "results.json" else None
        if own is not None:
            found[path] = own
    if len(set(found.values())) > 1:
        told = ", ".join(f"{path} of {dataset}" for path, dataset in found.items())
        raise InputError(f"{flag} must be on one data set, got {told}; name it with --dataset")
    return next(iter(found.values()), None)


def load(folder: Path, options: Options) -> LoadedFollower:
    """Open a checkpoint with the split, features and world that the options ask for."""
    dataset = None if options.dataset == "auto" else setting.find_dataset(options.dataset)
    device = devices.pick_device(options.ranks.device or options.device)
    simulator = (options.simulator, options.cross_check)
    wanted = (options.features, *simulator, options.language)
    return options.ranks.first_here(lambda: setting.load_follower(folder, dataset, [options.split], device, *wanted))


def scored_table(data: Setting, split: str) -> EpisodeTable:
    """Return a split as tensors; one without goals is an ``InputError``."""
    table = data.table(split)
    if not table.has_goals:
        raise InputError(f"--split {split} hides its goals; write its submission with vln-clip submit")
    return table


def context_of(result: Result, run: Path | None, options: Options) -> dict[str, Scored]:
    """Walk the context of a result on the same instructions.

    Args:
        result: what was scored, with the data set opened.
        run: folder of a run that gives ``blind`` and ``no_instruction``; None takes the run that the result's
            checkpoint lies in, if it is one.
        options: how to score.

    Returns:
        ``{row: (metrics, scores)}``; for every row that is missing the log says why.
    """
    assert result.setting is not None
    options = replace(options, dataset=result.setting.dataset.name)  # not the run's own, which may be another
    loaded = result.loaded
    if run is not None:
        loaded = load(find_checkpoint(run), options)
    data = result.setting if loaded is None else loaded.setting
    world = data.world([]) if loaded is None else loaded.world
    follower = None if loaded is None else loaded.follower
    max_action, seed = (
        (PRESETS[data.dataset.name].follower.max_action, FILE_SEED)
        if loaded is None
        else (loaded.header["max_action"], loaded.header["seed"])
    )
    table = data.table(options.split)
    wanted = {episode.instr_id for episode in result.episodes}
    rows = torch.tensor([k for k, episode in enumerate(table.episodes) if episode.instr_id in wanted])
    generator, leading = random_generator(seed, data.device), data.num_leading
    found = context_rows(world, table, follower, max_action, generator, rows, num_leading=leading, ranks=options.ranks)
    if run is None and result.folder is not None:
        run = setting.run_of(result.folder)
    blind = None if run is None else blind_checkpoint(run)
    if blind is not None and blind == result.folder:
        assert result.scores is not None
        found[BLIND] = result.metrics, result.scores
    elif blind is not None:
        sightless = load(blind, replace(options, features="none"))
        table = sightless.setting.table(options.split)
        found[BLIND] = score_agent(
            sightless.world, table, sightless.follower, max_action, rows=rows, ranks=options.ranks
        )
    _tell_missing(found, run, loaded is not None)
    return {name: found[name] for name in CONTEXT if name in found}


def _tell_missing(found: dict[str, Scored], run: Path | None, walked: bool) -> None:
    """Log why rows are missing, and how to get them."""
    if not walked:
        logger.info("no rows %s and %s: name a run that gives them with --context RUN", BLIND, NO_INSTRUCTION)
    elif run is None:
        logger.info("no row %s: the checkpoint lies in no run's folder; --context RUN names one", BLIND)
    elif BLIND not in found:
        logger.info("no row %s: %s trained no blind follower (train without --no-blind does)", BLIND, run)


def random_generator(seed: int, device: torch.device) -> torch.Generator:
    """Return the random agent's generator: that of ``vln_clip.train`` with the same ``--seed``."""
    return torch.Generator(device).manual_seed(seed * 100 + SEEDS["random"])


def blind_checkpoint(run: Path) -> Path | None:
    """Return the best follower of a run that sees nothing: its blind one, or any where the run has no features."""
    for stage in ("blind", "follower"):
        folder = run / "checkpoints" / stage / BEST
        if (folder / checkpoint.FILE).is_file() and checkpoint.load(folder).header["features"] == "none":
            return folder
    return None
