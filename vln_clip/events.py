"""The TensorBoard event files of a run: numbers, pictures and texts of every stage, each step once."""

import io
import socket
import time
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
    that drops everything of a folder, another reason for one per stage. PyTorch's own writer works in a thread, where
    a full disk ends in a traceback; here it is the caller's ``OSError``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Path] = {}
        self._first_steps: dict[str, int] = {}

    def go_on_after(self, stage: str, iteration: int) -> None:
        """Let what older files hold beyond an iteration not count any more, once something is written."""
        self._first_steps[stage] = iteration + 1
        self._files.pop(stage, None)

    def write(self, stage: str, iteration: int, numbers: Mapping[str, float], seen: Sights) -> None:
        """Write what there is of an iteration to the disk.

        That is before its checkpoint is saved: a run that goes on from there does not write it again.

        Raises:
            OSError: the disk is full, or the folder cannot be written to.
        """
        from tensorboard.compat.proto.event_pb2 import Event  # slow to import, and only training needs it
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        values += [_picture(tag, image) for tag, image in seen.images.items()]
        values += [_words(tag, text) for tag, text in seen.texts.items()]
        found = [] if stage in self._files else self._beginning(stage)
        found += [Event(step=iteration, summary=Summary(value=[value])) for value in values]
        if stage not in self._files:
            # TensorBoard reads the files of a folder in the order of their names.
            self._files[stage] = (
                self.folder / stage / f"events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}"
            )
        path = self._files[stage]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            writer = RecordWriter(file)
            for event in found:
                event.wall_time = time.time()
                writer.write(event.SerializeToString())

    def _beginning(self, stage: str) -> list[Any]:
        """Return what a file begins with."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        step = self._first_steps.get(stage, 0)
        return [
            Event(step=step, file_version="brain.Event:2"),
            Event(step=step, session_log=SessionLog(status=SessionLog.START)),
        ]


def _picture(tag: str, image: np.ndarray) -> Any:
    """Return a picture for an event file; what PyTorch would write has all colors."""
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    H, W, _ = image.shape
    file = io.BytesIO()
    Image.fromarray(image).quantize(NUM_COLORS).save(file, "PNG")
    encoded = Summary.Image(height=H, width=W, colorspace=3, encoded_image_string=file.getvalue())
    return Summary.Value(tag=tag, image=encoded)


def _words(tag: str, text: str) -> Any:
    """Return a text for an event file."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.plugins.text.metadata import create_summary_metadata

    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
    metadata = create_summary_metadata(display_name="", description="")
    return Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=tensor)
