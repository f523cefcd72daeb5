"""A simulator of the MatterSim API on the toy buildings, without pictures."""

import math

from vln_clip.envs.mattersim import Simulator

STEP = math.pi / 6


def simulator(graphs, old=False, batch_size=1, discretized=True):
    sim = Simulator()
    sim.setNavGraphPath(str(graphs))
    sim.setRenderingEnabled(False)
    sim.setDiscretizedViewingAngles(discretized)
    sim.setCameraResolution(640, 480)
    sim.setCameraVFOV(math.radians(60))
    sim.setBatchSize(batch_size)
    if old:
        sim.init()
    else:
        sim.initialize()
    return sim


def names(state):
    return [location.viewpointId for location in state.navigableLocations]
