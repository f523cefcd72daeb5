"""Captions of a split: written, put into a result file, scored."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vln_clip.caption.data import CaptionData
from vln_clip.caption.writing import BATCH_SIZE, Writer
from vln_clip.tasks.captioning.metrics import METRICS, score_captions


def written(writer: Writer, data: CaptionData, split: str, sees: bool) -> dict[int, str]:
    """Return the caption of every image of a split, by image id; the same on all ranks."""
    table = data.table(split)
    batches = torch.arange(len(table), device=data.device).split(BATCH_SIZE)
    texts = writer.texts(batches, (lambda rows: data.read_grids(table, rows)) if sees else None)
    return dict(zip(table.image_ids.tolist(), texts, strict=True))


def score_split(
    captions: Mapping[int, str], references: Mapping[int, Sequence[str]], wanted: Sequence[str] = METRICS
) -> dict[str, Any]:
    """Return the metrics of captions."""
    known = {image_id: captions[image_id] for image_id in references if image_id in captions}
    found = score_captions(known, references, wanted)
    return found.metrics | {"tokenizer": found.tokenizer, "num_images": len(found.image_ids)}
