"""The Python API of the Matterport3D simulator, both generations, without a simulator to build.

``Simulator().initialize()`` gives the batched API (lists, ``loc.x``, live states), ``Simulator().init()`` the older
one (scalars, ``loc.point``, copies); what ``newEpisode`` is given decides where neither was called. Semantics and
arithmetic are the recorded ones of peteanderson80/Matterport3DSimulator@589d091. Four things are better on purpose:
simulators of one process may differ in paths, seeds and cache; viewpoints and pictures that were handed out never
change; a batch in which one action is wrong moves nobody; settings that come too late warn.
"""

from vln_clip.envs.mattersim.simulator import Simulator
from vln_clip.envs.mattersim.state import SimState
from vln_clip.envs.mattersim.visibility import ViewPoint

__all__ = ["SimState", "Simulator", "ViewPoint"]
