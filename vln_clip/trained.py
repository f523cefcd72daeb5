"""Checkpoints of trained VQA models and captioners, found from what a user names."""

from pathlib import Path

from vln_clip.checkpoint import FILE
from vln_clip.errors import InputError
from vln_clip.run import CHECKPOINTS


def find_stages(path: Path, which: str = "best_val") -> dict[str, Path]:
    """Return the checkpoints that a path names, by stage.

    Args:
        path: a run's folder, or that of one checkpoint.
        which: checkpoint of each stage of a run.

    Raises:
        InputError: there is none.
    """
    if (path / FILE).is_file():
        return {path.parent.name: path}
    folders = sorted((path / CHECKPOINTS).glob(f"*/{which}"), key=lambda folder: folder.stat().st_mtime_ns)
    found = {folder.parent.name: folder for folder in folders if (folder / FILE).is_file()}
    if not found:
        raise InputError(
            f"--checkpoint must be a run's folder (runs/NAME) or that of a checkpoint, got {path} without {which}; "
            "train first, or name another"
        )
    return found
