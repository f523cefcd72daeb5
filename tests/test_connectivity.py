"""Reading connectivity files, compiling them into tables, and the real graphs against recorded candidates."""

import math

import networkx as nx
import numpy as np
import pytest
import torch

from tests.golden import SHARED, load_json, needs_shared
from tests.toy_world import blind_world, scan_rows, toy_tables, write_graphs, write_scan
from vln_clip.connectivity import NavTables, load_graph, load_graphs
from vln_clip.envs.navigation import Navigation, angle_features
from vln_clip.errors import InputError

REAL = SHARED / "data" / "connectivity"
DISCONNECTED = {  # specification §1.1; all but one component of each are single viewpoints, eight in all
    "B6ByNegPMKs": 4,
    "JF19kD82Mey": 2,
    "PuKPg4mmafe": 2,
    "q9vSo1VnCiC": 2,
    "r1Q1Z4BcV1o": 2,
    "SN83YJsR3w2": 2,
}


def load(tmp_path, rows):
    return load_graph(write_scan(tmp_path, "alpha", rows), "alpha")


def changed(i, **fields):
    rows = scan_rows("alpha")
    rows[i] |= fields
    return rows


def with_flag(i, j, value):
    rows = scan_rows("alpha")
    rows[i]["unobstructed"][j] = value
    return rows


def with_pose(i, place, value):
    rows = scan_rows("alpha")
    rows[i]["pose"][place] = value
    return rows


