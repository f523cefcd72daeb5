import json
import math

import numpy as np
import pytest

from tests.golden import SHARED, load_json, needs_shared
from tests.toy_graph import ToyGraph
from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.records import Episode, Prediction
from vln_clip.tasks import metrics
from vln_clip.tasks.datasets import load_episodes
from vln_clip.tasks.metrics import DTW, METRICS, collapse, score_indices, score_predictions, summarize
from vln_clip.tasks.predictions import pad, read_predictions

A, B, C, D, Z, OTHER_A = range(6)
RECORDED = {
    name: SHARED / f"golden/metrics/pred_val_unseen_{name}.json.gz"
    for name in ("shortest", "random5", "stop", "random5_inplace_turns")
} | {
    "prevalent": SHARED / "data/predictions/prevalent_val_unseen.json.gz",
    "mattersim_repo_shortest_agent": SHARED / "data/predictions/shortest_agent_val_unseen.json.gz",
}

ITEM_COLUMNS = {  # recorded name: ours
    "nav_errors": "nav_error",
    "oracle_errors": "oracle_error",
    "trajectory_steps": "steps",
    "trajectory_lengths": "lengths",
    "success_rate": "success_rate",
    "ndtw": "ndtw",
    "sdtw": "sdtw",
    "cls": "cls",
}


def score(trajectory: list[int], reference: list[int]) -> dict[str, float]:
    scores = score_indices(pad([trajectory]), np.array([len(trajectory) - 1]), pad([reference]), ToyGraph())
    return {name: float(values[0]) for name, values in scores.items()}


def test_an_error_of_exactly_three_metres_is_no_success():
    # The agent walks a-b-c (3 m) of a-b-c-d (6 m) and stops 3 m before the goal.
    scores = score([A, B, C], [A, B, C, D])
    assert scores["nav_error"] == scores["oracle_error"] == scores["lengths"] == 3.0
    assert scores["success_rate"] == scores["oracle_rate"] == scores["spl"] == scores["sdtw"] == 0.0
    assert scores["steps"] == 2
    # DTW pairs a-a, b-b, c-c, c-d: 3 m; divided by 3 m x 4 viewpoints.
    assert scores["dtw"] == 3.0
    assert scores["ndtw"] == pytest.approx(math.exp(-0.25))
    # CLS: coverage c of 1, 1, 1, exp(-3/3); expected length 6 c against 3 walked.
    coverage = (3 + math.exp(-1)) / 4
    expected_m = 6 * coverage
    assert scores["cls"] == pytest.approx(coverage * expected_m / (expected_m + expected_m - 3))


def test_a_detour_costs_path_length_and_warping():
    # a-b-a-b-c-d is 1 + 1 + 1 + 2 + 3 = 8 m for 6 m; the second a and b are warped at 1 m in all.
    scores = score([A, B, A, B, C, D], [A, B, C, D])
    assert (scores["nav_error"], scores["success_rate"], scores["lengths"]) == (0.0, 1.0, 8.0)
    assert scores["spl"] == 6 / 8
    assert scores["dtw"] == 1.0
    assert scores["ndtw"] == scores["sdtw"] == pytest.approx(math.exp(-1 / 12))
    assert scores["cls"] == pytest.approx(6 / 8)


def test_a_stop_within_three_metres_is_a_success_and_spl_is_at_most_one():
    # Stopping at b leaves 2 m; 1 m walked for the 3 m of the reference.
    scores = score([A, B], [A, B, C])
    assert (scores["nav_error"], scores["success_rate"], scores["spl"]) == (2.0, 1.0, 1.0)


def test_passing_the_goal_counts_for_the_oracle_only():
    # The goal b is passed, the end d lies 5 m behind it.
    scores = score([A, B, C, D], [A, B])
    assert (scores["nav_error"], scores["oracle_error"]) == (5.0, 0.0)
    assert (scores["success_rate"], scores["oracle_rate"]) == (0.0, 1.0)


def test_a_reference_that_goes_nowhere_has_defined_scores():
    # EnvDrop's guard: spl is 0 / 0.01. Both lengths are 0, so the length score of CLS is 1.
    scores = score([A], [A])
    assert (scores["spl"], scores["cls"], scores["ndtw"], scores["success_rate"]) == (0.0, 1.0, 1.0, 1.0)


def test_turning_in_place_changes_steps_only():
    still, turning = score([A, B, C], [A, B, C, D]), score([A, A, A, B, C, C], [A, B, C, D])
    assert turning.pop("steps") == 5
    assert still.pop("steps") == 2
    assert turning == still


