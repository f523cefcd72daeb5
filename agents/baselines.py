"""Scripted policies that no result should be read without. The shortest path is teacher forcing with any agent."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vln_clip.records import HEADING_STEP_RAD, NUM_HEADINGS, Observation

VISIBLE_COS = math.cos(math.radians(40.0))  # the simulator's horizontal visibility at 640×480 and 60°


@dataclass(frozen=True)
class ScriptState:
    """Absolute camera heading step (B,) and moves so far."""

    heading_step: Tensor
    moves: int = 0

    def select(self, rows: Tensor) -> "ScriptState":
        """Keep only some episodes."""
        return replace(self, heading_step=self.heading_step[rows])


class RandomAgent:
    """R2R's random agent (Anderson et al. 2018): face a random direction, walk ahead five times, stop.

    Ahead is the visible candidate nearest to the center of the view; where none is visible it turns right
    until one is.

    Args:
        generator: draws the directions.
        max_moves: moves before it stops.
    """

    def __init__(self, generator: torch.Generator, max_moves: int = 5) -> None:
        self.generator, self.max_moves = generator, max_moves

    def start(
        self, tokens: Tensor, length: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> ScriptState:
        """Draw a direction per episode."""
        device = tokens.device
        return ScriptState(torch.randint(NUM_HEADINGS, (len(tokens),), generator=self.generator, device=device))

    def step(self, obs: Observation, state: ScriptState) -> tuple[ScriptState, Tensor, Tensor]:
        """Return one-hot logits (B, K), 0 for the choice and -inf elsewhere, and an empty hidden state."""
        B, K = obs.candidate_mask.shape
        own = torch.atan2(obs.own_angles[:, 0], obs.own_angles[:, 1])
        bearing = torch.atan2(obs.candidate_angles[..., 0], obs.candidate_angles[..., 1]) + own[:, None]  # (B, K)
        elevation = torch.atan2(obs.candidate_angles[..., 2], obs.candidate_angles[..., 3])
        is_move = torch.arange(K, device=own.device) < obs.stop[:, None]
        turned = (state.heading_step[:, None] + torch.arange(NUM_HEADINGS, device=own.device)) % NUM_HEADINGS  # (B, 12)
        offset = bearing[:, None] - turned[..., None] * HEADING_STEP_RAD  # (B, 12, K)
        offset = torch.atan2(offset.sin(), offset.cos())
        visible = (offset.cos() >= VISIBLE_COS) & is_move[:, None]
        turns = visible.any(2).to(torch.uint8).argmax(1)  # right turns until something is ahead
        rows = torch.arange(B, device=own.device)
        distance = torch.hypot(offset[rows, turns], elevation).masked_fill(~visible[rows, turns], torch.inf)
        done = (state.moves >= self.max_moves) | (obs.stop == 0)
        action = torch.where(done, obs.stop, distance.argmin(1))
        return ScriptState(turned[rows, turns], state.moves + 1), _certain(action, K), obs.own_angles[:, :0]


class StopAgent:
    """Stops at once."""

    def start(
        self, tokens: Tensor, length: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> ScriptState:
        """Return the (unused) state."""
        return ScriptState(torch.zeros_like(length))

    def step(self, obs: Observation, state: ScriptState) -> tuple[ScriptState, Tensor, Tensor]:
        """Return one-hot logits (B, K) for stop."""
        return state, _certain(obs.stop, obs.candidate_mask.shape[1]), obs.own_angles[:, :0]


def _certain(action: Tensor, num_actions: int) -> Tensor:
    """Return logits (B, K) that are 0 for the action and -inf elsewhere."""
    logits = torch.full((len(action), num_actions), -torch.inf, device=action.device)
    return logits.scatter_(1, action[:, None], 0.0)
