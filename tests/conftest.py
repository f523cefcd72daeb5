"""Fixtures that several files share: toy runs of the programs, and logging put back after them."""

import logging
import os
import signal

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one process per core: before anything imports torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start background commands; children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

from tests.browser import browser, tab  # noqa: F401  (fixtures of the tests in a real browser)
from tests.gym_world import build_worlds
from tests.toy_runs import World
from tests.toy_skyboxes import write_skyboxes
from tests.toy_world import point_to, write_graphs


@pytest.fixture(autouse=True)
def _own_logging():
    """Programs configure logging; put it back."""
    logger = logging.getLogger("vln_clip")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A toy data folder with a finished run, ``toy``, made once."""
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path_factory.mktemp("toy"), patch)
        world.train("--bt")
    return world


@pytest.fixture(scope="session")
def seeing(tmp_path_factory):
    """A toy data folder with skyboxes and a finished run on their ``pixels``, ``toy``, made once."""
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path_factory.mktemp("seeing"), patch)
        write_skyboxes(world.data)
        world.train("--no-blind", "--iters", "8", "--eval-every", "8", features="pixels:96")
    return world


@pytest.fixture
def world(trained, monkeypatch):
    """The trained toy world as this process's data folder."""
    point_to(trained.folder, monkeypatch)
    return trained


@pytest.fixture
def own_world(tmp_path, monkeypatch):
    """A toy data folder that a test may spoil."""
    return World(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def built_worlds(tmp_path_factory):
    """A toy data folder and a tiny demo world, made once."""
    return build_worlds(tmp_path_factory.mktemp("worlds"))


@pytest.fixture
def worlds(built_worlds, monkeypatch):
    """Both folders, with a cache of their own and no other data folder."""
    monkeypatch.setenv("VLN_CLIP_CACHE", str(built_worlds[0].parent / "cache"))
    monkeypatch.delenv("VLN_CLIP_DATA", raising=False)
    return built_worlds


@pytest.fixture
def graphs(tmp_path):
    """The connectivity folder of the toy buildings."""
    return write_graphs(tmp_path / "connectivity")
