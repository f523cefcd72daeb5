"""R2R-CE and RxR-CE as data sets of ours: a file of continuous episodes as a split like any other."""

from dataclasses import replace
from pathlib import Path

from vln_clip.records import Episode
from vln_clip.tasks.continuous import ContinuousEpisode, read_continuous
from vln_clip.tasks.datasets import Dataset, split_file
from vln_clip.tasks.split import OWN_VERSION, Split, subset

REMEDY = "get it where the VLN-CE repository (https://github.com/jacobkrantz/VLN-CE) says"


def read_split(
    dataset: Dataset, name: str, number: int | None, data: Path, languages: tuple[str, ...], keep_empty: bool
) -> Split:
    """Read and check a split; arguments as in ``datasets.read_split``, ``number`` of its trajectories.

    Until ``place_on_graph`` finds their viewpoints, episodes have neither start nor path.
    """
    read = read_continuous(split_file(dataset, name, data, REMEDY), dataset.name)
    kept = set(subset(list(dict.fromkeys(episode.trajectory_id for episode in read.episodes)), number))
    chosen = [
        episode
        for episode in read.episodes
        if episode.trajectory_id in kept
        and episode.language in languages
        and (keep_empty or episode.instruction.strip())
    ]
    episodes = [_placeless(episode) for episode in chosen]
    continuous = replace(read, episodes=chosen)
    return Split(episodes, read.file, read.sha256, OWN_VERSION, read.goal_hidden, continuous)


def _placeless(episode: ContinuousEpisode) -> Episode:
    """Return an episode whose viewpoints are yet to be found."""
    about = episode.trajectory_id, episode.scan, "", episode.heading_rad, episode.instruction
    return Episode(episode.instr_id, *about, language=episode.language)
