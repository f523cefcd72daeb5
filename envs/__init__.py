"""Worlds: batched navigation, samplers, the renderer, the generated demo world and gymnasium's environments.

Importing this package registers the ids of ``registration`` with gymnasium and does nothing else.
"""

from vln_clip.envs.registration import register_envs

register_envs()
