"""Traces of followers: the walks of an evaluation, attention on the right words, typed instructions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vln_clip.envs.evaluation import walk_scores, walk_split
from vln_clip.errors import InputError
from vln_clip.records import view_heading_rad
from vln_clip.setting import load_follower
from vln_clip.tasks.text import UNK, Vocabulary
from vln_clip.viewer.tracing import read_words, trace_instruction, trace_rows

SPLITS = ("val_unseen", "test")


@pytest.fixture
def loaded(world):
    return load_follower(world.runs / "toy", None, SPLITS, torch.device("cpu"))


def trace(loaded, *actions, finish=True, start="b0", text="Walk to the attic."):
    return trace_instruction(loaded, "beta", start, 0.3, text, "en", actions, finish)


def test_traces_are_the_walks_and_scores_of_an_evaluation(loaded):
    table = loaded.setting.table("val_unseen")
    walks = walk_split(loaded.world, loaded.follower, table, loaded.header["max_action"])
    scores = walk_scores(loaded.world, table, walks)
    traces = trace_rows(loaded, "val_unseen", None, "toy")
    assert len(traces) == len(table) == 12
    for row, found in enumerate(traces):
        visited = walks.viewpoint[row] >= 0
        assert found.viewpoints.tolist() == walks.viewpoint[row, visited].tolist()
        assert found.headings_rad.tolist() == [view_heading_rad(view) for view in walks.view[row, visited]]
        assert found.episode == table.episodes[row]
        assert found.agent == "toy"
        assert found.metrics == {name: values[row] for name, values in scores.items()}


def test_rows_come_in_the_order_asked_for(loaded):
    rows = torch.tensor([7, 2, 11])
    traces = trace_rows(loaded, "val_unseen", rows, "toy")
    assert [found.episode for found in traces] == [loaded.setting.table("val_unseen").episodes[row] for row in rows]


def test_decisions_tell_what_was_done_and_with_which_probability(loaded):
    tables = loaded.setting.tables
    for found in trace_rows(loaded, "val_unseen", None, "toy"):
        for step, decision in enumerate(found.decisions):
            here = found.viewpoints[step]
            neighbors = tables.neighbor[here, : tables.degree[here]]
            assert decision.candidates.tolist() == neighbors.tolist()
            assert decision.probabilities.shape == (len(neighbors) + 1,)
            assert decision.probabilities.sum() == pytest.approx(1)
            assert decision.action == decision.probabilities.argmax()  # greedy
            assert decision.words.shape == (len(found.words),)
            assert decision.words.sum() == pytest.approx(1)
            assert decision.views.shape == (36,)
            assert decision.views.sum() == pytest.approx(1)
            assert np.isfinite(decision.value)
            assert not decision.forced
            if decision.action < len(neighbors):
                assert found.viewpoints[step + 1] == neighbors[decision.action]
        # Who stops decides once at every place; who is cut off has moved after the last decision.
        stopped = decision.action == len(neighbors)
        assert len(found.viewpoints) == len(found.decisions) + (not stopped)


def test_rewards_are_envdrops(loaded):
    tables = loaded.setting.tables
    rewards = set()
    for found in trace_rows(loaded, "val_unseen", None, "toy"):
        goal = tables.index("beta", found.episode.goal)
        to_goal_m = tables.distance_m(found.viewpoints, np.array(goal))
        for step, decision in enumerate(found.decisions):
            if decision.action == len(decision.candidates):
                expected = 2.0 if to_goal_m[step] < 3 else -2.0
            else:
                expected = float(np.sign(to_goal_m[step] - to_goal_m[step + 1]))
            assert decision.reward == expected
            rewards.add(expected)
    assert len(rewards) > 1


def test_rewards_are_those_that_the_agent_was_trained_by(own_world):
    run = own_world.train("--no-blind", "--reward", "ndtw", "--stop-reward", "3", "--progress-reward", "0.5")
    loaded = load_follower(run, None, SPLITS, torch.device("cpu"))
    tables, stops = loaded.setting.tables, 0
    for found in trace_rows(loaded, "val_unseen", None, "toy"):
        path = np.array([tables.index("beta", viewpoint) for viewpoint in found.episode.path])
        for step, decision in enumerate(found.decisions):
            if decision.action < len(decision.candidates):
                assert abs(decision.reward) in (0.0, 0.5)
                continue
            # nDTW of the places up to here, by the definition.
            cost = np.full((step + 2, len(path) + 1), np.inf)
            cost[0, 0] = 0.0
            for i, j in np.ndindex(step + 1, len(path)):
                near = min(cost[i, j], cost[i, j + 1], cost[i + 1, j])
                cost[i + 1, j + 1] = near + float(tables.distance_m(found.viewpoints[i], path[j]))
            ndtw = np.exp(-cost[-1, -1] / (3 * len(path)))
            reached = float(tables.distance_m(found.viewpoints[step], path[-1])) < 3
            assert decision.reward == pytest.approx(3 * ndtw if reached else -3.0, rel=1e-5)
            stops += 1
    assert stops


def test_where_goals_are_hidden_there_is_neither_score_nor_reward(loaded):
    for found in trace_rows(loaded, "test", None, "toy"):
        assert found.metrics is None
        assert all(decision.reward is None for decision in found.decisions)


def test_words_are_what_the_agent_reads_in_its_order():
    vocabulary = Vocabulary(["walk", "left", "."])
    text = "Walk quickly left."
    tokens = np.array(vocabulary.encode(text, 80))
    assert read_words(vocabulary, text, tokens) == (("<BOS>", "walk", "quickly", "left", ".", "<EOS>"), {2})
    cut = np.array(vocabulary.encode(text, 4))  # room for two words
    assert read_words(vocabulary, text, cut) == (("<BOS>", "walk", "quickly", "<EOS>"), {2})
    empty = np.array(vocabulary.encode("", 80))
    assert read_words(vocabulary, "", empty) == (("<BOS>", "<EOS>"), frozenset())


def test_words_of_a_vocabulary_that_is_told_languages_begin_with_the_tag():
    vocabulary = Vocabulary(["रुकिए"], "unicode", ("hi", "te"))
    text = "वहाँ रुकिए।"
    tokens = np.array(vocabulary.encode(text, 80, "hi"))
    # The danda is a token of its own; vowel signs stay with their consonants.
    assert read_words(vocabulary, text, tokens) == (("<BOS>", "<hi>", "वहाँ", "रुकिए", "।", "<EOS>"), {2, 4})


def test_attention_lies_on_the_word_that_it_was_paid_to(loaded, monkeypatch):
    attic, first = loaded.setting.vocabulary.words.index("attic"), loaded.follower.start
    read = {}

    def start(tokens, length, *more):
        read["tokens"] = tokens
        return first(tokens, length, *more)

    def step(obs, state):
        state, logits, hidden = loaded.follower.decoder(obs, state)
        attention = (read["tokens"] == attic).float()[:, : state.read.shape[1]]
        return replace(state, read=attention), logits, hidden

    monkeypatch.setattr(loaded.follower, "start", start)
    monkeypatch.setattr(loaded.follower, "step", step)
    found = trace(loaded, finish=False, text="Please leave the attic, then wait.")
    (decision,) = found.decisions
    # "please" is in no instruction of the toy world: it shows as written, and moves nothing.
    assert found.words == ("<BOS>", "please", "leave", "the", "attic", ",", "then", "wait", ".", "<EOS>")
    assert found.words[int(decision.words.argmax())] == "attic"
    assert found.unknown == {1}
    tokens = read["tokens"][0].tolist()
    assert [tokens[place] for place in found.unknown] == [UNK]


def test_a_typed_instruction_walks_as_the_same_one_of_the_split(loaded):
    wanted = trace_rows(loaded, "val_unseen", torch.tensor([4]), "toy")[0]
    episode = wanted.episode
    found = trace_instruction(
        loaded, episode.scan, episode.start, episode.heading_rad, episode.instruction, episode.language
    )
    assert found.viewpoints.tolist() == wanted.viewpoints.tolist()
    assert found.words == wanted.words
    assert found.metrics is None
    assert found.episode.path is None
    for a, b in zip(found.decisions, wanted.decisions, strict=True):
        assert a.action == b.action
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-6)
        np.testing.assert_allclose(a.words, b.words, atol=1e-6)


def test_forced_actions_come_first_and_the_agent_goes_on(loaded):
    tables = loaded.setting.tables
    b0, b1 = tables.index("beta", "b0"), tables.index("beta", "b1")
    back = tables.neighbor[b1].tolist().index(b0)
    found = trace(loaded, 0, back, 0)  # b0 has one neighbor, b1
    assert found.viewpoints[:4].tolist() == [b0, b1, b0, b1]
    assert [decision.forced for decision in found.decisions[:4]] == [True, True, True, False]
    assert not any(decision.forced for decision in found.decisions[3:])
    assert len(found.decisions) <= loaded.header["max_action"]


def test_without_finish_one_decision_more_is_made_and_not_carried_out(loaded):
    assert trace(loaded, finish=False).viewpoints.tolist() == [loaded.setting.tables.index("beta", "b0")]
    found = trace(loaded, 0, finish=False)
    assert len(found.viewpoints) == len(found.headings_rad) == len(found.decisions) == 2
    assert [decision.forced for decision in found.decisions] == [True, False]


def test_after_as_many_actions_as_an_evaluation_allows_there_is_still_a_decision(loaded):
    tables = loaded.setting.tables
    back = tables.neighbor[tables.index("beta", "b1")].tolist().index(tables.index("beta", "b0"))
    actions = [0, back] * loaded.header["max_action"]
    found = trace(loaded, *actions)
    assert len(found.decisions) == len(actions) + 1


def test_a_forced_stop_ends_the_walk(loaded):
    for finish in (True, False):
        found = trace(loaded, 0, 3, finish=finish)  # b1 has three neighbors
        assert len(found.viewpoints) == len(found.decisions) == 2
        assert all(decision.forced for decision in found.decisions)
        assert found.decisions[-1].action == 3


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ((2,), r"action 1 must be from 0 to 1 \(1 stops\) at b0, got 2"),
        ((0, -1), r"action 2 must be from 0 to 3 \(3 stops\) at b1, got -1"),
        ((1, 0), "action 1 of 2 stops, and nothing can follow; take the rest back"),
    ],
)
def test_actions_that_cannot_be_taken_are_refused(loaded, actions, message):
    with pytest.raises(InputError, match=message):
        trace(loaded, *actions)


def test_an_unknown_start_is_refused(loaded):
    with pytest.raises(InputError, match="scan beta has no included viewpoint 'zz'"):
        trace(loaded, start="zz")
    with pytest.raises(InputError, match="unknown scan 'omega'"):
        trace_instruction(loaded, "omega", "b0", 0.0, "Go.", "en")
