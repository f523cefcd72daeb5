"""The page's document, the walks of prediction files in it, and its panoramas."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.toy_world import toy_tables
from vln_clip.connectivity import NavTables
from vln_clip.connectivity.graphs import load_graph, read_scans
from vln_clip.envs.render import load_skybox, render_views
from vln_clip.errors import InputError
from vln_clip.records import Episode, Prediction
from vln_clip.tasks.metrics import METRICS
from vln_clip.viewer.document import ShownAgent, episode_json, levels_text, make_document, put_panoramas, scan_json
from vln_clip.viewer.panoramas import Panoramas, draw_panoramas, panorama_jpeg
from vln_clip.viewer.skyboxes import SkyboxFinder
from vln_clip.viewer.traces import Decision, Trace
from vln_clip.viewer.walked import trace_predictions

EPISODE = Episode("5_0", "5", "beta", "b0", 0.25, "Walk <fast> to the study.", ("b0", "b1", "b2"))
NAN = float("nan")


@pytest.fixture
def tables(tmp_path):
    return toy_tables(tmp_path / "connectivity")


def places(tables, scan, *names):
    return np.array([tables.index(scan, name) for name in names])


def decided(tables):
    """The walk b0, b1 with two decisions, the second forced."""
    first = Decision(places(tables, "beta", "b1"), np.float32([0.75, 0.25]), 0, np.float32([0, 1, 0.25]))
    second = Decision(
        places(tables, "beta", "b0", "b2", "b7"),
        np.float32([0.1, 0.2, 0.3, 0.4]),
        3,
        np.float32([0.5, 0.5, 0]),
        np.eye(36, dtype=np.float32)[5],
        np.ones((36, 2, 3), np.float32),
        0.12345,
        2.0,
        True,
    )
    return Trace(
        "toy",
        EPISODE,
        places(tables, "beta", "b0", "b1"),
        np.array([0.0, math.pi / 6]),
        np.array([0.0, -math.pi / 6]),
        [first, second],
        ("<BOS>", "walk", "<EOS>"),
        frozenset({1}),
        {"success_rate": 1.0, "ndtw": 0.123456},
    )


def test_levels_are_square_roots_of_weights():
    # Level k stands for (k / 63)^2: 0 is A, 1 is / (63), and (31 / 63)^2 = 0.2421… is level 31, f.
    assert levels_text(np.array([0, 1, (31 / 63) ** 2])) == "A/f"
    assert levels_text(np.array([[0.25], [2.0]])) == "g/"  # 0.5 * 63 = 31.5, rounded to even; above 1 is cut
    weights = np.random.default_rng(0).dirichlet(np.ones(20))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    read = [(alphabet.index(letter) / 63) ** 2 for letter in levels_text(weights)]
    np.testing.assert_allclose(read, weights, atol=0.011)  # half a level at weights up to 0.5


def test_a_scan_holds_places_floors_and_each_edge_once(tables):
    found = scan_json(tables, "beta")
    assert found["ids"] == [f"b{k}" for k in range(8)]
    assert (found["x"][4], found["y"][4], found["z"][3]) == (-2.5, 5.0, 3.0)
    edges = list(zip(found["edges"][::2], found["edges"][1::2], strict=True))
    assert edges == [(0, 1), (1, 2), (1, 7), (2, 3), (2, 4), (4, 5), (5, 6), (5, 7)]
    assert found["floor"] == [0] * 8  # b3 is 1.5 m above the others: no floor of its own
    assert found["floors"] == ["cameras at 1.5 to 3.0 m"]
    assert found["panorama"] is None


def test_an_episode_holds_walks_in_numbers_of_its_scan(tables):
    found = episode_json([None, decided(tables)], tables)
    assert (found["id"], found["path_id"], found["scan"], found["language"]) == ("5_0", "5", "beta", "en")
    assert found["instruction"] == "Walk <fast> to the study."
    assert found["path"] == [0, 1, 2]
    assert found["heading"] == 0.25
    assert found["walks"][0] is None
    walk = found["walks"][1]
    assert walk["viewpoints"] == [0, 1]
    assert walk["heading"] == [0.0, 0.524]
    assert walk["elevation"] == [0.0, -0.524]
    assert walk["words"] == ["<BOS>", "walk", "<EOS>"]
    assert walk["unknown"] == [1]
    assert walk["metrics"] == {"success_rate": 1.0, "ndtw": 0.1235}
    first, second = walk["decisions"]
    nothing = {"v": None, "value": None, "reward": None, "s": None}
    assert first == {"c": [1], "p": [0.75, 0.25], "a": 0, "w": "A/g"} | nothing
    assert second["c"] == [0, 2, 7]
    assert (second["a"], second["value"], second["reward"], second["forced"]) == (3, 0.123, 2.0, True)
    assert second["v"] == "AAAAA/" + 30 * "A"
    assert second["s"] == {"height": 2, "width": 3, "data": "/" * 216}


def test_a_hidden_goal_leaves_path_and_metrics_empty(tables):
    trace = replace(decided(tables), episode=replace(EPISODE, path=None), metrics=None)
    found = episode_json([trace], tables)
    assert found["path"] is None
    assert found["walks"][0]["metrics"] is None


def test_agents_stand_side_by_side_on_the_same_episode(tables):
    mine = decided(tables)
    other = Episode("6_0", "6", "alpha", "a0", 0.0, "Go.", ("a0", "a1"))
    theirs = Trace("file", other, places(tables, "alpha", "a0"), np.zeros(1), np.zeros(1))
    agents = [
        ShownAgent("toy", "a run", [mine]),
        ShownAgent("file", "a file", [theirs, replace(mine, agent="file", decisions=None, words=None)]),
    ]
    document = make_document(agents, tables, title="T", dataset="r2r", split="val_unseen", facts=["f"], notes=["n"])
    assert [episode["id"] for episode in document["episodes"]] == ["5_0", "6_0"]
    assert document["agents"] == [{"name": "toy", "about": "a run"}, {"name": "file", "about": "a file"}]
    both, one = (episode["walks"] for episode in document["episodes"])
    assert both[0]["decisions"] is not None
    assert both[1]["decisions"] is None
    assert one[0] is None
    assert list(document["scans"]) == ["alpha", "beta"]
    assert document["panoramas"] == {"width": 0, "height": 0, "count": 0, "url": None}
    assert (document["version"], document["title"], document["facts"], document["notes"]) == (1, "T", ["f"], ["n"])
    assert json.loads(json.dumps(document, allow_nan=False)) == document  # nothing of numpy is left


def test_a_document_knows_which_viewpoints_have_pictures(tables):
    document = make_document(
        [ShownAgent("toy", "", [decided(tables)])], tables, title="", dataset="", split="", scans=["alpha", "beta"]
    )
    seen = tuple(places(tables, "beta", "b1", "b7").tolist())
    put_panoramas(document, tables, Panoramas(512, (b"x", b"y"), seen))
    assert document["scans"]["beta"]["panorama"] == [-1, 0, -1, -1, -1, -1, -1, 1]
    assert document["scans"]["alpha"]["panorama"] is None
    assert document["panoramas"] == {"width": 512, "height": 256, "count": 2, "url": None}


def walked(tables, *steps, episodes=(EPISODE,), instr_id="5_0"):
    return trace_predictions([Prediction(instr_id, steps)], episodes, tables, "file", "walks.json")


def test_a_prediction_is_a_walk_without_its_turns_in_place(tables):
    poses = (("b0", 0.0, 0.0), ("b0", 0.5, 0.1), ("b1", 0.5, 0.1), ("b1", 1.0, 0.0), ("b2", -0.5, 0.2))
    (found,), notes = walked(tables, *poses)
    assert found.viewpoints.tolist() == places(tables, "beta", "b0", "b1", "b2").tolist()
    np.testing.assert_allclose(found.headings_rad, [0.0, 0.5, 2 * math.pi - 0.5])
    np.testing.assert_allclose(found.elevations_rad, [0.0, 0.1, 0.2])
    assert found.decisions is None
    assert found.words is None
    assert list(found.metrics) == list(METRICS)
    assert found.metrics["success_rate"] == 1.0
    assert found.metrics["steps"] == 4  # turns count
    assert notes == []


def test_where_a_file_has_no_angles_agents_look_ahead(tables):
    (found,), _ = walked(tables, *((name, NAN, NAN) for name in ("b0", "b1", "b7")))
    # b0 (0, 0) to b1 (0, 2.5) is north; b1 to b7 (-5, 2) a little south of west.
    expected = [0.25, 0.0, 2 * math.pi + math.atan2(-5, -0.5)]
    np.testing.assert_allclose(found.headings_rad, expected)
    assert found.elevations_rad.tolist() == [0.0, 0.0, 0.0]


def test_what_a_file_lacks_and_where_it_jumps_is_said(tables):
    other = replace(EPISODE, instr_id="5_1")
    traces, notes = walked(tables, ("b0", 0.0, 0.0), ("b4", 0.0, 0.0), episodes=(EPISODE, other))
    assert [trace.episode.instr_id for trace in traces] == ["5_0"]
    assert notes == [
        "file has no walk for 1 of 2 instructions",
        "file jumps between viewpoints that are no neighbors in 1 of 1 walks",
    ]


def test_walks_with_hidden_goals_have_no_metrics(tables):
    (found,), _ = walked(tables, ("b0", 0.0, 0.0), episodes=(replace(EPISODE, path=None),))
    assert found.metrics is None


def test_walks_that_are_none_are_refused(tables):
    with pytest.raises(InputError, match=r"walks.json: trajectory of 5_0 must start at viewpoint b0, got b1"):
        walked(tables, ("b1", 0.0, 0.0))
    with pytest.raises(InputError, match=r"walks.json: .*viewpoint 'zz' is not in the graph"):
        walked(tables, ("b0", 0.0, 0.0), ("zz", 0.0, 0.0))
    with pytest.raises(InputError, match=r"walks.json: predictions must cover"):
        walked(tables, ("b0", 0.0, 0.0), instr_id="9_9")


@pytest.fixture
def house(worlds):
    """A tiny demo house: its data folder, its tables and its graph."""
    demo = worlds[1]
    scan = read_scans(demo / "connectivity")[0]
    tables = NavTables.load(demo / "connectivity", [scan], cache=False)
    return demo, tables, load_graph(demo / "connectivity" / f"{scan}_connectivity.json", scan)


def test_the_middle_of_a_panorama_shows_north(house):
    demo, tables, graph = house
    place = SkyboxFinder(demo, tables).find(2)
    assert place.viewpoint_id == graph.viewpoint_ids[2]
    with Image.open(io.BytesIO(panorama_jpeg(place.folder, place.viewpoint_id, place.rotation, 512))) as image:
        assert (image.format, image.size) == ("JPEG", (512, 256))
        picture = np.asarray(image).astype(float)
    headings = [k * math.pi / 2 for k in range(4)]
    faces = load_skybox(place.folder, place.viewpoint_id)
    views = render_views(faces, graph.rotation[2], headings, [0.0] * 4, 16, 16, math.radians(10)).numpy()
    for heading, view in zip(headings, views, strict=True):
        column = round(512 * (heading + math.pi) / (2 * math.pi)) % 512
        patch = np.take(picture[121:136], range(column - 7, column + 8), axis=1, mode="wrap")
        assert np.abs(patch.mean((0, 1)) - view.mean((0, 1))).max() < 6  # of 255; the views differ by far more
    assert np.ptp(views.mean((1, 2)), axis=0).max() > 30


def test_panoramas_are_drawn_once_and_as_wide_as_there_is_room(house):
    demo, tables, _ = house
    finder = SkyboxFinder(demo, tables)
    drawn, notes = draw_panoramas([3, 1], finder, 1e9)
    assert notes == []
    assert drawn.viewpoints == (3, 1)
    assert drawn.width_px == 512  # faces of 16 pixels hold no more
    assert drawn.size_bytes == pytest.approx(sum(map(len, drawn.pictures)) * 4 / 3)
    wide, _ = draw_panoramas([3, 1], finder, 1e9, width_px=600)
    with Image.open(io.BytesIO(wide.pictures[0])) as image:
        assert image.size == (600, 300)


def test_narrower_panoramas_are_taken_where_wide_ones_have_no_room(house, monkeypatch):
    demo, tables, _ = house
    finder = SkyboxFinder(demo, tables)
    monkeypatch.setattr("vln_clip.viewer.panoramas._widths_px", lambda place: (256, 192, 128))
    sizes = [draw_panoramas([1, 2, 3], finder, 1e9, width_px=width)[0].size_bytes for width in (256, 192, 128)]
    assert sizes[0] > sizes[1] > sizes[2]
    drawn, notes = draw_panoramas([1, 2, 3], finder, sizes[1])
    assert drawn.width_px == 192
    assert len(notes) == 1
    assert notes[0].startswith("panoramas are 192 px wide: wider ones do not fit into")
    drawn, notes = draw_panoramas([1, 2, 3], finder, sizes[2] - 10)
    assert drawn is None
    assert notes[0].startswith("panoramas are left out: 3 of 128 px need about")


def test_viewpoints_without_skybox_are_said(house, tables, tmp_path):
    demo, own, _ = house
    finder = SkyboxFinder(demo, own)
    finder.find(0)
    known = finder._known[own.scans[0]]
    del known[1]
    drawn, notes = draw_panoramas([0, 1], finder, 1e9)
    assert drawn.viewpoints == (0,)
    assert notes == ["1 of 2 viewpoints have no skybox, so no panorama"]
    drawn, notes = draw_panoramas([0, 1], SkyboxFinder(tmp_path, tables), 1e9)
    assert drawn is None
    assert notes == ["no panoramas: the data folder holds no skyboxes of these buildings"]
