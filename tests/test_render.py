import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vln_clip.envs.render import load_skybox, panorama_views, render_views
from vln_clip.errors import InputError

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDEN = SHARED / "golden" / "render"
VIEWPOINT = "0123456789abcdef0123456789abcdef"
# Local axes x-right, y-down, z-forward; forward is +y (heading 0), down is -z.
LEVEL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
FACE_RGB = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [250, 0, 250], [0, 250, 250]], np.uint8)


def plain_faces(size_px: int = 16) -> torch.Tensor:
    return torch.from_numpy(np.broadcast_to(FACE_RGB[:, None, None], (6, size_px, size_px, 3)).copy())


def write_faces(folder: Path, size_px: int = 16) -> None:
    for face in range(6):
        image = Image.new("RGB", (size_px, size_px), tuple(int(x) for x in FACE_RGB[face]))
        image.save(folder / f"{VIEWPOINT}_skybox{face}_sami.jpg", quality=95)


@pytest.mark.parametrize(
    ("heading_deg", "elevation_deg", "face"), [(0, 0, 3), (90, 0, 4), (180, 0, 1), (270, 0, 2), (0, 89, 0), (0, -89, 5)]
)
def test_each_face_is_seen_where_it_belongs(heading_deg, elevation_deg, face):
    views = render_views(
        plain_faces(), LEVEL, [math.radians(heading_deg)], [math.radians(elevation_deg)], 8, 6, vfov_rad=0.5
    )
    assert views.shape == (1, 6, 8, 3)
    assert views.dtype == torch.uint8
    assert (views.numpy() == FACE_RGB[face]).all()


def test_turning_right_by_the_pose_equals_turning_right_by_the_heading():
    faces = torch.randint(0, 256, (6, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    # The camera itself looks along +x (heading 90 degrees): z-forward = +x, x-right = -y.
    turned = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    one = render_views(faces, LEVEL, [0.3], [0.2], 40, 30)
    other = render_views(faces, turned, [0.3 + math.pi / 2], [0.2], 40, 30)
    assert (one.int() - other.int()).abs().max() <= 1


def test_ninety_degree_view_is_the_face_itself():
    faces = torch.randint(0, 256, (6, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    # At 90 degrees and the face's own size, pixel centers fall on pixel centers.
    for heading, face in ((0.0, 3), (math.pi / 2, 4), (math.pi, 1), (1.5 * math.pi, 2)):
        view = render_views(faces, LEVEL, [heading], [0.0], 16, 16, vfov_rad=math.pi / 2)
        assert (view[0].int() - faces[face].int()).abs().max() <= 1


def test_edges_are_clamped_and_not_blended_with_the_neighbouring_face():
    colors = render_views(plain_faces(4), LEVEL, [math.pi / 4], [0.0], 64, 48).reshape(-1, 3).unique(dim=0)
    assert {tuple(color) for color in colors.tolist()} == {tuple(FACE_RGB[3].tolist()), tuple(FACE_RGB[4].tolist())}


def test_panorama_has_36_views_in_view_order_also_when_rendered_in_chunks(monkeypatch):
    faces = torch.randint(0, 256, (6, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    views = panorama_views(faces, LEVEL, 16, 12)
    assert views.shape == (36, 12, 16, 3)
    alone = render_views(faces, LEVEL, [3 * math.pi / 6], [math.pi / 6], 16, 12)
    assert torch.equal(views[27], alone[0])
    monkeypatch.setattr("vln_clip.envs.render._MAX_CACHED_PX", 10)
    monkeypatch.setattr("vln_clip.envs.render._CHUNK_PX", 1000)
    assert torch.equal(panorama_views(faces, LEVEL, 16, 12), views)


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


def golden_poses() -> list[dict]:
    rows = [row for name in ("disc", "cont", "disc640") for row in _index(name)]
    return [row for row in rows if (GOLDEN / "views" / row["file"]).exists()]


def _index(name: str) -> list[dict]:
    return json.loads((GOLDEN / "views" / f"index_{name}.json").read_text())


def shared_rotation(scan: str, viewpoint: str) -> np.ndarray:
    rows = json.loads((SHARED / "data" / "connectivity" / f"{scan}_connectivity.json").read_text())
    pose = next(row["pose"] for row in rows if row["image_id"] == viewpoint)
    return np.array(pose).reshape(4, 4)[:3, :3]


@pytest.mark.skipif(not GOLDEN.exists(), reason="the recorded simulator views in ../shared are not here")
@pytest.mark.parametrize("source", ["faces", "strip"])
def test_views_equal_those_of_the_real_simulator(source, tmp_path):
    poses = golden_poses()
    assert len(poses) >= 40
    cache: dict[str, torch.Tensor] = {}
    for pose in poses:
        scan, viewpoint = pose["scan"], pose["viewpointId"]
        folder = GOLDEN / "skyboxes" / "v1" / "scans" / scan / "matterport_skybox_images"
        if source == "strip":
            name = f"{viewpoint}_skybox_small.jpg"
            (tmp_path / name).write_bytes((folder / name).read_bytes())
            folder = tmp_path
        if viewpoint not in cache:
            cache[viewpoint] = load_skybox(folder, viewpoint)
        view = render_views(
            cache[viewpoint],
            shared_rotation(scan, viewpoint),
            [pose["heading"]],
            [pose["elevation"]],
            pose["width"],
            pose["height"],
            math.radians(pose["vfov_deg"]),
        )[0]
        expected = np.asarray(Image.open(GOLDEN / "views" / pose["file"]).convert("RGB")).astype(int)
        error = np.abs(view.numpy().astype(int) - expected)
        assert error.mean() <= 0.1, (pose["file"], error.mean())
        assert (error.max(axis=-1) > 3).mean() <= 0.001, pose["file"]
