"""Lets a follower walk and keeps what it attended to, decision by decision: traces of checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from vln_clip.agents.follower import Follower, FollowerState
from vln_clip.connectivity import NavTables
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.evaluation import EVALUATION_BATCH, EVALUATION_TOKENS
from vln_clip.envs.fidelity import fidelity_reward
from vln_clip.errors import InputError
from vln_clip.records import Batch, Episode, Observation, view_elevation_rad, view_heading_rad
from vln_clip.rollout import Rollout, greedy, roll_out
from vln_clip.sampler import in_order
from vln_clip.setting import LoadedFollower, Setting
from vln_clip.tasks.metrics import score_indices
from vln_clip.tasks.text import UNK, Vocabulary
from vln_clip.viewer.traces import Decision, Trace

TYPED = "typed"  # id of an instruction that is no data set's


def trace_rows(loaded: LoadedFollower, split: str, rows: Tensor | None, agent: str) -> list[Trace]:
    """Let a follower walk greedily and keep its decisions; the walks are those of an evaluation.

    Args:
        loaded: the follower and its world.
        split: name of an opened split.
        rows: (n,) int64 rows of the split; None for all.
        agent: name of the agent.

    Returns:
        A trace per row, in their order; scored where the split has goals.
    """
    table = loaded.setting.table(split)
    chosen = torch.arange(len(table)) if rows is None else rows.cpu()
    traces: dict[int, Trace] = {}
    # The batches of an evaluation, so that not even rounding differs from it.
    for part in in_order(len(chosen), EVALUATION_BATCH, table.length.cpu()[chosen], EVALUATION_TOKENS):
        found = _trace_batch(loaded, table, chosen[part], agent, loaded.header["max_action"])
        traces.update(zip(part.tolist(), found, strict=True))
    return [traces[place] for place in range(len(chosen))]


def trace_instruction(
    loaded: LoadedFollower,
    scan: str,
    start: str,
    heading_rad: float,
    instruction: str,
    language: str,
    actions: Sequence[int] = (),
    finish: bool = True,
) -> Trace:
    """Let a follower walk by one instruction from anywhere, the first actions being somebody else's choice.

    Args:
        loaded: the follower and its world; ``scan`` must be one of its buildings.
        scan: building.
        start: viewpoint id.
        heading_rad: where the agent looks at first; snapped to 30°.
        instruction: any text.
        language: of the text, for vocabularies that are told languages.
        actions: what to do first: a candidate's number each, the number of candidates to stop.
        finish: walk on to the end; else decide only once more, and do not carry that out.

    Returns:
        The trace, without metrics. The agent decides as often as in an evaluation, the given actions included, but
        at least once after them, unless they stop.

    Raises:
        InputError: unknown scan, viewpoint or language; an action that its place does not have, or one after a stop.
    """
    setting = loaded.setting
    stopped = _check_actions(setting.tables, setting.tables.index(scan, start), actions)
    episode = Episode(TYPED, TYPED, scan, start, heading_rad, instruction, None, language)
    table = setting.table_of(episode)
    num_decisions = len(actions) if stopped else len(actions) + 1
    if finish and not stopped:
        num_decisions = max(num_decisions, loaded.header["max_action"])
    (trace,) = _trace_batch(loaded, table, torch.tensor([0]), loaded.header["stage"], num_decisions, actions)
    if finish:
        return trace
    assert trace.decisions is not None
    shown = slice(len(trace.decisions))  # a move that was decided on last has not been made
    return replace(
        trace,
        viewpoints=trace.viewpoints[shown],
        headings_rad=trace.headings_rad[shown],
        elevations_rad=trace.elevations_rad[shown],
    )


def read_words(vocabulary: Vocabulary, text: str, tokens: np.ndarray) -> tuple[tuple[str, ...], frozenset[int]]:
    """Return an instruction as an agent reads it: what stands at each of its tokens, and which it does not know.

    Args:
        vocabulary: that encoded the text.
        text: the instruction.
        tokens: (L,) ids of the text, without padding: special ones, a language's tag, and as many words as there
            was room for.

    Returns:
        L words in reading order, unknown ones as they are written, special ones as the vocabulary writes them
        (``<BOS>``); and the positions of the unknown ones.
    """
    words = [vocabulary.words[index] for index in tokens]
    first, last = vocabulary.num_leading, len(tokens) - 1  # the last is <EOS>, even of a text that was cut
    words[first:last] = vocabulary.tokenizer.tokenize(text)[: last - first]
    return tuple(words), frozenset(np.flatnonzero(tokens == UNK).tolist())


def _words_of(setting: Setting, text: str, tokens: np.ndarray) -> tuple[tuple[str, ...], frozenset[int]]:
    """Return an instruction as the followers of a setting read it; a text encoder knows all of its words."""
    if setting.reader is not None:
        return setting.reader.spelled(text, setting.max_input), frozenset()
    return read_words(setting.vocabulary, text, tokens)


def _check_actions(tables: NavTables, viewpoint: int, actions: Sequence[int]) -> bool:
    """Check that actions can be taken one after the other; return whether they end with a stop."""
    for k, action in enumerate(actions):
        degree = int(tables.degree[viewpoint])
        if not 0 <= action <= degree:
            raise InputError(
                f"action {k + 1} must be from 0 to {degree} ({degree} stops) at {tables.viewpoint_ids[viewpoint]}, "
                f"got {action}"
            )
        if action == degree:
            if k + 1 < len(actions):
                raise InputError(f"action {k + 1} of {len(actions)} stops, and nothing can follow; take the rest back")
            return True
        viewpoint = int(tables.neighbor[viewpoint, action])
    return False


@dataclass
class _Watched:
    """A follower whose decisions are kept: one entry per step, each (b, …) on the CPU."""

    follower: Follower
    forced: Sequence[int]
    views: list[np.ndarray] = field(default_factory=list)
    words: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)

    def start(
        self, tokens: Tensor, length: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> FollowerState:
        """Read instructions; see ``Follower.start``."""
        return self.follower.start(tokens, length, generator, noise)

    def step(self, obs: Observation, state: FollowerState) -> tuple[FollowerState, Tensor, Tensor]:
        """Decide once and keep what led to it."""
        state, logits, hidden = self.follower.step(obs, state)
        assert state.looked is not None, "a step was taken"
        assert state.read is not None, "a step was taken"
        found = (state.looked, state.read, self.follower.critic(hidden, None), logits.softmax(1))
        for column, values in zip((self.views, self.words, self.values, self.probabilities), found, strict=True):
            column.append(values.cpu().numpy())
        return state, logits, hidden

    def choose(self, logits: Tensor, teacher: Tensor | None, rows: Tensor) -> Tensor:
        """Take the forced action of this step, else the best; a ``Feedback``."""
        step = len(self.actions)
        action = greedy(logits, teacher, rows)
        if step < len(self.forced):
            action = torch.full_like(action, self.forced[step])
        self.actions.append(action.cpu().numpy())
        self.rows.append(rows.cpu().numpy())
        return action


@torch.no_grad()
def _trace_batch(
    loaded: LoadedFollower,
    table: EpisodeTable,
    rows: Tensor,
    agent: str,
    max_steps: int,
    forced: Sequence[int] = (),
) -> list[Trace]:
    """Walk the episodes at rows (B,) of a table, with the same forced actions at the beginning of each."""
    watched = _Watched(loaded.follower, forced)
    batch, world = table.batch(rows), loaded.world
    record = roll_out(world, watched, batch, watched.choose, max_steps, teacher=None)
    reward = _rewards(loaded, record, batch)
    decisions = _decisions(watched, record, world.tables, batch.length.cpu().numpy(), reward)
    viewpoint, view = record.viewpoint.cpu().numpy(), record.view.cpu().numpy()
    metrics = _metrics(table, rows, viewpoint, record.num_actions.cpu().numpy(), world.tables)
    tokens, length = batch.tokens.cpu().numpy(), batch.length.tolist()
    traces = []
    for b, row in enumerate(rows.tolist()):
        episode, visited = table.episodes[row], viewpoint[b] >= 0
        words, unknown = _words_of(loaded.setting, episode.instruction, tokens[b, : length[b]])
        views = view[b, visited].tolist()
        headings, elevations = np.array([(view_heading_rad(v), view_elevation_rad(v)) for v in views]).T
        place, scores = viewpoint[b, visited], None if metrics is None else metrics[b]
        traces.append(Trace(agent, episode, place, headings, elevations, decisions[b], words, unknown, scores))
    return traces


def _decisions(
    watched: _Watched, record: Rollout, tables: NavTables, length: np.ndarray, reward: np.ndarray | None
) -> list[list[Decision]]:
    """Return the decisions of each episode of a batch, of lengths (B,); reward (T, B) or None."""
    mask, viewpoint = record.mask.cpu().numpy(), record.viewpoint.cpu().numpy()
    found: list[list[Decision]] = [[] for _ in length]
    for step, rows in enumerate(watched.rows):
        for k, b in enumerate(rows.tolist()):
            if not mask[step, b]:
                continue  # it had ended, but had not left the batch yet
            here = viewpoint[b, step]
            degree = int(tables.degree[here])
            found[b].append(
                Decision(
                    tables.neighbor[here, :degree],
                    watched.probabilities[step][k, : degree + 1],
                    int(watched.actions[step][k]),
                    watched.words[step][k, : length[b]],
                    watched.views[step][k],
                    value=float(watched.values[step][k]),
                    reward=None if reward is None else float(reward[step, b]),
                    forced=step < len(watched.forced),
                )
            )
    return found


def _rewards(loaded: LoadedFollower, record: Rollout, batch: Batch) -> np.ndarray | None:
    """Return the reward that the follower was trained by of every decision, (T, B); None where a goal is hidden."""
    world, goal = loaded.world, batch.goal
    if bool((goal < 0).any()):
        return None
    place = record.viewpoint
    place = torch.where(place >= 0, place, place.gather(1, (place >= 0).sum(1, keepdim=True) - 1))  # stays at the end
    distance_m = torch.stack([world.distance_m(column, goal) for column in place.unbind(1)])  # (T + 1, B)
    if loaded.reward == "ndtw":
        assert batch.guide is not None, "who has a goal has a path"
        return fidelity_reward(world, replace(record, distance_m=distance_m), batch.guide).cpu().numpy()
    return world.reward(distance_m[:-1], distance_m[1:], record.stopped).cpu().numpy()


def _metrics(
    table: EpisodeTable, rows: Tensor, viewpoint: np.ndarray, num_actions: np.ndarray, tables: NavTables
) -> list[dict[str, float]] | None:
    """Return the scores of each walk; None where goals are hidden."""
    if not table.has_goals:
        return None
    names = [table.episodes[row].instr_id for row in rows.tolist()]
    scores = score_indices(viewpoint, num_actions, table.reference(rows.numpy()), tables, names)
    return [{name: float(values[b]) for name, values in scores.items()} for b in range(len(rows))]
