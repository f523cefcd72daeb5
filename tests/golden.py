"""Recorded truth that lies beside the checkout; tests that need it skip where it is absent."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
needs_shared = pytest.mark.skipif(
    not (SHARED / "golden").is_dir(),
    reason="recorded reference outputs and real data are not on this machine (../shared)",
)


def load_json(name: str) -> Any:
    with gzip.open(SHARED / "golden" / name) as file:
        return json.load(file)


def load_arrays(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(SHARED / "golden" / name, allow_pickle=False))


def array(recorded: dict[str, Any]) -> np.ndarray:
    """Turn {shape, data} into an array; null is -inf."""
    data = [-np.inf if x is None else x for x in recorded["data"]]
    return np.array(data, dtype=np.float64).reshape(recorded["shape"])
