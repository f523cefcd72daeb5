"""The plan of the default demo world, made once for all tests."""

import functools

from vln_clip.envs.demo import DemoConfig
from vln_clip.envs.demo.world import World, plan_world


@functools.cache
def default_world() -> World:
    return plan_world(DemoConfig())
