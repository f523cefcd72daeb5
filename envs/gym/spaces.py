"""The spaces of one environment. They depend on the data folder and the options, not on the split (text aside).

Keys of an observation; A actions, N viewpoints of the folder's graphs, L the most tokens, V views (36):

* ``instruction``: (L,) int64 tokens, 0 behind the last; or the text.
* ``viewpoint``, ``view``: where the agent stands (index of ``env.unwrapped.viewpoints``) and which view it looks along.
* ``action_mask``: (A,) int8, 1 for stop and every candidate; what ``action_space.sample(mask=...)`` takes.
* ``candidate_viewpoint``: (A,) int64, where an action leads to; one's own viewpoint for stop, -1 for padding.
* ``candidate_view``: (A,) int64, the view that shows it: row of ``features`` and ``rgb``; one's own view for stop, 0
  for padding.
* ``candidate_angles``: (A, 4) float32, sine and cosine of the heading relative to the agent's and of the elevation;
  zero for stop and padding.
* ``features``: (V, D) of the store's type.
* ``rgb``: (V, height, width, 3) uint8.
"""

import string

import numpy as np
import torch
from gymnasium import spaces

from vln_clip.envs.gym.options import Options
from vln_clip.envs.gym.source import Source
from vln_clip.records import NUM_VIEWS


def observation_space(source: Source, options: Options, num_actions: int) -> spaces.Dict:
    """Return the space of one observation."""
    N, A = len(source.tables.viewpoint_ids), num_actions
    parts: dict[str, spaces.Space] = {
        "instruction": _text(source)
        if options.instruction == "text"
        else spaces.Box(0, source.vocabulary.size - 1, (options.max_tokens or source.dataset.max_tokens,), np.int64),
        "viewpoint": spaces.Discrete(N),
        "view": spaces.Discrete(NUM_VIEWS),
        "action_mask": spaces.MultiBinary(A),
        "candidate_viewpoint": spaces.Box(-1, N - 1, (A,), np.int64),
        "candidate_view": spaces.MultiDiscrete([NUM_VIEWS] * A),
        "candidate_angles": spaces.Box(-1.0, 1.0, (A, 4), np.float32),
    }
    if options.observation == "features":
        limit = np.finfo(np.float16 if source.features.dtype == torch.float16 else np.float32)
        shape = (NUM_VIEWS, source.features.width)
        parts["features"] = spaces.Box(limit.min, limit.max, shape, limit.dtype)
    if options.observation == "rgb":
        parts["rgb"] = spaces.Box(0, 255, (NUM_VIEWS, *options.image_size_px, 3), np.uint8)
    return spaces.Dict(parts)


def _text(source: Source) -> spaces.Text:
    """Return the space of the split's instructions: any language, its own characters and the printable ASCII ones."""
    texts = [episode.instruction for episode in source.table.episodes]
    characters = sorted({*string.printable, *"".join(texts)})
    return spaces.Text(max(map(len, texts)), charset="".join(characters))
