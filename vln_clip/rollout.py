"""Lets an agent act in a world for one batch of episodes and records what losses and metrics need.

Knows no files, no rewards' meaning and no optimiser. Episodes that have ended leave the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vln_clip.divergence import DivergedError
from vln_clip.records import Batch, Observation

SHORTEST, GUIDE = "shortest", "guide"  # teachers


class World(Protocol):
    """What a rollout needs of an environment; see ``vln_clip.envs.navigation.Navigation``."""

    def observe(self, viewpoint: Tensor, view: Tensor) -> Observation: ...  # noqa: D102
    def step(self, viewpoint: Tensor, view: Tensor, action: Tensor) -> tuple[Tensor, Tensor]: ...  # noqa: D102
    def teacher(self, viewpoint: Tensor, goal: Tensor) -> Tensor: ...  # noqa: D102
    def guide(self, viewpoint: Tensor, path: Tensor, step: int) -> Tensor: ...  # noqa: D102
    def distance_m(self, viewpoint: Tensor, goal: Tensor) -> Tensor: ...  # noqa: D102
    def num_actions(self, view: Tensor, viewpoint: Tensor, action: Tensor) -> Tensor: ...  # noqa: D102


class Agent(Protocol):
    """What a rollout needs of a policy: explicit state in and out."""

    def start(self, tokens: Tensor, length: Tensor, generator: Any = None, noise: Tensor | None = None) -> Any: ...  # noqa: D102
    def step(self, obs: Observation, state: Any) -> tuple[Any, Tensor, Tensor]: ...  # noqa: D102


# Chooses actions (b,) from logits (b, K), the teacher's actions (b,) or None, and the batch rows (b,) it acts for.
Feedback = Callable[[Tensor, Tensor | None, Tensor], Tensor]


def teacher_forced(logits: Tensor, teacher: Tensor | None, rows: Tensor) -> Tensor:
    """Follow the teacher."""
    assert teacher is not None
    return teacher


def greedy(logits: Tensor, teacher: Tensor | None, rows: Tensor) -> Tensor:
    """Take the best action; the first of equals."""
    return logits.argmax(1)


def sampled(generator: torch.Generator) -> Feedback:
    """Return a feedback that samples from the policy with an explicit generator."""

    def choose(logits: Tensor, teacher: Tensor | None, rows: Tensor) -> Tensor:
        try:
            return torch.multinomial(logits.detach().softmax(1), 1, generator=generator).squeeze(1)
        except RuntimeError:  # of CPUs; a GPU tells later, and imitation before that
            if bool((logits < torch.inf).all()):  # false where there is a NaN too
                raise
            raise DivergedError("a logit of the policy is infinite or nan") from None

    return choose


@dataclass
class Rollout:
    """A batch of B episodes over T steps. Entries after an episode's end are 0 (places: -1) and masked out.

    Attributes:
        viewpoint: (B, T + 1) int64, start first.
        view: (B, T + 1) int64.
        num_actions: (B,) int64 simulator actions taken: tilts, turns and moves.
        ended: (B,) bool, stopped by its own decision.
        mask: (T, B) bool, True where a decision was taken.
        stopped: (T, B) bool, True where that decision was to stop.
        action_log_prob: (T, B) float32 of the chosen actions.
        teacher_log_prob: (T, B) float32 of the teacher's actions; 0 without a teacher.
        entropy: (T, B) float32.
        hidden: (P, H) hidden states of the decisions, in the order of ``mask.nonzero()``.
        distance_m: (T + 1, B) float64 to the goal before each step and at the end; None unless asked for.
        last_hidden: (R, H) hidden state of the unfinished episodes' final observation; None unless asked for.
        unfinished: (R,) int64 batch rows of ``last_hidden``.
        logits: one (b, K) per step, with ``rows``; only when ``keep_logits``.
        rows: batch rows (b,) per step.
    """

    viewpoint: Tensor
    view: Tensor
    num_actions: Tensor
    ended: Tensor
    mask: Tensor
    stopped: Tensor
    action_log_prob: Tensor
    teacher_log_prob: Tensor
    entropy: Tensor
    hidden: Tensor
    distance_m: Tensor | None
    last_hidden: Tensor | None
    unfinished: Tensor | None
    logits: list[Tensor]
    rows: list[Tensor]


def roll_out(
    world: World,
    agent: Agent,
    batch: Batch,
    feedback: Feedback,
    max_steps: int,
    *,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    teacher: str | None = SHORTEST,
    returns: bool = False,
    keep_logits: bool = False,
    drop_ended: bool = True,
) -> Rollout:
    """Run a batch until every episode has stopped or ``max_steps`` decisions were taken.

    Args:
        world: the environment.
        agent: the policy.
        batch: starts, instructions and (privileged) goals.
        feedback: how actions are chosen.
        max_steps: most decisions per episode.
        generator: dropout masks of the agent; None is evaluation.
        noise: (D,) environment dropout of the rollout.
        teacher: whom to ask at every step: ``shortest`` knows the goal, ``guide`` the annotated path (and only
            walkers that follow it); None asks nobody.
        returns: record distances and the final hidden states, for actor-critic losses; needs goals.
        keep_logits: keep every step's logits, for tests and pictures.
        drop_ended: let ended episodes leave the batch; False keeps them, as the reference does.
    """
    if returns and bool((batch.goal < 0).any()):
        raise ValueError("there are no returns where the goal is hidden (test splits)")
    B, device = len(batch.viewpoint), batch.viewpoint.device
    state = agent.start(batch.tokens, batch.length, generator, noise)
    viewpoint, view = batch.viewpoint.clone(), batch.view.clone()
    rows, running = torch.arange(B, device=device), torch.ones(B, dtype=torch.bool, device=device)
    places, num_actions = [(viewpoint.clone(), view.clone())], torch.zeros_like(viewpoint)
    distances = [world.distance_m(viewpoint, batch.goal)] if returns else []
    steps, logits_kept, rows_kept = [], [], []
    # Dropping episodes copies the text (and its gradient back): not for every single end.
    crowd = 0.75 if torch.is_grad_enabled() else 0.9
    for step in range(max_steps):
        here, looking = viewpoint[rows], view[rows]
        obs = world.observe(here, looking)
        state, logits, hidden = agent.step(obs, state)
        target = _teach(world, teacher, batch, here, rows, step)
        action = torch.where(running, feedback(logits, target, rows), obs.stop)
        steps.append(
            _decisions(rows, running, logits, hidden, action, target, obs.stop, keep_loss=torch.is_grad_enabled())
        )
        if keep_logits:
            logits_kept.append(logits)
            rows_kept.append(rows)
        num_actions[rows] += world.num_actions(looking, here, action)
        viewpoint[rows], view[rows] = world.step(here, looking, action)
        places.append((viewpoint.clone(), view.clone()))
        if returns:
            distances.append(world.distance_m(viewpoint, batch.goal))
        running = running & (action != obs.stop)
        left = int(running.sum())
        if left == 0:
            break
        if drop_ended and left <= crowd * len(rows):
            kept = running.nonzero().squeeze(1)
            rows, running, state = rows[kept], running[kept], state.select(kept)
    ended = torch.ones(B, dtype=torch.bool, device=device)
    ended[rows[running]] = False
    last_hidden = unfinished = None
    if returns and not bool(ended.all()):
        unfinished, last_hidden = _look_once_more(world, agent, state, viewpoint, view, rows, running)
    return _assemble(steps, places, num_actions, ended, distances, last_hidden, unfinished, logits_kept, rows_kept)


def _teach(world: World, teacher: str | None, batch: Batch, here: Tensor, rows: Tensor, step: int) -> Tensor | None:
    """Return the teacher's actions (b,), None without one."""
    if teacher is None:
        return None
    if teacher == SHORTEST:
        return world.teacher(here, batch.goal[rows])
    assert teacher == GUIDE, teacher
    if batch.guide is None:
        raise ValueError("there is no guide where paths are hidden (test splits)")
    return world.guide(here, batch.guide[rows], step)


