"""Episodes compiled into index tensors, and the samplers that draw mini-batches from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vln_clip.connectivity import NavTables
from vln_clip.envs.navigation import snap_view
from vln_clip.envs.ragged import Ragged
from vln_clip.records import Batch, Episode
from vln_clip.tasks.stored import StoredEpisodes
from vln_clip.token_states import LateStates, StateLists

TOKEN = VIEWPOINT = torch.int32  # as they are kept; batches are int64


@dataclass(frozen=True, eq=False)
class EpisodeTable:
    """A split as tensors on one device; N episodes.

    On a CPU the tensors of a large split lie in a mapped file (``vln_clip.envs.compiled``).

    Attributes:
        tokens: the instructions; one item where there is none (unlabelled paths). Their states where a frozen text
            tower has read them.
        viewpoint: (N,) int64 start.
        view: (N,) int64 start view.
        goal: (N,) int64, -1 where hidden.
        path: reference paths, empty where they are hidden.
        episodes: the records in order; empty for unlabelled paths.
    """

    tokens: Ragged | StateLists | LateStates
    viewpoint: Tensor
    view: Tensor
    goal: Tensor
    path: Ragged
    episodes: Sequence[Episode] = ()

    @classmethod
    def compile(
        cls,
        episodes: Sequence[Episode],
        tables: NavTables,
        tokens: np.ndarray,
        length: np.ndarray,
        device: torch.device | str = "cpu",
    ) -> "EpisodeTable":
        """Compile records and their encoded instructions, tokens (N, L) and length (N,).

        Raises:
            InputError: an episode names a viewpoint that the graphs lack.
        """
        hidden: list[int] = []
        starts = {place: tables.index(*place) for place in {(e.scan, e.start) for e in episodes}}
        routes = {(e.scan, e.path) for e in episodes if e.path}  # names may be the same in several buildings
        paths = {(scan, path): [tables.index(scan, name) for name in path] for scan, path in routes}
        start = [starts[e.scan, e.start] for e in episodes]
        rows = [paths[e.scan, e.path] if e.path else hidden for e in episodes]
        goal = [row[-1] if row else -1 for row in rows]
        view = snap_view(torch.tensor([e.heading_rad for e in episodes], dtype=torch.float64))
        columns = [torch.as_tensor(column, dtype=torch.int64).to(device) for column in (start, view, goal)]
        return cls(
            Ragged.of_padded(tokens, length, device, dtype=TOKEN, fill=0),
            columns[0],
            columns[1],
            columns[2],
            Ragged.of(rows, device, dtype=VIEWPOINT, fill=-1),
            tuple(episodes),
        )

    def __len__(self) -> int:
        return len(self.viewpoint)

    @property
    def length(self) -> Tensor:
        """Return the real tokens of each instruction, (N,) int64, at least 1."""
        return self.tokens.length

    @property
    def ids(self) -> Sequence[str]:
        """Return the instruction id of each row; those of stored episodes are read when they are asked for."""
        if isinstance(self.episodes, StoredEpisodes):
            return self.episodes.instr_ids
        return [episode.instr_id for episode in self.episodes]

    @property
    def has_goals(self) -> bool:
        """Return whether every goal is known: test splits have none."""
        return bool((self.goal >= 0).all())

    def reference(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the reference paths at rows (n,), by default of all, (n, R) int64, padded with -1 to the longest.

        R is 0 where they are hidden.
        """
        wanted = torch.arange(len(self)) if rows is None else torch.as_tensor(rows)
        return self.path.padded(wanted.to(self.viewpoint.device), self.path.width).cpu().numpy()

    def batch(self, rows: Tensor) -> Batch:
        """Return the episodes at rows (B,) int64."""
        rows = rows.to(self.viewpoint.device)
        guide = self.path.padded(rows, self.path.width) if self.path.width else None
        return Batch(
            rows,
            self.tokens.padded(rows),
            self.length[rows],
            self.viewpoint[rows],
            self.view[rows],
            self.goal[rows],
            guide,
        )
