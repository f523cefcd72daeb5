"""Every reader of files on files that were changed at random: a clear refusal or a reading, and nothing else."""

import logging
import random

import pytest

from tests import fuzz
from tests.readers import CASES
from vln_clip import reading

NUM_MUTANTS = 1000
MOST_ENDED = 10
# These read what is no file of theirs as nothing, on purpose, or report all that is wrong with it.
NEVER_REFUSE = {"features_note", "submission_r2r", "submission_rxr", "submission_habitat", "results_vqa", "results_gqa"}


@pytest.fixture(params=CASES)
def seed(request, tmp_path, monkeypatch):
    """A reader, and a file that it reads."""
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))
    case = CASES[request.param]
    if "hdf5" in request.param:
        pytest.importorskip("h5py")
    if "tokenizer" in request.param:
        pytest.importorskip("transformers")
    path = tmp_path / case.file
    case.write(path)
    case.read(path)  # a seed that is refused would test nothing
    logging.disable(logging.CRITICAL)
    yield request.param, case, path
    logging.disable(logging.NOTSET)


@pytest.mark.slow
def test_mutants_are_refused_or_read(seed):
    name, case, path = seed
    content = path.read_bytes()

    def mutant(number):
        return case.mutate(content, random.Random(f"{name} {number}"))

    found = fuzz.examine(path, case.read, NUM_MUTANTS, mutant)
    if name.endswith("hdf5"):  # the C library HDF5 itself never comes back from some damaged files
        ended = [fault for fault in found.faults if "the process ended with" in fault]
        assert len(ended) <= MOST_ENDED
        found.faults = [fault for fault in found.faults if fault not in ended]
        found.refused += len(ended)
    assert not found.faults, f"{len(found.faults)} of {NUM_MUTANTS}, the first: {found.faults[0]}"
    assert found.refused + found.read == NUM_MUTANTS
    assert found.refused or name in NEVER_REFUSE, "no mutant was refused: they are too tame"
    print(f"{name}: {found.refused} refused, {found.read} read")


def test_harmful_files_do_no_harm(seed, tmp_path, monkeypatch):
    name, case, path = seed
    monkeypatch.setattr(reading, "MAX_SMALL_BYTES", fuzz.BOMB_BYTES // 4)  # small bombs in place of large ones
    contents = list(fuzz.bombs(tmp_path).items())
    found = fuzz.examine(path, case.read, len(contents), lambda number: contents[number][1])
    assert not found.faults, f"of {[key for key, _ in contents]}, the first: {found.faults[0]}"
    assert found.refused or name in NEVER_REFUSE
    assert not (tmp_path / "harm").exists(), "code of a pickle ran"
