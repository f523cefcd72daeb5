"""Feature banks: features lined up with the viewpoints of a world, gathered by global viewpoint index."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.features.formats import SUFFIXES
from vln_clip.features.store import FeatureStore
from vln_clip.records import NUM_VIEWS


class FeatureBank:
    """Features of a list of viewpoints, of one encoder, several side by side (D adds up), or none (D = 0).

    On the CPU the stores stay memory-mapped and every gather reads just its rows; on other devices the rows
    of the world are moved there once.

    Attributes:
        name: encoders joined by ``+``; ``none`` for the blind bank.
        width: D.
        device: where gathers happen.
        dtype: type of what gathers return.
    """

    def __init__(self, stores: Sequence[FeatureStore], viewpoints: Sequence[tuple[str, str]], device: torch.device):
        self.name = "+".join(store.name for store in stores) or "none"
        self.stand_in_for = "+".join(store.header.stand_in_for for store in stores if store.header.stand_in_for)
        self.width = sum(store.width for store in stores)
        self.device = device
        self.dtype = stores[0].features.dtype if stores else torch.float16
        self._parts = [_align(store, viewpoints, device) for store in stores]

    def views(self, index: Tensor) -> Tensor:
        """Return all views of some viewpoints.

        Args:
            index: global viewpoint indices, (B,) int64.

        Returns:
            (B, 36, D) in the store's type.
        """
        parts = [features.index_select(0, rows[index]) for features, rows in self._parts]
        return self._join(parts, (len(index), NUM_VIEWS))

    def candidates(self, index: Tensor, view: Tensor) -> Tensor:
        """Return single views.

        Args:
            index: global viewpoint indices, (B, K) int64.
            view: views 0 to 35, (B, K) int64.

        Returns:
            (B, K, D) in the store's type.
        """
        parts = []
        for features, rows in self._parts:
            flat = features.flatten(0, 1)  # (N * 36, D), a view
            picked = (rows[index] * NUM_VIEWS + view).flatten()
            parts.append(flat.index_select(0, picked).view(*view.shape, -1))
        return self._join(parts, tuple(view.shape))

    def _join(self, parts: list[Tensor], shape: tuple[int, ...]) -> Tensor:
        if not parts:
            return torch.empty(*shape, 0, dtype=self.dtype, device=self.device)
        return parts[0] if len(parts) == 1 else torch.cat([part.to(self.dtype) for part in parts], -1)


def bank(
    stores: FeatureStore | Sequence[FeatureStore],
    viewpoints: Sequence[tuple[str, str]],
    device: torch.device | str = "cpu",
) -> FeatureBank:
    """Line stores up with a world.

    Args:
        stores: one store, several to put side by side, or an empty sequence for a blind agent.
        viewpoints: (scan, viewpoint id) of every global index.
        device: where gathers happen.

    Returns:
        The bank.

    Raises:
        InputError: a store lacks viewpoints.
    """
    several = [stores] if isinstance(stores, FeatureStore) else list(stores)
    return FeatureBank(several, viewpoints, torch.device(device))


def _align(store: FeatureStore, viewpoints: Sequence[tuple[str, str]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return features and the row of each global index, both on the device."""
    keys = [f"{scan}_{viewpoint_id}" for scan, viewpoint_id in viewpoints]
    lacking = [key for key in keys if key not in store.rows]
    if lacking:
        made = f" (converted from {store.header.source})" if store.header.source.endswith(SUFFIXES) else ""
        raise InputError(
            f"features must cover every viewpoint, got {store.path}{made} which lacks {len(lacking)} of {len(keys)}, "
            f"e.g. {lacking[0]}; extract or convert them again for this data set"
        )
    rows = torch.tensor([store.rows[key] for key in keys], dtype=torch.int64)
    if device.type == "cpu":
        return store.features, rows
    return store.features.index_select(0, rows).to(device), torch.arange(len(rows), device=device)
