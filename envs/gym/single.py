"""One episode at a time: the environment behind ``gymnasium.make``."""

from typing import Any

import gymnasium
import numpy as np

from vln_clip.envs.gym.options import Options
from vln_clip.envs.gym.order import shuffled_row
from vln_clip.envs.gym.picture import Painter
from vln_clip.envs.gym.source import open_source
from vln_clip.envs.gym.spaces import observation_space
from vln_clip.envs.gym.walkers import Walkers, WalksEpisodes
from vln_clip.envs.gym.window import Window
from vln_clip.errors import InputError, unknown_name

RENDER_MODES = ("rgb_array", "human", "ansi")
RESET_OPTIONS = ("episode",)
KEYS = 2**63  # keys of the episode order are drawn below it


class WalkEnv(WalksEpisodes, gymnasium.Env[dict[str, Any], np.int64]):
    """Follow an instruction through a building.

    Actions: ``Discrete(A)``; 0 stops, k moves along candidate k - 1. An action without a candidate behind it stays;
    ``info["invalid_action"]`` says so. Observations: ``spaces``. Reward: EnvDrop's, +1 or -1 for a move that
    brings the goal nearer or farther, +2 or -2 for stopping within 3 m of it or not; where goals are hidden (test
    splits) it is 0 and ``has_goals`` is False. An episode terminates at stop and is truncated after ``max_steps``.

    ``reset(seed=...)`` decides the order of the episodes: shuffled passes over the split. ``reset()`` goes on in it,
    ``reset(options={"episode": instr_id})`` picks one.

    Success is stopping less than 3 m from the goal along the graph; an episode cut off at ``max_steps`` has none.
    Everything that needs the goal is in ``info`` alone (``goal``, ``teacher_action``, ``distance_m``, ``shortest_m``,
    ``success``, ``reward_stop``, ``reward_progress``), and absent where goals are hidden.

    Args:
        dataset: a row of ``tasks.datasets.DATASETS``; the ids set it.
        render_mode: ``rgb_array``, ``human`` (a window, or text where there is no display), ``ansi`` or None.
        **arguments: fields of ``Options``.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 2}  # noqa: RUF012

    def __init__(self, dataset: str = "demo", render_mode: str | None = None, **arguments: object) -> None:
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise unknown_name("render_mode", render_mode, RENDER_MODES)
        self.options = Options.parse(arguments)
        self.source = open_source(dataset, self.options)
        self.render_mode = render_mode
        self.walkers = Walkers(self.source, self.options, size=1)
        self.action_space = gymnasium.spaces.Discrete(self.walkers.num_actions)
        self.observation_space = observation_space(self.source, self.options, self.walkers.num_actions)
        self._key: np.ndarray | None = None
        self._count = np.zeros(1, dtype=np.int64)
        self._ended = True
        self._painter: Painter | None = None
        self._window: Window | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin the next episode of the order, or the one that ``options["episode"]`` names."""
        super().reset(seed=seed)
        for name in options or {}:
            if name not in RESET_OPTIONS:
                raise unknown_name("option of reset", name, RESET_OPTIONS)
        if seed is not None or self._key is None:
            self._key = np.array([self.np_random.integers(KEYS)], dtype=np.uint64)
            self._count[:] = 0
        if options and "episode" in options:
            rows = self.walkers.rows_of([options["episode"]])
        else:
            rows = shuffled_row(self._key, self._count, len(self.source.table))
            self._count += 1
        self.walkers.begin(np.zeros(1, dtype=np.int64), rows)
        self.walkers.stand()
        self._ended = False
        self._show()
        return self._observation(), self._info()

    def step(self, action: np.int64) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Stop (0) or move along candidate ``action - 1``."""
        if self._ended:
            raise InputError("the episode has ended or none has begun; call reset() before step()")
        if not self.action_space.contains(action):
            raise InputError(f"action must be in {self.action_space}, got {action!r}; 0 stops, k moves along k - 1")
        reward, terminated, truncated = self.walkers.act(np.array([action]), np.ones(1, dtype=bool))
        self._ended = bool(terminated[0] or truncated[0])
        self._show()
        return self._observation(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), self._info()

    def render(self) -> Any:
        """Return a picture (H, W, 3) uint8 or a text; in ``human`` mode every step shows itself."""
        if self.render_mode == "rgb_array":
            return self._paint().frame(self.walkers, 0)
        if self.render_mode == "ansi":
            return self._paint().text(self.walkers, 0)
        if self.render_mode is None:
            gymnasium.logger.warn("render() does nothing without a render_mode; give one to gymnasium.make")
        return None

    def close(self) -> None:
        """Close the window, if any."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _paint(self) -> Painter:
        if self._painter is None:
            self._painter = Painter(self.source)
        return self._painter

    def _show(self) -> None:
        """Show the present state in ``human`` mode."""
        if self.render_mode != "human":
            return
        if self._window is None:
            self._window = Window(self.metadata["render_fps"])
        painter = self._paint()
        self._window.show(lambda: painter.frame(self.walkers, 0), lambda: painter.text(self.walkers, 0))

    def _observation(self) -> dict[str, Any]:
        return {name: value[0] for name, value in self.walkers.observe().items()}

    def _info(self) -> dict[str, Any]:
        """Return the facts as plain Python values."""
        facts = self.walkers.facts()
        return {name: value[0].item() if value.dtype != object else value[0] for name, value in facts.items()}
