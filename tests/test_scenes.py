"""Bring your own building, the program: build, check, map and example."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from PIL import Image

from tests.toy_building import ROWS, build, expected_view, write_building
from vln_clip.connectivity import load_graphs
from vln_clip.connectivity.graphs import load_graph
from vln_clip.envs.building.check import check_scan
from vln_clip.envs.building.example import write_example
from vln_clip.envs.building.frames import level_rotation
from vln_clip.envs.building.map import draw_map
from vln_clip.envs.demo.floorplan import wall_rects
from vln_clip.envs.demo.graph import blocked
from vln_clip.envs.demo.house import make_house
from vln_clip.envs.demo.raycast import make_scene, render_skybox
from vln_clip.envs.render import load_skybox, render_views
from vln_clip.errors import InputError
from vln_clip.scenes import main


def test_a_view_at_a_heading_shows_what_the_panorama_shows_there(tmp_path):
    data = build(tmp_path, *write_building(tmp_path), "--quality", "98")
    (graph,) = load_graphs(data / "connectivity")
    assert graph.viewpoint_ids == ("a", "b", "c")
    folder = data / "scans" / "home" / "matterport_skybox_images"
    for viewpoint_id, rotation in zip(graph.viewpoint_ids, graph.rotation, strict=True):
        faces = load_skybox(folder, viewpoint_id)
        for heading in (0.0, 1.0, math.pi / 2, 3.0, 4.5, 6.0):
            for elevation in (-1.2, -0.5, 0.0, 0.5, 1.2):
                view = render_views(faces, rotation, [heading], [elevation], 40, 40, 1.0)[0].numpy().astype(int)
                error = np.abs(view - expected_view(heading, elevation))
                assert error.max() <= 4, (viewpoint_id, heading, elevation)
                assert error.mean() <= 1


def test_face_three_is_the_middle_of_the_panorama_and_the_pose_stands_upright(tmp_path):
    data = build(tmp_path, *write_building(tmp_path))
    rows = json.loads((data / "connectivity" / "home_connectivity.json").read_text())
    assert set(rows[0]) == {"image_id", "pose", "included", "visible", "unobstructed", "height"}
    pose = np.array(rows[2]["pose"]).reshape(4, 4)  # heading 270 degrees: it looks along -x
    assert pose[:3, 2] == pytest.approx([-1, 0, 0], abs=1e-12)
    assert pose[:3, 1] == pytest.approx([0, 0, -1], abs=1e-12)
    assert pose[:3, 3].tolist() == [4.5, 0, 1.5]
    assert rows[2]["height"] == 1.5
    assert rows[0]["unobstructed"] == rows[0]["visible"] == [False, True, False]  # 2 m; 4.5 m is over the 4 m limit


def test_a_finished_build_is_kept_and_a_changed_image_is_done_again(tmp_path):
    photos, table = write_building(tmp_path)
    folder = build(tmp_path, photos, table, "--files", "both") / "scans" / "home" / "matterport_skybox_images"
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert len(before) == 3 * 7
    (folder / "c_skybox_small.jpg").write_bytes(b"half")
    cut = folder / "b_skybox0_sami.jpg"
    cut.write_bytes(cut.read_bytes()[:-20])
    build(tmp_path, photos, table, "--files", "both")
    after = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert set(after) == set(before)
    assert {name[0] for name in after if after[name] != before[name]} == {"b", "c"}
    (folder / "c_skybox3_sami.jpg").unlink()
    Image.new("RGB", (256, 128)).save(photos / "a.png")
    build(tmp_path, photos, table, "--files", "both")
    again = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert {name[0] for name in again if again[name] != after[name]} == {"a", "c"}
    build(tmp_path, photos, table, "--files", "both", "--quality", "70")
    assert all(again[file.name] != file.stat().st_mtime_ns for file in folder.iterdir())


def test_workers_write_the_same_bytes(tmp_path):
    photos, table = write_building(tmp_path)
    one = build(tmp_path / "one", photos, table)
    two = build(tmp_path / "two", photos, table, "--workers", "2")
    for file in (one / "scans" / "home" / "matterport_skybox_images").iterdir():
        assert file.read_bytes() == (two / file.relative_to(one)).read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_build_keeps_what_is_finished_and_writes_no_graph(tmp_path, workers):
    photos, table = write_building(tmp_path)
    picture = photos / "b.png"
    content = picture.read_bytes()
    picture.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"b\.png must be a complete image"):
        build(tmp_path, photos, table, "--workers", workers)
    assert not (tmp_path / "data" / "connectivity").exists()
    folder = tmp_path / "data" / "scans" / "home" / "matterport_skybox_images"
    done = sorted(file.name for file in folder.iterdir())
    assert [name for name in done if name.startswith("a_")] == [f"a_skybox{face}_sami.jpg" for face in range(6)]
    assert not [name for name in done if name.startswith("b_")]
    picture.write_bytes(content)
    assert (build(tmp_path, photos, table) / "connectivity" / "scans.txt").read_text() == "home\n"


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot be written"):
        build(tmp_path, *write_building(tmp_path))


def test_strips_beside_older_faces_are_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("vln_clip"), "propagate", True)
    photos, table = write_building(tmp_path)
    build(tmp_path, photos, table)
    build(tmp_path, photos, table, "--files", "strip", "--strip-size", "16")
    assert "3 viewpoints have faces of another build" in caplog.text
    folder = tmp_path / "data" / "scans" / "home" / "matterport_skybox_images"
    with Image.open(folder / "a_skybox_small.jpg") as strip:
        assert strip.size == (96, 16)


def test_other_scans_of_the_data_folder_stay(tmp_path):
    photos, table = write_building(tmp_path)
    folder = tmp_path / "data" / "connectivity"
    folder.mkdir(parents=True)
    (folder / "scans.txt").write_text("elsewhere\n")
    build(tmp_path, photos, table)
    build(tmp_path, photos, table)
    assert (folder / "scans.txt").read_text() == "elsewhere\nhome\n"
    theirs = json.loads((folder / "home_connectivity.json").read_text())
    for row, name in zip(theirs, ("x", "y", "z"), strict=True):
        row["image_id"] = name
    (folder / "home_connectivity.json").write_text(json.dumps(theirs))
    with pytest.raises(InputError, match="another building"):
        build(tmp_path, photos, table)


def test_underscores_in_names_become_hyphens_since_feature_keys_split_there(tmp_path):
    photos, table = write_building(tmp_path, ("pano_001.png,0,0,1.5,0,0,0",))
    data = build(tmp_path, photos, table)
    assert load_graphs(data / "connectivity")[0].viewpoint_ids == ("pano-001",)


def test_corrections_join_and_part(tmp_path):
    photos, table = write_building(tmp_path)
    fixes = tmp_path / "fixes.csv"
    fixes.write_text("a,b,edge\na,b,0\na,c,1\n")
    data = build(tmp_path, photos, table, "--edges", fixes)
    edges = load_graphs(data / "connectivity")[0].edges
    assert {tuple(pair) for pair in np.argwhere(np.triu(edges)).tolist()} == {(0, 2), (1, 2)}
    fixes.write_text("a,b,edge\na,zz,0\n")
    with pytest.raises(InputError, match="line 2 must name viewpoints, got 'zz'"):
        build(tmp_path, photos, table, "--edges", fixes)


def test_check_tells_what_is_wrong_and_what_is_odd(tmp_path, capsys):
    data = build(tmp_path, *write_building(tmp_path, (*ROWS, "d.png,40,0,1.5,0,0,0")))
    assert "1 isolated viewpoints, which no path reaches: d" in capsys.readouterr().out
    main(["check", str(data)])
    out = capsys.readouterr().out
    assert "home: 4 viewpoints, 2 edges of 2.00 to 2.50 m (mean 2.25), at most 2 per viewpoint, 2 components" in out
    folder = data / "scans" / "home" / "matterport_skybox_images"
    (folder / "b_skybox4_sami.jpg").unlink()
    (folder / "c_skybox1_sami.jpg").write_bytes(b"half")
    (folder / "zz_skybox0_sami.jpg").write_bytes(b"")
    report = check_scan(data, "home")
    assert len(report.problems) == 2
    assert "b_skybox4" in report.problems[0]
    assert "c_skybox1" in report.problems[1]
    assert "skyboxes of 1 viewpoints that the graph doesn't include: zz" in report.notes[-1]
    with pytest.raises(InputError, match="got 2 in 1 scans"):
        main(["check", str(data)])
    path = data / "connectivity" / "home_connectivity.json"
    rows = json.loads(path.read_text())
    rows[0]["visible"], rows[1]["height"] = [True], None
    path.write_text(json.dumps(rows))
    problem = check_scan(data, "home", images=False).problems[0]
    assert "visible of a must be 4 booleans" in problem
    assert "height of b must be a number" in problem


def test_maps_are_drawn_for_every_scan(tmp_path, capsys):
    data = build(tmp_path, *write_building(tmp_path))
    capsys.readouterr()
    main(["map", str(data), "--out", str(tmp_path / "maps")])
    path = tmp_path / "maps" / "home_map.png"
    assert capsys.readouterr().out.strip() == str(path)
    for file in (path, data / "scans" / "home" / "home_map.png"):
        with Image.open(file) as image:
            assert image.format == "PNG"
            assert len(image.convert("RGB").getcolors(1 << 24)) > 10


def test_a_scan_of_one_viewpoint_has_a_map_too(tmp_path):
    data = build(tmp_path, *write_building(tmp_path, ROWS[:1]))
    draw_map(load_graph(data / "connectivity" / "home_connectivity.json", "home"), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--size", "2"), "--size must be 8 to 8192"),
        (("--quality", "0"), "--quality must be 1 to 100"),
        (("--max-distance", "-1"), "--max-distance must be more than 0"),
        (("--nearest", "0"), "--nearest must be at least 1"),
        (("--scan", "my house"), "--scan must be letters"),
    ],
)
def test_bad_flags_are_refused_before_any_work(tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        build(tmp_path, *write_building(tmp_path), *flags)
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_the_whole_way_from_the_example_to_features(tmp_path, monkeypatch):
    from vln_clip import extract
    from vln_clip.connectivity import NavTables
    from vln_clip.features import open_store

    count = write_example(tmp_path, width_px=256)
    words = ["--panoramas", tmp_path / "panoramas", "--poses", tmp_path / "poses.csv", "--depth", tmp_path / "depth"]
    main(["build", *map(str, [*words, "--out", tmp_path / "data", "--scan", "example"])])
    main(["check", str(tmp_path / "data")])
    tables = NavTables.load(tmp_path / "data" / "connectivity", ["example"], cache=False)
    assert len(tables.keys) == count
    monkeypatch.setenv("VLN_CLIP_DATA", str(tmp_path / "data"))
    extract.main(["--features", "pixels", "--out", str(tmp_path / "px.safetensors")])
    store = open_store(tmp_path / "px.safetensors")
    assert set(store.keys) == {f"{scan}_{name}" for scan, name in tables.keys}
    # By the depth images every edge of the house is found and none leads through a wall.
    house, edges = make_house(0, 0), load_graphs(tmp_path / "data" / "connectivity")[0].edges
    start, end = np.nonzero(edges)
    assert (edges & house.joined).sum() == house.joined.sum()
    assert not blocked(house.points[start], house.points[end], wall_rects(house.plan)).any()
    # Views drawn from the built skyboxes are those of the house itself.
    scene = make_scene(house)
    (graph,) = load_graphs(tmp_path / "data" / "connectivity")
    folder = tmp_path / "data" / "scans" / "example" / "matterport_skybox_images"
    for index in (0, 7):
        built = render_views(
            load_skybox(folder, graph.viewpoint_ids[index]), graph.rotation[index], [2.0], [0.1], 48, 36
        )
        truth = torch.from_numpy(render_skybox(scene, index, 128))
        drawn = render_views(truth, level_rotation(0), [2.0], [0.1], 48, 36)
        assert (built.int() - drawn.int()).abs().float().mean() < 6


def rows_at(*shifts_m, heading_deg=0):
    return tuple(f"pano-{i}.png,{2 * i + shift},0,1.5,{heading_deg},0,0" for i, shift in enumerate(shifts_m))


def test_another_building_with_the_same_ids_is_not_replaced(tmp_path):
    data = build(tmp_path, *write_building(tmp_path, rows_at(0, 0, 0, 0)))
    path = data / "connectivity" / "home_connectivity.json"
    before = path.read_bytes()
    photos, table = write_building(tmp_path, rows_at(0))
    with pytest.raises(
        InputError, match=r"another building: 3 of its 4 viewpoints are not among the poses.*--overwrite"
    ):
        build(tmp_path, photos, table)
    photos, table = write_building(tmp_path, rows_at(0, 0.3, 0.3, 0.3, 0))
    with pytest.raises(InputError, match=r"3 of its 4 viewpoints of the same id lie elsewhere, first pano-1; .*--scan"):
        build(tmp_path, photos, table)
    assert path.read_bytes() == before
    build(tmp_path, photos, table, "--overwrite")
    assert len(load_graph(path, "home").viewpoint_ids) == 5


def test_a_building_may_be_corrected_grow_and_lose_a_panorama(tmp_path):
    build(tmp_path, *write_building(tmp_path, rows_at(0, 0, 0)))
    for rows in (rows_at(0, 0, 0, heading_deg=90), rows_at(0, 0.3, 0.02, 0, 0), rows_at(0.05, 0.3, 0, 0)):
        path = build(tmp_path, *write_building(tmp_path, rows)) / "connectivity" / "home_connectivity.json"
        assert len(load_graph(path, "home").viewpoint_ids) == len(rows)
    assert load_graph(path, "home").position[1].tolist() == [2.3, 0, 1.5]


def test_a_damaged_graph_is_told_and_may_be_replaced(tmp_path):
    photos, table = write_building(tmp_path)
    path = build(tmp_path, photos, table) / "connectivity" / "home_connectivity.json"
    for content in ("[{", "{}x", '[{"image_id": "a", "pose": [1]}]', "[3]"):
        path.write_text(content)
        with pytest.raises(InputError, match=r"home_connectivity\.json must be a connectivity file.*--overwrite"):
            build(tmp_path, photos, table)
    build(tmp_path, photos, table, "--overwrite")
    assert load_graph(path, "home").viewpoint_ids == ("a", "b", "c")


@pytest.mark.parametrize("width", [60, 66, 4100, 100_000_000])
def test_the_width_of_an_example_is_bounded(tmp_path, width):
    with pytest.raises(InputError, match=f"--width must be a multiple of 4 from 64 to 4096 pixels, got {width}"):
        main(["example", "--out", str(tmp_path / "new"), "--width", str(width)])
    assert not (tmp_path / "new").exists()
