"""Bring your own building, the parts: frames, tables of poses, images, edges, maps."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from PIL import Image

from tests.toy_building import HEADER, ROWS, write_building
from vln_clip.envs.building import EdgeRules, connect, find_panoramas, read_poses, sight_lines
from vln_clip.envs.building.frames import equirectangular_rays, level_rotation, quaternion_rotation, tilted_rotation
from vln_clip.envs.building.map import find_floors, heights_text, short_ids
from vln_clip.envs.building.panoramas import read_depth
from vln_clip.envs.building.skybox import default_face_px, to_faces
from vln_clip.envs.demo.house import make_house
from vln_clip.envs.demo.raycast import make_scene, render_skybox
from vln_clip.envs.render import render_equirectangular
from vln_clip.errors import InputError


def test_a_quaternion_says_the_same_as_the_angles():
    # A turn by 90 degrees about world -z of the camera that looks north: q = q_turn * q_north.
    half = math.sqrt(0.5)
    north = quaternion_rotation(half, -half, 0, 0)  # x right, y down, z forward -> north
    assert north == pytest.approx(level_rotation(0), abs=1e-12)
    # (w, x, y, z) of a turn by -90 degrees about z is (half, 0, 0, -half); times north = (.5, -.5, .5, -.5)
    assert quaternion_rotation(0.5, -0.5, 0.5, -0.5) == pytest.approx(level_rotation(math.pi / 2), abs=1e-12)


def test_a_table_may_hold_quaternions_heights_and_names_without_ending(tmp_path):
    table = tmp_path / "poses.csv"
    table.write_text(
        "viewpoint,image,x_m,y_m,z_m,qw,qx,qy,qz,camera_height_m,note\nhall,IMG_7,1,2,3,.5,-.5,.5,-.5,1.7,x\n"
    )
    (pose,) = read_poses(table)
    assert (pose.viewpoint_id, pose.image, pose.camera_height_m) == ("hall", "IMG_7", 1.7)
    assert pose.heading_rad == pytest.approx(math.pi / 2)
    Image.new("RGB", (8, 4)).save(tmp_path / "IMG_7.png")
    assert find_panoramas(tmp_path, [pose]) == [tmp_path / "IMG_7.png"]


def test_pitch_up_and_roll_right_do_what_they_say():
    up = tilted_rotation(0, 0.3, 0)
    assert up[:, 2] == pytest.approx([0, math.cos(0.3), math.sin(0.3)])  # forward rises
    right = tilted_rotation(0, 0, 0.3)
    assert right[:, 0] == pytest.approx([math.cos(0.3), 0, -math.sin(0.3)])  # its right-hand side hangs down


@pytest.mark.parametrize(
    ("column", "row", "face"),
    # Of 64 x 32 pixels: the middle is forward, three quarters to the right is right, the left edge is behind.
    [(32, 16, 3), (48, 16, 4), (16, 16, 2), (0, 16, 1), (10, 0, 0), (50, 31, 5)],
)
def test_each_part_of_a_panorama_lands_on_its_face(column, row, face):
    panorama = np.zeros((32, 64, 3), np.uint8)
    panorama[max(row - 2, 0) : row + 2, np.arange(column - 2, column + 2) % 64] = 255
    light = to_faces(panorama, np.eye(3), 20)[..., 0].astype(int)
    assert light.sum(axis=(1, 2)).argmax() == face
    if row == 16:
        middle = light[face, 8:12, 8:12]
        assert middle.min() > 200


def test_right_in_a_panorama_is_right_on_the_face():
    panorama = np.zeros((32, 64, 3), np.uint8)
    panorama[9:13, 36:40] = 255  # right of the middle and above the horizon
    light = to_faces(panorama, np.eye(3), 20)[3, ..., 0].astype(int)
    assert light[:10, 10:].sum() == light.sum() > 0


def test_a_demo_skybox_survives_the_way_over_a_panorama():
    faces = torch.from_numpy(render_skybox(make_scene(make_house(0, 0)), 3, 128))
    turned = level_rotation(1.0)
    panorama = render_equirectangular(faces, turned, 512).numpy()
    again = to_faces(panorama, level_rotation(0).T @ turned, 128)
    error = np.abs(again.astype(int) - faces.numpy().astype(int))
    assert error.mean() < 2.2  # gray levels; sharp edges of furniture are softened
    assert np.median(error) == 0


def test_fine_panoramas_are_averaged_not_skipped_over():
    stripes = np.zeros((1024, 2048, 3), np.uint8)
    stripes[:, ::2] = 200  # one pixel wide: seen from afar they are gray
    face = to_faces(stripes, np.eye(3), 32)[3]
    assert np.abs(face[8:24].astype(int) - 100).max() < 45
    assert abs(face.mean() - 100) < 5


def test_default_size_keeps_the_detail_of_the_panorama():
    # 2048 pixels go round in 2π; a face has its middle at S/2 pixels per radian: S = 2048/π = 651.9
    assert default_face_px(2048) == 652
    assert default_face_px(16384) == 1024


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (("a.png,0,0,east,0,0,0",), HEADER, r"line 2: z_m must be a number, got 'east'"),
        (("a.png,0,0,nan,0,0,0",), HEADER, r"z_m must be a number, got 'nan'"),
        (("a.png,0,0,1,0,0,0", "a.jpg,1,0,1,0,0,0"), HEADER, r"line 3: viewpoint ids must differ, got 'a' again"),
        (("a.png,0,0,1",), "image,x_m,y_m,z_m", "must have a column heading_deg or heading_rad"),
        (("a.png,0,0,1,180",), "image,x_m,y_m,z_m,heading_rad", "degrees belong in heading_deg"),
        (("a.png,0,0,180",), "image,x_m,y_m,heading_deg", "must have the column z_m"),
        (("a.png,0,0,1,0,0",), HEADER, "must have 7 cells"),
        (("a.png,0,0,1,1,0,0,1",), "image,x_m,y_m,z_m,qw,qx,qy,qz", "must have the length 1, got 1.4142"),
        (("a/b?.png,0,0,1,0,0,0",), HEADER, "letters, digits and -"),
        ((), HEADER, "at least one pose"),
    ],
)
def test_bad_tables_are_refused_with_their_line(tmp_path, rows, header, message):
    table = tmp_path / "poses.csv"
    table.write_text("\n".join([header, *rows]) + "\n")
    with pytest.raises(InputError, match=message):
        read_poses(table)


def test_json_tables_and_other_delimiters_say_the_same(tmp_path):
    _, table = write_building(tmp_path)
    expected = read_poses(table)
    (tmp_path / "semicolons.csv").write_text(table.read_text().replace(",", "; "))
    cells = [dict(zip(HEADER.split(","), row.split(","), strict=True)) for row in ROWS]
    numbers = [{k: v if k == "image" else float(v) for k, v in row.items()} for row in cells]
    (tmp_path / "poses.json").write_text(json.dumps(numbers))
    for other in ("semicolons.csv", "poses.json"):
        for one, two in zip(expected, read_poses(tmp_path / other), strict=True):
            assert one.viewpoint_id == two.viewpoint_id
            assert np.array_equal(one.rotation, two.rotation)
            assert np.array_equal(one.position_m, two.position_m)


def test_images_and_poses_must_belong_together(tmp_path, caplog, monkeypatch):
    photos, table = write_building(tmp_path)
    poses = read_poses(table)
    (photos / "spare.png").write_bytes((photos / "a.png").read_bytes())
    monkeypatch.setattr(logging.getLogger("vln_clip"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        find_panoramas(photos, poses)
    assert "1 images" in caplog.text
    assert "spare.png" in caplog.text
    (photos / "b.png").unlink()
    with pytest.raises(InputError, match=r"1 of 3 have none: b\.png"):
        find_panoramas(photos, poses)
    Image.new("RGB", (300, 100)).save(photos / "b.png")
    with pytest.raises(InputError, match=r"twice as wide as high.*300x100.*b\.png"):
        find_panoramas(photos, poses)
    (photos / "b.png").write_text("no image")
    with pytest.raises(InputError, match=r"b\.png must be an image"):
        find_panoramas(photos, poses)
    with pytest.raises(InputError, match="folder of equirectangular images"):
        find_panoramas(tmp_path / "nowhere", poses)


def test_edges_obey_distance_rise_and_nearest():
    #          0          1          2            3 (a stair up)   4 (far)
    position = np.array([[0, 0, 1.5], [2, 0, 1.5], [3.5, 0, 1.5], [3.5, 1, 3.4], [20, 0, 1.5]])
    edges = connect(position, EdgeRules(max_distance_m=4, max_rise_m=1.5))
    assert {tuple(pair) for pair in np.argwhere(np.triu(edges)).tolist()} == {(0, 1), (0, 2), (1, 2)}
    edges = connect(position, EdgeRules(max_distance_m=4, max_rise_m=2))
    assert edges[2, 3]
    assert not edges[4].any()
    edges = connect(position, EdgeRules(max_distance_m=4, nearest=1))
    # 1 is nearest to 0 (2 m), 2 to 1 (1.5 m), 1 to 2: 0-2 is gone, all others lead to somebody's nearest
    assert {tuple(pair) for pair in np.argwhere(np.triu(edges)).tolist()} == {(0, 1), (1, 2)}
    assert np.array_equal(edges, edges.T)


def wall_depth(tmp_path, name, heading_rad, wall_to_the_east_m, unit_m=0.00025):
    """Write the depth image of an open space with something in the eastern part of the view."""
    rays = equirectangular_rays(128) @ level_rotation(heading_rad).T
    units = np.where(rays[..., 0] > 0.5, wall_to_the_east_m / unit_m, 10 / unit_m)
    Image.fromarray(units.astype(np.uint16)).save(tmp_path / f"{name}.png")
    return tmp_path / f"{name}.png"


def test_a_wall_in_the_depth_of_either_end_parts_two_viewpoints(tmp_path):
    rows = ("a,0,0,1.5,77", "b,3,0,1.5,200", "c,0,3,1.5,10")
    table = tmp_path / "poses.csv"
    table.write_text("\n".join(["viewpoint,x_m,y_m,z_m,heading_deg", *rows]))
    poses = read_poses(table)
    free = [wall_depth(tmp_path, name, pose.heading_rad, 9) for name, pose in zip("abc", poses, strict=True)]
    assert sight_lines(poses, free, 0.00025, 0.25).all()
    free[0] = wall_depth(tmp_path, "a", poses[0].heading_rad, 1.0)  # a sees a wall 1 m to the east, b sees none
    seen = sight_lines(poses, free, 0.00025, 0.25)
    assert not seen[0, 1]
    assert not seen[1, 0]
    assert seen[0, 2]
    assert seen[1, 2]
    free[0] = wall_depth(tmp_path, "a", poses[0].heading_rad, 2.8)  # within the margin of 3 m
    assert sight_lines(poses, free, 0.00025, 0.25)[0, 1]


def test_depth_without_readings_counts_as_blocked_and_its_limit_as_far(tmp_path):
    Image.fromarray(np.zeros((32, 64), np.uint16)).save(tmp_path / "none.png")
    Image.fromarray(np.full((32, 64), 65535, np.uint16)).save(tmp_path / "far.png")
    assert np.isnan(read_depth(tmp_path / "none.png", 0.00025)).all()
    assert np.isinf(read_depth(tmp_path / "far.png", 0.00025)).all()
    (tmp_path / "poses.csv").write_text("viewpoint,x_m,y_m,z_m,heading_deg\na,0,0,1,0\nb,30,0,1,0\n")
    poses = read_poses(tmp_path / "poses.csv")
    assert sight_lines(poses, [tmp_path / "far.png"] * 2, 0.00025, 0.1)[0, 1]
    assert not sight_lines(poses, [tmp_path / "far.png", tmp_path / "none.png"], 0.00025, 0.1)[0, 1]
    Image.new("L", (64, 32)).save(tmp_path / "eight.png")
    with pytest.raises(InputError, match="16-bit gray"):
        read_depth(tmp_path / "eight.png", 0.00025)


def test_floors_are_told_apart_and_stairs_count_to_the_nearest():
    heights = np.array([1.5] * 10 + [4.5] * 8 + [2.4, 3.6])
    assert find_floors(heights).tolist() == [0] * 10 + [1] * 8 + [0, 1]
    assert find_floors(np.array([1.5, 1.6, 1.4])).tolist() == [0, 0, 0]


def test_ids_are_shortened_only_as_far_as_they_differ():
    assert short_ids(("ab", "cd")) == ["ab", "cd"]
    assert short_ids(("1234567890", "1235567890")) == ["1234", "1235"]
    assert short_ids(("panorama-001", "panorama-002")) == ["…rama-001", "…rama-002"]


def test_a_cell_without_end_is_told_with_its_line(tmp_path):
    table = tmp_path / "poses.csv"
    table.write_text(f'{HEADER}\n{ROWS[0]}\nb.png,"{"1" * 140_000},0,1.5,0,0,0\n')
    with pytest.raises(InputError, match=r"poses\.csv line 3 must be a row of short cells, got field larger"):
        read_poses(table)
    table.write_text("x" * 140_000 + "\n")
    with pytest.raises(InputError, match=r"poses\.csv line \d must be a row of short cells"):
        read_poses(table)


def test_cameras_at_one_height_have_one_height_in_the_title():
    assert heights_text(np.array([1.4, 1.41])) == "cameras at 1.4 m"
    assert heights_text(np.array([1.4, 1.62])) == "cameras at 1.4 to 1.6 m"
