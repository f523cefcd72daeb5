"""Groups, bootstrap intervals and paired comparisons: answers by hand, coverage, and scipy as a second opinion."""

import numpy as np
import pytest
from scipy import stats

from tests.toy_graph import ToyGraph
from vln_clip.errors import InputError
from vln_clip.records import Episode
from vln_clip.tasks.groups import LENGTH_EDGES_M, group_keys, reference_length_m
from vln_clip.tasks.metrics import METRICS, NAV_ERROR, SUCCESS_RATE
from vln_clip.tasks.statistics import MIN_CLUSTERS, compare, intervals, summarize_by


def scores_of(values):
    """Return scores that have these values in every metric."""
    return {name: np.asarray(values, np.float64) for name in METRICS}


def clustered(rng, num_paths, per_path=3, spread=1.0):
    """Return values that are alike within a path, and the paths."""
    paths = np.repeat(np.arange(num_paths), per_path)
    return rng.normal(0, spread, num_paths)[paths] + rng.normal(0, 0.5, len(paths)), [str(path) for path in paths]


def episode(path, language="en", scan="house"):
    return Episode("7_0", "7", scan, path[0], 0.0, "go", tuple(path), language)


def test_groups_have_their_own_means_in_natural_order():
    found = summarize_by(scores_of([1, 2, 3, 8]), ["10–15 m", "5–10 m", "5–10 m", "10–15 m"])
    assert list(found) == ["5–10 m", "10–15 m"]
    assert (found["5–10 m"]["spl"], found["10–15 m"]["spl"]) == (2.5, 4.5)
    assert [group["num_instructions"] for group in found.values()] == [2, 2]


def test_groups_are_language_scan_and_length_of_the_reference():
    # a-b-c-d is 1 + 2 + 3 = 6 m: from 5 m on and below 7.5 m. a-b-c is 3 m; a alone is 0 m.
    episodes = [episode("abcd"), episode("abc", "hi"), episode("a", "te"), episode("ab", "hi", "other")]
    assert reference_length_m(episodes, ToyGraph()).tolist() == [6.0, 3.0, 0.0, 1.0]
    assert group_keys("length", episodes, ToyGraph()) == ["5–7.5 m", "0–5 m", "0–5 m", "0–5 m"]
    assert group_keys("language", episodes, ToyGraph()) == ["en", "hi", "te", "hi"]
    assert group_keys("scan", episodes, ToyGraph()) == ["house", "house", "house", "other"]
    with pytest.raises(InputError, match="--by must be one of language, length, scan, got 'lenght'; did you mean"):
        group_keys("lenght", episodes, ToyGraph())


def test_a_length_on_an_edge_belongs_to_the_longer_bin(monkeypatch):
    lengths = np.array([*LENGTH_EDGES_M, 4.999, 99.0])
    monkeypatch.setattr("vln_clip.tasks.groups.reference_length_m", lambda episodes, graph: lengths)
    found = group_keys("length", [], ToyGraph())
    assert found == [
        *("0–5 m", "5–7.5 m", "7.5–10 m", "10–12.5 m", "12.5–15 m", "15–20 m", "20–30 m"),
        *("30 m or more", "0–5 m", "30 m or more"),
    ]


def test_the_interval_of_one_instruction_per_path_is_that_of_a_mean():
    # Fair coins: the standard error is 0.5 / sqrt(400), the interval ±1.96 of it.
    low, high = intervals(scores_of(np.arange(400) % 2), [str(k) for k in range(400)])[SUCCESS_RATE]
    assert (low, high) == pytest.approx((0.5 - 0.049, 0.5 + 0.049), abs=0.004)


