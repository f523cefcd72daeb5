import hashlib
import json
import os
import re
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.demo_world import default_world
from vln_clip.envs.demo import DemoConfig, build, build_demo, demo_data
from vln_clip.envs.demo.draw import draw_map
from vln_clip.envs.demo.floorplan import wall_rects
from vln_clip.envs.demo.graph import blocked, obstacles
from vln_clip.envs.demo.house import make_house
from vln_clip.envs.demo.palette import COLORS
from vln_clip.envs.demo.raycast import make_scene, render_skybox
from vln_clip.envs.demo.world import MAX_STEPS, MIN_STEPS, World, plan_world
from vln_clip.envs.render import load_skybox
from vln_clip.errors import InputError

TINY = DemoConfig(
    num_train_houses=1,
    num_unseen_houses=1,
    num_test_houses=1,
    face_px=16,
    num_train_paths=6,
    num_val_seen_paths=2,
    num_val_unseen_paths=4,
    num_test_paths=3,
    num_rxr_train_paths=4,
    num_rxr_val_seen_paths=2,
    num_rxr_val_unseen_paths=3,
    num_rxr_test_paths=2,
    num_rxr_aug_paths=5,
)
SPLITS = ("train", "val_seen", "val_unseen", "test")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "world"
    build_demo(folder, TINY, workers=1)
    return folder


@pytest.fixture(scope="module")
def world() -> World:
    return default_world()


def digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_same_seed_gives_the_same_bytes_with_any_number_of_workers(tiny, tmp_path):
    seen = []
    build_demo(tmp_path / "other", TINY, workers=2, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert digests(tmp_path / "other") == digests(tiny)
    assert [file.name for file in tmp_path.iterdir()] == ["other"]  # no draft is left


def test_another_seed_gives_another_world():
    assert make_house(0, 0).viewpoint_ids != make_house(1, 0).viewpoint_ids
    assert not np.array_equal(make_house(0, 0).points[:20], make_house(1, 0).points[:20])


def test_connectivity_files_have_the_public_format(tiny):
    scans = (tiny / "connectivity" / "scans.txt").read_text().split()
    assert scans == ["demo0000000", "demo0000001", "demo0000002"]
    for scan in scans:
        rows = json.loads((tiny / "connectivity" / f"{scan}_connectivity.json").read_text())
        keep = np.array([row["included"] for row in rows])
        assert 1 <= (~keep).sum() <= 4
        links = np.array([row["unobstructed"] for row in rows])
        assert links.shape == (len(rows), len(rows))
        assert (links == links.T).all()
        assert not links[keep][:, keep].diagonal().any()
        for row in rows:
            assert set(row) == {"image_id", "pose", "included", "visible", "unobstructed", "height"}
            assert re.fullmatch(r"[0-9a-f]{32}", row["image_id"])
            pose = np.array(row["pose"]).reshape(4, 4)
            assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
            assert pose[:3, :3] @ [0, 1, 0] == pytest.approx([0, 0, -1])  # local y points down
            assert pose[3].tolist() == [0, 0, 0, 1]
        assert len({row["image_id"] for row in rows}) == len(rows)


def test_every_included_viewpoint_has_six_faces(tiny):
    for file in (tiny / "connectivity").glob("*.json"):
        scan = file.name.split("_")[0]
        folder = tiny / "scans" / scan / "matterport_skybox_images"
        included = [row["image_id"] for row in json.loads(file.read_text()) if row["included"]]
        assert load_skybox(folder, included[0]).shape == (6, 16, 16, 3)
        assert len(list(folder.iterdir())) == 6 * len(included)


def test_r2r_files_have_the_public_format_and_hide_the_test_goals(tiny):
    ids = []
    for split in SPLITS:
        rows = json.loads((tiny / "R2R" / f"R2R_{split}.json").read_text())
        for row in rows:
            assert set(row) == {"distance", "scan", "path_id", "path", "heading", "instructions"}
            assert len(row["path"]) == 1 if split == "test" else 4 <= len(row["path"]) <= 7
            assert len(set(row["instructions"])) == 3
            assert 0 <= row["heading"] <= 2 * np.pi
            ids.append(row["path_id"])
    assert len(set(ids)) == len(ids) == 6 + 2 + 4 + 3
    unlabelled = json.loads((tiny / "R2R" / "aug_paths.json").read_text())
    assert unlabelled
    assert all(row["instructions"] == [""] and len(row["path"]) >= 4 for row in unlabelled)
    assert not {row["path_id"] for row in unlabelled} & set(ids)


def test_cached_world_is_built_once(tmp_path, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path))
    config = DemoConfig(
        num_train_houses=1,
        num_unseen_houses=0,
        num_test_houses=0,
        face_px=8,
        num_train_paths=2,
        num_val_seen_paths=1,
        num_val_unseen_paths=0,
        num_test_paths=0,
        num_rxr_train_paths=2,
        num_rxr_val_seen_paths=1,
        num_rxr_val_unseen_paths=0,
        num_rxr_test_paths=0,
        num_rxr_aug_paths=0,
    )
    folder = demo_data(config)
    before = digests(folder)
    calls: list[int] = []
    assert demo_data(config, on_progress=lambda done, total: calls.append(done)) == folder
    assert not calls
    build_demo(folder, config, workers=1)  # somebody else was faster: what stands there stays
    assert digests(folder) == before
    assert len(list((tmp_path / "demo").iterdir())) == 1


def full_disk(*_):
    raise OSError(28, "No space left on device")


