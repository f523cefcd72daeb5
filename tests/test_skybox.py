"""Reading skybox files: color and depth, faces and strip, and what is said about broken ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vln_clip.envs.skybox import load_skybox, load_skybox_depth
from vln_clip.errors import InputError

VIEWPOINT = "0123456789abcdef0123456789abcdef"
DEPTH_FILE = f"{VIEWPOINT}_skybox_depth_small.png"
FACE_RGB = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [250, 0, 250], [0, 250, 250]], np.uint8)


def write_faces(folder: Path, size_px: int = 16) -> None:
    for face in range(6):
        image = Image.new("RGB", (size_px, size_px), tuple(int(x) for x in FACE_RGB[face]))
        image.save(folder / f"{VIEWPOINT}_skybox{face}_sami.jpg", quality=95)


def test_strip_and_six_faces_load_the_same(tmp_path):
    write_faces(tmp_path)
    six = load_skybox(tmp_path, VIEWPOINT)
    strip = np.concatenate([six[face].numpy() for face in range(6)], axis=1)
    (tmp_path / "strip").mkdir()
    Image.fromarray(strip).save(tmp_path / "strip" / f"{VIEWPOINT}_skybox_small.jpg", quality=98, subsampling=0)
    merged = load_skybox(tmp_path / "strip", VIEWPOINT)
    assert merged.shape == six.shape == (6, 16, 16, 3)
    assert (merged.int() - six.int()).abs().float().mean() < 8  # JPEG blurs the seams of flat faces
    assert load_skybox(tmp_path, VIEWPOINT, size_px=8).shape == (6, 8, 8, 3)


def test_missing_face_is_named(tmp_path):
    write_faces(tmp_path)
    (tmp_path / f"{VIEWPOINT}_skybox4_sami.jpg").unlink()
    with pytest.raises(InputError, match=r"skybox4_sami\.jpg; download"):
        load_skybox(tmp_path, VIEWPOINT)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        load_skybox(tmp_path / "nowhere", VIEWPOINT)


def test_half_written_face_is_refused(tmp_path):
    write_faces(tmp_path, 64)
    file = tmp_path / f"{VIEWPOINT}_skybox2_sami.jpg"
    file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(InputError, match=r"complete JPEG.*skybox2"):
        load_skybox(tmp_path, VIEWPOINT)


def test_wrong_shapes_are_refused(tmp_path):
    write_faces(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / f"{VIEWPOINT}_skybox1_sami.jpg")
    with pytest.raises(InputError, match="one size"):
        load_skybox(tmp_path, VIEWPOINT)
    Image.new("RGB", (8, 16)).save(tmp_path / f"{VIEWPOINT}_skybox1_sami.jpg")
    with pytest.raises(InputError, match="square"):
        load_skybox(tmp_path, VIEWPOINT)
    Image.new("RGB", (40, 8)).save(tmp_path / "aa_skybox_small.jpg")
    with pytest.raises(InputError, match="strip"):
        load_skybox(tmp_path, "aa")


def test_strip_is_read_where_it_is_preferred(tmp_path):
    write_faces(tmp_path)
    Image.new("RGB", (48, 8), (200, 200, 200)).save(tmp_path / f"{VIEWPOINT}_skybox_small.jpg")
    assert load_skybox(tmp_path, VIEWPOINT).shape == (6, 16, 16, 3)
    assert load_skybox(tmp_path, VIEWPOINT, prefer="strip").shape == (6, 8, 8, 3)
    (tmp_path / f"{VIEWPOINT}_skybox_small.jpg").unlink()
    assert load_skybox(tmp_path, VIEWPOINT, prefer="strip").shape == (6, 16, 16, 3)


def write_depth(folder: Path, size_px: int = 32) -> np.ndarray:
    ranges = np.random.default_rng(0).integers(0, 65536, (size_px, 6 * size_px), dtype=np.uint16)
    Image.fromarray(ranges).save(folder / DEPTH_FILE)
    return ranges


def test_depth_strip_keeps_all_16_bits(tmp_path):
    ranges = write_depth(tmp_path)
    faces = load_skybox_depth(tmp_path, VIEWPOINT)
    assert faces.dtype == torch.uint16
    assert faces.shape == (6, 32, 32)
    assert np.array_equal(faces.numpy()[4], ranges[:, 4 * 32 : 5 * 32])


def test_missing_depth_is_named(tmp_path):
    with pytest.raises(InputError, match=f"got no .*{DEPTH_FILE}; make it"):
        load_skybox_depth(tmp_path, VIEWPOINT)


@pytest.mark.parametrize("kept", [4, 30, 60, 2000])
def test_half_written_depth_is_refused(tmp_path, kept):
    write_depth(tmp_path)
    file = tmp_path / DEPTH_FILE
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=rf"skybox depth must be a complete PNG.*{DEPTH_FILE}"):
        load_skybox_depth(tmp_path, VIEWPOINT)


def test_depth_of_8_bits_is_refused(tmp_path):
    Image.new("L", (48, 8)).save(tmp_path / DEPTH_FILE)
    with pytest.raises(InputError, match=r"16-bit gray PNG .*got L pixels"):
        load_skybox_depth(tmp_path, VIEWPOINT)


def test_depth_of_wrong_shape_is_refused(tmp_path):
    Image.fromarray(np.zeros((8, 40), np.uint16)).save(tmp_path / DEPTH_FILE)
    with pytest.raises(InputError, match="six square faces side by side, got 40x8"):
        load_skybox_depth(tmp_path, VIEWPOINT)