# alpha has nine entries: a0 to a7 and the excluded ax. In a pose, element 0 is the camera's x along the world's x.
MALFORMED = {
    "no array": ({"a0": 1}, "must be a JSON array with at least one viewpoint, got dict"),
    "empty": ([], "must be a JSON array with at least one viewpoint, got list"),
    "entry no object": (["a0"], "entry 0 must be an object, got str"),
    "field missing": ([{"image_id": "a0"}], "entry 0 must have the field 'pose', it has image_id"),
    "empty id": (changed(2, image_id=""), "image_id of entry 2 must be a non-empty string, got ''"),
    "included a number": (changed(1, included=1), "included of a1 must be true or false, got 1"),
    "short pose": (changed(1, pose=[0.0] * 15), "pose of a1 must be 16 numbers .row-major 4x4., got 15 entries"),
    "pose of words": (changed(1, pose="x"), "pose of a1 must be 16 numbers .row-major 4x4., got 'x'"),
    "NaN": (with_pose(3, 7, math.nan), "pose of a3 must be finite with a proper rotation"),
    "mirrored": (with_pose(4, 0, -1.0), "pose of a4 must be finite with a proper rotation .orthonormal, determinant"),
    "scaled": (with_pose(4, 0, 1.1), "pose of a4 .*got .*1 such viewpoints"),
    "one way": (with_flag(0, 2, True), "must be symmetric between included viewpoints, but a0 -> a2 is True and back"),
    "own neighbour": (with_flag(5, 5, True), "unobstructed of a5 must be false for itself, got true"),
    "twice": (changed(3, image_id="a2"), "every image_id must occur once, but 'a2' occurs 2 times"),
    "few flags": (changed(6, unobstructed=[True] * 8), "unobstructed of a6 must be 9 booleans, .*, got 8 entries"),
    "flags of numbers": (changed(6, unobstructed=[0] * 9), "unobstructed of a6 must be 9 booleans"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_says_what_is_wrong_and_where(tmp_path, case):
    rows, message = MALFORMED[case]
    with pytest.raises(InputError, match=f"alpha_connectivity.json.*{message}"):
        load(tmp_path, rows)


def test_a_file_that_is_no_json_says_so(tmp_path):
    path = tmp_path / "alpha_connectivity.json"
    path.write_text('[{"image_id": "a0", "po')
    with pytest.raises(InputError, match=r"alpha_connectivity.json must be JSON, but: Unterminated string"):
        load_graph(path, "alpha")


def test_a_missing_folder_or_scan_says_where_to_get_it(tmp_path):
    with pytest.raises(InputError, match=r"scans.txt is missing; copy the connectivity folder .* or set VLN_CLIP_DATA"):
        NavTables.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"alpha_connectivity.json is missing; copy the connectivity folder"):
        NavTables.load(tmp_path, ["alpha"])
    write_graphs(tmp_path)
    with pytest.raises(InputError, match=r"alhpa_connectivity.json is missing; scan must be one of .*did you mean 'al"):
        NavTables.load(tmp_path, ["alhpa"])


def test_a_listed_scan_without_file_among_many_is_told_shortly(tmp_path):
    for i in range(11):
        write_scan(tmp_path, f"scan{i}", scan_rows("gamma"))
    with pytest.raises(InputError, match=r"'xyz' is none of the 11 scans in .*; copy the connectivity folder"):
        NavTables.load(tmp_path, ["xyz"])
    with pytest.raises(InputError, match=r"'scan12' is none of the 11 scans in .*; did you mean 'scan[12]'"):
        NavTables.load(tmp_path, ["scan12"])


def test_faults_of_excluded_viewpoints_do_not_matter(tmp_path):
    # Of the real files, too, only included viewpoints are symmetric; ax is entry 8.
    rows = with_flag(8, 3, True)
    rows[8]["pose"][0] = math.nan
    assert len(load(tmp_path, rows).viewpoint_ids) == 8


def test_a_graph_keeps_included_viewpoints_only(tmp_path):
    graph = load(tmp_path, scan_rows("alpha"))
    assert graph.viewpoint_ids == tuple(f"a{i}" for i in range(8))
    assert graph.position[3].tolist() == [0, 7.5, 3]
    assert graph.edges.sum() == 16  # eight edges, both ways
    nx_graph = graph.to_networkx()
    assert nx_graph.number_of_edges() == 8
    assert nx_graph["a0"]["a1"]["weight"] == 2.5
    assert nx_graph.nodes["a3"]["position"].tolist() == [0, 7.5, 3]


def test_isolated_viewpoints_are_in_the_tables_but_not_in_the_planning_graph(tmp_path):
    (graph,) = load_graphs(write_graphs(tmp_path), ["gamma"])
    assert sorted(graph.to_networkx().nodes) == ["g0", "g1", "g2", "g3"]
    assert len(NavTables.build([graph]).viewpoint_ids) == 5


def test_candidates_of_the_toy_building(tmp_path):
    tables = toy_tables(tmp_path)
    a1, a2, a3, a4 = (tables.index("alpha", name) for name in ("a1", "a2", "a3", "a4"))
    # Around a2: a3 lies north (bearing 0) and 1.5 m up over 2.5 m (31 deg > 15 deg: level 2), a4 east (90 deg, step 3),
    # a1 south (180 deg, step 6). First seen within 40 deg: a3 at step 0, a4 at step 2 (60 deg), a1 at step 5 (150 deg).
    assert tables.degree[a2] == 3
    assert tables.neighbor[a2].tolist() == [a3, a4, a1]
    assert tables.view[a2].tolist() == [24, 15, 18]
    assert tables.bearing_rad[a2] == pytest.approx([0, math.pi / 2, math.pi])
    assert tables.elevation_rad[a2] == pytest.approx([math.atan2(1.5, 2.5), 0, 0])
    # From a3, a2 lies south and 31 deg down: level 0, step 6; the other columns are padding.
    assert tables.neighbor[a3].tolist() == [a2, -1, -1]
    assert tables.view[a3].tolist() == [6, 0, 0]


def test_what_is_first_seen_together_is_ordered_by_its_angle(tmp_path):
    # Four viewpoints around c, bearings -30, 30, 5 and 100 deg. All but the last are first seen at step 0:
    # the sweep looks 30 deg down there, so angles are hypot(30, 30), hypot(30, 30 + 20) and hypot(5, 30): the one at
    # 5 deg is first, then -30 deg (its elevation is 0), then 30 deg (20 deg up, which is level 2).
    names = ["c", "left", "right", "ahead", "side"]
    rows = scan_rows("gamma")
    for i, (bearing, up) in enumerate([(0, 0), (-30, 0), (30, 20), (5, 0), (100, 0)]):
        radius = 2.0 if i else 0.0
        place = (
            radius * math.sin(math.radians(bearing)),
            radius * math.cos(math.radians(bearing)),
            radius * math.tan(math.radians(up)),
        )
        rows[i]["image_id"] = names[i]
        rows[i]["pose"][3], rows[i]["pose"][7], rows[i]["pose"][11] = place
        rows[i]["unobstructed"] = [j != 0 if i == 0 else j == 0 for j in range(5)]
    tables = NavTables.build([load_graph(write_scan(tmp_path, "star", rows), "star")])
    assert [tables.viewpoint_ids[i] for i in tables.neighbor[0]] == ["ahead", "left", "right", "side"]
    # -30 deg is step 11, 30 deg step 1, 5 deg step 0, 100 deg step 3.
    assert tables.view[0].tolist() == [12, 23, 25, 15]


def test_distances_and_next_hops_of_the_toy_building(tmp_path):
    tables = toy_tables(tmp_path)
    a = [tables.index("alpha", f"a{i}") for i in range(8)]
    assert tables.distance_m(a[0], a[0]) == 0
    assert tables.distance_m(a[0], a[2]) == 5
    assert tables.distance_m(a[2], a[3]) == pytest.approx(math.hypot(2.5, 1.5))  # 2.5 m ahead, 1.5 m up
    # a1 to a5: 7.5 m by a2 and a4, against hypot(5, 0.5) + 3 = 8.02 m by a7.
    assert tables.distance_m(a[1], a[5]) == 7.5
    assert tables.next_hop(a[1], a[5]) == a[2]
    assert tables.distance_m(a[0], a[7]) == pytest.approx(2.5 + math.hypot(5, 0.5))
    assert tables.next_hop(a[5], a[5]) == a[5]
    assert tables.shortest_path(a[0], a[6]) == [a[0], a[1], a[2], a[4], a[5], a[6]]
    assert tables.distance_m(np.array([[a[0]], [a[2]]]), np.array([a[0], a[1]])).tolist() == [[0, 2.5], [5, 2.5]]


def test_what_is_out_of_reach_is_infinitely_far(tmp_path):
    tables = toy_tables(tmp_path)
    g = [tables.index("gamma", f"g{i}") for i in range(5)]
    b0 = tables.index("beta", "b0")
    assert tables.distance_m(g[0], g[1]) == 3
    for start, goal in ((g[0], g[2]), (g[0], g[4]), (g[4], g[0]), (g[0], b0), (b0, g[0])):
        assert tables.distance_m(start, goal) == np.inf
        assert tables.next_hop(start, goal) == -1
        assert not tables.is_edge(start, goal)
        assert not tables.is_edge(start, -1)
        with pytest.raises(ValueError, match="no path from"):
            tables.shortest_path(start, goal)
    assert tables.distance_m(g[4], g[4]) == 0
    assert tables.next_hop(g[4], g[4]) == g[4]


def test_unknown_viewpoints_are_named(tmp_path):
    tables = toy_tables(tmp_path)
    with pytest.raises(InputError, match="unknown scan 'delta': it is not among the 3 loaded scans"):
        tables.index("delta", "a0")
    with pytest.raises(InputError, match="scan alpha has no included viewpoint 'ax'"):
        tables.index("alpha", "ax")
    assert tables.keys[tables.index("beta", "b3")] == ("beta", "b3")
    assert tables.viewpoint_id(tables.index("beta", "b3")) == "b3"


def same(first, second):
    arrays = [(name, value) for name, value in vars(first).items() if isinstance(value, np.ndarray)]
    equal = all(np.array_equal(value, getattr(second, name)) for name, value in arrays)
    return equal and first.scans == second.scans and first.viewpoint_ids == second.viewpoint_ids


def test_the_cache_gives_the_same_tables_and_notices_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))
    folder = write_graphs(tmp_path / "graphs")
    built = NavTables.load(folder)
    (cached,) = (tmp_path / "cache" / "tables").iterdir()
    monkeypatch.setattr("vln_clip.connectivity.tables.load_graph", None)  # a hit reads no graph
    assert same(built, NavTables.load(folder))
    monkeypatch.undo()
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))

    cached.write_bytes(cached.read_bytes()[:100])  # damaged: built again
    assert same(built, NavTables.load(folder))
    assert same(built, NavTables.load(folder))

    rows = scan_rows("alpha")
    rows[3]["pose"][11] = 1.5  # a3 comes down
    write_scan(folder, "alpha", rows)
    assert NavTables.load(folder).distance_m(2, 3) == 2.5
    assert built.distance_m(2, 3) == pytest.approx(math.hypot(2.5, 1.5))


