"""Extraction as a job: worker processes, batches, options in the header, grids, and every kind of bad input."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image

from tests.test_extract import Mean
from tests.toy_extraction import NUM_VIEWPOINTS, SCANS, SMALL, program, use_network, write_houses
from vln_clip import extract, log
from vln_clip.encoders import create_encoder
from vln_clip.errors import InputError
from vln_clip.extract import Skyboxes, list_panoramas
from vln_clip.features import open_store
from vln_clip.features.extraction import Options, encode_views, make_header
from vln_clip.features.formats import read_header, read_rows
from vln_clip.features.grid import open_grid
from vln_clip.features.parts import parts_folder
from vln_clip.features.pipeline import Preparation, _batches, extract_rows


@pytest.fixture
def data(tmp_path, monkeypatch):
    return write_houses(tmp_path, monkeypatch)


@pytest.fixture
def network(monkeypatch):
    use_network(monkeypatch)


class Sizes(Mean):
    """A network that notes the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def pooled(self, images):
        self.sizes.append(len(images))
        return super().pooled(images)


def test_batches_have_a_constant_size_over_viewpoints_and_end_with_their_scan(data):
    encoder = Sizes()
    rows = dict(extract_rows(encoder, list_panoramas(data, "x"), Skyboxes(), SMALL))
    eight = [50] * 5 + [38]  # 8 viewpoints x 36 views = 288 = 5 x 50 + 38
    assert encoder.sizes == [*eight, *eight, 50, 50, 50, 30]
    other = Options(render_size_px=(16, 12), batch=7)
    for key, row in extract_rows(Mean(), list_panoramas(data, "x"), Skyboxes(), other):
        assert torch.allclose(torch.from_numpy(row), torch.from_numpy(rows[key]), atol=1e-6)


def test_worker_processes_give_the_same_rows_in_order(data):
    panoramas, seen = list_panoramas(data, "x"), []
    alone = list(extract_rows(Mean(), panoramas, Skyboxes(), SMALL))
    several = list(extract_rows(Mean(), panoramas, Skyboxes(), SMALL, seen.append, workers=2))
    assert [key for key, _ in several] == [key for key, _ in alone] == [panorama.key for panorama in panoramas]
    assert all((a == b).all() for (_, a), (_, b) in zip(alone, several, strict=True))
    assert seen == list(range(1, NUM_VIEWPOINTS + 1))


def test_drawing_in_this_process_as_for_a_gpu_gives_the_same_batches(data):
    panoramas, encoder, device = list_panoramas(data, "x"), Mean(), torch.device("cpu")
    batches = []
    for draws in (True, False):
        prepare = Preparation(Skyboxes(), (16, 12), encoder.transform, "bgr", draws)
        assert prepare(panoramas[0]).shape == ((36, 3, 8, 8) if draws else (6, 16, 16, 3))
        batches.append(list(_batches(panoramas, map(prepare, panoramas), prepare, device, 50)))
    assert [len(images) for images in batches[0]][:6] == [50] * 5 + [38]
    assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))


def test_bad_input_in_a_worker_process_is_one_sentence(data):
    path = data / "scans" / "beta" / "matterport_skybox_images" / "b3_skybox2_sami.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"complete JPEG, got .*b3_skybox2_sami\.jpg") as caught:
        list(extract_rows(Mean(), list_panoramas(data, "x"), Skyboxes(), SMALL, workers=1))
    assert "\n" not in str(caught.value)


def die(panorama):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_process_is_one_sentence(data, monkeypatch):
    source = Skyboxes()
    monkeypatch.setattr(source, "load", die)
    with pytest.raises(InputError, match=r"worker processes must stay alive.*fewer --workers") as caught:
        list(extract_rows(Mean(), list_panoramas(data, "x"), source, SMALL, workers=1))
    assert "\n" not in str(caught.value)


class FullDisk:
    """A stream that takes some bytes and no more."""

    def __init__(self, stream, room):
        self.stream, self.room = stream, room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.stream.write(data)

    def __getattr__(self, name):
        return getattr(self.stream, name)


def test_a_full_disk_loses_no_finished_scan(data, tmp_path, network, monkeypatch):
    out, opened = tmp_path / "x.safetensors", []
    open_file = os.fdopen

    def fdopen(handle, mode):
        opened.append(FullDisk(open_file(handle, mode), room=1 << (40 if not opened else 14)))
        return opened[-1]

    with monkeypatch.context() as patch:
        patch.setattr("vln_clip.features.store.os.fdopen", fdopen)
        with pytest.raises(InputError, match=r"beta\.safetensors cannot be written: No space left on device; finished"):
            program(data, out)
    assert [path.name for path in parts_folder(out).iterdir()] == ["alpha.safetensors"]
    program(data, out)
    assert len(open_store(out).keys) == NUM_VIEWPOINTS


