"""``python -m vln_clip.features inspect FILE…`` and ``convert FILE TARGET``."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from vln_clip import log
from vln_clip.features.formats import convert, format_of, read_rows
from vln_clip.features.store import open_store
from vln_clip.records import NUM_VIEWS


@dataclass(frozen=True)
class Inspect:
    """Say what feature files hold."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Feature stores (.safetensors), TSV (.tsv, .tsv.gz) or HDF5 files (.hdf5, .h5)."""


@dataclass(frozen=True)
class Convert:
    """Convert a feature file; the endings of the names say from which format to which."""

    source: tyro.conf.Positional[Path]
    """File to read."""
    target: tyro.conf.Positional[Path]
    """File to write; replaced where it exists."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type inside a store; TSV and HDF5 hold float32."""


Command = Annotated[Inspect, tyro.conf.subcommand("inspect")] | Annotated[Convert, tyro.conf.subcommand("convert")]


def main(argv: list[str] | None = None) -> None:
    """Run one of the two commands."""
    command: Inspect | Convert = tyro.cli(Command, args=argv, prog="python -m vln_clip.features")
    if isinstance(command, Convert):
        count = convert(command.source, command.target, command.dtype)
        log.logger.info("%s: %d viewpoints", command.target, count)
        return
    for path in command.files:
        _inspect(path)


def cli() -> None:
    """Run the program."""
    log.program(main)


def _inspect(path: Path) -> None:
    """Print shape, norms and header of one file."""
    if format_of(path) == "store":
        store = open_store(path)
        count, width, dtype = len(store.keys), store.width, str(store.features.dtype).removeprefix("torch.")
        sample = store.features[: min(count, 200)].float().numpy()
        print(json.dumps(asdict(store.header), indent=2))
        example = store.keys[0] if count else "none"
    else:
        count, kept, example = 0, [], "none"
        for key, features in read_rows(path):
            example = key if not count else example
            kept += [features] if count < 200 else []
            count += 1
        sample = np.stack(kept) if kept else np.zeros((0, NUM_VIEWS, 0), np.float32)
        width, dtype = sample.shape[2], str(sample.dtype)
    norms = np.linalg.norm(sample.reshape(-1, max(width, 1)), axis=1)
    print(f"{path}: {count} viewpoints x {NUM_VIEWS} views x {width} {dtype}, first {example}")
    if len(norms):
        low, mean, high = norms.min(), norms.mean(), norms.max()
        print(f"L2 norm of views (first 200 viewpoints): {low:.3f} to {high:.3f}, mean {mean:.3f}")


if __name__ == "__main__":
    cli()
