"""The TensorBoard event files of a run: numbers, pictures and texts of every stage, each step once."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

NUM_COLORS = 64  # of pictures: a third of the bytes of full color, and a long run has thousands


@dataclass(frozen=True)
class Sights:
    """What TensorBoard shows of a validation beside numbers.

    Attributes:
        images: ``{tag: (H, W, 3) uint8 RGB}``.
        texts: ``{tag: Markdown}``.
    """

    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


class Events:
    """Event files in a folder per stage, so that TensorBoard shows stages as curves of one chart.

    A stage that goes on from a checkpoint writes a new file, which says from which step on older ones don't count:
    that drops everything of a folder, another reason for one per stage.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, Any] = {}
        self._first_steps: dict[str, int] = {}

    def go_on_after(self, stage: str, iteration: int) -> None:
        """Let what older files hold beyond an iteration not count any more, once something is written."""
        self._first_steps[stage] = iteration + 1
        if stage in self._writers:
            self._writers.pop(stage).close()

    def write(self, stage: str, iteration: int, numbers: Mapping[str, float], seen: Sights) -> None:
        """Write what there is of an iteration to the disk."""
        writer = self._writer(stage)
        for name, value in numbers.items():
            writer.add_scalar(name, value, iteration)
        for tag, image in seen.images.items():
            writer.file_writer.add_summary(_image_summary(tag, image), iteration)
        for tag, text in seen.texts.items():
            writer.add_text(tag, text, iteration)
        writer.flush()  # before the checkpoint is saved: a run that goes on from there does not write this again

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, stage: str) -> Any:
        if stage not in self._writers:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it

            self._writers[stage] = SummaryWriter(str(self.folder / stage), purge_step=self._first_steps.get(stage))
        return self._writers[stage]


def _image_summary(tag: str, image: np.ndarray) -> Any:
    """Return a picture for an event file; what PyTorch would write has all colors."""
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    H, W, _ = image.shape
    file = io.BytesIO()
    Image.fromarray(image).quantize(NUM_COLORS).save(file, "PNG")
    encoded = Summary.Image(height=H, width=W, colorspace=3, encoded_image_string=file.getvalue())
    return Summary(value=[Summary.Value(tag=tag, image=encoded)])
