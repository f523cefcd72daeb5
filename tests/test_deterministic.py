"""What ``--deterministic`` keeps the same, and where it refuses."""

import json

import pytest
import torch

from tests.test_checkpoint_run import open_run
from vln_clip import checkpoint, files
from vln_clip.determinism import deterministic
from vln_clip.errors import InputError
from vln_clip.run import LAST


def test_a_deterministic_run_goes_on_with_as_many_threads(tmp_path):
    threads, cpu = torch.get_num_threads(), torch.device("cpu")
    with deterministic(tmp_path, cpu):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    file = tmp_path / "determinism.json"
    begun = json.loads(file.read_text())
    assert (begun["threads"], begun["torch"]) == (threads, torch.__version__)
    files.save_json(file, begun | {"threads": threads + 2})
    with deterministic(tmp_path, cpu):
        assert torch.get_num_threads() == threads + 2
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"instructions": "x86_64 AVX9"},
            r"was begun with the instruction set 'x86_64 AVX9', here it is .*; go on",
        ),
        ({"torch": "1.0"}, "was begun with PyTorch '1.0', here it is"),
        ({"threads": 0}, r"determinism.json must say what this run began with .*, but can't be read"),
    ],
)
def test_a_deterministic_run_cannot_go_on_where_sums_are_others(tmp_path, change, message):
    with deterministic(tmp_path, torch.device("cpu")):
        begun = json.loads((tmp_path / "determinism.json").read_text())
    files.save_json(tmp_path / "determinism.json", begun | change)
    with pytest.raises(InputError, match=message), deterministic(tmp_path, torch.device("cpu")):
        pass


def test_a_gpu_is_not_deterministic(tmp_path):
    with (
        pytest.raises(InputError, match=r"--deterministic must be on a CPU, got cuda:1: .*; add --device cpu"),
        deterministic(tmp_path, torch.device("cuda:1")),
    ):
        pass


def test_a_run_stays_deterministic_or_not(tmp_path):
    run = open_run(tmp_path, deterministic=True)
    checkpoint.save(run.checkpoint("follower", LAST), torch.nn.Linear(1, 1), {})
    run.close()
    with pytest.raises(InputError, match="deterministic is False now and was True"):
        open_run(tmp_path)
