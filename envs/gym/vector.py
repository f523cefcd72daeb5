"""Many episodes at once on index tensors: the environment behind ``gymnasium.make_vec``."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from vln_clip.envs.gym.options import Options, require_count
from vln_clip.envs.gym.order import shuffled_row
from vln_clip.envs.gym.picture import Painter
from vln_clip.envs.gym.single import KEYS, RESET_OPTIONS
from vln_clip.envs.gym.source import open_source
from vln_clip.envs.gym.spaces import observation_space
from vln_clip.envs.gym.walkers import Arrays, Walkers, WalksEpisodes
from vln_clip.errors import InputError, unknown_name

RENDER_MODES = ("rgb_array", "ansi")


class WalkVectorEnv(WalksEpisodes, VectorEnv[dict[str, Any], np.ndarray, np.ndarray]):
    """The same as ``num_envs`` environments ``WalkEnv`` in a ``SyncVectorEnv``, without a loop over them.

    Environment i of ``reset(seed=s)`` has seed s + i. ``reset(options={"episode": [...]})`` picks an episode for each;
    ``options={"reset_mask": mask}`` resets some.

    Args:
        num_envs: episodes side by side.
        dataset: a row of ``tasks.datasets.DATASETS``; the ids set it.
        autoreset_mode: of ``gymnasium.vector.AutoresetMode``: ``NextStep`` (the step after the end begins a new
            episode), ``SameStep`` (the last observation and info are ``final_obs`` and ``final_info``), ``Disabled``.
        render_mode: ``rgb_array``, ``ansi`` or None.
        **arguments: fields of ``Options``.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": list(RENDER_MODES),
        "render_fps": 2,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        dataset: str = "demo",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **arguments: object,
    ) -> None:
        require_count("num_envs", num_envs, 1)
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise unknown_name("render_mode of a vector environment", render_mode, RENDER_MODES)
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.options = Options.parse(arguments)
        self.source = open_source(dataset, self.options)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.walkers = Walkers(self.source, self.options, num_envs)
        self.single_action_space = gymnasium.spaces.Discrete(self.walkers.num_actions)
        self.single_observation_space = observation_space(self.source, self.options, self.walkers.num_actions)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._key: np.ndarray | None = None
        self._count = np.zeros(num_envs, dtype=np.int64)
        self._ended = np.zeros(num_envs, dtype=bool)
        self._painter: Painter | None = None

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin the next episodes of the orders, or those that ``options["episode"]`` lists."""
        chosen = self._reset_mask(options)
        seeds = self._seeds(seed)
        super().reset(seed=seeds[0])
        if self._key is None:
            self._key = self.np_random.integers(KEYS, size=self.num_envs).astype(np.uint64)
        for i in np.flatnonzero(chosen):
            if seeds[i] is not None:
                self._key[i] = seeding.np_random(seeds[i])[0].integers(KEYS)
                self._count[i] = 0
        who = np.flatnonzero(chosen)
        if options and "episode" in options:
            self.walkers.begin(who, self._picked(options["episode"])[who])
        else:
            self.walkers.begin(who, self._next_rows(who))
        self._ended[who] = False
        self.walkers.stand()
        return self.walkers.observe(), _masked(self.walkers.facts(), chosen)

    def step(self, actions: np.ndarray) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Decide for every environment, (num_envs,) integers."""
        if self._key is None:
            raise InputError("reset() must come before step()")
        actions = np.asarray(actions)
        whole = actions.shape == (self.num_envs,) and np.issubdtype(actions.dtype, np.integer)
        if not whole or actions.min() < 0 or actions.max() >= self.walkers.num_actions:
            raise InputError(f"actions must be in {self.action_space}, got {actions!r:.200}")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            raise InputError(
                f"{int(self._ended.sum())} episodes have ended; reset them with options={{'reset_mask': ended}} before "
                "the next step, or take another autoreset_mode"
            )
        acting = ~self._ended  # only NextStep leaves ended ones behind
        if not acting.all():
            begun = np.flatnonzero(self._ended)
            self.walkers.begin(begun, self._next_rows(begun))
        rewards, terminated, truncated = self.walkers.act(actions, acting)
        self._ended = terminated | truncated
        infos: Arrays = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._ended.any():
            infos = self._begin_at_once()
        infos |= _masked(self.walkers.facts(), np.ones(self.num_envs, dtype=bool))
        return self.walkers.observe(), rewards, terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture or a text of every environment."""
        if self.render_mode is None:
            return None
        if self._painter is None:
            self._painter = Painter(self.source)
        draw = self._painter.frame if self.render_mode == "rgb_array" else self._painter.text
        return tuple(draw(self.walkers, i) for i in range(self.num_envs))

    def _next_rows(self, who: np.ndarray) -> np.ndarray:
        """Return the next episodes of environments ``who`` (n,) and go on in their orders."""
        assert self._key is not None
        rows = shuffled_row(self._key[who], self._count[who], len(self.source.table))
        self._count[who] += 1
        return rows

    def _begin_at_once(self) -> Arrays:
        """Return the last observation and info of the walkers that ended, and begin their next episodes."""
        ended = self._ended
        begun = np.flatnonzero(ended)
        observation = self.walkers.observe(begun)
        final = np.full(self.num_envs, None, dtype=object)
        # gymnasium's form: one observation per ended environment, for who bootstraps from them.
        for i, parts in zip(begun, zip(*observation.values(), strict=True), strict=True):
            final[i] = dict(zip(observation, parts, strict=True))
        info = _masked(self.walkers.facts(), ended)
        self.walkers.begin_at_once(begun, self._next_rows(begun))
        self._ended = np.zeros(self.num_envs, dtype=bool)
        return {"final_obs": final, "_final_obs": ended.copy(), "final_info": info, "_final_info": ended.copy()}

    def _reset_mask(self, options: dict[str, Any] | None) -> np.ndarray:
        """Return who is to be reset, (num_envs,) bool."""
        known = (*RESET_OPTIONS, "reset_mask")
        for name in options or {}:
            if name not in known:
                raise unknown_name("option of reset", name, known)
        if not options or "reset_mask" not in options:
            return np.ones(self.num_envs, dtype=bool)
        mask = np.asarray(options["reset_mask"])
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise InputError(
                f"options['reset_mask'] must be {self.num_envs} booleans with at least one True, got {mask!r:.200}"
            )
        return mask

    def _seeds(self, seed: int | list[int | None] | None) -> list[int | None]:
        """Return one seed per environment."""
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise InputError(f"seed must be a number or a list of {self.num_envs}, got {len(seed)} seeds")
        return list(seed)

    def _picked(self, episode: object) -> np.ndarray:
        """Return the rows of ``options["episode"]``: one id for all, or one each."""
        ids = list(episode) if isinstance(episode, list | tuple | np.ndarray) else [episode] * self.num_envs
        if len(ids) != self.num_envs:
            raise InputError(f"options['episode'] must be an instr_id or {self.num_envs} of them, got {len(ids)}")
        return self.walkers.rows_of(ids)


def _mode(autoreset_mode: AutoresetMode | str) -> AutoresetMode:
    """Return the mode of a name."""
    known = [mode.value for mode in AutoresetMode]
    if isinstance(autoreset_mode, AutoresetMode):
        return autoreset_mode
    if autoreset_mode not in known:
        raise unknown_name("autoreset_mode", str(autoreset_mode), known)
    return AutoresetMode(autoreset_mode)


def _masked(facts: Arrays, who: np.ndarray) -> Arrays:
    """Return facts in gymnasium's form: beside ``key`` stands ``_key``, who has it; the others are 0 or None."""
    infos: Arrays = {}
    for name, value in facts.items():
        if not who.all():
            value = np.where(who, value, None if value.dtype == object else value.dtype.type(0))
        infos[name], infos[f"_{name}"] = value, who.copy()
    return infos
