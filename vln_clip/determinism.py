"""``--deterministic``: what must be the same for two runs on a CPU to be equal bit for bit."""

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vln_clip import files
from vln_clip.errors import InputError
from vln_clip.log import logger
from vln_clip.ranks import ALONE, Ranks

FILE = "determinism.json"


@contextmanager
def deterministic(folder: Path, device: torch.device, ranks: Ranks = ALONE) -> Iterator[None]:
    """Let PyTorch only use algorithms that repeat, with as many threads as the run in ``folder`` began with.

    Sums are split among threads and vector lanes, so their last bits belong to the number of threads, the
    instruction set and the version of PyTorch. The first is put back as it was, the others can't be.

    Raises:
        InputError: not a CPU, or the run began with another PyTorch or instruction set.
    """
    if device.type != "cpu":
        raise InputError(
            f"--deterministic must be on a CPU, got {device}: sums on a GPU are not promised to repeat; add "
            "--device cpu, or leave it out"
        )
    path = folder / FILE
    begun = ranks.from_main(lambda: _begin(path))
    _require_same(path, begun, _here())
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(begun["threads"])
    torch.use_deterministic_algorithms(True)
    logger.info("deterministic: %d threads, %s, torch %s", begun["threads"], begun["instructions"], begun["torch"])
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def _begin(path: Path) -> dict[str, Any]:
    """Return what the run began with; note it where it begins now."""
    if not path.is_file():
        files.save_json(path, _here())
    return _read(path)


def _here() -> dict[str, Any]:
    """Return what the last bits of sums depend on."""
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "instructions": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }


def _read(path: Path) -> dict[str, Any]:
    """Read what a run began with."""
    try:
        begun: dict[str, Any] = json.loads(path.read_text())
        if int(begun["threads"]) < 1:
            raise ValueError("threads must be 1 or more")
        return {"threads": int(begun["threads"]), "torch": begun["torch"], "instructions": begun["instructions"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} must say what this run began with (threads, torch, instructions), but can't be read: {error!r}; "
            "bring it back, or start a new run with another --name"
        ) from None


def _require_same(path: Path, begun: dict[str, Any], here: dict[str, Any]) -> None:
    """Refuse to go on where the last bits would be others."""
    for name, what in (("torch", "PyTorch"), ("instructions", "the instruction set")):
        if begun[name] != here[name]:
            raise InputError(
                f"{path.parent} was begun with {what} {begun[name]!r}, here it is {here[name]!r}: what follows would "
                "not be equal bit for bit; go on there, or start a new run with another --name"
            )
