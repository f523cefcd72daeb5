"""The readers of annotations, pose traces, predictions and submissions, each with a file that it reads."""

import json
from functools import lru_cache

import numpy as np

from tests import mutations, test_continuous, test_pose_traces, test_rxr
from tests.reader_case import Case, as_gzip, as_json, as_lines, text
from tests.toy_graph import ToyGraph
from tests.toy_world import ALPHA, scan_rows, toy_tables, write_splits
from vln_clip.connectivity import NavTables
from vln_clip.connectivity.graphs import load_graph, read_scans
from vln_clip.envs.building.graph_file import check_replaceable
from vln_clip.envs.building.poses import PanoramaPose
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.records import Episode
from vln_clip.tasks import rxr
from vln_clip.tasks.continuous import read_continuous, read_ground_truth
from vln_clip.tasks.continuous_submission import validate_r2r_ce, validate_rxr_habitat
from vln_clip.tasks.datasets import load_episodes
from vln_clip.tasks.pose_traces import read_pose_trace, read_text_features
from vln_clip.tasks.predictions import check_walks, read_predictions
from vln_clip.tasks.submission import validate_submission
from vln_clip.tasks.text import Vocabulary

# Graphs and annotations.


def read_graph(path):
    tables = NavTables.build([load_graph(path, "alpha")])
    "\n".join(tables.viewpoint_ids).encode()
    assert len(set(tables.viewpoint_ids)) == len(tables.viewpoint_ids)
    assert all("\n" not in name and "/" not in name for name in tables.viewpoint_ids)


def read_old_graph(path):
    turn = np.eye(3)
    poses = [PanoramaPose(name, name, np.array(place), turn, 1.5, "a row") for name, place in ALPHA.items()]
    check_replaceable(path.parent, "alpha", poses)


def write_r2r(path):
    tables = toy_tables(path.parent / "connectivity")
    write_splits(path.parent, tables)
    path.write_bytes((path.parent / "R2R" / "R2R_val_seen.json").read_bytes())


@lru_cache(1)
def tables_of(folder) -> NavTables:
    return NavTables.load(folder, read_scans(folder), cache=False)


def read_r2r(path):
    tables = tables_of(path.parent / "connectivity")
    episodes = load_episodes("r2r", str(path), path.parent, tables)
    texts = [episode.instruction for episode in episodes]
    vocabulary = Vocabulary.build(texts, min_count=1)
    vocabulary.write(path.with_name("words.json"))
    EpisodeTable.compile(episodes, tables, *vocabulary.encode_batch(texts, 20))


def read_guides(path):
    for episode in rxr.read_guides(path).episodes:
        json.dumps([episode.instr_id, episode.instruction, episode.path], ensure_ascii=False).encode()
        assert abs(episode.heading_rad) < float("inf")


def read_followers(path):
    for demonstration in rxr.read_followers(path):
        json.dumps([demonstration.demonstration_id, demonstration.path], ensure_ascii=False).encode()


GUIDES = [test_rxr.guide(n, tag, instruction=text) for n, (tag, text) in enumerate(test_continuous.GO.items(), 7)]
GUIDES = [test_rxr.guide(1), *(item | {"language": f"{item['language']}-IN"} for item in GUIDES)]
TIMED = {"timed_instruction": [{"word": "go", "start_time": 0.1, "end_time": None}]}


def read_continuous_split(dataset):
    def read(path):
        for episode in read_continuous(path, dataset).episodes:
            episode.instruction.encode()
            assert np.isfinite(episode.start_m).all()

    return read


def read_walks(path):
    for walk in read_ground_truth(path).values():
        assert np.isfinite(walk.position_m).all()


def write_trace(kind):
    def write(path):
        arrays = test_pose_traces.arrays(**({} if kind == "follower" else {"audio_time": None}))
        np.savez_compressed(path, **arrays)

    return write


def read_trace(kind):
    def read(path):
        trace = read_pose_trace(path, kind)
        assert np.isfinite(trace.position_m).all()
        assert len(trace.heading_rad) == len(trace.elevation_rad) == len(trace.viewpoints)

    return read


def write_text_features(path):
    np.savez(path, tokens=np.array([["a"], ["##b"]]), features=np.ones((2, 768), np.float32))


# Predictions and submissions.

WALKS = [
    {"instr_id": "1_0", "trajectory": [["a", 0.0, 0.0], ["b", 1.0, 0.1], ["c", 0.0, 0.0]]},
    {"instr_id": "1_1", "trajectory": [["a"], ["b"]]},
    {"instr_id": "1_2", "trajectory": ["a", ["b", "c"]]},
]
GUIDE_WALKS = [{"instruction_id": n, "path": ["a", "b"]} for n in (1, 2)]
HABITAT = [{"instruction_id": n, "path": [[0.1, 0, 0], [0.1, 0, -0.25]]} for n in (1, 2)]
STATES = {str(n): [{"position": [0, 0, -0.2 * k], "heading": 0.0, "stop": k == 2} for k in range(3)] for n in (3, 4)}