@dataclass
class _Step:
    """Decisions of one step: batch rows (b,) and one value each; ``hidden`` (b, H)."""

    rows: Tensor
    stopped: Tensor
    values: Tensor  # (3, b): log-probability of the action, of the teacher's action, entropy
    hidden: Tensor


def _decisions(
    rows: Tensor,
    running: Tensor,
    logits: Tensor,
    hidden: Tensor,
    action: Tensor,
    target: Tensor | None,
    stop: Tensor,
    keep_loss: bool,
) -> _Step:
    """Keep what the losses need of the running episodes."""
    if not keep_loss:
        rows = rows[running]
        return _Step(rows, (action == stop)[running], logits.new_zeros(3, len(rows)), hidden[:0])
    if len(rows) != int(running.sum()):
        kept = running.nonzero().squeeze(1)
        rows, logits, hidden, action, stop = rows[kept], logits[kept], hidden[kept], action[kept], stop[kept]
        target = None if target is None else target[kept]
    log_probs = torch.log_softmax(logits, 1)
    chosen = log_probs.gather(1, action[:, None]).squeeze(1)
    taught = chosen.new_zeros(chosen.shape) if target is None else log_probs.gather(1, target[:, None]).squeeze(1)
    entropy = -(log_probs.exp() * log_probs.masked_fill(torch.isneginf(log_probs), 0)).sum(1)
    return _Step(rows, action == stop, torch.stack([chosen, taught, entropy]), hidden)


