"""Runs that are killed, stopped, locked, short of disk, damaged or diverging: nothing that was finished is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.killed_runs import assert_same, contents
from tests.test_checkpoint_run import StoppedError, make_stage, open_run, stop_after
from tests.toy_world import toy_setting
from vln_clip import checkpoint, log, recipe
from vln_clip.errors import InputError
from vln_clip.run import LAST
from vln_clip.signals import EXIT_STATUS, StopRequestedError, StopRequests
from vln_clip.snapshots import DAMAGED
from vln_clip.training import run_stage

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    return toy_setting(tmp_path, monkeypatch)


def train_whole(toy, folder, kind="follower"):
    """Return the folder of a run of one stage that nothing stopped."""
    run = open_run(folder)
    run_stage(run, make_stage(toy, kind))
    run.close()
    return run.folder


def stop_in(stage, count, stops):
    """Let a signal come in the midst of a step."""
    learn, calls = stage.learn, iter(range(1000))

    def stopped():
        if next(calls) == count:
            stops.requested = "SIGTERM"
        return learn()

    return replace(stage, learn=stopped)


# ---- stopped by signals


@pytest.mark.parametrize("kind", ["follower", "back_translated"])
def test_a_signal_between_validations_loses_no_step(toy, tmp_path, kind):
    whole = train_whole(toy, tmp_path / "whole", kind)
    for count, iteration in ((2, 3), (0, 4), (2, 7)):  # 3 and 7: between validations; 4: one is due
        run = open_run(tmp_path / "parts")
        with pytest.raises(StopRequestedError, match="SIGTERM"):
            run_stage(run, stop_in(make_stage(toy, kind), count, run.stops))
        run.close()
        header = checkpoint.load(run.checkpoint(kind, LAST)).header
        assert (header["iteration"], header["since"]) == (iteration, iteration % 2 or 2)
        assert header["sums"].keys() > {"loss/imitation"}
    run = open_run(tmp_path / "parts")
    run_stage(run, make_stage(toy, kind))
    run.close()
    assert_same(run.folder, whole)


def test_a_signal_in_a_validation_stops_it(toy, tmp_path):
    whole, run = train_whole(toy, tmp_path / "whole"), open_run(tmp_path / "parts")
    stage = make_stage(toy, "follower")

    def validate():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        raise AssertionError("the signal has stopped it")

    with run.stops, pytest.raises(StopRequestedError):
        run_stage(run, replace(stage, validate=validate))
    run.close()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert checkpoint.load(run.checkpoint("follower", LAST)).header["since"] == 2
    run = open_run(tmp_path / "parts")
    run_stage(run, make_stage(toy, "follower"))
    run.close()
    assert_same(run.folder, whole)


def test_a_validation_that_was_due_is_logged_once(toy, tmp_path, monkeypatch):
    # Stopped with a validation due, then killed between its line in the metrics and its checkpoint.
    run = open_run(tmp_path)
    with pytest.raises(StopRequestedError):
        run_stage(run, stop_in(make_stage(toy, "follower"), 1, run.stops))
    run.close()
    run = open_run(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("vln_clip.snapshots.Snapshots.save", raising(StoppedError()))
        with pytest.raises(StoppedError):
            run_stage(run, make_stage(toy, "follower"))
    run.close()
    assert len((run.folder / "metrics.jsonl").read_text().splitlines()) == 1
    run = open_run(tmp_path)
    run_stage(run, make_stage(toy, "follower"))
    run.close()
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 4, 6, 8]


def raising(error):
    """Return a function that raises."""

    def run(*_, **__):
        raise error

    return run


def test_a_second_signal_kills_at_once():
    code = (
        "import os, signal, time\n"
        "from vln_clip.signals import StopRequests\n"
        "with StopRequests() as stops, stops.deferred():\n"
        "    for _ in range(2):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(5)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM
    assert done.stderr == "SIGTERM: saving after this step; once more kills at once\n"


@pytest.mark.parametrize("frame", ["with StopRequests():", "with interruptible():"])
def test_a_signal_in_the_midst_of_an_import_waits_for_its_end(tmp_path, frame):
    (tmp_path / "slow_module.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.2)\nprint('imported', flush=True)\n"
    )
    code = (
        "import sys, time\n"
        "from vln_clip.signals import StopRequests, interruptible\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "try:\n"
        f"    {frame}\n"
        "        import slow_module\n"
        "        time.sleep(20)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["imported", "stopped"]


def test_a_stopped_program_exits_with_a_status_of_its_own(own_world, monkeypatch, capsys):
    log.setup()
    learner = recipe.envdrop.FollowerLearner
    learn = learner.__call__

    def stopping(self):
        os.kill(os.getpid(), signal.SIGINT)
        return learn(self)

    with monkeypatch.context() as patched:
        patched.setattr(learner, "__call__", stopping)
        with pytest.raises(SystemExit) as stopped:
            own_world.train()
    assert stopped.value.code == EXIT_STATUS == 75
    assert "stopped by SIGINT: the same command goes on with" in capsys.readouterr().err
    assert checkpoint.load(own_world.runs / "toy" / "checkpoints" / "follower" / LAST).header["iteration"] == 1


def test_an_error_that_a_signal_caused_in_a_library_is_a_stop(own_world, monkeypatch):
    def read(*_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except StopRequestedError:
            raise InputError("a file can't be read") from None  # as a library would say

    monkeypatch.setattr(recipe, "open_job", read)
    with pytest.raises(SystemExit) as stopped:
        own_world.train()
    assert stopped.value.code == EXIT_STATUS


def test_signals_are_left_alone_outside_the_main_thread():
    import threading

    before, found = signal.getsignal(signal.SIGTERM), []

    def enter():
        with StopRequests() as stops:
            found.append((signal.getsignal(signal.SIGTERM), stops.requested))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(before, None)]


# ---- saved between validations


def test_saving_between_validations_changes_nothing(toy, tmp_path):
    whole, often = train_whole(toy, tmp_path / "whole"), open_run(tmp_path / "often", save_every_min=0.0)
    stage, seen = make_stage(toy, "follower"), []
    learn, last = stage.learn, often.checkpoint("follower", LAST)

    def looking():
        if (last / checkpoint.FILE).is_file():
            seen.append(checkpoint.load(last).header["iteration"])
        return learn()

    with pytest.raises(StoppedError):
        run_stage(often, replace(stop_after(replace(stage, learn=looking), 5)))
    assert seen == [1, 2, 3, 4]
    run_stage(often, make_stage(toy, "follower"))
    often.close()
    ours, theirs = contents(often.folder), contents(whole)
    assert ours.pop("config.json") != theirs.pop("config.json")
    assert ours == theirs


# ---- damaged checkpoints


def truncated(data):
    return data[:-50]


def flipped(data):
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]


@pytest.mark.parametrize("damage", [truncated, flipped, lambda data: b"", lambda data: b"\xff" * 100])
def test_the_checkpoint_before_stands_in_for_a_damaged_one(toy, tmp_path, damage, caplog, monkeypatch):
    monkeypatch.setattr("vln_clip.log.logger.propagate", True)
    whole, run = train_whole(toy, tmp_path / "whole"), open_run(tmp_path / "parts")
    with pytest.raises(StoppedError):
        run_stage(run, stop_after(make_stage(toy, "follower"), 5))
    file = run.checkpoint("follower", LAST) / checkpoint.FILE
    bad = damage(file.read_bytes())
    file.write_bytes(bad)
    run_stage(run, make_stage(toy, "follower"))
    run.close()
    assert "last/checkpoint.safetensors must be a checkpoint of this package, but can't be read" in caplog.text
    assert "going on from the one before, of iteration 2" in caplog.text
    kept = run.checkpoint("follower", DAMAGED) / checkpoint.FILE
    assert kept.read_bytes() == bad
    kept.unlink()
    assert_same(run.folder, whole)


def test_without_a_checkpoint_before_a_damaged_one_is_told(toy, tmp_path):
    run = open_run(tmp_path)
    with pytest.raises(StoppedError):
        run_stage(run, stop_after(make_stage(toy, "follower"), 3))
    (run.checkpoint("follower", LAST) / checkpoint.FILE).write_bytes(b"")
    with pytest.raises(
        InputError, match=r"can't be read: .*; there is no earlier one .* or remove .*follower to train"
    ):
        run_stage(run, make_stage(toy, "follower"))
    run.close()


def test_two_damaged_checkpoints_are_told_with_what_to_do(toy, tmp_path):
    run = open_run(tmp_path)
    with pytest.raises(StoppedError):
        run_stage(run, stop_after(make_stage(toy, "follower"), 5))
    for which in (LAST, "previous"):
        (run.checkpoint("follower", which) / checkpoint.FILE).write_bytes(b"")
    with pytest.raises(
        InputError, match=r"last/.*; neither can \S+previous, the one before: bring one of them back, or"
    ):
        run_stage(run, make_stage(toy, "follower"))
    run.close()


def test_a_damaged_best_checkpoint_is_told_before_hours_of_training(toy, tmp_path):
    run = open_run(tmp_path)
    scores = iter([0.5, 0.2, 0.1, 0.1])
    validate = {"validate": lambda: {"val_seen": {"success_rate": next(scores), "nav_error": 1.0}}}
    with pytest.raises(StoppedError):
        run_stage(run, stop_after(replace(make_stage(toy, "follower"), **validate), 5))
    best = run.checkpoint("follower", "best_val_seen") / checkpoint.FILE
    best.write_bytes(flipped(best.read_bytes()))
    with pytest.raises(InputError, match=r"best_val_seen/.*its checksum is another.*; bring it back, or remove .*anew"):
        run_stage(run, make_stage(toy, "follower"))
    run.close()


def test_damaged_results_are_told_with_what_to_do(own_world):
    run = own_world.train("--no-blind")
    whole = (run / "results.json").read_bytes()
    (run / "results.json").write_bytes(b"")
    with pytest.raises(InputError, match=r"results.json must be JSON, but: .*; remove it, and the same command"):
        own_world.train("--no-blind")
    (run / "results.json").unlink()
    own_world.train("--no-blind")
    assert (run / "results.json").read_bytes() == whole


@pytest.mark.parametrize("lost", ["best_val_seen/checkpoint.safetensors", "best_val_seen/checkpoint.json", LAST])
def test_what_a_kill_came_before_is_made_up_for(toy, tmp_path, lost):
    run = open_run(tmp_path)
    perfect = {"validate": lambda: {"val_seen": {"success_rate": 1.0, "nav_error": 0.0}}}
    run_stage(run, replace(make_stage(toy, "follower", iters=2), **perfect))
    before = contents(run.folder)
    folder = run.folder / "checkpoints" / "follower"
    (folder / (f"{LAST}/checkpoint.json" if lost == LAST else lost)).unlink()
    run_stage(run, replace(make_stage(toy, "follower", iters=2), **perfect))
    run.close()
    assert contents(run.folder) == before


# ---- locked, read-only and full folders


def test_a_second_process_is_refused_until_the_first_one_dies(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom vln_clip.lock import FolderLock\n"
        "lock = FolderLock(Path(sys.argv[1]))\nprint('locked', flush=True)\ntime.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(
            InputError, match=rf"x is being trained by process {first.pid} on \S+ since .*; wait for it"
        ):
            open_run(tmp_path)
        first.kill()
    run = open_run(tmp_path)
    assert json.loads((run.folder / ".lock").read_text())["pid"] == os.getpid()
    run.close()
    assert not (run.folder / ".lock").exists()


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    run = open_run(tmp_path)
    run.close()
    left = run.folder / "checkpoints" / ".checkpoint.safetensors.123.tmp"
    left.parent.mkdir()
    left.write_bytes(b"half")
    open_run(tmp_path).close()
    assert not left.exists()


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "x").write_text("a file")  # root may write into read-only folders, but nobody into a file
    with pytest.raises(InputError, match=r"run folder \S+x cannot be written: .*; make room there or let it be"):
        open_run(tmp_path)


def small_disk(folder, size):
    """Mount a small disk, or skip the test."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's writer
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_told_and_loses_nothing(toy, tmp_path):
    whole, disk = train_whole(toy, tmp_path / "whole"), tmp_path / "disk"
    small_disk(disk, "1m")
    try:
        run = open_run(disk)
        with pytest.raises(StoppedError):
            run_stage(run, stop_after(make_stage(toy, "follower"), 3))
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(b"0" * 2_000_000)
        with pytest.raises(InputError, match=r"cannot be written( to)?: .*[Nn]o space left on device"):
            run_stage(run, make_stage(toy, "follower"))
        run.close()
        filler.unlink()
        run = open_run(disk)
        run_stage(run, make_stage(toy, "follower"))
        run.close()
        ours, theirs = contents(run.folder), contents(whole)
        assert ours.pop("config.json")
        assert theirs.pop("config.json")
        assert ours == theirs
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
