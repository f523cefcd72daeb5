"""SNLI-VE's files: one hypothesis a line, and the images under the names that Flickr30k's have."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vln_clip.envs.demo.pictures.asking import Candidate
from vln_clip.envs.demo.pictures.captions import NUM_CAPTIONS
from vln_clip.envs.demo.pictures.hypothesis_forms import CONTRADICTION, ENTAILMENT, NEUTRAL

SNLI_VE = Path("SNLI-VE")
IMAGES = Path("flickr30k", "flickr30k_images")
_NUM_LABELS = 5
_MOST_DEVIATE = 2  # so that the truth is always what most say
_SLIP = 0.06  # share of annotators
_SLIPS = {ENTAILMENT: (NEUTRAL,), NEUTRAL: (ENTAILMENT, CONTRADICTION), CONTRADICTION: (NEUTRAL,)}
_LABELS_SEED = 1_000_187


def write_snli_ve(
    folder: Path, split: str, seed: int, hypotheses: Sequence[Candidate], texts: Mapping[int, Sequence[str]]
) -> None:
    """Write the lines of a split: train, dev or test.

    The members are those of the public files without the parses of the sentences.

    Args:
        folder: the data folder.
        split: names the file.
        seed: of the labels that five annotators give.
        hypotheses: in the order of their pictures.
        texts: captions of each picture; one of them is the premise in words.
    """
    lines = []
    for image_id, group in itertools.groupby(hypotheses, key=lambda hypothesis: hypothesis.image_id):
        rng = np.random.default_rng([seed, image_id, _LABELS_SEED])
        for index, hypothesis in enumerate(group):
            caption, pair = index % NUM_CAPTIONS, index // NUM_CAPTIONS + 1
            caption_id = f"{image_id}.jpg#{caption}"
            row = {
                "annotator_labels": _five_labels(rng, hypothesis.answer),
                "captionID": caption_id,
                "gold_label": hypothesis.answer,
                "pairID": f"{caption_id}r{pair}{hypothesis.answer[0]}",
                "sentence1": texts[image_id][caption],
                "sentence2": hypothesis.text,
                "Flickr30K_ID": str(image_id),
            }
            lines.append(json.dumps(row) + "\n")
    file = folder / SNLI_VE / f"snli_ve_{split}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(lines))


def _five_labels(rng: np.random.Generator, label: str) -> list[str]:
    """Return the labels of five people, the author's first; most say the truth."""
    given = [label]
    slips = _SLIPS[label]
    for draw, which in zip(rng.random(_NUM_LABELS - 1), rng.integers(len(slips), size=_NUM_LABELS - 1), strict=True):
        free = sum(other != label for other in given) < _MOST_DEVIATE
        given.append(slips[which] if free and draw < _SLIP else label)
    return given