def read_walks_of_predictions(path):
    predictions = read_predictions(path)
    episodes = [Episode(f"1_{n}", "1", "house", "a", 0.0, "go", ("a", "b"), "en") for n in range(3)]
    by_id = {prediction.instr_id: prediction for prediction in predictions}
    pairs = [(by_id[episode.instr_id], episode) for episode in episodes if episode.instr_id in by_id]
    if pairs:
        _, problems = check_walks(*map(list, zip(*pairs, strict=True)), ToyGraph())
        show(problems)


def show(problems):
    for problem in problems:
        f"{problem}".encode()


def read_submission(style):
    def read(path):
        names = [f"1_{n}" for n in range(3)] if style == "r2r" else ["1", "2"]
        episodes = [Episode(name, "1", "house", "a", 0.0, "go", None, "en") for name in names]
        found = validate_submission(path, episodes, ToyGraph(), style)
        show([*found.problems, *found.warnings])

    return read


def read_habitat(path):
    found = validate_rxr_habitat(path, ["1", "2"], {"1": (0.1, 0.0, 0.0)})
    show([*found.problems, *found.warnings])


def read_states(path):
    found = validate_r2r_ce(path, ["3", "4"], {"3": (0.0, 0.0, 0.0)})
    show([*found.problems, *found.warnings])


CASES = {
    "connectivity": Case("alpha_connectivity.json", as_json(scan_rows("alpha")), mutations.json_text, read_graph),
    "connectivity_before": Case(
        "alpha_connectivity.json", as_json(scan_rows("alpha")), mutations.json_text, read_old_graph
    ),
    "scans": Case("scans.txt", text("alpha\nbeta\n"), mutations.words, lambda path: read_scans(path.parent)),
    "r2r": Case("mine.json", write_r2r, mutations.json_text, read_r2r),
    "r2r_packed": Case("mine.json", as_gzip(write_r2r), mutations.packed(mutations.json_text), read_r2r),
    "rxr_guides": Case(
        "g.jsonl.gz",
        as_gzip(as_lines(*GUIDES, TIMED | test_rxr.guide(99))),
        mutations.packed(mutations.json_lines),
        read_guides,
    ),
    "rxr_guides_array": Case("g.json", as_json(GUIDES), mutations.json_text, read_guides),
    "rxr_followers": Case(
        "f.jsonl.gz",
        as_gzip(as_lines(test_rxr.demonstration(1), test_rxr.demonstration(2))),
        mutations.packed(mutations.json_lines),
        read_followers,
    ),
    "r2r_ce": Case(
        "v.json.gz",
        as_gzip(
            as_json(
                {
                    "episodes": [test_continuous.episode(1), test_continuous.episode(2)],
                    "instruction_vocab": {"word_list": ["a"]},
                }
            )
        ),
        mutations.packed(mutations.json_text),
        read_continuous_split("r2r-ce"),
    ),
    "rxr_ce": Case(
        "v.json.gz",
        as_gzip(as_json({"episodes": [test_continuous.guide(1), test_continuous.guide(2, "te-IN")]})),
        mutations.packed(mutations.json_text),
        read_continuous_split("rxr-ce"),
    ),
    "ground_truth": Case(
        "g.json.gz",
        as_gzip(as_json({"1": {"locations": [[0, 1, 2], [1.5, 1, 2]], "actions": [1, 2, 0]}})),
        mutations.packed(mutations.json_text),
        read_walks,
    ),
    "guide_trace": Case("t.npz", write_trace("guide"), mutations.zipped(mutations.npy), read_trace("guide")),
    "follower_trace": Case("t.npz", write_trace("follower"), mutations.zipped(mutations.npy), read_trace("follower")),
    "text_features": Case("t.npz", write_text_features, mutations.zipped(mutations.npy), read_text_features),
    "predictions_r2r": Case("p.json", as_json(WALKS), mutations.json_text, read_walks_of_predictions),
    "predictions_rxr": Case("p.jsonl", as_lines(*GUIDE_WALKS), mutations.json_lines, read_walks_of_predictions),
    "submission_r2r": Case("s.json", as_json(WALKS), mutations.json_text, read_submission("r2r")),
    "submission_rxr": Case("s.jsonl", as_lines(*GUIDE_WALKS), mutations.json_lines, read_submission("rxr")),
    "submission_habitat": Case("s.jsonl", as_lines(*HABITAT), mutations.json_lines, read_habitat),
    "submission_r2r_ce": Case("s.json", as_json(STATES), mutations.json_text, read_states),
}
