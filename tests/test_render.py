import json
import math
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.golden import SHARED, needs_shared
from vln_clip.envs import render, warp
from vln_clip.envs.cubemap import FACE_AXES
from vln_clip.envs.render import load_skybox, panorama_views, render_depth, render_equirectangular, render_views

GOLDEN = SHARED / "golden" / "render"
# Local axes x-right, y-down, z-forward; forward is +y (heading 0), down is -z.
LEVEL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
FACE_RGB = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [250, 0, 250], [0, 250, 250]], np.uint8)


def plain_faces(size_px: int = 16) -> torch.Tensor:
    return torch.from_numpy(np.broadcast_to(FACE_RGB[:, None, None], (6, size_px, size_px, 3)).copy())


@pytest.fixture(params=["opencv", "torch"])
def drawer(request, monkeypatch):
    """Draw views with OpenCV, and as on a device, with torch."""
    if request.param == "opencv":
        pytest.importorskip("cv2", minversion="5")
    else:
        monkeypatch.setattr(render, "opencv", lambda: None)
    return request.param


@pytest.mark.parametrize(
    ("heading_deg", "elevation_deg", "face"), [(0, 0, 3), (90, 0, 4), (180, 0, 1), (270, 0, 2), (0, 89, 0), (0, -89, 5)]
)
def test_each_face_is_seen_where_it_belongs(heading_deg, elevation_deg, face, drawer):
    views = render_views(
        plain_faces(), LEVEL, [math.radians(heading_deg)], [math.radians(elevation_deg)], 8, 6, vfov_rad=0.5
    )
    assert views.shape == (1, 6, 8, 3)
    assert views.dtype == torch.uint8
    assert (views.numpy() == FACE_RGB[face]).all()


