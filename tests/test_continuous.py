import gzip
import hashlib
import json
import math

import numpy as np
import pytest

from tests.golden import SHARED, needs_shared
from tests.toy_graph import ToyGraph
from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.records import Prediction
from vln_clip.tasks import json_members
from vln_clip.tasks.continuous import read_continuous, read_ground_truth
from vln_clip.tasks.continuous_graph import match_to_graph, nearest_viewpoints
from vln_clip.tasks.datasets import DATASETS, known_splits, read_split
from vln_clip.tasks.metrics import score_predictions

REAL = SHARED / "data" / "R2R-CE" / "val_unseen"
HALF = math.sqrt(0.5)


def episode(episode_id=1, north_m=(0, 1, 3), **changes):
    """Return an episode of R2R-CE in the toy house, whose corridor runs north: Habitat's -z; the floor is at 0."""
    path = [[0.1, 0.0, -float(y)] for y in north_m]
    plain = {
        "episode_id": episode_id,
        "trajectory_id": 7,
        "scene_id": "mp3d/house/house.glb",
        "start_position": path[0],
        "start_rotation": [0, -HALF, 0, HALF],
        "info": {"geodesic_distance": 3.5},
        "goals": [{"position": path[-1], "radius": 3.0}],
        "reference_path": path,
        "instruction": {"instruction_text": "Go north.", "instruction_tokens": [1, 2]},
    }
    return plain | changes


GO = {"hi": "जाओ", "te": "వెళ్ళు"}


def guide(instruction_id=12, language="hi-IN", **changes):
    """Return an episode of RxR-CE."""
    text = {
        "instruction_text": GO.get(language[:2], "Go."),
        "instruction_id": instruction_id,
        "language": language,
        "annotator_id": 3,
    }
    return episode(episode_id="5", **({"instruction": text} | changes))


def write(path, episodes, **members):
    path.write_bytes(gzip.compress(json.dumps(members | {"episodes": episodes}).encode()))
    return path


@pytest.fixture
def read(tmp_path):
    def of(*episodes, dataset="r2r-ce"):
        return read_continuous(write(tmp_path / "val.json.gz", list(episodes)), dataset)

    return of


def test_an_episode_comes_in_matterport_s_frame(read):
    split = read(episode())
    (found,) = split.episodes
    assert (found.instr_id, found.episode_id, found.trajectory_id, found.scan) == ("1", "1", "7", "house")
    assert (found.start_m, found.goal_m, found.geodesic_m) == ((0.1, 0.0, 0.0), (0.1, 3.0, 0.0), 3.5)
    assert found.reference_m.tolist() == [[0.1, 0, 0], [0.1, 1, 0], [0.1, 3, 0]]
    assert found.heading_rad == pytest.approx(math.pi / 2)  # a quarter to the right
    assert (found.instruction, found.language, split.scans, split.goal_hidden) == ("Go north.", "en", ["house"], False)


@pytest.mark.parametrize(("tag", "language"), [("en-IN", "en"), ("en-US", "en"), ("hi-IN", "hi"), ("te-IN", "te")])
def test_rxr_s_episodes_go_by_their_instruction_and_language(read, tag, language):
    (found,) = read(guide(12, tag), dataset="rxr-ce").episodes
    assert (found.instr_id, found.episode_id, found.language) == ("12", "5", language)


@pytest.mark.parametrize("goals", [{"goals": None}, {"goals": []}])
def test_test_splits_hide_goals_and_may_lack_the_path(read, goals):
    shown = episode(**goals)
    del shown["reference_path"]
    split = read(shown)
    assert split.goal_hidden
    (found,) = match_to_graph(split, ToyGraph())
    assert (found.start, found.path, found.goal) == ("a", None, None)


