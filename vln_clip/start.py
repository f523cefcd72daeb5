"""What ``train --start`` may name: another follower that fits, told before pictures are rendered or features made."""

from pathlib import Path
from typing import Any

from vln_clip import checkpoint
from vln_clip.encoders.tower_files import is_tower, read_tower_header, tower_path
from vln_clip.errors import InputError
from vln_clip.log import logger
from vln_clip.setting import Setting, find_checkpoint
from vln_clip.trained_tower import FILE, TRAINED


def require_start(path: Path, data: Setting) -> None:
    """Raise ``InputError`` unless a follower lies there that reads the instructions of a data set as this run does."""
    folder = find_checkpoint(path)
    header = checkpoint.load(folder).header
    if "max_action" not in header or header.get("stage") == "speaker":
        raise InputError(f"--start must be a follower, got {folder} of stage {header.get('stage')!r}; name another")
    if header.get("words") != data.vocabulary.to_json():
        raise InputError(
            f"--start must be a follower that knows the words of {data.dataset.name}, got {folder}, which has others; "
            "start from one that was trained on this data set"
        )
    here, there = _reading(data.reader.to_json() if data.reader else None), _reading(header.get("text_encoder"))
    if here != there:
        raise InputError(
            f"--start must be a follower that reads with {here} as this run does, got {folder}, which reads with "
            f"{there}; give it the same --text-encoder and --train-text-encoder"
        )


def require_width(folder: Path, header: dict[str, Any], features: str, width: int) -> None:
    """Raise ``InputError`` unless a follower was trained on features of this width."""
    if header.get("feature_width") != width:
        raise InputError(
            f"--start must be a follower that sees features of width {width} as {features} has them, got {folder} of "
            f"width {header.get('feature_width')} ({header.get('features')}); give it the same --features"
        )


def tell_other_features(folder: Path, header: dict[str, Any], features: str, fingerprints: list[str]) -> None:
    """Warn where a follower learned from features that are not those of this run, for nothing else will say so."""
    own = folder / FILE
    if TRAINED in header:
        same = is_tower(features) and own.is_file() and _digest(tower_path(features)) == _digest(own)
    else:
        same = features == header.get("features_wanted") or fingerprints == header.get("feature_fingerprints")
    if not same:
        hint = f"; its own encoder is --features tower:{own}" if TRAINED in header and own.is_file() else ""
        logger.warning(
            f"NOTE: --start: {folder} has learned from {header.get('features')}, this run sees {features}{hint}"
        )


def _reading(noted: dict[str, Any] | None) -> str:
    if noted is None:
        return "word vectors of its own"
    return f"{noted['encoder']} {'trained along' if noted['trained'] else 'frozen'}"


def _digest(path: Path) -> str:
    return read_tower_header(path).sha256
