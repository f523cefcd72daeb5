"""Several ranks: their shares, joint batches and losses, errors that all hear of. Threads stand in for processes."""

import pytest
import torch

from tests.rank_work import CPU, KINDS, Threaded, gradients, in_threads, open_toy, walks, weights_after
from tests.test_rescoring import talker
from tests.test_search import opinionated
from tests.toy_runs import World
from tests.toy_world import use_world
from vln_clip import envdrop, launch
from vln_clip.errors import InputError
from vln_clip.launch import launched, muted_elsewhere, one_voice
from vln_clip.ranks import ALONE, JointError, LostRankError, Ranks
from vln_clip.rollout import greedy
from vln_clip.searched import search_split
from vln_clip.searching import Search


@pytest.fixture
def toy(tmp_path, monkeypatch):
    use_world(tmp_path, monkeypatch)
    return open_toy()


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_the_shares_of_all_ranks_are_all_rows_once(world):
    rows = torch.randperm(13, generator=torch.Generator().manual_seed(0))
    shares = [Ranks(rank, world).share(rows) for rank in range(world)]
    assert sorted(torch.cat(shares).tolist()) == list(range(13))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("count", [0, 1, 7, 8])
def test_dealt_items_come_back_in_their_order(count):
    def work(ranks):
        return ranks.gather_dealt([item * 10 for item in ranks.deal(list(range(count)))])

    assert in_threads(3, work) == [[item * 10 for item in range(count)]] * 3
    assert work(ALONE) == [item * 10 for item in range(count)]


def test_alone_nothing_is_copied_or_sent():
    values, model = torch.ones(3), torch.nn.Linear(2, 1)
    model.weight.grad = grad = torch.ones(1, 2)
    ALONE.sum_gradients(model)
    assert ALONE.sum(values) is values
    assert ALONE.share(values) is values
    assert model.weight.grad is grad
    assert ALONE.any(True, False) == [True, False]
    assert ALONE.from_main(lambda: 3) == ALONE.first_here(lambda: 3) == 3


def test_every_rank_draws_numbers_of_its_own():
    def draw(ranks, seed=100):
        return tuple(torch.rand(4, generator=ranks.generator(seed, CPU)).tolist())

    several = [draw(Ranks(rank, 3)) for rank in range(3)]
    assert len({*several, draw(ALONE), draw(Ranks(0, 3), 101)}) == 5
    assert draw(ALONE) == tuple(torch.rand(4, generator=torch.Generator().manual_seed(100)).tolist())
    assert draw(Ranks(1, 3)) == several[1]


def test_ranks_find_together_what_one_finds_in_a_search(toy):
    setting, world = toy
    table, follower, speaker = setting.table("val_unseen"), opinionated(setting), talker(setting)

    def find(ranks):
        found = search_split(world, follower, table, Search(), speaker, batch_size=5, ranks=ranks)  # 3 batches
        return {"speaker": found.speaker, "explored": found.explored, "rows": found.rows, **vars(found.found)}

    wanted = find(ALONE)
    assert wanted["rows"].tolist() == list(range(12))
    for found in in_threads(2, find) + in_threads(4, find):
        assert all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("kind", KINDS)
def test_summed_gradients_are_those_of_the_joint_batch(toy, monkeypatch, kind):
    monkeypatch.setattr(envdrop, "sampled", lambda generator: greedy)
    wanted, numbers = gradients(toy, ALONE, kind)
    for found, told in in_threads(3, lambda ranks: gradients(toy, ranks, kind)):  # shares of 3, 2 and 2 episodes
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
        assert told == pytest.approx(numbers, rel=1e-4, abs=1e-6)


def test_weights_stay_equal_bit_for_bit_with_dropout_and_sampling(toy):
    first, second = in_threads(2, lambda ranks: weights_after(toy, ranks))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    alone = weights_after(toy, ALONE)
    assert any(not torch.equal(value, alone[name]) for name, value in first.items())  # other dropout


def test_evaluation_is_the_same_in_shares(toy):
    wanted = walks(toy, ALONE)
    for found in in_threads(2, lambda ranks: walks(toy, ranks)):
        assert all((found[name] == array).all() for name, array in wanted.items())


def test_an_error_of_one_rank_is_raised_on_all():
    def fail(ranks):
        with ranks.together():
            if ranks.rank == 1:
                raise InputError("no such file")

    def work(ranks):
        with pytest.raises(JointError, match="no such file"):
            fail(ranks)
        with ranks.together():
            return "went on"

    assert in_threads(2, work) == ["went on", "went on"]


