"""Extraction that is interrupted, shared out and merged: killed processes, shards, damaged and foreign parts."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.test_extract import Mean
from tests.toy_extraction import NUM_VIEWPOINTS, SMALL, Counting, program, use_network, write_houses
from vln_clip import log
from vln_clip.encoders import create_encoder
from vln_clip.errors import InputError
from vln_clip.extract import Skyboxes, extract_features, list_panoramas, main
from vln_clip.features import open_store
from vln_clip.features.formats import read_header, read_rows
from vln_clip.features.grid import open_grid
from vln_clip.features.parts import Parts, parts_folder, share_of


@pytest.fixture
def data(tmp_path, monkeypatch):
    return write_houses(tmp_path, monkeypatch)


@pytest.fixture
def network(monkeypatch):
    use_network(monkeypatch)


def test_an_interrupted_extraction_goes_on_with_the_running_scan(data, tmp_path):
    panoramas, out = list_panoramas(data, "x"), tmp_path / "x.safetensors"
    whole = extract_features(Mean(), panoramas, tmp_path / "whole.safetensors", SMALL).read_bytes()
    with pytest.raises(InputError, match="must be complete"):
        extract_features(Mean(), panoramas, out, SMALL, Counting("b7"))
    assert not out.exists()
    assert [path.name for path in parts_folder(out).iterdir()] == ["alpha.safetensors"]
    again = Counting()
    extract_features(Mean(), panoramas, out, SMALL, again)
    assert sorted(again.read) == [f"b{i}" for i in range(8)] + [f"g{i}" for i in range(5)]
    assert out.read_bytes() == whole
    assert not parts_folder(out).exists()


def test_the_program_goes_on_after_an_interrupt(data, tmp_path, network, monkeypatch):
    out = tmp_path / "x.safetensors"
    with monkeypatch.context() as patch:
        source = Counting("g0", KeyboardInterrupt())
        patch.setattr("vln_clip.extract.Skyboxes.load", lambda self, panorama: source.load(panorama))
        with pytest.raises(SystemExit) as caught:
            program(data, out)
    assert caught.value.code == 130
    assert sorted(path.stem for path in parts_folder(out).iterdir()) == ["alpha", "beta"]
    program(data, out)
    assert len(open_store(out).keys) == NUM_VIEWPOINTS


def test_parts_made_in_another_way_are_refused(data, tmp_path, network):
    out = tmp_path / "x.safetensors"
    program(data, out, "--shard", "1/3")
    (part,) = parts_folder(out).iterdir()
    for words, found in [
        (["--normalize", "l2"], "normalization 'none' instead of 'l2'"),
        (["--channel-order", "bgr"], "channel_order 'rgb' instead of 'bgr'"),
        (["--dtype", "float32"], "dtype 'float16' instead of 'float32'"),
        (["--precision", "bfloat16"], "precision 'float32' instead of 'bfloat16 autocast'"),
    ]:
        with pytest.raises(InputError, match=f"made in one way, got .* with {found}; .*remove .*parts"):
            program(data, out, *words)
    assert part.is_file()


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 9])
def test_a_damaged_part_is_told_and_made_again(data, tmp_path, network, caplog, damage):
    log.logger.propagate = True
    out = tmp_path / "x.safetensors"
    program(data, tmp_path / "whole.safetensors")
    program(data, out, "--shard", "1/3")
    (part,) = parts_folder(out).iterdir()
    part.write_bytes(damage(part.read_bytes()))
    with pytest.raises(InputError, match=r"feature store must be .*got .*alpha\.safetensors"):
        program(data, out, "--merge")
    caplog.clear()
    program(data, out)
    assert any(f"scan {part.stem} is done again, its part is damaged" in line for line in caplog.messages)
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_a_complete_output_is_left_alone_and_another_one_only_replaced_when_told(data, tmp_path, network, monkeypatch):
    for name in ("x.safetensors", "x.tsv", "x.hdf5"):
        out = tmp_path / name
        program(data, out)
        before = out.stat().st_mtime_ns
        with monkeypatch.context() as patch:
            patch.setattr(Skyboxes, "load", None)  # nothing is read
            program(data, out)
        with pytest.raises(InputError, match=r"got .*x\..* with normalization 'none' instead of 'l2'; .*--overwrite"):
            program(data, out, "--normalize", "l2")
        assert out.stat().st_mtime_ns == before
        program(data, out, "--normalize", "l2", "--overwrite")
        assert read_header(out).normalization == "l2"
        with pytest.raises(InputError, match="21 viewpoints instead of 8"):
            program(data, out, "--normalize", "l2", "--scans", "alpha")
    (tmp_path / "x.tsv.json").unlink()
    with pytest.raises(InputError, match="unknown origin"):
        program(data, tmp_path / "x.tsv")


def test_shards_merge_by_themselves_or_when_told(data, tmp_path, network):
    out = tmp_path / "x.safetensors"
    program(data, tmp_path / "whole.safetensors")
    for shard in ("2/3", "1/3"):
        program(data, out, "--shard", shard)
        assert not out.exists()
    with pytest.raises(InputError, match=r"all 3 scans must be extracted .* got 1 missing in .* e\.g\. gamma"):
        program(data, out, "--merge")
    program(data, out, "--shard", "3/3")
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not parts_folder(out).exists()
    program(data, out, "--shard", "1/3")  # late: all is there
    out.unlink()
    with pytest.raises(InputError, match="--merge needs parts of"):
        program(data, out, "--merge")
    program(data, out, "--shard", "1/1", "--scans", "beta")
    with pytest.raises(InputError, match="8 viewpoints instead of 21"):
        program(data, out)


def test_told_merging_puts_the_parts_together(data, tmp_path, network):
    out, scans = tmp_path / "x.tsv", ["--scans", "alpha", "gamma"]
    program(data, out, "--shard", "1/3")
    program(data, out, "--shard", "3/3")
    program(data, out, "--merge", *scans)
    assert [key for key, _ in read_rows(out)] == [f"alpha_a{i}" for i in range(8)] + [f"gamma_g{i}" for i in range(5)]
    assert read_header(out).encoder == "clip_rn50"


def test_shares_are_balanced_disjoint_and_complete():
    keys = {scan: [""] * size for scan, size in zip("abcdef", (9, 1, 5, 4, 4, 3), strict=True)}
    # largest first: a 9 | c 5 | d 4 to the third, e 4 to the third (4 + 4 < 5 + ...): 9, 5 + 3, 4 + 4, then b to the 8
    shares = [share_of(keys, index, 3) for index in range(3)]
    assert shares == [["a"], ["b", "c", "f"], ["d", "e"]]
    assert share_of({"a": [""]}, 1, 2) == []


def weights_file(tmp_path):
    """Write random weights of timm's test network, for processes that must agree about them."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    save_file(create_encoder("timm:test_resnet.r160_in1k", False).model.state_dict(), path)
    return path


