"""The ids under which gymnasium finds our environments. Entry points are strings: nothing heavy is imported here."""

import gymnasium

NAMESPACE = "vln_clip"
ENTRY_POINT = "vln_clip.envs.gym.single:WalkEnv"
VECTOR_ENTRY_POINT = "vln_clip.envs.gym.vector:WalkVectorEnv"
# id -> data set; another version number means other observations, rewards or episodes for the same arguments.
IDS = {
    "vln_clip/R2R-v0": "r2r",
    "vln_clip/RxR-v0": "rxr",
    "vln_clip/Demo-v0": "demo",
    "vln_clip/DemoRxR-v0": "demo-rxr",
}


def register_envs() -> None:
    """Register every id with ``gymnasium.make`` and ``gymnasium.make_vec``; a second call changes nothing."""
    for name, dataset in IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, ENTRY_POINT, vector_entry_point=VECTOR_ENTRY_POINT, kwargs={"dataset": dataset})