def test_too_small_a_disk_is_told_before_the_work(data, tmp_path, network, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"disk must have room for 9\.07e-06 GB .*got 1e-06 GB free"):
        program(data, tmp_path / "x.safetensors")  # 21 x 36 x 3 float16 twice


def spoil_faces(folder, face):
    face.unlink()


def spoil_half(folder, face):
    face.write_bytes(face.read_bytes()[:300])


def spoil_shape(folder, face):
    Image.new("RGB", (16, 12)).save(face)


def spoil_size(folder, face):
    Image.new("RGB", (8, 8)).save(face)


def spoil_viewpoint(folder, face):
    for path in folder.glob("b5_*"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_faces, "every viewpoint must have its skybox in .*beta.*got 1 without, e.g. b5"),
        (spoil_viewpoint, "every viewpoint must have its skybox in .*beta.*got 1 without, e.g. b5"),
        (spoil_half, "must be a complete JPEG, got .*b5_skybox4_sami.jpg"),
        (spoil_shape, "face must be square, got 16x12 in .*b5_skybox4_sami.jpg"),
        (spoil_size, "faces must have one size, got .*b5_skybox"),
    ],
)
def test_a_bad_skybox_is_one_sentence_and_exit_status_2(data, tmp_path, network, capsys, spoil, sentence):
    folder = data / "scans" / "beta" / "matterport_skybox_images"
    spoil(folder, folder / "b5_skybox4_sami.jpg")
    out = tmp_path / "x.safetensors"
    with pytest.raises(SystemExit) as caught:
        log.program(lambda argv: program(data, out))
    assert caught.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    with pytest.raises(InputError, match=sentence):
        raise InputError(line)
    if spoil in (spoil_half, spoil_shape, spoil_size):  # found while reading: what was finished stays
        assert (parts_folder(out) / "alpha.safetensors").is_file()
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--encoder", "clip_rn5"], "did you mean 'clip_rn50'"),
        (["--scans", "alpa"], "did you mean 'alpha'"),
        (["--out", "x.npz"], "must end in .*got 'x.npz'"),
        (["--grid"], "--out of --grid must be a folder name that ends in .grid"),
        (["--shard", "3/2"], "--shard must be I/N .* got '3/2'"),
        (["--shard", "two"], "--shard must be I/N .* got 'two'"),
        (["--workers", "-1"], "--workers must be at least 0, got -1"),
        (["--batch-size", "0"], "batch size must be at least 1, got 0"),
        (["--image-size", "0", "8"], "image size must be at least 1, got 0 8"),
        (["--render-size", "40000", "10"], "render size must be at most 32767 by 32767, got 40000 10"),
        (["--render-size", "10", "32768"], "render size must be at most 32767 by 32767, got 10 32768"),
        (["--device", "nonsense"], "--device must be auto, cpu or .* got 'nonsense'"),
        (["--device", "cuda:99"], "--device must be auto, cpu or .* got 'cuda:99'"),
        (["--crop", "full", "--image-size", "8", "8"], "image size needs a crop of center or squash, got full"),
    ],
)
def test_wrong_flags_are_told_before_the_work(data, tmp_path, network, words, sentence):
    with pytest.raises(InputError, match=sentence):
        program(data, tmp_path / "x.safetensors", *words)


def test_an_impossible_folder_is_one_sentence(data, tmp_path, network):
    (tmp_path / "poses.csv").write_text("a file")
    for out in (tmp_path / "poses.csv" / "a.safetensors", tmp_path / "poses.csv" / "b" / "a.tsv"):
        with pytest.raises(
            InputError, match=r"feature file .*poses\.csv.* cannot be written: its folder cannot be made"
        ):
            program(data, out)


def test_a_missing_h5py_is_told_before_the_work(data, tmp_path, network, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setattr(Skyboxes, "load", None)  # nothing is read
    with pytest.raises(InputError, match=r"/x\.hdf5 needs the package h5py; run: pip install h5py"):
        program(data, tmp_path / "x.hdf5")
    assert not parts_folder(tmp_path / "x.hdf5").exists()


def test_an_output_of_another_kind_is_told_before_the_work(data, tmp_path, network):
    (tmp_path / "dd.safetensors").mkdir()
    (tmp_path / "f.grid").write_text("a file")
    for words in ([], ["--overwrite"]):
        with pytest.raises(InputError, match=r"--out must be a file, got .*dd\.safetensors which is a folder"):
            program(data, tmp_path / "dd.safetensors", *words)
        with pytest.raises(InputError, match=r"--out of --grid must be a folder, got .*f\.grid which is a file"):
            program(data, tmp_path / "f.grid", "--grid", *words)


def test_a_damaged_output_is_not_complete(data, tmp_path):
    for out, damaged, words in [
        (tmp_path / "x.grid", tmp_path / "x.grid" / "beta.safetensors", ["--grid"]),
        (tmp_path / "x.safetensors", tmp_path / "x.safetensors", []),
    ]:
        words = [*words, "--encoder", "pixels:4", "--image-size", "16", "16", "--crop", "squash"]
        program(data, out, *words)
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=f"must be complete, got {damaged} .*; replace .* with --overwrite"):
            program(data, out, *words)
        program(data, out, *words, "--overwrite")
        assert damaged.read_bytes() == whole