def _look_once_more(
    world: World, agent: Agent, state: Any, viewpoint: Tensor, view: Tensor, rows: Tensor, running: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the unfinished rows and their hidden state at the final observation, without gradient."""
    with torch.no_grad():
        kept = running.nonzero().squeeze(1)
        rows = rows[kept]
        _, _, hidden = agent.step(world.observe(viewpoint[rows], view[rows]), state.select(kept))
    return rows, hidden


def _assemble(
    steps: list[_Step],
    places: list[tuple[Tensor, Tensor]],
    num_actions: Tensor,
    ended: Tensor,
    distances: list[Tensor],
    last_hidden: Tensor | None,
    unfinished: Tensor | None,
    logits: list[Tensor],
    rows: list[Tensor],
) -> Rollout:
    """Scatter the steps into (T, B) arrays."""
    T, B, device = len(steps), len(num_actions), num_actions.device
    step = torch.repeat_interleave(torch.tensor([len(s.rows) for s in steps], device=device))
    place = (step, torch.cat([s.rows for s in steps]))
    # Ascending rows within a step, so that `hidden` follows the order of `mask.nonzero()`.
    mask = torch.zeros(T, B, dtype=torch.bool, device=device).index_put(place, torch.tensor(True, device=device))
    stopped = torch.zeros_like(mask).index_put(place, torch.cat([s.stopped for s in steps]))
    values = torch.cat([s.values for s in steps], 1)
    chosen, taught, entropy = (values.new_zeros(T, B).index_put(place, row) for row in values)
    viewpoint, view = (torch.stack(column, 1) for column in zip(*places, strict=True))
    visited = torch.cat([mask.new_ones(1, B), mask & ~stopped]).t()  # the stop decision reaches no new place
    return Rollout(
        viewpoint.masked_fill(~visited, -1),
        view.masked_fill(~visited, -1),
        num_actions,
        ended,
        mask,
        stopped,
        chosen,
        taught,
        entropy,
        hidden=torch.cat([s.hidden for s in steps]),
        distance_m=torch.stack(distances) if distances else None,
        last_hidden=last_hidden,
        unfinished=unfinished,
        logits=logits,
        rows=rows,
    )
