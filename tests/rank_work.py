"""What the tests of several ranks let each of them do on the toy world; also a program for processes of its own.

As a program, ``python -m tests.rank_work FOLDER`` in processes that know their RANK, WORLD_SIZE and MASTER_ADDR:
each writes what it found to ``FOLDER/RANK.safetensors``. The toy world is in ``$VLN_CLIP_DATA``.
"""

import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests import test_follower, test_speaker
from vln_clip import envdrop
from vln_clip.config import FollowerConfig
from vln_clip.envs.evaluation import walk_split
from vln_clip.envs.paths import sample_paths
from vln_clip.features import open_store
from vln_clip.launch import launched
from vln_clip.ranks import Ranks
from vln_clip.rollout import greedy
from vln_clip.sampler import ShuffledSampler
from vln_clip.setting import open_setting

PLAIN = {"dropout_p": 0.0, "feature_dropout_p": 0.0}
CPU = torch.device("cpu")
KINDS = ("imitation", "total", "batch", "none", "translation", "speaker")


SEEDING = threading.Lock()  # weights come from the global generator, which threads share


def build_follower(**sizes):
    with SEEDING:
        return test_follower.build(**sizes)


def build_speaker(**sizes):
    with SEEDING:
        return test_speaker.build(**sizes)


class Meeting:
    """Lets threads stand in for processes: each gives a value and gets those of all."""

    def __init__(self, world):
        self.barrier, self.values = threading.Barrier(world, timeout=60), [None] * world

    def gather(self, rank, value):
        self.values[rank] = value
        self.barrier.wait()
        found = list(self.values)
        self.barrier.wait()
        return found


@dataclass(frozen=True)
class Threaded(Ranks):
    """A rank that is a thread."""

    meeting: Meeting | None = None

    def gather(self, value):
        return self.meeting.gather(self.rank, value)

    def sum(self, values):
        return sum(self.gather(values))


def in_threads(world, work):
    """Return what ``work(ranks)`` returns on each rank; errors are raised."""
    meeting, found, errors = Meeting(world), [None] * world, []

    def run(rank):
        try:
            found[rank] = work(Threaded(rank, world, rank, meeting=meeting))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found


def open_toy():
    """Return the toy data set and its world with features."""
    setting = open_setting("r2r", None, CPU, max_input=20)
    return setting, setting.world([open_store(setting.data / "features" / "toy.safetensors")])


def follower_learner(toy, ranks, lr=1e-2, normalize="total", batch_size=7, **sizes):
    """Return a learner with an odd batch; the generators are those of a run."""
    setting, world = toy
    follower = build_follower(num_words=setting.vocabulary.size, **sizes)
    table, constants = setting.table("train"), FollowerConfig(batch_size=batch_size, max_action=8, normalize=normalize)
    joint = None if ranks.world == 1 else torch.Generator().manual_seed(3)
    return envdrop.FollowerLearner(
        world,
        follower,
        torch.optim.Adam(follower.parameters(), lr=lr),
        table,
        ShuffledSampler(len(table), batch_size, seed=0),
        constants,
        ranks.generator(3, CPU),
        0.2,
        ranks=ranks,
        joint_generator=joint,
    )


def gradients(toy, ranks, kind):
    """Return the gradients of one step without dropout, as each rank has them after summing, and what is logged.

    Actions are the best ones, not sampled ones (``envdrop.sampled`` must be patched): all ranks walk alike.
    """
    setting, world = toy
    if kind == "speaker":
        speaker = build_speaker(num_words=setting.vocabulary.size, **PLAIN)
        table, optimizer = setting.table("train"), torch.optim.SGD(speaker.parameters(), lr=0.0)
        sampler, generator = ShuffledSampler(len(table), 7, 0), torch.Generator()
        numbers = envdrop.SpeakerLearner(world, speaker, optimizer, table, sampler, 1e9, generator, ranks=ranks)()
        return grads_of(speaker), numbers
    learner = follower_learner(toy, ranks, 0.0, kind if kind in KINDS[1:4] else "total", **PLAIN, pool_padding=True)
    learner.config = FollowerConfig(
        batch_size=7, max_action=8, normalize=learner.config.normalize, clip_norm=1e9,
        feedback="teacher" if kind == "imitation" else "sample",
    )  # fmt: skip
    if kind != "translation":
        return grads_of(learner.follower, learner())
    paths = sample_paths(setting.tables, setting.table("train"), 30, 0, CPU)
    speaker = build_speaker(num_words=setting.vocabulary.size, seed=1).eval().requires_grad_(False)
    tags = torch.tensor([4, 5, 6])
    learn = envdrop.BackTranslationLearner(learner, speaker, paths, ShuffledSampler(30, 7, 1), 0.6, 0.4, 9, tags)
    return grads_of(learner.follower, learn())


def grads_of(model, numbers=None):
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return grads if numbers is None else (grads, numbers)


def weights_after(toy, ranks, steps=5):
    """Return the weights after some steps with dropout and sampling."""
    learner = follower_learner(toy, ranks)
    for _ in range(steps):
        learner()
    return learner.follower.state_dict()


def walks(toy, ranks):
    """Return what a follower does on the training split, in batches that don't come out even."""
    setting, world = toy
    follower = build_follower(num_words=setting.vocabulary.size).eval()
    found = walk_split(world, follower, setting.table("train"), 8, batch_size=20, ranks=ranks)
    return {"rows": found.rows, "viewpoint": found.viewpoint, "view": found.view, "num_actions": found.num_actions}


def main():
    """Do everything as one of several processes."""
    toy, found = open_toy(), {}
    with launched("cpu") as ranks:
        for name, value in weights_after(toy, ranks).items():
            found[f"weights.{name}"] = value
        for name, array in walks(toy, ranks).items():
            found[f"walks.{name}"] = torch.from_numpy(array)
        found["drawn"] = torch.rand(8, generator=ranks.generator(3, CPU))
        envdrop.sampled = lambda generator: greedy
        for kind in KINDS:
            for name, value in gradients(toy, ranks, kind)[0].items():
                found[f"{kind}.{name}"] = value
        save_file(found, Path(sys.argv[1]) / f"{ranks.rank}.safetensors")


if __name__ == "__main__":
    main()