def test_the_header_records_every_option(data, tmp_path, network):
    words = ["--channel-order", "bgr", "--normalize", "l2", "--crop", "squash", "--image-size", "6", "10"]
    words += ["--interpolation", "bilinear"]
    for name in ("x.safetensors", "x.hdf5", "x.tsv.gz"):
        program(data, tmp_path / name, *words, "--precision", "bfloat16", "--dtype", "float32")
        header = read_header(tmp_path / name)
        assert header == open_store(tmp_path / "x.safetensors").header
        assert (header.channel_order, header.normalization) == ("bgr", "l2")
        assert header.resize == "both sides to 6x10, bilinear"
        assert (header.image_size_px, header.render_size_px) == ((6, 10), (16, 12))
        assert (header.precision, header.renderer) == ("bfloat16 autocast", "skybox renderer 2 on cpu")
        assert (header.encoder, header.weights, header.source) == ("clip_rn50", "random", "r2r")
    store = open_store(tmp_path / "x.safetensors")
    assert store.features.dtype == torch.float32
    for name in ("x.hdf5", "x.tsv.gz"):
        rows = dict(read_rows(tmp_path / name))
        assert all((rows[key] == store.features[i].numpy()).all() for key, i in store.rows.items())


def test_lower_precision_stays_close():
    encoder = create_encoder("timm:test_resnet.r160_in1k", False)
    panorama = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    exact, rough = (encode_views(encoder, panorama, Options(precision=p)) for p in ("float32", "bfloat16"))
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert torch.allclose(exact, rough, rtol=0.1, atol=0.05 * float(exact.abs().max()))
    assert make_header(encoder, Options(), "").precision == "float32"


def test_grids_are_maps_in_a_folder_with_one_file_per_scan(data, tmp_path, caplog):
    log.logger.propagate = True
    caplog.set_level("INFO", "vln_clip")
    out = tmp_path / "x.grid"
    words = ["--encoder", "pixels:4", "--grid", "--render-size", "64", "48", "--image-size", "32", "48"]
    words += ["--normalize", "l2", "--data", str(data), "--device", "cpu", "--out", str(out)]
    extract.main([*words, "--shard", "1/2"])
    assert not out.exists()
    extract.main(words)
    assert any("21 viewpoints x 36 x 4 x 2 x 3 float16" in line for line in caplog.messages)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*(f"{scan}.safetensors" for scan in SCANS), "index.json"]
    )
    grid = open_grid(out)
    assert list(grid.rows)[:2] == ["alpha_a0", "alpha_a1"]
    assert (grid.header.pooling, grid.header.image_size_px) == ("none, grid", (32, 48))
    panorama = list_panoramas(data, "x")[9]
    encoder, options = create_encoder("pixels:4"), Options(normalize="l2", image_size_px=(32, 48), grid=True)
    views = Skyboxes().draw(Skyboxes().load(panorama), panorama, (64, 48))
    assert torch.allclose(grid[panorama.key].float(), encode_views(encoder, views, options), atol=1e-3)
    assert grid[panorama.key].shape == (36, 4, 2, 3)
    extract.main(words)  # complete
    with pytest.raises(InputError, match="normalization 'l2' instead of 'none'"):
        extract.main([word if word != "l2" else "none" for word in words])
    (out / "beta.safetensors").unlink()
    with pytest.raises(InputError, match=r"all files of index\.json, got .* without beta\.safetensors"):
        open_grid(out)
    (out / "index.json").write_text("{")
    with pytest.raises(InputError, match=r"index\.json must be JSON"):
        open_grid(out)
    with pytest.raises(InputError, match=r"complete folder NAME\.grid"):
        open_grid(tmp_path)


@pytest.mark.slow
def test_a_file_that_must_not_grow_loses_no_finished_scan(data, tmp_path):
    """The operating system itself refuses to write more than 24 kB into one file."""
    out = tmp_path / "x.safetensors"
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (24_000, 24_000)); "
        "from vln_clip import extract, log; log.program(extract.main, sys.argv[1:])"
    )
    words = ["--encoder", "pixels:16", "--data", str(data), "--out", str(out), "--scans", "gamma", "alpha"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # gamma: 16 kB + 5.8 kB, alpha 9.2 kB more
    done = subprocess.run(
        [sys.executable, "-c", limited, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "alpha.safetensors cannot be written: File too large" in done.stderr.splitlines()[-1]
    assert [path.name for path in parts_folder(out).iterdir()] == ["gamma.safetensors"]