def test_intervals_draw_whole_paths():
    # Three instructions that always agree are worth one: the interval is sqrt(3) times as wide as if they were three.
    values = np.repeat(np.arange(200) % 2, 3)
    low, high = intervals(scores_of(values), [str(k // 3) for k in range(600)])[SUCCESS_RATE]
    own_low, own_high = intervals(scores_of(values), [str(k) for k in range(600)])[SUCCESS_RATE]
    assert (high - low) / (own_high - own_low) == pytest.approx(3**0.5, rel=0.05)


def test_intervals_of_equal_values_have_no_width_and_few_paths_have_none():
    paths = [str(k) for k in range(MIN_CLUSTERS)]
    assert set(intervals(scores_of(np.full(MIN_CLUSTERS, 0.25)), paths).values()) == {(0.25, 0.25)}
    assert set(intervals(scores_of(np.full(MIN_CLUSTERS, 0.25)), paths)) == set(METRICS)
    assert intervals(scores_of(np.ones(9)), paths[:9]) == {}


def test_the_seed_decides_the_draws_and_metrics_do_not_disturb_each_other():
    values, paths = clustered(np.random.default_rng(0), 30)
    scores = scores_of(values)
    assert intervals(scores, paths) == intervals(scores, paths)
    assert intervals(scores, paths) != intervals(scores, paths, seed=1)
    assert intervals(scores | {NAV_ERROR: -values}, paths)["spl"] == intervals(scores, paths)["spl"]


def test_95_percent_intervals_cover_the_truth_about_95_percent_of_the_time():
    rng, covered, naive = np.random.default_rng(0), 0, 0
    for _ in range(300):
        values, paths = clustered(rng, 60)  # the true mean is 0
        low, high = intervals(scores_of(values), paths, resamples=400)["spl"]
        covered += low <= 0 <= high
        low, high = intervals(scores_of(values), [str(k) for k in range(180)], resamples=400)["spl"]
        naive += low <= 0 <= high
    assert 0.91 <= covered / 300 <= 0.98
    assert naive / 300 < 0.85  # what taking the instructions of a path for independent would give


def test_intervals_agree_with_scipy():
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 9, 80)
    paths = np.repeat(np.arange(80), sizes)
    values = rng.normal(0, 1, 80)[paths] + rng.normal(0, 1, len(paths))
    sums = np.bincount(paths, values)
    expected = stats.bootstrap(
        (sums, sizes),
        lambda total, count, axis: total.sum(axis) / count.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=10_000,
        random_state=0,
    ).confidence_interval
    found = intervals(scores_of(values), [str(path) for path in paths])["spl"]
    assert found == pytest.approx((expected.low, expected.high), abs=0.02)  # of a width of about 0.45


def test_a_comparison_by_hand():
    # Two paths. Agent minus baseline: path x 1 + 1, path y -1 + 0; the sum is 1 of 4 instructions.
    agent, baseline = scores_of([1, 1, 0, 1]), scores_of([0, 0, 1, 1])
    found = compare(agent, baseline, ["x", "x", "y", "y"])
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    assert found.difference[SUCCESS_RATE] == 0.25
    # Signs of the sums 2 and -1: 1, 3, -3, -1, all at least as large as 1.
    assert found.p[SUCCESS_RATE] == 1.0
    assert found.ci == {}  # two paths
    # Three paths won by 1 each: only +++ and --- of 8 reach 3.
    assert compare(scores_of([1, 1, 1]), scores_of([0, 0, 0]), list("xyz")).p["spl"] == 2 / 8


def test_equal_agents_differ_by_nothing():
    values, paths = clustered(np.random.default_rng(1), 50)
    found = compare(scores_of(values), scores_of(values.copy()), paths)
    assert set(found.difference.values()) == {0.0}
    assert set(found.ci.values()) == {(0.0, 0.0)}
    assert set(found.p.values()) == {1.0}
    assert (found.wins, found.losses, found.ties) == (0, 0, 150)


def test_swapping_the_agents_turns_the_sign_only():
    rng = np.random.default_rng(2)
    (first, paths), (second, _) = clustered(rng, 40), clustered(rng, 40)
    there, back = (compare(scores_of(a), scores_of(b), paths) for a, b in ((first, second), (second, first)))
    assert there.p == back.p
    assert there.difference["spl"] == -back.difference["spl"]
    assert there.ci["spl"] == pytest.approx((-back.ci["spl"][1], -back.ci["spl"][0]))


@pytest.mark.parametrize("num_paths", [8, 60])
def test_p_values_agree_with_scipy(num_paths):
    values, paths = clustered(np.random.default_rng(5), num_paths)
    values += 0.25
    _, path = np.unique(paths, return_inverse=True)
    expected = stats.permutation_test(
        (np.bincount(path, values),),
        lambda sums, axis: sums.sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9_999,
        random_state=0,
    ).pvalue
    found = compare(scores_of(values), scores_of(np.zeros(len(values))), paths).p["spl"]
    assert found == pytest.approx(expected, abs=1e-12 if 2**num_paths <= 10_000 else 0.015)
    assert 0.005 < found < 0.9


def test_under_the_hypothesis_p_values_are_uniform():
    rng, found = np.random.default_rng(7), []
    for _ in range(300):
        values, paths = clustered(rng, 40)
        found.append(compare(scores_of(values), scores_of(np.zeros(120)), paths, resamples=400).p["spl"])
    assert stats.kstest(found, "uniform").pvalue > 0.01