def test_turning_right_by_the_pose_equals_turning_right_by_the_heading(drawer):
    faces = torch.randint(0, 256, (6, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    # The camera itself looks along +x (heading 90 degrees): z-forward = +x, x-right = -y.
    turned = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    one = render_views(faces, LEVEL, [0.3], [0.2], 40, 30)
    other = render_views(faces, turned, [0.3 + math.pi / 2], [0.2], 40, 30)
    assert (one.int() - other.int()).abs().max() <= 1


def test_ninety_degree_view_is_the_face_itself(drawer):
    faces = torch.randint(0, 256, (6, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    # At 90 degrees and the face's own size, pixel centers fall on pixel centers.
    for heading, face in ((0.0, 3), (math.pi / 2, 4), (math.pi, 1), (1.5 * math.pi, 2)):
        view = render_views(faces, LEVEL, [heading], [0.0], 16, 16, vfov_rad=math.pi / 2)
        assert (view[0].int() - faces[face].int()).abs().max() <= 1


def test_edges_are_clamped_and_not_blended_with_the_neighbouring_face(drawer):
    colors = render_views(plain_faces(4), LEVEL, [math.pi / 4], [0.0], 64, 48).reshape(-1, 3).unique(dim=0)
    assert {tuple(color) for color in colors.tolist()} == {tuple(FACE_RGB[3].tolist()), tuple(FACE_RGB[4].tolist())}


def test_panorama_has_36_views_in_view_order_also_when_drawn_in_portions(drawer, monkeypatch):
    faces = torch.randint(0, 256, (6, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    views = panorama_views(faces, LEVEL, 16, 12)
    assert views.shape == (36, 12, 16, 3)
    alone = render_views(faces, LEVEL, [3 * math.pi / 6], [math.pi / 6], 16, 12)
    assert torch.equal(views[27], alone[0])
    for name in ("_MAX_PLANNED_PX", "_OPENCV_PORTION_PX", "_CPU_TORCH_PORTION_PX"):
        monkeypatch.setattr(render, name, 1000)
    assert torch.equal(panorama_views(faces, LEVEL, 16, 12), views)


def random_rotation(generator: np.random.Generator) -> np.ndarray:
    axes = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    return axes * np.linalg.det(axes)


def smooth_faces(size_px: int, seed: int) -> torch.Tensor:
    blobs = torch.randint(0, 256, (6, 3, 5, 5), generator=torch.Generator().manual_seed(seed)).float()
    return torch.nn.functional.interpolate(blobs, size=(size_px, size_px), mode="bilinear").permute(0, 2, 3, 1).byte()


def test_opencv_and_torch_draw_the_same(monkeypatch):
    pytest.importorskip("cv2", minversion="5")
    generator = np.random.default_rng(0)
    for case in range(40):
        width, height, size = (int(x) for x in generator.integers(1, 120, 3))
        pose = random_rotation(generator), generator.uniform(0, 6.3, 2), generator.uniform(-1.57, 1.57, 2)
        view = (smooth_faces(size, case), *pose, width, height, generator.uniform(0.1, 3.0))
        drawn = render_views(*view)
        with monkeypatch.context() as without:
            without.setattr(render, "opencv", lambda: None)
            expected = render_views(*view)
        error = (drawn.int() - expected.int()).abs().amax(dim=-1).float()
        assert error.mean() <= 0.1, case
        assert (error > 2).sum() <= 1, case  # a pixel center on a seam may show either face


def test_opencv_and_torch_draw_the_same_depth(monkeypatch):
    pytest.importorskip("cv2", minversion="5")
    generator = np.random.default_rng(1)
    for case in range(20):
        pose = random_rotation(generator), generator.uniform(0, 6.3, 2), generator.uniform(-1.57, 1.57, 2)
        view = (room_depth(64), *pose, 90, 70, generator.uniform(0.1, 2.0))
        drawn = render_depth(*view)
        with monkeypatch.context() as without:
            without.setattr(render, "opencv", lambda: None)
            expected = render_depth(*view)
        # A pixel center between two texels may show either.
        assert (abs(drawn.numpy().astype(int) - expected.numpy()) > 1).mean() < 0.001, case


@pytest.mark.parametrize(("version", "said"), [("4.12.0", r"4\.12\.0 rounds positions"), (None, "is not installed")])
def test_without_new_opencv_torch_draws_and_it_is_said(version, said, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "cv2", version and SimpleNamespace(__version__=version))
    assert warp.opencv.__wrapped__() is None
    assert re.search(rf"OpenCV {said}.*pip install", caplog.text)


def test_wrong_faces_and_poses_are_refused():
    with pytest.raises(ValueError, match=r"\(6, S, S, 3\), got \(6, 4, 5, 3\)"):
        render_views(torch.zeros(6, 4, 5, 3, dtype=torch.uint8), LEVEL, [0.0], [0.0])
    with pytest.raises(TypeError, match=r"uint8, got torch\.float32"):
        render_views(torch.zeros(6, 4, 4, 3), LEVEL, [0.0], [0.0])
    with pytest.raises(ValueError, match="pair up, got 2 and 1"):
        render_views(plain_faces(), LEVEL, [0.0, 1.0], [0.0])
    with pytest.raises(ValueError, match="vfov_rad must be between 0 and pi, got 60"):
        render_views(plain_faces(), LEVEL, [0.0], [0.0], vfov_rad=60)
    with pytest.raises(ValueError, match="1 to 32767, got 0 and 480"):
        render_views(plain_faces(), LEVEL, [0.0], [0.0], width_px=0)
    with pytest.raises(TypeError, match=r"uint16, got torch\.uint8"):
        render_depth(torch.zeros(6, 4, 4, dtype=torch.uint8), LEVEL, [0.0], [0.0])


def texel_directions(size_px: int) -> np.ndarray:
    """Return the direction of every texel in the camera frame, (6, S, S, 3), of length 1 along the normal."""
    centers = (np.arange(size_px) + 0.5) * 2 / size_px - 1
    t, s = np.meshgrid(centers, centers, indexing="ij")
    normal, right, down = (FACE_AXES[:, axis, None, None] for axis in range(3))
    return normal + s[..., None] * right + t[..., None] * down


def room_depth(size_px: int) -> torch.Tensor:
    """Return the ranges in a room whose walls are 2 m left and right, 1.5 m above and below, 3 m ahead and behind."""
    directions = texel_directions(size_px)
    steps = (np.array([2.0, 1.5, 3.0]) / np.maximum(np.abs(directions), 1e-9)).min(axis=-1)
    ranges = np.linalg.norm(directions, axis=-1) * steps
    return torch.from_numpy((ranges * 4000).round().astype(np.uint16))


def test_depth_of_a_wall_ahead_is_its_distance_everywhere(drawer):
    depth = render_depth(room_depth(64), LEVEL, [0.0, math.pi], [0.0, 0.0], 64, 64, math.pi / 2)
    assert depth.dtype == torch.uint16
    # Pixel centers are texel centers: 3 m * 4000; the wall covers |s| <= 2 / 3 and |t| <= 1.5 / 3 of the view.
    wall = depth.numpy()[:, 18:46, 12:52].astype(int)
    assert np.abs(wall - 12000).max() <= 1


def test_depth_of_slanted_walls_is_along_the_optical_axis(drawer):
    depth = render_depth(room_depth(512), LEVEL, [0.6], [-0.4], 200, 150, 1.0)[0].numpy()
    row, column = np.mgrid[:150, :200]
    tangent = math.tan(0.5)
    across = ((2 * column + 1) / 200 - 1) * 200 / 150 * tangent
    upward = (1 - (2 * row + 1) / 150) * tangent
    forward = np.array([math.sin(0.6) * math.cos(-0.4), math.cos(0.6) * math.cos(-0.4), math.sin(-0.4)])
    right = np.array([math.cos(0.6), -math.sin(0.6), 0])
    rays = forward + across[..., None] * right + upward[..., None] * np.cross(right, forward)
    # World x is 2 m, y is 3 m and z is 1.5 m away; rays have length 1 along the optical axis.
    expected = (np.array([2.0, 3.0, 1.5]) / np.abs(rays)).min(axis=-1) * 4000
    assert np.abs(depth / expected - 1).max() < 0.01
    assert len(np.unique(depth)) > 1000  # not rounded to 256 levels


def test_depth_without_reading_stays_zero_and_is_not_interpolated(drawer):
    ranges = torch.full((6, 8, 8), 4000, dtype=torch.int32)
    ranges[3, :, :4] = 0
    depth = render_depth(ranges.to(torch.uint16), LEVEL, [0.0], [0.0], 80, 60).to(torch.int32)[0]
    assert (depth[:, :40] == 0).all()
    assert depth[:, 40:].min() >= 2882  # 4000 / sqrt(1 + (16 / 9 + 1) * tan(30 deg)^2), in the corners


def test_equirectangular_pixels_show_their_direction():
    rotation = random_rotation(np.random.default_rng(5))
    world = texel_directions(256) @ rotation.T
    world /= np.linalg.norm(world, axis=-1, keepdims=True)
    coded = torch.from_numpy(((world + 1) * 127.5).round().astype(np.uint8))
    picture = render_equirectangular(coded, rotation, 400)
    assert picture.shape == (200, 400, 3)
    heading = np.radians((np.arange(400) + 0.5) * 0.9 - 180)
    elevation = np.radians(90 - (np.arange(200) + 0.5) * 0.9)[:, None]
    level = np.cos(elevation)
    expected = np.stack(
        np.broadcast_arrays(np.sin(heading) * level, np.cos(heading) * level, np.sin(elevation)), axis=-1
    )
    assert np.abs(picture.numpy() / 127.5 - 1 - expected).max() < 0.015
    # In words: ahead (+y) in the middle, +x a quarter to the right, up in the top row.
    assert picture[100, 200, 1] >= 253
    assert picture[100, 300, 0] >= 253
    assert picture[0, :, 2].min() >= 253


def test_equirectangular_width_must_be_even():
    with pytest.raises(ValueError, match="even and positive, got 401"):
        render_equirectangular(plain_faces(), LEVEL, 401)


def golden_poses() -> list[dict]:
    rows = [row for name in ("disc", "cont", "disc640") for row in _index(name)]
    return [row for row in rows if (GOLDEN / "views" / row["file"]).exists()]


def _index(name: str) -> list[dict]:
    return json.loads((GOLDEN / "views" / f"index_{name}.json").read_text())


def shared_rotation(scan: str, viewpoint: str) -> np.ndarray:
    rows = json.loads((SHARED / "data" / "connectivity" / f"{scan}_connectivity.json").read_text())
    pose = next(row["pose"] for row in rows if row["image_id"] == viewpoint)
    return np.array(pose).reshape(4, 4)[:3, :3]


@needs_shared
@pytest.mark.parametrize("source", ["faces", "strip"])
def test_views_equal_those_of_the_real_simulator(source, drawer):
    poses = golden_poses()
    assert len(poses) == 56  # 36 + 9 discrete views, 4 + 4 continuous ones, 3 of 640 x 480
    skyboxes: dict[str, torch.Tensor] = {}
    for pose in poses:
        scan, viewpoint = pose["scan"], pose["viewpointId"]
        if viewpoint not in skyboxes:
            folder = GOLDEN / "skyboxes" / "v1" / "scans" / scan / "matterport_skybox_images"
            skyboxes[viewpoint] = load_skybox(folder, viewpoint, prefer=source)
        view = render_views(
            skyboxes[viewpoint],
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