@pytest.fixture(scope="module")
def real():
    return load_graphs(REAL)


@pytest.fixture(scope="module")
def real_tables(real):
    return NavTables.build(real)


@needs_shared
def test_the_real_graphs_have_the_published_statistics(real, real_tables):
    assert len(real) == 90
    assert len(real_tables.viewpoint_ids) == 10567
    assert (real_tables.degree > 0).sum() == sum(len(g.to_networkx()) for g in real) == 10559
    assert real_tables.degree.sum() == 2 * 21468
    assert (real_tables.degree.max(), real_tables.degree.min()) == (13, 0)
    widest = real_tables.keys[int(real_tables.degree.argmax())]
    assert widest == ("29hnd4uzFmX", "e47436300f4f4b90a2415ea87eee0903")
    assert real_tables.degree.mean() == pytest.approx(4.06, abs=0.005)
    levels = np.bincount((real_tables.view // 12)[real_tables.neighbor >= 0])
    assert levels.tolist() == [1128, 40680, 1128]  # specification §4
    edge = real_tables.distance_m(np.arange(10567)[:, None], real_tables.neighbor)[real_tables.neighbor >= 0]
    assert edge.max() <= 16.81
    sizes = {g.scan: len(g.viewpoint_ids) for g in real}
    assert (min(sizes, key=sizes.get), max(sizes, key=sizes.get)) == ("gZ6f7yhEvPG", "B6ByNegPMKs")


@needs_shared
def test_six_real_scans_are_disconnected(real):
    parts = {}
    for graph in real:
        whole = nx.from_numpy_array(graph.edges)
        count = nx.number_connected_components(whole)
        if count > 1:
            parts[graph.scan] = count
            tables = NavTables.build([graph])
            assert np.isinf(tables.pair_distance_m).any()
        else:
            assert nx.is_connected(graph.to_networkx())
    assert parts == DISCONNECTED


@needs_shared
def test_candidates_of_the_published_example(real_tables):
    # Specification §4: order, pointId, bearing in [0, 2 pi), elevation.
    row = real_tables.index("2t7WUuJeko7", "cc34e9176bfe47ebb23c58c165203134")
    wanted = [
        ("b72b7b78675f429a9f382a44e551cffc", 13, 0.285148, -0.008317),
        ("53937db036374126830e0f1203b04ead", 23, 5.983407, -0.012815),
        ("5db6d45b905f458a8290e69ff3e8d820", 14, 1.178504, -0.023560),
    ]
    assert real_tables.degree[row] == 3
    for k, (name, view, bearing, elevation) in enumerate(wanted):
        assert real_tables.viewpoint_ids[real_tables.neighbor[row, k]] == name
        assert real_tables.view[row, k] == view
        assert real_tables.bearing_rad[row, k] % (2 * math.pi) == pytest.approx(bearing, abs=1e-6)
        assert real_tables.elevation_rad[row, k] == pytest.approx(elevation, abs=1e-6)


@needs_shared
def test_recorded_candidates_are_reproduced(real_tables):
    recorded = load_json("candidates.json.gz")
    world = blind_world(real_tables)
    for place in recorded["viewpoints"]:
        row = real_tables.index(place["scan"], place["viewpoint"])
        degree = int(real_tables.degree[row])
        for call in place["calls"]:
            wanted = call["fresh"]
            names = [real_tables.viewpoint_ids[i] for i in real_tables.neighbor[row, :degree]]
            assert names == [c["viewpointId"] for c in wanted]
            assert real_tables.view[row, :degree].tolist() == [c["pointId"] for c in wanted]
            base = (call["viewId"] % 12) * math.pi / 6
            turn = real_tables.bearing_rad[row, :degree] - base - [c["heading"] for c in wanted]
            np.testing.assert_allclose((turn + math.pi) % (2 * math.pi) - math.pi, 0, atol=1e-6)
            np.testing.assert_allclose(
                real_tables.elevation_rad[row, :degree], [c["elevation"] for c in wanted], atol=1e-6
            )
            obs = world.observe(torch.tensor([row]), torch.tensor([call["viewId"]]))
            np.testing.assert_allclose(
                obs.candidate_angles[0, :degree], [c["angle_feature"] for c in wanted], atol=1e-6
            )


@needs_shared
def test_recorded_view_angles_are_reproduced(real_tables):
    world: Navigation = blind_world(real_tables)
    for base, wanted in load_json("candidates.json.gz")["point_angle_feature"].items():
        obs = world.observe(torch.tensor([0]), torch.tensor([int(base)]))
        np.testing.assert_allclose(obs.view_angles[0], wanted, atol=1e-6)


def swept(tables, row):
    """Return (neighbour, view) of each candidate as EnvDrop finds them: by looking through all 36 views."""
    neighbors = tables.neighbor[row, : tables.degree[row]]
    delta = (tables.position.astype(np.float32)[neighbors] - tables.position.astype(np.float32)[row]).astype(float)
    best = {}
    for view in range(36):
        heading, elevation = (view % 12) * math.pi / 6, (view // 12 - 1) * math.pi / 6
        shown = []
        for neighbor, (x, y, z) in zip(neighbors, delta, strict=True):
            right = math.remainder(math.atan2(x, y) - heading, 2 * math.pi)
            if math.cos(right) >= math.cos(math.radians(40)):  # linear half field of view
                shown.append((math.hypot(right, math.atan2(z, math.hypot(x, y)) - elevation), int(neighbor)))
        for distance, neighbor in sorted(shown):
            if neighbor not in best or distance < best[neighbor][0]:
                best[neighbor] = (distance, view)  # a better view keeps the place in the order
    return [(neighbor, view) for neighbor, (_, view) in best.items()]


@needs_shared
@pytest.mark.parametrize("scan", ["gZ6f7yhEvPG", "29hnd4uzFmX", "GdvgFV5R1Z5", "SN83YJsR3w2"])
def test_the_closed_form_equals_the_sweep_over_36_views(real_tables, scan):
    rows = np.nonzero(real_tables.scan_index == real_tables.scans.index(scan))[0]
    for row in rows[:120]:
        degree = real_tables.degree[row]
        ours = zip(real_tables.neighbor[row, :degree].tolist(), real_tables.view[row, :degree].tolist(), strict=True)
        assert list(ours) == swept(real_tables, row)


@needs_shared
def test_all_real_tables_come_back_from_the_cache(real_tables, tmp_path, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path))
    built = NavTables.load(REAL)
    assert same(built, real_tables)
    assert same(NavTables.load(REAL), real_tables)


def test_angle_features_are_sines_and_cosines():
    found = angle_features(torch.tensor([math.pi / 2]), torch.tensor([-math.pi / 6]))
    assert found[0].tolist() == pytest.approx([1, 0, -0.5, math.sqrt(3) / 2], abs=1e-6)


def test_tables_tell_viewpoints_and_positions(tmp_path):
    tables = toy_tables(tmp_path)
    beta = tables.viewpoints("beta")
    assert [tables.viewpoint_id(i) for i in beta] == [f"b{i}" for i in range(8)]  # bx is excluded
    assert tables.position_m(beta[[3, 6]]).tolist() == [[0, 7.5, 3.0], [-5, 7.5, 1.5]]
    with pytest.raises(InputError, match="unknown scan 'delta': it is not among the 3 loaded scans"):
        tables.viewpoints("delta")
