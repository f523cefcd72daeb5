import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from vln_clip.errors import InputError
from vln_clip.tasks.pose_traces import pose_trace_file, read_pose_trace, read_text_features, text_features_file
from vln_clip.tasks.rxr_words import WordTime, text_by_viewpoint, word_times

# Camera to world, y up, row by row. The camera looks along its -z, which is the third column turned around.
# Looking along the world's -z: in the z-up world that is +y, heading 0.
AHEAD = [1, 0, 0, 2, 0, 1, 0, 3, 0, 0, 1, -5, 0, 0, 0, 1]
# Its right is the world's +z (first column), up +y, it looks along +x: a quarter turn to the right, heading π/2.
RIGHT = [0, 0, -1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
# Ahead, tilted up by 30°: it looks along (0, sin 30°, -cos 30°), its up is (0, cos 30°, sin 30°).
C, S = math.cos(math.pi / 6), math.sin(math.pi / 6)
UP = [1, 0, 0, 0, 0, C, -S, 0, 0, S, C, 0, 0, 0, 0, 1]
# Its right is -z, it looks along -x: a quarter turn to the left, heading 3π/2.
LEFT = [0, 0, 1, 0, 0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 0, 1]


def arrays(**changes) -> dict[str, np.ndarray]:
    n, k, m = 4, 2, 3
    plain = {
        "pano": np.array([["a"], ["a"], ["b"], ["b"]]),
        "time": np.arange(n, dtype=np.float32)[:, None],
        "audio_time": np.arange(n, dtype=np.float32)[:, None] / 2,
        "extrinsic_matrix": np.array([AHEAD, RIGHT, UP, LEFT], np.float32),
        "intrinsic_matrix": np.tile(np.arange(16, dtype=np.float32), (n, 1)),
        "image_mask": np.zeros((k, 128, 256), bool),
        "text_masks": np.array([[True, True, False], [False, False, True]]),
        "feature_weights": np.full((k, 36), 1 / 36, np.float32),
    }
    assert plain["text_masks"].shape == (k, m)
    return {key: value for key, value in (plain | changes).items() if value is not None}


def write(folder: Path, **changes) -> Path:
    np.savez_compressed(folder / "trace.npz", **arrays(**changes))
    return folder / "trace.npz"


def test_a_trace_has_the_shapes_it_says(tmp_path):
    guide = read_pose_trace(write(tmp_path, audio_time=None), "guide")
    assert guide.viewpoints.tolist() == ["a", "a", "b", "b"]
    assert guide.time_s.tolist() == [0, 1, 2, 3]
    assert guide.audio_time_s is None
    assert guide.projection[0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert (guide.image_masks.shape, guide.view_weights.shape) == ((2, 128, 256), (2, 36))
    follower = read_pose_trace(write(tmp_path, text_masks=None), "follower")
    assert follower.audio_time_s is not None
    assert follower.audio_time_s.tolist() == [0, 0.5, 1, 1.5]
    assert follower.text_masks is None


def test_poses_are_those_of_the_graph_world(tmp_path):
    trace = read_pose_trace(write(tmp_path), "guide")
    # (2, 3, -5) with y up is 2 to the side, 5 ahead, 3 high.
    assert trace.position_m[0].tolist() == [2, 5, 3]
    assert trace.heading_rad == pytest.approx([0, math.pi / 2, 0, 3 * math.pi / 2], abs=1e-6)
    assert trace.elevation_rad == pytest.approx([0, 0, math.pi / 6, 0], abs=1e-6)
    assert trace.heading_rad.dtype == trace.position_m.dtype == np.float32


def test_text_is_put_together_for_each_viewpoint(tmp_path):
    trace = read_pose_trace(write(tmp_path), "guide")
    assert text_by_viewpoint(trace, ["मु", "##ड़ें", "stop"], ["a", "b"]) == ["मुड़ें", "stop"]
    with pytest.raises(InputError, match=r"text_masks .* here \(2, 4\), got \(2, 3\); do trace, path and text"):
        text_by_viewpoint(trace, ["a", "b", "c", "d"], ["a", "b"])
    with pytest.raises(InputError, match="got None"):
        text_by_viewpoint(read_pose_trace(write(tmp_path, text_masks=None), "follower"), ["a"], ["a"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pano": None}, "array 'pano' is missing; found time, audio_time"),
        ({"text_masks": None}, "array 'text_masks' is missing"),
        ({"time": np.zeros((3, 1), np.float32)}, r"'time' must be floating point of shape \(n, 1\) with n = 4, got"),
        ({"time": np.zeros((4, 1), np.int64)}, r"'time' must be floating point .* got int64 of shape \(4, 1\)"),
        ({"time": np.zeros(4, np.float32)}, r"got float32 of shape \(4,\)"),
        ({"time": np.full((4, 1), np.nan, np.float32)}, "time must be finite"),
        ({"image_mask": np.zeros((2, 128, 128), bool)}, r"'image_mask' must be bool of shape \(k, 128, 256\)"),
        ({"feature_weights": np.zeros((3, 36), np.float32)}, r"with k = 2, got float32 of shape \(3, 36\)"),
        ({"pano": np.array([["a"], ["a"], ["b"], [None]], object)}, "must be a whole .npz archive of plain arrays"),
        (
            {"extrinsic_matrix": np.array([AHEAD] * 3 + [np.reshape(AHEAD, (4, 4)).T.ravel()], np.float32)},
            "extrinsic_matrix 3 must be a rotation and a translation written row by row",
        ),
        (
            {"extrinsic_matrix": np.array([AHEAD] * 3 + [[-1, *AHEAD[1:]]], np.float32)},
            "extrinsic_matrix 3 must be a rotation",
        ),
    ],
)
def test_a_malformed_trace_is_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=rf"trace\.npz.*{message}"):
        read_pose_trace(write(tmp_path, **changes), "guide")


def test_a_damaged_or_pickled_file_is_refused(tmp_path):
    file = write(tmp_path)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"trace\.npz must be a whole \.npz archive"):
        read_pose_trace(file, "guide")
    file.write_bytes(pickle.dumps({"pano": 1}))
    with pytest.raises(InputError, match=r"trace\.npz must be a whole \.npz archive"):
        read_pose_trace(file, "guide")
    with file.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(InputError, match="but: File is not a zip file"):
        read_pose_trace(file, "guide")
    with pytest.raises(InputError, match=r"none\.npz does not exist; .* gs://rxr-data"):
        read_pose_trace(tmp_path / "none.npz", "guide")
    with pytest.raises(InputError, match="kind of pose trace must be one of guide, follower, got 'guid'"):
        read_pose_trace(file, "guid")


