"""The agents that are shown beside each other: runs, checkpoints and prediction files, opened on one split."""

import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vln_clip.errors import InputError, suggestion
from vln_clip.records import Prediction
from vln_clip.scoring import BEST, Options, common_dataset, find_checkpoint, load, open_file, stem_of
from vln_clip.setting import AUTO, LoadedFollower, Setting, find_dataset, run_of
from vln_clip.tasks.split import split_name
from vln_clip.tasks.strangers import other_splits
from vln_clip.viewer.document import ShownAgent
from vln_clip.viewer.tracing import trace_rows
from vln_clip.viewer.walked import trace_predictions


@dataclass(frozen=True, eq=False)
class OpenedAgent:
    """An agent that can be traced.

    Attributes:
        name: short, different from the other agents'.
        about: a sentence on what it is.
        path: what named it.
        setting: the opened split; the same graphs for all agents.
        loaded: the follower, where it is a checkpoint.
        predictions: what it did, where it is a file.
    """

    name: str
    about: str
    path: Path
    setting: Setting
    loaded: LoadedFollower | None = None
    predictions: Sequence[Prediction] = ()

    def trace(self, split: str, instr_ids: Sequence[str]) -> tuple[ShownAgent, list[str]]:
        """Return its traces on some episodes, as far as it has any, and what a viewer must be told.

        Args:
            split: the opened one.
            instr_ids: of its episodes.
        """
        if self.loaded is not None:
            row_of = {episode.instr_id: row for row, episode in enumerate(self.setting.splits[split].episodes)}
            rows = torch.tensor([row_of[instr_id] for instr_id in instr_ids])
            return ShownAgent(self.name, self.about, trace_rows(self.loaded, split, rows, self.name)), []
        wanted = set(instr_ids)
        answers = [prediction for prediction in self.predictions if prediction.instr_id in wanted]
        if not answers:
            return ShownAgent(self.name, self.about), [f"{self.name} has no walk for any of these instructions"]
        by_id = {episode.instr_id: episode for episode in self.setting.splits[split].episodes}
        episodes = [by_id[instr_id] for instr_id in instr_ids]
        traces, notes = trace_predictions(answers, episodes, self.setting.tables, self.name, self.path)
        return ShownAgent(self.name, self.about, traces), notes


def open_agents(paths: Sequence[Path], options: Options) -> list[OpenedAgent]:
    """Open runs, checkpoints and prediction files on one split, in the language of the first run.

    Args:
        paths: folders of runs or checkpoints, and files.
        options: the split and how it is opened; data set ``auto`` is that of the runs.

    Raises:
        InputError: what a path names is missing or of another data set or split, or two are the same.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} must be a run's folder, a checkpoint's or a prediction file, but does not exist")
    places = Counter(path.resolve() for path in paths)
    twice = next((path for path in paths if places[path.resolve()] > 1), None)
    if twice is not None:
        raise InputError(f"agents side by side must be different ones, got {twice} twice")
    if options.dataset == "auto":
        options = replace(options, dataset=common_dataset(paths, "agents side by side") or find_dataset(AUTO))
    opened: dict[Path, OpenedAgent] = {}
    names = dict(zip(paths, _names(paths), strict=True))
    for path in sorted(paths, key=lambda path: not path.is_dir()):  # runs first: they know their language
        agent = _open(path, names[path], options)
        options = replace(options, language=options.language or agent.setting.language)
        opened[path] = agent
    return [opened[path] for path in paths]


def choose_episodes(
    agents: Sequence[OpenedAgent], split: str, wanted: Sequence[str] = (), limit: int | None = None
) -> list[str]:
    """Return the ids of the episodes to show, in the order of the split.

    Args:
        agents: at least one.
        split: the opened one.
        wanted: ids of instructions or of paths; none for all that an agent has walked or can walk.
        limit: so many of them, drawn at random, the same ones every time: neighbors describe one path.

    Raises:
        InputError: an id is unknown, or nothing is left to show.
    """
    data = agents[0].setting
    episodes = data.splits[split].episodes
    known = {episode.instr_id for episode in episodes} | {episode.path_id for episode in episodes}
    for name in wanted:
        if name not in known:
            other = other_splits(data.dataset.name, data.data, split_name(split)[0])(name)
            hint = f", which is of {other}" if other is not None else suggestion(name, known)
            raise InputError(
                f"--episode must be one of the {len(episodes)} instructions of {split}, got {name!r}{hint}"
            )
    if wanted:
        found = [e.instr_id for e in episodes if e.instr_id in wanted or e.path_id in wanted]
    elif any(agent.loaded is not None for agent in agents):
        found = [episode.instr_id for episode in episodes]
    else:
        walked = {prediction.instr_id for agent in agents for prediction in agent.predictions}
        found = [episode.instr_id for episode in episodes if episode.instr_id in walked]
    if not found:
        raise InputError(f"there must be a walk to show, but {agents[0].path} has none for an instruction of {split}")
    if limit is None or limit >= len(found):
        return found
    return [found[k] for k in sorted(random.Random(0).sample(range(len(found)), limit))]


def _open(path: Path, name: str, options: Options) -> OpenedAgent:
    """Open one agent."""
    if not path.is_dir():
        predictions, data = open_file(path, options)
        return OpenedAgent(name, f"prediction file {_readable(path.name)}", path, data, predictions=predictions)
    folder = find_checkpoint(path)
    loaded = load(folder, options)
    run = run_of(folder)
    which = "best on val_unseen" if folder.name == BEST else folder.name
    where = "" if run is None else f" of the run {run.name}"
    about = f"{loaded.header['stage']} at iteration {loaded.header['iteration']} ({which}){where}"
    return OpenedAgent(name, f"{about}, {loaded.features} features", path, loaded.setting, loaded)


def _names(paths: Sequence[Path]) -> list[str]:
    """Return a name per agent: a short one, or all of its path where two would be called the same."""
    short = [_short_name(path) for path in paths]
    counts = Counter(short)
    return [_readable(str(path)) if counts[name] > 1 else name for name, path in zip(short, paths, strict=True)]


def _short_name(path: Path) -> str:
    """Return what a run, a checkpoint (by its run and stage) or a file is called."""
    if not path.is_dir():
        return _readable(stem_of(path))
    place = path.absolute()
    run = run_of(place)
    if run is None:
        return place.name
    return f"{run.name}/{place.parent.name}" + ("" if place.name == BEST else f"/{place.name}")


def _readable(name: str) -> str:
    """Return the name of a file as text that can be drawn and written, whatever bytes it is of."""
    return os.fsencode(name).decode(errors="replace")
