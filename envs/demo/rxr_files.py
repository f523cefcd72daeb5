"""Writing the RxR files: gzipped JSON lines with every field of the public guide annotations."""

import gzip
import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vln_clip.envs.demo.rxr import GRAMMARS, Rxr, RxrInstruction, RxrPath

AUG_FILE = "aug_paths.jsonl.gz"
_NUM_ANNOTATORS = 12  # of each way to speak
_UNTIMED_SHARE = 0.02  # as in the public files a few words lack their times
_PAUSE_S, _LONG_PAUSE_S = 0.1, 0.7
_SPEECH_SEED = 1_000_081


def guide_file(split: str) -> str:
    """Return the name of a split's file; those of the test splits show only where their paths start."""
    return f"rxr_{split}{'_public' if split.startswith('test') else ''}_guide.jsonl.gz"


def write_rxr(folder: Path, rxr: Rxr) -> None:
    """Write the guide files of every split and the unlabelled paths; a split without paths gives a file of no lines."""
    folder.mkdir()
    for split, paths in rxr.splits.items():
        rows = [_guide_row(rxr.seed, split, path, item) for path in paths for item in path.instructions]
        _write_lines(folder / guide_file(split), rows)
    rows = [_row(path, item) for path in rxr.unlabelled for item in path.instructions]
    _write_lines(folder / AUG_FILE, rows)


def _write_lines(file: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write gzipped JSON lines without name and time, so that the same rows give the same bytes."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_bytes(gzip.compress(text.encode(), mtime=0))


def _row(path: RxrPath, item: RxrInstruction) -> dict[str, object]:
    """Return the fields that an unlabelled path has too."""
    return {
        "path_id": path.path_id,
        "instruction_id": item.instruction_id,
        "language": item.tag,
        "scan": path.scan,
        "path": list(path.path),
        "heading": path.heading,
        "instruction": item.text,
    }


def _guide_row(seed: int, split: str, path: RxrPath, item: RxrInstruction) -> dict[str, object]:
    """Return one line of a guide file."""
    rng = np.random.default_rng([seed, item.instruction_id, _SPEECH_SEED])
    annotator = int(rng.integers(_NUM_ANNOTATORS))
    row = {"split": split, **_row(path, item)}
    row["annotator_id"] = 1 + list(GRAMMARS).index(item.tag) * _NUM_ANNOTATORS + annotator
    row["timed_instruction"] = _speak(rng, item.text, letter_s=0.05 + 0.03 * annotator / _NUM_ANNOTATORS)
    row["edit_distance"] = round(float(rng.beta(1, 12)), 4)
    if split.startswith("test"):
        row["path"] = list(path.path[:1])
    return row


def _speak(rng: np.random.Generator, text: str, letter_s: float) -> list[dict[str, object]]:
    """Return when each word is spoken, in seconds with one decimal; the first and the last word have their times.

    Args:
        rng: source of pauses and of the few words without times.
        text: an instruction.
        letter_s: time that the speaker takes for a letter; vowel signs of Indian scripts count as letters.
    """
    words = text.split()
    timed: list[dict[str, object]] = []
    clock = float(rng.uniform(0.3, 2.0))
    for index, word in enumerate(words):
        spoken = [sign for sign in word if not unicodedata.category(sign).startswith("P")]
        end = clock + max(letter_s * len(spoken), 0.15)
        known = index in (0, len(words) - 1) or rng.random() >= _UNTIMED_SHARE
        times = {"start_time": round(clock, 1), "end_time": round(end, 1)} if known else {}
        timed.append({"word": word, **times})
        pause = _LONG_PAUSE_S if len(spoken) < len(word) else _PAUSE_S
        clock = end + float(rng.uniform(0.5, 1.5)) * pause
    return timed
