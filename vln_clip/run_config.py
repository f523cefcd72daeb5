"""What every training program's configuration has: the run's folder, seed, device, and how saved ones compare."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import tyro

from vln_clip.errors import InputError


def require(good: bool, name: str, rule: str, found: object) -> None:
    """Raise ``InputError`` naming a setting's flag unless its value is good."""
    if not good:
        raise InputError(f"--{name.replace('_', '-')} must be {rule}, got {found}")


@dataclass(frozen=True)
class RunConfig:
    """Where a run lies and how it is trained, whatever it trains; see ``run.Run``."""

    name: str | None = None
    """folder below --runs; by default made of the settings"""
    runs: Path = Path("runs")
    """folder of all runs"""
    seed: int = 1
    """of weights, orders, dropout and sampling"""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one"""
    deterministic: bool = False
    """runs that are equal bit for bit, on a CPU: only algorithms that repeat, and as many threads as at the start"""
    save_every_min: float = 10.0
    """minutes between saves where validations are further apart; what is trained is the same"""
    max_gradient_norm_factor: float | None = None
    """stop where a gradient norm is more than so many times its median over 101 steps; by default at inf and nan"""

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**31, "seed", "0 to 2147483647", self.seed)
        require(self.save_every_min >= 0, "save_every_min", "0 or more", self.save_every_min)
        factor = self.max_gradient_norm_factor
        require(factor is None or factor > 1, "max_gradient_norm_factor", "above 1", factor)

    @property
    def run_name(self) -> str:
        """Return the name of the run's folder."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON values, for files."""
        return {key: _plain(value) for key, value in asdict(self).items()}


ConfigT = TypeVar("ConfigT", bound=RunConfig)


@dataclass(frozen=True)
class _DatasetOnly:
    dataset: str = "auto"


def parse_on_preset(
    argv: list[str] | None, presets: Mapping[str, ConfigT], find_dataset: Callable[[str], str], prog: str
) -> ConfigT:
    """Parse a command line on top of the preset of its data set.

    Args:
        argv: words; None reads ``sys.argv``.
        presets: configurations with a field ``dataset``, by data set.
        find_dataset: turns ``auto`` into the data set that is there.
        prog: the program's name, for its help.
    """
    first, _ = tyro.cli(_DatasetOnly, args=argv, return_unknown_args=True, add_help=False)
    dataset = find_dataset(first.dataset)
    preset = presets[dataset]
    config = tyro.cli(type(preset), args=argv, default=preset, prog=prog)
    return replace(config, dataset=dataset)  # type: ignore[call-arg]


def filled(saved: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return a saved configuration with the settings that came after it at their defaults, which change nothing."""
    if not isinstance(saved, dict):
        raise ValueError(f"it must be an object, got {type(saved).__name__}")
    missing = {key: value for key, value in defaults.items() if key not in saved}
    inner = {key: filled(saved[key], value) for key, value in defaults.items() if _are_objects(saved.get(key), value)}
    return saved | missing | inner


def _are_objects(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)


def changed_fields(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    """Name the settings in which two saved configurations differ, with both values."""
    differences = []
    for key in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            differences += changed_fields(a, b, prefix)
        elif a != b:
            differences.append(f"{prefix}{key} is {a!r} now and was {b!r}")
    return differences


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