def test_repeats_collapse_and_returns_do_not():
    assert collapse(np.array([[A, A, B, A, -1], [C, C, C, C, C]])).tolist() == [[A, B, A], [C, -1, -1]]


def test_padding_and_batch_mates_change_nothing():
    walks, references = [[A], [A, B, A, B, C, D], [D, C, B]], [[A, B, C, D], [A, B, C], [D, C]]
    together = score_indices(pad(walks), np.array([0, 5, 2]), pad(references), ToyGraph())
    wider = np.full((3, 9), -1)
    wider[:, :6] = pad(walks)
    longer = np.pad(pad(references), ((0, 0), (0, 2)), constant_values=-1)
    padded = score_indices(wider, np.array([0, 5, 2]), longer, ToyGraph())
    for row, (walk, reference) in enumerate(zip(walks, references, strict=True)):
        for name, value in score(walk, reference).items():
            assert together[name][row] == padded[name][row] == pytest.approx(value, abs=1e-12)


def test_dtw_is_that_of_the_plain_recursion():
    graph, rng = ToyGraph(), np.random.default_rng(0)
    walks = [rng.permutation(4)[: rng.integers(1, 5)].tolist() for _ in range(20)]
    references = [rng.permutation(4)[: rng.integers(1, 5)].tolist() for _ in range(20)]
    scores = score_indices(pad(walks), np.zeros(20), pad(references), graph)

    def cost(walk: list[int], reference: list[int]) -> float:
        if not walk or not reference:
            return math.inf if walk or reference else 0.0
        ways = cost(walk[:-1], reference), cost(walk, reference[:-1]), cost(walk[:-1], reference[:-1])
        return float(graph.distances_m[walk[-1], reference[-1]]) + min(ways)

    np.testing.assert_allclose(scores[DTW], [cost(*pair) for pair in zip(walks, references, strict=True)])


def test_blocks_of_rows_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    walks, references = ([rng.permutation(4)[: rng.integers(1, 5)].tolist() for _ in range(50)] for _ in range(2))
    whole = score_indices(pad(walks), np.arange(50), pad(references), ToyGraph())
    monkeypatch.setattr(metrics, "BLOCK_ROWS", 7)
    blocks = score_indices(pad(walks), np.arange(50), pad(references), ToyGraph())
    for name in METRICS:
        np.testing.assert_allclose(blocks[name], whole[name], rtol=0, atol=1e-12, err_msg=name)
    with pytest.raises(InputError, match="got 2 that leave it; the first is trajectory 9"):
        score_indices(pad([*walks[:9], [Z], [Z]]), np.zeros(11), pad([*references[:9], [A], [A]]), ToyGraph())


def test_a_reference_of_two_parts_is_an_error_too():
    with pytest.raises(InputError, match="the first is trajectory 0"):
        score_indices(pad([[A, B]]), np.zeros(1), pad([[A, Z, B]]), ToyGraph())


@pytest.mark.parametrize("walk", [[Z], [OTHER_A], [A, Z]])
def test_a_goal_out_of_reach_is_an_error_and_not_an_infinite_mean(walk):
    with pytest.raises(InputError, match="got 1 that leave it; the first is trajectory 1"):
        score_indices(pad([[A, B], walk]), np.zeros(2), pad([[A, B], [A, B]]), ToyGraph())


def episode(instr_id: str = "7_0", path: tuple[str, ...] | None = ("a", "b", "c")) -> Episode:
    return Episode(instr_id, "7", "house", "a", 0.0, "go", path)


def prediction(viewpoints: str, instr_id: str = "7_0") -> Prediction:
    return Prediction(instr_id, tuple((name, 0.0, 0.0) for name in viewpoints))


def test_summary_has_exactly_the_documented_names():
    ids, scores = score_predictions([prediction("abc")], [episode()], ToyGraph())
    assert ids == ["7_0"]
    assert set(summarize(scores)) == {
        *("nav_error", "oracle_error", "steps", "lengths", "success_rate", "oracle_rate", "spl"),
        *("ndtw", "sdtw", "cls", "dtw", "num_instructions"),
    }
    assert summarize(scores)["num_instructions"] == 1
    assert set(METRICS) == set(scores)


def test_summary_of_nothing_is_an_error():
    with pytest.raises(InputError, match="at least one instruction"):
        summarize(score_indices(np.zeros((0, 1), int), np.zeros(0), np.zeros((0, 1), int), ToyGraph()))