def test_text_features_are_word_pieces_with_a_row_each(tmp_path):
    file = tmp_path / "text.npz"
    np.savez(file, tokens=np.array([["रु"], ["##कें"]]), features=np.ones((2, 768), np.float32))
    read = read_text_features(file)
    assert (read.tokens, read.features.shape) == (("रु", "##कें"), (2, 768))
    np.savez(file, tokens=np.array([["रु"], ["##कें"]]), features=np.ones((3, 768), np.float32))
    with pytest.raises(InputError, match=r"'features' must be floating point of shape \(m, 768\) with m = 2"):
        read_text_features(file)


def test_files_have_the_public_names():
    data = Path("data")
    folder = data / "RxR" / "pose_traces" / "rxr_train"
    assert pose_trace_file(data, "train", "guide", "12") == folder / "000012_guide_pose_trace.npz"
    assert pose_trace_file(data, "train", "follower", 1234567) == folder / "1234567_follower_pose_trace.npz"
    folder = data / "RxR" / "text_features" / "rxr_train"
    assert text_features_file(data, "train", 12, "hi") == folder / "000012_hi_text_features.npz"
    with pytest.raises(InputError, match="must be a whole number, got '12_0'"):
        pose_trace_file(data, "train", "guide", "12_0")
    with pytest.raises(InputError, match="must be one of guide, follower"):
        pose_trace_file(data, "train", "guides", 12)


def entry(word: str, start: float | None = None, end: float | None = None) -> dict[str, object]:
    times = {"start_time": start, "end_time": end}
    return {"word": word} | {key: value for key, value in times.items() if value is not None}


def test_words_without_times_fill_the_gap():
    timed = [entry("a"), entry("b", 1, 2), entry("c"), entry("d"), entry("e", 4), entry("f", 5, 6), entry("g")]
    # a: from the beginning to b's start. c and d: b's end to e's start. e: its start to f's. g: f's end, no more known.
    assert word_times(timed) == [
        WordTime("a", 0, 1),
        WordTime("b", 1, 2),
        WordTime("c", 2, 4),
        WordTime("d", 2, 4),
        WordTime("e", 4, 5),
        WordTime("f", 5, 6),
        WordTime("g", 6, 6),
    ]
    assert word_times([{"word": "x", "start_time": None, "end_time": None}]) == [WordTime("x", 0, 0)]
    assert word_times([entry("a", 1, 5), entry("b"), entry("c", 4, 6)])[1] == WordTime("b", 5, 5)
    assert word_times([]) == []


@pytest.mark.parametrize(
    ("timed", "message"),
    [
        ([entry("a"), {"start_time": 1}], "entry 1 must be an object with a word"),
        (["a"], "entry 0 must be an object with a word"),
        ([{"word": "a", "end_time": "2"}], "entry 0: end_time must be seconds, got '2'"),
    ],
)
def test_words_with_other_times_are_refused(timed, message):
    with pytest.raises(InputError, match=message):
        word_times(timed)