def test_the_first_rank_of_a_machine_works_before_the_others():
    done = []

    def work(ranks):
        return ranks.first_here(lambda: done.append(ranks.rank) or len(done))

    found = in_threads(3, work)
    assert done[0] == 0
    assert found[0] == 1


def test_flags_and_largest_numbers_are_everybodys():
    def work(ranks):
        return ranks.any(ranks.rank == 1, False), ranks.largest(10 * ranks.rank)

    assert in_threads(2, work) == [([True, False], 10)] * 2


def test_a_joint_batch_must_have_a_row_for_every_rank():
    Ranks(0, 4).require_rows("--batch-size", 4)
    with pytest.raises(InputError, match=r"--batch-size must be at least the number of processes, 4, got 3: .*launch"):
        Ranks(0, 4).require_rows("--batch-size", 3)


def test_one_gpu_cannot_be_named_for_several_processes(monkeypatch):
    with launched("cuda:1") as ranks:
        assert ranks is ALONE  # whether there is such a device is looked at later
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(InputError, match="auto, cpu or cuda where several processes are launched, got 'cuda:1'"),
        launched("cuda:1"),
    ):
        pass


@pytest.mark.parametrize(
    ("error", "status"), [(JointError("x"), 2), (LostRankError("x"), 75), (SystemExit(75), 75), (InputError("x"), None)]
)
def test_other_ranks_say_nothing_but_what_they_alone_know(monkeypatch, capsys, error, status):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(launch, "HEARING_S", 0.0)

    def program():
        with one_voice(), muted_elsewhere():
            print("usage: …")
            raise error

    with pytest.raises((SystemExit, InputError)) as caught:
        program()
    if status is None:
        assert str(caught.value) == "x (told by process 1 of 2)"
    else:
        assert caught.value.code == status
    assert capsys.readouterr() == ("", "")


def test_rank_0_tells_that_another_one_is_gone(caplog):
    with pytest.raises(SystemExit) as caught, one_voice():
        raise LostRankError("another process of this run is gone (reset)")
    assert caught.value.code == 75
    assert "is gone (reset); the same command goes on with what was saved" in caplog.text


def test_a_run_of_two_ranks_writes_what_one_process_goes_on_with(tmp_path, monkeypatch):
    """State of both ranks in one file; another number of them draws anew from the same batches."""
    from vln_clip import checkpoint, config, recipe, setting
    from vln_clip.job import open_job
    from vln_clip.run import Run
    from vln_clip.snapshots import Progress, Snapshots

    world = World(tmp_path, monkeypatch)
    words = ["--features", world.features, "--runs", str(world.runs), "--name", "x", "--dataset", "r2r"]
    settings = config.parse([*words, "--hidden-width", "8", "--batch-size", "4"], setting.find_dataset)

    class Told(Threaded):
        def from_main(self, work):
            return self.gather(work() if self.is_main else None)[0]

    def stage_of(ranks):
        run = Run(settings, ranks)
        job = ranks.first_here(lambda: open_job(settings, run))
        return ranks.first_here(lambda: recipe.label_stage(job, "follower", job.world)), run

    def work(ranks):
        ranks = Told(ranks.rank, ranks.world, ranks.local_rank, meeting=ranks.meeting)
        stage, run = stage_of(ranks)
        stage.learn()
        Snapshots(run, stage).save(Progress(1, 1))
        drawn = stage.learn()
        again, _ = stage_of(ranks)  # of one process, which may lock a folder twice
        assert Snapshots(run, again).restore().iteration == 1
        assert again.learn() == drawn  # bit for bit, dropout and sampling of both ranks included
        run.close()
        return drawn

    first, second = in_threads(2, work)
    assert first == second
    saved = checkpoint.load(world.runs / "x" / "checkpoints" / "follower" / "last")
    assert saved.header["ranks"] == 2
    assert not torch.equal(saved.state["generator_0"], saved.state["generator_1"])
    stage, run = stage_of(ALONE)
    assert Snapshots(run, stage).restore().iteration == 1
    assert stage.learn() != first  # the same batch, other noise
    assert torch.equal(stage.samplers["train"].state()["order"], saved.state["sampler_train.order"])
    run.close()
