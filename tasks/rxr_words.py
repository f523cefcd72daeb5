"""Words of RxR's instructions in time and space: when each was said, and at which viewpoint of the path."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vln_clip.errors import InputError
from vln_clip.reading import is_finite
from vln_clip.tasks.pose_traces import PoseTrace


class WordTime(NamedTuple):
    """When one word was said, in seconds from the beginning of the recording."""

    word: str
    start_s: float
    end_s: float


def text_by_viewpoint(trace: PoseTrace, tokens: Sequence[str], path: Sequence[str]) -> list[str]:
    """Return what was said at each viewpoint of a path.

    Args:
        trace: with text masks.
        tokens: word pieces of the instruction in the annotator's language.
        path: viewpoint ids of the episode.

    Returns:
        One text per viewpoint, its word pieces put together; empty where nothing was said.

    Raises:
        InputError: masks are missing, or belong to another path or text.
    """
    shape = None if trace.text_masks is None else trace.text_masks.shape
    if trace.text_masks is None or shape != (len(path), len(tokens)):
        raise InputError(
            f"text_masks of a pose trace must have the shape (viewpoints of the path, word pieces), here "
            f"{(len(path), len(tokens))}, got {shape}; do trace, path and text features belong together?"
        )
    texts = []
    for row in trace.text_masks:
        pieces = [token for token, said in zip(tokens, row.tolist(), strict=True) if said]
        texts.append(" ".join(pieces).replace(" ##", ""))
    return texts


def word_times(timed_instruction: Sequence[Mapping[str, object]]) -> list[WordTime]:
    """Return when each word was said; a word without a time fills the gap between its neighbors' times.

    No program needs them, and ``rxr.read_guides`` drops them: they are for analyses, together with ``pose_traces``.

    Args:
        timed_instruction: of a guide: objects with ``word`` and, not always, ``start_time`` and ``end_time`` in
            seconds.

    Returns:
        One per word. A missing start is the last known end before it (0 at the beginning), a missing end the next
        known start (the word's own start at the end, or where that comes later).

    Raises:
        InputError: no word in an entry, or a time that is no number.
    """
    for position, entry in enumerate(timed_instruction):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("word"), str):
            raise InputError(f"timed_instruction: entry {position} must be an object with a word, got {entry!r:.80}")
        for key in ("start_time", "end_time"):
            if entry.get(key) is not None and not is_finite(entry[key]):
                raise InputError(f"timed_instruction: entry {position}: {key} must be seconds, got {entry[key]!r:.80}")
    starts = [_seconds(entry.get("start_time")) for entry in timed_instruction]
    ends = [_seconds(entry.get("end_time")) for entry in timed_instruction]
    next_starts: list[float | None] = []
    following = None
    for start in reversed(starts):
        next_starts.append(following)
        following = start if start is not None else following
    words = []
    last_end = 0.0
    for entry, start, end, next_start in zip(timed_instruction, starts, ends, reversed(next_starts), strict=True):
        start = last_end if start is None else start
        if end is None:
            end = start if next_start is None else max(start, next_start)
        else:
            last_end = end
        words.append(WordTime(str(entry["word"]), start, end))
    return words


def _seconds(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]