def test_the_hash_is_that_of_the_unpacked_file(tmp_path):
    file = write(tmp_path / "a.json.gz", [episode()], instruction_vocab={"word_list": ["a"]})
    content = gzip.decompress(file.read_bytes())
    plain = tmp_path / "a.json"
    plain.write_bytes(content + b"\n ")
    assert read_continuous(file, "r2r-ce").sha256 == hashlib.sha256(content).hexdigest()
    assert read_continuous(plain, "r2r-ce").sha256 == hashlib.sha256(content + b"\n ").hexdigest()


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_where_the_file_is_cut_into_chunks_does_not_matter(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_members, "CHUNK_BYTES", chunk)
    file = tmp_path / "a.json"
    text = json.dumps({"n": 1234, "episodes": [guide(1), guide(2, "te-IN")], "end": [], "z": {}}, ensure_ascii=False)
    file.write_text(text, encoding="utf-8")
    split = read_continuous(file, "rxr-ce")
    assert [(e.instr_id, e.instruction) for e in split.episodes] == [("1", "जाओ"), ("2", "వెళ్ళు")]
    assert split.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_position": [1, 2]}, r"val.json.gz: episode 1: start_position must be \[x, y, z\], got \[1, 2\]"),
        ({"start_position": [1, 2, math.inf]}, "start_position must be"),
        ({"start_rotation": [0, 0, 0]}, "episode 1: start_rotation must be a quaternion"),
        ({"start_rotation": [0, 0, 0, 0]}, "episode 1: start_rotation must be a unit quaternion"),
        ({"reference_path": []}, "episode 1: reference_path must be a list"),
        ({"reference_path": None}, "episode 1: reference_path must be a list"),
        ({"goals": [{}]}, r"episode 1: goals\[0\]: field 'position' is missing"),
        ({"scene_id": ""}, "episode 1: scene_id must be the path of a scene"),
        ({"instruction": {}}, "episode 1: instruction: field 'instruction_text' is missing"),
        ({"instruction": "Go"}, "episode 1: instruction must be an object"),
        ({"trajectory_id": None}, "episode 1: trajectory_id must be a number or a string, got None"),
        ({"episode_id": True}, "episode at position 0: episode_id must be a number or a string, got True"),
    ],
)
def test_faults_name_file_episode_and_field(read, changes, message):
    with pytest.raises(InputError, match=message):
        read(episode(**changes))


def test_an_instruction_in_another_script_is_told(read):
    with pytest.raises(
        InputError, match=r"position 0 \(episode 5\): instruction must be written in Telugu .* Devanagari"
    ):
        read(
            guide(language="te-IN", instruction={"instruction_text": GO["hi"], "instruction_id": 1, "language": "te"}),
            dataset="rxr-ce",
        )


def test_other_languages_are_told(read):
    with pytest.raises(InputError, match=r"episode 5: instruction: language must be a tag of en, hi, te, zh, got 'fr'"):
        read(guide(language="fr"), dataset="rxr-ce")


def test_an_instruction_must_come_once(read):
    with pytest.raises(InputError, match="position 1: instruction_id must be unique, got 12 again"):
        read(guide(12), guide(12), dataset="rxr-ce")


def test_goals_are_hidden_for_all_or_none(read):
    with pytest.raises(InputError, match=r"all episodes or none must have goals, got 1 of 2 without, e.g. episode 2"):
        read(episode(1), episode(2, goals=None))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must begin with an object, got ''"),
        (b"[]", "must begin with an object"),
        (b'{"episodes": []}', "must hold at least one episode"),
        (b'{"a": 1}', "must hold at least one episode"),
        (b'{"episodes": {}}', "must hold an array here"),
        (b'{"episodes": [{"a": ]}', "must be JSON, but"),
        (b'{"episodes" 3}', "must have a colon"),
        (b'{"a": 1 "b": 2}', "a comma or } must follow"),
        (b'{"a": 1', "a comma or } must follow, got ''"),
        (b"{3: 1}", "keys must be strings"),
        (b"{} x", "nothing must follow"),
        (b'{"a": "\xff"}', "must be UTF-8"),
        (gzip.compress(json.dumps({"episodes": [episode()]}).encode())[:-30], "must be a whole gzip archive"),
    ],
)
def test_broken_files_are_told(tmp_path, content, message):
    file = tmp_path / "broken.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"file .*broken.json .*{message}"):
        read_continuous(file, "r2r-ce")


def test_missing_files_and_data_sets_are_told(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_continuous(tmp_path / "no.json", "r2r-ce")
    with pytest.raises(InputError, match="did you mean 'r2r-ce'"):
        read_continuous(tmp_path / "no.json", "r2r")
    with pytest.raises(InputError, match=r"did you mean 'val_unseen'"):
        read_split("r2r-ce", "val_unsen", tmp_path)
    with pytest.raises(InputError, match=r"val_unseen_guide.json.gz of split 'val_unseen' is missing; get it where"):
        read_split("rxr-ce", "val_unseen", tmp_path)


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("r2r-ce", "R2R-CE/test/test.json.gz"),
        ("r2r-ce", "R2R_VLNCE_v1-3_preprocessed/test/test.json.gz"),
        ("rxr-ce", "RxR-CE/test/test_guide.json.gz"),
        ("rxr-ce", "RxR_VLNCE_v0/test/test_guide.json.gz"),
    ],
)
def test_files_are_found_under_the_public_folder_names(tmp_path, dataset, name):
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.touch()
    assert DATASETS[dataset].file("test", tmp_path) == file
    assert "test" in known_splits(DATASETS[dataset], tmp_path)