def process(data, tmp_path, out, *words, launcher=(sys.executable, "-m")):
    """Start the program in a process of its own, on one core."""
    common = ["--encoder", "timm:test_resnet.r160_in1k", "--weights", str(tmp_path / "weights.safetensors")]
    common += ["--data", str(data), "--out", str(out), "--device", "cpu", "--workers", "1", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [*launcher, "vln_clip.extract", *common],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )


@pytest.mark.slow
def test_a_killed_process_loses_at_most_the_running_scan(data, tmp_path):
    weights_file(tmp_path)
    out, size = tmp_path / "x.safetensors", ["--render-size", "320", "240"]
    running = process(data, tmp_path, out, *size)
    while not (parts_folder(out) / "alpha.safetensors").exists():
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.01)
    running.kill()
    running.communicate()
    assert not out.exists()
    again = process(data, tmp_path, out, *size)
    told = again.communicate()[1]
    assert again.returncode == 0, told
    assert "of 3 scans are done already" in told
    whole = process(data, tmp_path, tmp_path / "whole.safetensors", *size)
    assert whole.wait() == 0
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not list(tmp_path.glob(".*"))  # nothing is left lying about


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_leaves_no_process(data, tmp_path):
    weights_file(tmp_path)
    out = tmp_path / "x.safetensors"
    running = process(data, tmp_path, out)
    while not (parts_folder(out) / "alpha.safetensors").exists():
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the worker processes too
    told = running.communicate()[1]
    assert running.returncode == 130
    assert told.splitlines()[-1] == "interrupted; finished scans are kept, the same command goes on"
    assert "Traceback" not in told
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)


@pytest.mark.slow
def test_two_processes_of_accelerate_write_the_same_bytes_as_one(data, tmp_path):
    weights_file(tmp_path)
    size = ["--render-size", "64", "48"]
    one = process(data, tmp_path, tmp_path / "one.safetensors", *size)
    assert one.wait() == 0
    # without a GPU --multi_gpu means processes that talk through gloo; --cpu would start one process only
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "-m"]
    two = process(data, tmp_path, tmp_path / "two.safetensors", *size, launcher=launcher)
    told = two.communicate()[1]
    assert two.returncode == 0, told
    assert "share 1 of 2: 2 of 3 scans" in told  # alpha and gamma
    assert "share 2 of 2" not in told  # one voice
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_what_one_of_two_processes_cannot_read_is_told_once_and_ends_both(data, tmp_path):
    weights_file(tmp_path)
    images = data / "scans" / "beta" / "matterport_skybox_images"  # the second process's scan
    next(iter(sorted(images.iterdir()))).write_bytes(b"half")
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "-m"]
    two = process(data, tmp_path, tmp_path / "x.safetensors", "--render-size", "16", "12", launcher=launcher)
    told = two.communicate()[1]
    assert two.returncode == 1  # the launcher's
    assert told.count("skybox image must be a complete JPEG") == 1
    assert "[rank" not in told  # before the lines of a traceback


