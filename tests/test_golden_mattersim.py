"""Every recorded state of the real simulator, through both generations of the API."""

import gzip
import json
import math

import pytest

from tests.golden import SHARED, needs_shared
from vln_clip.envs import mattersim

FILE = SHARED / "golden" / "mattersim_states_dev.jsonl.gz"
TOLERANCE = 1e-6
SCANS = 90


def recorded():
    with gzip.open(FILE, "rt") as lines:
        configs = json.loads(next(lines))["meta"]["configs"]
        return configs, [json.loads(line) for line in lines]


def simulator(config, batch_size):
    sim = mattersim.Simulator()
    sim.setNavGraphPath(str(SHARED / "data" / "connectivity"))
    sim.setRenderingEnabled(False)
    sim.setDiscretizedViewingAngles(config["discretized"])
    sim.setRestrictedNavigation(config["restricted"])
    sim.setCameraResolution(config["width"], config["height"])
    sim.setCameraVFOV(math.radians(config["vfov_deg"]))
    if config["elev_limits"]:
        assert sim.setElevationLimits(*config["elev_limits"])
    if batch_size:
        sim.setBatchSize(batch_size)
        sim.initialize()
    else:
        sim.init()
    return sim


def check(state, expected, where):
    viewpoint, ix, view, heading, elevation, step, locations = expected
    assert (state.location.viewpointId, state.location.ix, state.viewIndex, state.step) == (
        viewpoint,
        ix,
        view,
        step,
    ), where
    assert abs(state.heading - heading) <= TOLERANCE, where
    assert abs(state.elevation - elevation) <= TOLERANCE, where
    ours = [tuple(location) for location in state.navigableLocations]
    assert [location[:2] for location in ours] == [tuple(location[:2]) for location in locations], where
    worst = max(
        abs(a - b)
        for mine, theirs in zip(ours, locations, strict=True)
        for a, b in zip(mine[2:], theirs[2:], strict=True)
    )
    assert worst <= TOLERANCE, (where, worst)


@needs_shared
@pytest.mark.parametrize("config", ["disc", "cont", "disc_free", "cont_lim", "disc_narrow", "cont_square"])
@pytest.mark.parametrize("generation", ["batch", "single"])
def test_every_recorded_state(config, generation):
    configs, rollouts = recorded()
    rollouts = [rollout for rollout in rollouts if rollout["cfg"] == config]
    assert len({rollout["scan"] for rollout in rollouts}) > SCANS // 2
    if generation == "single":
        sim = simulator(configs[config], None)
        for rollout in rollouts:
            sim.newEpisode(rollout["scan"], *rollout["start"])
            check(sim.getState(), rollout["states"][0], rollout["id"])
            for t, action in enumerate(rollout["actions"]):
                sim.makeAction(*action)
                check(sim.getState(), rollout["states"][t + 1], (rollout["id"], t))
        return
    # As one batch; whoever is at the end of the recording repeats "stay" unchecked.
    sim = simulator(configs[config], len(rollouts))
    sim.newEpisode(
        [rollout["scan"] for rollout in rollouts],
        *map(list, zip(*(rollout["start"] for rollout in rollouts), strict=True)),
    )
    states = sim.getState()
    for t in range(max(len(rollout["states"]) for rollout in rollouts)):
        actions = []
        for rollout, state in zip(rollouts, states, strict=True):
            if t < len(rollout["states"]):
                check(state, rollout["states"][t], (rollout["id"], t))
            actions.append(rollout["actions"][t] if t < len(rollout["actions"]) else [0, 0, 0])
        sim.makeAction(*map(list, zip(*actions, strict=True)))


@needs_shared
def test_the_recording_is_complete():
    configs, rollouts = recorded()
    assert len(rollouts) == 4050
    assert sum(len(rollout["states"]) for rollout in rollouts) == 42466
    assert len({rollout["scan"] for rollout in rollouts}) == SCANS
    assert {rollout["cfg"] for rollout in rollouts} == set(configs)