def test_positions_go_to_the_nearest_viewpoint_of_their_storey():
    # c is at y = 3 with its camera at 1.5 m, z above it at 4.5 m; y = 4.4 is nearer to c than to d.
    floor_m = np.array([[0, 3.1, 0.0], [0, 3.1, 3.0], [0.3, 4.4, 0.4], [0, 3.1, -0.7]])
    index, offset_m = nearest_viewpoints(floor_m, ["house"] * 4, ToyGraph())
    assert [ToyGraph().viewpoint_id(i) for i in index] == ["c", "z", "c", "c"]
    # The last one's camera is 2.2 m above it, 0.5 m more than cameras are.
    np.testing.assert_allclose(offset_m, [0.1, 0.1, math.hypot(0.3, 1.4), math.hypot(0.1, 0.5)])


def test_an_episode_gets_viewpoints_without_repeats(read):
    (found,) = match_to_graph(read(episode(north_m=(0, 0.1, 1.2, 3.1, 2.9))), ToyGraph())
    assert (found.instr_id, found.path_id, found.scan, found.start) == ("1", "7", "house", "a")
    assert (found.path, found.goal, found.language) == (("a", "b", "c"), "c", "en")
    assert found.heading_rad == pytest.approx(math.pi / 2)


def test_hops_that_are_no_edge_are_filled_in_and_counted(read, caplog):
    caplog.set_level("INFO")
    (found,) = match_to_graph(read(episode(north_m=(0, 3, 6, 1))), ToyGraph())
    assert found.path == ("a", "b", "c", "d", "c", "b")
    assert "4 positions of 1 episodes put on the graph; largest offset 0.10 m" in caplog.text
    assert "1 paths filled in" in caplog.text


def test_positions_of_another_frame_or_floor_are_told(read):
    with pytest.raises(InputError, match=r"episode 1: positions must be within 5 m of a viewpoint .* 11.0 m away"):
        match_to_graph(read(episode(north_m=(0, 17))), ToyGraph())
    upstairs = [[0.0, 0.0, -3.0], [0.0, 3.0, -3.0]]  # from c to z, which has no door
    with pytest.raises(InputError, match=r"from viewpoint c to z, between which the navigation graph .* has no way"):
        match_to_graph(read(episode(reference_path=upstairs)), ToyGraph())


def test_a_graph_agent_is_scored_on_matched_episodes(read):
    episodes = match_to_graph(read(episode()), ToyGraph())
    walks = [Prediction("1", tuple((viewpoint, 0.0, 0.0) for viewpoint in "abc"))]
    ids, scores = score_predictions(walks, episodes, ToyGraph())
    assert ids == ["1"]
    assert (scores["success_rate"][0], scores["nav_error"][0], scores["ndtw"][0]) == (1, 0, 1)


def test_ground_truth_is_read(tmp_path):
    file = tmp_path / "val_gt.json.gz"
    walk = {"locations": [[1, 2, 3], [1, 2, 2.75]], "actions": [1, 0], "forward_steps": 1}
    file.write_bytes(gzip.compress(json.dumps({"4": walk}).encode()))
    truth = read_ground_truth(file)["4"]
    assert truth.position_m.tolist() == [[1, -3, 2], [1, -2.75, 2]]
    assert truth.actions.tolist() == [1, 0]
    file.write_bytes(json.dumps({"4": walk | {"actions": [1, -1]}}).encode())
    with pytest.raises(InputError, match=r"val_gt.json.gz: episode 4: actions must be a list of whole numbers"):
        read_ground_truth(file)


@needs_shared
def test_the_real_file_gives_r2r_s_paths():
    split = read_continuous(REAL / "val_unseen.json.gz", "r2r-ce")
    tables = NavTables.load(SHARED / "data" / "connectivity", split.scans, cache=False)
    episodes = match_to_graph(split, tables)
    discrete = {e.path_id: e for e in read_split("r2r", "val_unseen", SHARED / "data").episodes}
    assert len(episodes) == 1839
    # R2R-CE moved one viewpoint of x8F5xyUWy9e by 1.3 m, nearer to another; nine paths begin or end there.
    other = [e for e in episodes if e.path != discrete[e.path_id].path]
    assert len(other) == 27
    assert {e.scan for e in other} == {"x8F5xyUWy9e"}
    moved = {pair for e in other for pair in zip(e.path, discrete[e.path_id].path, strict=True) if pair[0] != pair[1]}
    assert len(moved) == 1
    for e in episodes:  # headings are R2R's to the nearest 30°
        step = math.floor(discrete[e.path_id].heading_rad / (math.pi / 6) + 0.5) % 12
        assert abs((e.heading_rad - step * math.pi / 6 + 1) % (2 * math.pi) - 1) < 1e-9
    truth = read_ground_truth(REAL / "val_unseen_gt.json.gz")
    for e in split.episodes:
        assert np.array_equal(truth[e.episode_id].position_m[0], e.start_m)
        assert np.linalg.norm(truth[e.episode_id].position_m[-1] - e.goal_m) < 0.5  # where its agent stops
