"""Predictions for instructions outside the split: which split they are of, and refusing files that have some."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.records import Prediction
from vln_clip.tasks.datasets import PUBLIC_SPLITS, find_dataset, read_split
from vln_clip.tasks.split import split_name

logger = logging.getLogger(__name__)

SplitOf = Callable[[str], str | None]
"""Says which other split of the data set an id belongs to, None where it is unknown."""


def other_splits(dataset: str, data: Path, split: str) -> SplitOf:
    """Return what finds an id in a data set's other splits and languages; they are read when it is first called."""

    @cache
    def known() -> dict[str, str]:
        return {instr_id: name for name, ids in _ids_of_splits(dataset, data, split) for instr_id in ids}

    return lambda instr_id: known().get(instr_id)


def require_of_split(
    path: Path, placed: Sequence[tuple[str, Prediction]], scored: Collection[str], dataset: str, data: Path, split: str
) -> None:
    """Refuse predictions for instructions of other splits, or of none.

    Those of the split that are not scored, in other languages or outside ``@N``, are none of these.

    Args:
        path: of the file.
        placed: place in it, and prediction.
        scored: ids that are scored.
        dataset: name of the data set.
        data: data folder.
        split: name of the split.

    Raises:
        InputError: the message names place, id and split of the first.
    """
    outside = [(place, prediction.instr_id) for place, prediction in placed if prediction.instr_id not in scored]
    if not outside:
        return
    name = split_name(split)[0]
    whole = {episode.instr_id for episode in read_split(dataset, name, data, keep_empty=True).episodes}
    strangers = [(place, instr_id) for place, instr_id in outside if instr_id not in whole]
    if not strangers:
        return
    place, instr_id = strangers[0]
    other = other_splits(dataset, data, name)(instr_id)
    where = f"of no split of {dataset}" if other is None else f"of {other}"
    count = f" (in all {len(strangers)} of {len(placed)} predictions are not of {name})" if len(strangers) > 1 else ""
    raise InputError(f"{path}: {place}: id {instr_id} must be of split {name}, but is {where}{count}")


def _ids_of_splits(dataset: str, data: Path, split: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the ids of the data set's other splits, as far as they are there, and of this one's languages."""
    found = find_dataset(dataset)
    for name in (*PUBLIC_SPLITS, *found.tests):
        if name == split and not found.is_multilingual:
            continue
        try:
            episodes = read_split(dataset, name, data, keep_empty=True).episodes
        except InputError as error:  # the others only serve a hint
            logger.debug("split %s is not looked at: %s", name, error)
            continue
        if name != split:
            yield name, [episode.instr_id for episode in episodes]
            continue
        for language in found.languages:
            yield f"{name} in {language}", [e.instr_id for e in episodes if e.language == language]