def test_a_split_without_goals_cannot_be_scored():
    with pytest.raises(InputError, match="episode 7_0 hides its own; validate the file with vln-clip submit"):
        score_predictions([prediction("abc")], [episode(path=None)], ToyGraph())


def test_a_jump_is_refused_unless_allowed():
    with pytest.raises(InputError, match="jump in 7_0 from a to c"):
        score_predictions([prediction("ac")], [episode()], ToyGraph())
    scores = score_predictions([prediction("ac")], [episode()], ToyGraph(), allow_jumps=True)[1]
    assert scores["lengths"].tolist() == [3.0]  # the way along the graph
    with pytest.raises(InputError, match="the first is the trajectory of 7_0"):
        score_predictions([prediction("az")], [episode()], ToyGraph(), allow_jumps=True)


def test_wrong_start_is_refused_even_where_jumps_are_allowed():
    with pytest.raises(InputError, match="trajectory of 7_0 must start at viewpoint a, got b"):
        score_predictions([prediction("bc")], [episode()], ToyGraph(), allow_jumps=True)


@pytest.fixture(scope="module")
def graph() -> NavTables:
    return NavTables.load(SHARED / "data/connectivity", cache=False)


@pytest.fixture(scope="module")
def episodes(graph) -> list[Episode]:
    return load_episodes("r2r", "val_unseen", SHARED / "data", graph)


def without_repeats(name: str) -> str:
    """Name the recorded summary that collapsed trajectories must reach."""
    return "random5" if name == "random5_inplace_turns" else name


@needs_shared
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_summaries_are_reproduced(name, graph, episodes):
    recorded = json.loads((SHARED / "golden/metrics/summary.json").read_text())
    ours = summarize(score_predictions(read_predictions(RECORDED[name]), episodes, graph)[1])
    assert ours["num_instructions"] == 2349
    for evaluator in ("r2r", "rxr"):
        for metric, value in recorded[name][evaluator].items():
            if metric in ("ndtw", "sdtw"):  # turns in place are collapsed, the recorded evaluator did not
                value = recorded[without_repeats(name)][evaluator][metric]
            assert ours[metric] == pytest.approx(value, abs=1e-6), (evaluator, metric)


@needs_shared
@pytest.mark.parametrize("name", ["shortest", "random5", "stop", "random5_inplace_turns"])
def test_recorded_scores_of_each_instruction_are_reproduced(name, graph, episodes):
    ids, scores = score_predictions(read_predictions(RECORDED[name]), episodes, graph)
    recorded = load_json(f"metrics/items_rxr_{name}.json.gz")
    rows = [ids.index(instr_id) for instr_id in recorded["instr_ids"]]
    assert len(rows) == 2349
    collapsed = load_json(f"metrics/items_rxr_{without_repeats(name)}.json.gz")
    assert collapsed["instr_ids"] == recorded["instr_ids"]
    for column, metric in ITEM_COLUMNS.items():
        source = collapsed if metric in ("ndtw", "sdtw") else recorded
        np.testing.assert_allclose(scores[metric][rows], source["items"][column], rtol=0, atol=1e-6, err_msg=metric)


# The sample entries in the public RxR README (annotations CC BY 4.0), scored on the graph of scan 2n8kARJN3HM.
RXR_GUIDE = (
    "d38a4c31821c48ac9082d896e628c128",
    "1d6a100cf3d34326936ef7d0a50840d9",
    "87998608d4844fcfaca266bd5aba6516",
    "5248918af65645a28a65f59d3424598a",
    "e0b2917ecb6d4e31846957451348f80a",
)
RXR_FOLLOWER = (*RXR_GUIDE[:2], "d8eb4eab2d3442e1a3a7a74fc810be22", *RXR_GUIDE[2:])


@needs_shared
def test_the_sample_of_rxr_is_reproduced(graph):
    walk, reference = ([graph.index("2n8kARJN3HM", v) for v in path] for path in (RXR_FOLLOWER, RXR_GUIDE))
    scores = score_indices(pad([walk]), np.array([5]), pad([reference]), graph)
    expected = {"dtw": 1.575959447, "ndtw": 0.900266937, "spl": 0.948222298, "cls": 0.948222298, "lengths": 8.461511369}
    for metric, value in expected.items():
        assert scores[metric][0] == pytest.approx(value, abs=1e-8), metric
