"""Lists of different lengths in one flat tensor, which costs no memory for padding and can lie in a mapped file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Ragged:
    """N lists of whole numbers on one device.

    Attributes:
        flat: (S,) integers of any width, the lists' items.
        first: (N,) int64, where in ``flat`` each list begins; several may share their items.
        length: (N,) int64, number of items.
        width: items of the longest list.
        fill: stands behind shorter ones.
    """

    flat: Tensor
    first: Tensor
    length: Tensor
    width: int
    fill: int

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def of(
        cls, lists: Sequence[Sequence[int]], device: torch.device | str = "cpu", *, dtype: torch.dtype, fill: int
    ) -> Ragged:
        """Make one of lists; those that are one and the same object share their items."""
        begin: dict[int, int] = {}
        flat: list[int] = []
        for items in lists:
            if id(items) not in begin:
                begin[id(items)] = len(flat)
                flat += items
        first = torch.tensor([begin[id(items)] for items in lists], dtype=torch.int64)
        length = torch.tensor([len(items) for items in lists], dtype=torch.int64)
        width = max(map(len, lists), default=0)
        return cls(torch.tensor(flat, dtype=dtype).to(device), first.to(device), length.to(device), width, fill)

    @classmethod
    def of_padded(
        cls, rows: np.ndarray, length: np.ndarray, device: torch.device | str = "cpu", *, dtype: torch.dtype, fill: int
    ) -> Ragged:
        """Make one of rows (N, W) that are as long as ``length`` (N,) says."""
        lengths = torch.as_tensor(length, dtype=torch.int64)
        flat = rows[np.arange(rows.shape[1]) < np.asarray(length)[:, None]]
        first = lengths.cumsum(0) - lengths
        width = int(lengths.max()) if len(lengths) else 0
        return cls(torch.as_tensor(flat, dtype=dtype).to(device), first.to(device), lengths.to(device), width, fill)

    def padded(self, rows: Tensor, width: int | None = None) -> Tensor:
        """Return the lists at rows (B,), padded to ``width``, by default to the longest of them, (B, W) int64."""
        length = self.length[rows]
        if width is None:
            width = int(length.max()) if len(rows) else 0
        columns = torch.arange(width, device=self.flat.device)
        if not len(self.flat):
            return torch.full((len(rows), width), self.fill, device=self.flat.device)
        # What follows a list in ``flat`` is read too, then filled over.
        entry = (self.first[rows][:, None] + columns).clamp_(max=len(self.flat) - 1)
        return self.flat.take(entry).long().masked_fill_(columns >= length[:, None], self.fill)