@pytest.mark.parametrize("name", ["x.safetensors", "x.tsv"])
def test_shards_replace_a_complete_output_when_the_last_one_is_done(data, tmp_path, network, name):
    out, words = tmp_path / name, ["--overwrite", "--channel-order", "bgr"]
    for swapped in (words[:1], words):  # with the options of the output there, and with others
        program(data, out, "--overwrite")
        before = out.read_bytes()
        program(data, out, *swapped, "--shard", "1/2")
        assert len(list(parts_folder(out).glob("*.safetensors"))) == 2  # alpha and gamma stay until beta is there
        assert out.read_bytes() == before
        with pytest.raises(InputError, match=r"all 3 scans must be extracted .* got 1 missing"):
            program(data, out, *swapped, "--merge")
        program(data, out, *swapped, "--shard", "2/2")
        assert not parts_folder(out).exists()
    assert read_header(out).channel_order == "bgr"


def test_what_a_kill_after_merging_left_is_removed_but_no_newer_part(data, tmp_path, network, monkeypatch):
    out = tmp_path / "x.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)
        program(data, out)
    folder = parts_folder(out)
    assert len(list(folder.iterdir())) == 3
    newer = folder / "beta.safetensors"
    os.utime(newer, (newer.stat().st_mtime + 60,) * 2)  # of a process that replaces the output
    program(data, out)
    assert list(folder.iterdir()) == [newer]
    os.utime(newer, (newer.stat().st_mtime - 120,) * 2)
    program(data, out)
    assert not folder.exists()


def test_told_merging_does_not_replace_another_output(data, tmp_path, network):
    out = tmp_path / "x.safetensors"
    program(data, tmp_path / "l2.safetensors", "--normalize", "l2")
    program(data, out, "--shard", "1/2")
    program(data, tmp_path / "y.safetensors", "--shard", "2/2")
    for part in parts_folder(tmp_path / "y.safetensors").iterdir():
        part.rename(parts_folder(out) / part.name)
    (tmp_path / "l2.safetensors").rename(out)
    with pytest.raises(InputError, match=r"normalization 'l2' instead of 'none'; .*--overwrite"):
        program(data, out, "--merge")
    assert len(list(parts_folder(out).iterdir())) == 3
    program(data, out, "--merge", "--overwrite")
    assert read_header(out).normalization == "none"


@pytest.mark.parametrize("words", [[], ["--overwrite"]])
@pytest.mark.parametrize("name", ["x.safetensors", "x.tsv", "x.hdf5"])
def test_two_processes_may_merge_at_once(data, tmp_path, network, monkeypatch, name, words):
    """The other one publishes and removes the parts when this one has read its first row."""
    out, inner = tmp_path / name, []
    program(data, out)
    whole = {key: row.copy() for key, row in read_rows(out)}
    if not words:
        out.unlink()
    program(data, out, *words, "--shard", "1/2")
    rows = Parts._rows

    def slow_rows(parts):
        coming = rows(parts)
        yield next(coming)
        if not inner:
            inner.append(True)
            parts.merge(bool(words))
            assert not parts_folder(out).is_dir() or not list(parts_folder(out).glob("alpha*"))
        yield from coming

    monkeypatch.setattr(Parts, "_rows", slow_rows)
    program(data, out, *words, "--shard", "2/2")
    assert inner
    assert not parts_folder(out).exists()
    found = dict(read_rows(out))
    assert all((found[key] == row).all() for key, row in whole.items())


def test_two_processes_may_publish_maps_at_once(data, tmp_path, monkeypatch):
    """The other one publishes just before this one writes the index."""
    out, inner = tmp_path / "x.grid", []
    words = ["--encoder", "pixels:4", "--grid", "--render-size", "16", "12", "--image-size", "16", "16"]
    words += ["--data", str(data), "--device", "cpu", "--out", str(out)]
    main(words)
    publish = Parts._publish_grid

    def late(parts, overwrite):
        if not inner:
            inner.append(True)
            parts.merge(overwrite)
        publish(parts, overwrite)

    monkeypatch.setattr(Parts, "_publish_grid", late)
    main([*words, "--overwrite", "--normalize", "l2"])
    grid = open_grid(out)
    assert grid.header.normalization == "l2"
    assert all(grid[key].shape[0] == 36 for key in grid.rows)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