def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (full_disk, r"demo world \S+world cannot be written: No space left on device; make room there or let it be"),
        (
            killed,
            r"demo world \S+world cannot be built: a process that draws its pictures was killed .*; give the same",
        ),
    ],
)
def test_a_world_that_cannot_be_finished_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, draw, sentence):
    monkeypatch.setattr(build, "_draw_house", draw)
    with pytest.raises(InputError, match=sentence):
        build_demo(tmp_path / "world", TINY, workers=2)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"demo world \S+world cannot be written: (File exists|Not a directory)"):
        build_demo(tmp_path / "file" / "world", TINY, workers=1)


def test_bad_configurations_are_refused():
    with pytest.raises(ValueError, match="face_px must be an even number"):
        DemoConfig(face_px=33)
    with pytest.raises(ValueError, match="num_train_houses must be at least 1"):
        DemoConfig(num_train_houses=0)
    with pytest.raises(ValueError, match="must fit into its houses"):
        plan_world(DemoConfig(num_train_houses=1, num_unseen_houses=1, num_test_houses=0, num_train_paths=5000))


def test_default_world_is_as_large_as_promised(world):
    config = DemoConfig()
    assert config.num_train_houses >= 8
    assert config.num_unseen_houses >= 4
    assert len(world.splits["val_unseen"]) >= 300
    for house in world.houses:
        assert 25 <= len(house.points) <= 45
        assert len(house.plan.rooms) >= 5
        assert np.isfinite(house.distances_m).all()
        assert house.joined.sum(axis=1).max() <= 13
        gaps = np.linalg.norm(house.points[:, None] - house.points[None], axis=-1) + 99 * np.eye(len(house.points))
        assert 1.5 <= np.median(gaps.min(axis=1)) <= 2.4
        edges = gaps[house.joined]
        assert 1.8 <= edges.mean() <= 2.8
        assert edges.max() <= 4
    assert 2.8 <= np.mean([house.joined.sum(axis=1).mean() for house in world.houses]) <= 5


def test_edges_pass_no_wall_and_no_furniture(world):
    house = world.houses[0]
    pairs = np.argwhere(house.joined)
    starts, ends = house.points[pairs[:, 0]], house.points[pairs[:, 1]]
    assert not blocked(starts, ends, obstacles(house.plan, list(house.things))).any()
    # By hand: a wall piece crosses the segment from its one side to the other.
    x0, y0, x1, y1 = wall_rects(house.plan)[0]
    center = np.array([[(x0 + x1) / 2, (y0 + y1) / 2]])
    assert blocked(center - 1, center + 1, np.array([[x0, y0, x1, y1]])).all()


def test_default_paths_are_as_promised(world):
    houses = {house.scan: house for house in world.houses}
    pairs = []
    for records in (*world.splits.values(), world.unlabelled):
        for record in records:
            house = houses[record.scan]
            index = [house.viewpoint_ids.index(name) for name in record.path]
            assert house.joined[index[:-1], index[1:]].all()
            assert record.distance >= 6
            assert record.distance == pytest.approx(house.distances_m[index[0], index[-1]], abs=0.01)
            assert MIN_STEPS <= len(index) - 1 <= MAX_STEPS
            assert len(set(record.instructions)) == (0 if records is world.unlabelled else 3)
            pairs.append((record.scan, record.path))
    assert len(set(pairs)) == len(pairs)
    assert len(world.unlabelled) >= 5 * len(world.splits["train"])  # few labelled paths, many unlabelled ones
    assert {record.scan for record in world.unlabelled} <= {record.scan for record in world.splits["train"]}
    scans = {split: {record.scan for record in records} for split, records in world.splits.items()}
    assert scans["val_seen"] <= scans["train"]
    assert not scans["train"] & (scans["val_unseen"] | scans["test"])
    assert not scans["val_unseen"] & scans["test"]


def test_words_are_a_small_vocabulary_and_none_is_rare(world):
    counts = Counter(
        word
        for record in world.splits["train"]
        for text in record.instructions
        for word in re.findall(r"\w+", text.lower())
    )
    assert 70 <= len(counts) <= 250
    assert min(counts.values()) >= 5
    assert set(COLORS) <= set(counts)
    for split in ("val_seen", "val_unseen", "test"):
        for record in world.splits[split]:
            for text in record.instructions:
                assert text[0].isupper()
                assert text.endswith(".")
                assert set(re.findall(r"\w+", text.lower())) & set(COLORS)


def test_door_frame_is_drawn_in_its_color_beside_the_viewpoint_in_it():
    house = make_house(0, 0)
    scene = make_scene(house)
    faces = render_skybox(scene, 0, 32)
    assert faces.shape == (6, 32, 32, 3)
    assert faces.dtype == np.uint8
    # Viewpoint 0 stands in doorway 0: the frame's color shows beside it, on the two faces along the wall.
    frame = np.array(house.things[0].solids[0].rgb) / 255
    door = house.plan.doors[0]
    for face in (4, 2) if door.along_x else (3, 1):
        middle = faces[face, 14:18, 14:18].reshape(-1, 3).mean(axis=0) / 255
        assert np.linalg.norm(middle / np.linalg.norm(middle) - frame / np.linalg.norm(frame)) < 0.1


def test_map_is_drawn(tmp_path):
    draw_map(make_house(0, 0), tmp_path / "map.png", px_per_m=20, path=(0, 1))
    assert (tmp_path / "map.png").stat().st_size > 1000
