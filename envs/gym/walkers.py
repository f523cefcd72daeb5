"""Many walkers on index tensors: what both kinds of environment step, one walker or thousands.

Action 0 stops, in every building and every split; action k moves along candidate k - 1. An action without a
candidate behind it stays and is reported. Nothing privileged is in an observation.
"""

from typing import Any

import numpy as np
import torch

from vln_clip.envs.gym.options import Options
from vln_clip.envs.gym.rewards import Transition, progress_part, stop_part
from vln_clip.envs.gym.source import Source
from vln_clip.envs.navigation import relative_angles
from vln_clip.errors import InputError
from vln_clip.records import NUM_HEADINGS

STOP = 0

Arrays = dict[str, Any]


class Walkers:
    """The state of B walkers.

    Attributes:
        row: (B,) int64, episode of each walker.
        viewpoint: (B,) int64.
        view: (B,) int64.
        steps: (B,) int64 decisions so far.
        path_length_m: (B,) float64 walked so far.
        trail: (B, max_steps + 1) int64 viewpoints after each decision, -1 where there was none yet.
        num_actions: stop and the most candidates that any viewpoint has.
        transition: what the last decisions led to.
    """

    def __init__(self, source: Source, options: Options, size: int) -> None:
        self.source, self.options = source, options
        self.table, self.world = source.table, source.world
        self.num_actions = source.world.neighbor.shape[1] + 1
        self._candidates = _CandidateTables(source)
        self._ids = np.array([episode.instr_id for episode in self.table.episodes], dtype=object)
        self._texts = np.array([episode.instruction for episode in self.table.episodes], dtype=object)
        self._viewpoint_ids = np.array(source.tables.viewpoint_ids, dtype=object)
        self._scans = np.array(source.tables.scans, dtype=object)[source.tables.scan_index]
        tokens = self.table.tokens.padded(torch.arange(len(self.table))).numpy()
        self._tokens = np.pad(
            tokens, ((0, 0), (0, (options.max_tokens or source.dataset.max_tokens) - tokens.shape[1]))
        )
        self.row = torch.zeros(size, dtype=torch.int64)
        self.viewpoint, self.view, self.steps = (torch.zeros_like(self.row) for _ in range(3))
        self.path_length_m = torch.zeros(size, dtype=torch.float64)
        self.distance_m, self.shortest_m = torch.zeros_like(self.path_length_m), torch.zeros_like(self.path_length_m)
        self.trail = np.full((size, options.max_steps + 1), -1, dtype=np.int64)
        self.stand()

    def __len__(self) -> int:
        return len(self.row)

    def stand(self) -> None:
        """Forget all decisions: every walker has just begun."""
        never, zero = np.zeros(len(self), dtype=bool), np.zeros(len(self))
        self.invalid, self._fresh = never, ~never
        self.transition = Transition(never, never, zero, zero, zero, zero)

    def rows_of(self, instr_ids: list[object]) -> np.ndarray:
        """Return the rows of instruction ids; an unknown one is an ``InputError``."""
        rows = {instr_id: row for row, instr_id in enumerate(self._ids)}
        unknown = [name for name in instr_ids if not isinstance(name, str) or name not in rows]
        if unknown:
            raise InputError(
                f"options['episode'] must be an instr_id of the split {self.options.split!r}, such as "
                f"{self._ids[0]!r}, got {unknown[0]!r}; env.unwrapped.instr_ids lists them"
            )
        return np.array([rows[name] for name in instr_ids], dtype=np.int64)

    def begin(self, who: np.ndarray, rows: np.ndarray) -> None:
        """Put walkers ``who`` (n,) at the start of episodes ``rows`` (n,)."""
        index, row = (torch.from_numpy(who),), torch.from_numpy(rows)
        start = self.table.viewpoint[row]
        # Never in place: the last transition still shows the tensors of the episode that ended.
        self.row = self.row.index_put(index, row)
        self.viewpoint = self.viewpoint.index_put(index, start)
        self.view = self.view.index_put(index, self.table.view[row])
        self.steps = self.steps.index_put(index, self.steps.new_zeros(()))
        self.path_length_m = self.path_length_m.index_put(index, self.path_length_m.new_zeros(()))
        if self.table.has_goals:
            shortest_m = self.world.distance_m(start, self.table.goal[row])
            self.shortest_m = self.shortest_m.index_put(index, shortest_m)
            self.distance_m = self.distance_m.index_put(index, shortest_m)
        self.trail[who] = -1
        self.trail[who, 0] = start.numpy()

    def begin_at_once(self, who: np.ndarray, rows: np.ndarray) -> None:
        """As ``begin``, right after a decision: ``facts`` are those of the new episodes, ``transition`` stays."""
        self.begin(who, rows)
        self._fresh = self._fresh.copy()
        self.invalid = self.invalid.copy()
        self._fresh[who], self.invalid[who] = True, False

    def act(self, action: np.ndarray, acting: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Let walkers ``acting`` (B,) bool decide; the others stay as they are.

        Args:
            action: (B,) integers below ``num_actions``.
            acting: (B,) bool.

        Returns:
            Rewards (B,) float64, terminated (B,) bool, truncated (B,) bool; 0 and False for the others.
        """
        choice = torch.from_numpy(np.asarray(action, dtype=np.int64))
        active = torch.from_numpy(acting)
        degree = self.world.degree[self.viewpoint]
        stopped = (choice == STOP) & active
        candidate = torch.where((choice == STOP) | ~active, degree, choice - 1)
        before, before_m = self.viewpoint, self.distance_m
        self.viewpoint, self.view = self.world.step(before, self.view, candidate)
        self.path_length_m = self.path_length_m + self._candidates.length_m[before, torch.where(active, choice, STOP)]
        self.steps = self.steps + active
        if self.table.has_goals:
            self.distance_m = self.world.distance_m(self.viewpoint, self.table.goal[self.row])
        self.trail[acting, self.steps.numpy()[acting]] = self.viewpoint.numpy()[acting]
        self.invalid, self._fresh = ((choice > degree) & active).numpy(), ~acting
        self.transition = Transition(
            acting,
            stopped.numpy(),
            before_m.numpy(),
            self.distance_m.numpy(),
            self.path_length_m.numpy(),
            self.shortest_m.numpy(),
        )
        truncated = (self.steps >= self.options.max_steps) & ~stopped & active
        return self._reward(), stopped.numpy().copy(), truncated.numpy()

    def _reward(self) -> np.ndarray:
        """Return EnvDrop's reward, 0 where goals are hidden."""
        if not self.table.has_goals:
            return np.zeros(len(self))
        acted = self.transition.acted
        return np.where(acted, stop_part(self.transition) + progress_part(self.transition), 0.0)

    def observe(self, who: np.ndarray | None = None) -> Arrays:
        """Return what all walkers see, or those of ``who`` (n,) in its order; see ``spaces`` for the keys."""
        places = (self.viewpoint, self.view, self.row)
        here, looking, rows = places if who is None else (part[torch.from_numpy(who)] for part in places)
        viewpoint, row = here.numpy(), rows.numpy()
        seen: Arrays = {
            "instruction": tuple(self._texts[row]) if self.options.instruction == "text" else self._tokens.take(row, 0),
            "viewpoint": viewpoint.copy(),
            "view": looking.numpy().copy(),
            **self._candidates.at(here, looking),
        }
        if self.options.observation == "features":
            seen["features"] = self.source.features.views(here).numpy()
        if self.options.observation == "rgb":
            size_px = (self.options.image_size_px[0], self.options.image_size_px[1])
            seen["rgb"] = np.stack([self.source.pictures.views(int(v), size_px) for v in viewpoint])
        return seen

    def facts(self) -> Arrays:
        """Return what goes into ``info``, (B,) each; what needs the goal is absent where goals are hidden."""
        row, viewpoint = self.row.numpy(), self.viewpoint.numpy()
        known: Arrays = {
            "instr_id": self._ids[row],
            "scan": self._scans[viewpoint],
            "viewpoint_id": self._viewpoint_ids[viewpoint],
            "steps": self.steps.numpy().copy(),
            "path_length_m": self.path_length_m.numpy().copy(),
            "invalid_action": self.invalid.copy(),
        }
        if not self.table.has_goals:
            return known
        goal = self.table.goal[self.row]
        teacher = self.world.teacher(self.viewpoint, goal)
        done, acted = self.transition, ~self._fresh
        return known | {
            "goal": goal.numpy(),
            "teacher_action": torch.where(self.viewpoint == goal, STOP, teacher + 1).numpy(),
            "distance_m": self.distance_m.numpy().copy(),
            "shortest_m": self.shortest_m.numpy().copy(),
            "success": done.success & acted,
            "reward_stop": np.where(acted, stop_part(done), 0.0),
            "reward_progress": np.where(acted, progress_part(done), 0.0),
        }


class WalksEpisodes:
    """What the environments of one episode and of many say of themselves alike."""

    source: Source
    walkers: Walkers

    @property
    def has_goals(self) -> bool:
        """Return whether the split tells where its paths end."""
        return self.source.table.has_goals

    @property
    def instr_ids(self) -> list[str]:
        """Return the ids of the split's instructions, in the file's order."""
        return [episode.instr_id for episode in self.source.table.episodes]

    @property
    def viewpoints(self) -> list[tuple[str, str]]:
        """Return (scan, viewpoint id) of every viewpoint index."""
        return self.source.tables.keys

    @property
    def transition(self) -> Transition:
        """Return what the last decisions led to, for rewards."""
        return self.walkers.transition


class _CandidateTables:
    """Candidates of every viewpoint, one column per action; N viewpoints, A actions.

    Args:
        source: the graphs.
    """

    def __init__(self, source: Source) -> None:
        tables, world = source.tables, source.world
        N, A = len(tables.viewpoint_ids), tables.neighbor.shape[1] + 1
        self.mask = torch.zeros(N, A, dtype=torch.int8)
        self.mask[:, STOP] = 1
        self.mask[:, 1:] = world.neighbor >= 0
        self.viewpoint = torch.cat([torch.arange(N)[:, None], world.neighbor], 1)
        # The world has its column for stop at the end.
        self.view, self.directions = world.candidate_view.roll(1, 1), world.directions.roll(1, 1)
        self.turns = world.turns
        ends = tables.position[tables.neighbor.clip(0)]
        length_m = np.where(tables.neighbor >= 0, np.linalg.norm(ends - tables.position[:, None], axis=-1), 0.0)
        self.length_m = torch.from_numpy(np.pad(length_m, ((0, 0), (1, 0))))  # (N, A); 0 for stop and padding

    def at(self, viewpoint: torch.Tensor, view: torch.Tensor) -> Arrays:
        """Return what is known of the candidates from B places."""
        turns = self.turns.index_select(0, view % NUM_HEADINGS)
        angles = relative_angles(self.directions.index_select(0, viewpoint), turns)  # (B, A, 4)
        candidate_view = self.view.index_select(0, viewpoint)  # whole rows at once: index_select is far faster
        candidate_view[:, STOP] = view
        return {
            "action_mask": self.mask.index_select(0, viewpoint).numpy(),
            "candidate_viewpoint": self.viewpoint.index_select(0, viewpoint).numpy(),
            "candidate_view": candidate_view.numpy(),
            "candidate_angles": angles.numpy(),
        }
