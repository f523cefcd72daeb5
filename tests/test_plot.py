"""Learning curves: reading runs, grouping by configuration, intervals over seeds, pictures, tables, messages."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vln_clip import log, plot
from vln_clip.config import PRESETS
from vln_clip.curves import Curve, group_runs, half_width, make_curve, read_run
from vln_clip.curves_figure import make_figure
from vln_clip.errors import InputError

# Three seeds: success rates 0.1, 0.2, 0.3 at iteration 10; 0.4, 0.5, 0.6 at 20; 0.3, 0.7, 0.5 at 30.
RATES = {1: (0.1, 0.4, 0.3), 2: (0.2, 0.5, 0.7), 3: (0.3, 0.6, 0.5)}
T_2 = 4.302653  # 97.5 % quantile of Student's t with 2 degrees of freedom


def write_run(folder, rates, *, seed=1, stage="follower", **changes):
    """Write what a run leaves behind: its configuration and, at every tenth iteration, its numbers."""
    config = replace(PRESETS["demo"], seed=seed, name=folder.name, runs=folder.parent, **changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_json()))
    with (folder / "metrics.jsonl").open("a") as file:
        for k, rate in enumerate(rates, 1):
            row = {"stage": stage, "iteration": 10 * k, "loss/imitation": 2.0 / k, "loss/policy": 0.1 * k}
            row |= {f"val_unseen/{name}": rate for name in ("success_rate", "spl", "ndtw")}
            row |= {"val_seen/success_rate": rate / 2, "val_unseen/nav_error": 10 * (1 - rate)}
            file.write(json.dumps(row) + "\n")
    return folder


@pytest.fixture
def runs(tmp_path):
    return [write_run(tmp_path / f"s{seed}", rates, seed=seed) for seed, rates in RATES.items()]


def groups_of(folders, by=()):
    return group_runs([read_run(folder) for folder in folders], by)


def run_plot(*words):
    log.program(plot.main, [str(word) for word in words])


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        run_plot(*words)
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_runs_that_differ_in_their_seed_alone_are_one_curve(runs):
    (group,) = groups_of(runs)
    curve = make_curve(group, "follower", "val_unseen/success_rate")
    assert group.label == "clip_rn50x4"
    assert curve.iterations.tolist() == [10, 20, 30]
    np.testing.assert_allclose(curve.mean, [0.2, 0.5, 0.5])
    # Standard deviations 0.1, 0.1 and 0.2 (of 0.3, 0.7, 0.5), over the root of 3.
    np.testing.assert_allclose(curve.half_width, T_2 * np.array([0.1, 0.1, 0.2]) / np.sqrt(3), rtol=1e-6)
    assert curve.best.tolist() == [20, 30, 20]


def test_one_run_has_no_interval():
    assert np.isnan(half_width(np.ones((1, 4)))).all()


def test_a_shorter_run_ends_the_curve(runs, tmp_path, capsys):
    runs.append(write_run(tmp_path / "s4", (0.4, 0.4), seed=4))
    (group,) = groups_of(runs)
    assert make_curve(group, "follower", "val_unseen/spl").iterations.tolist() == [10, 20]
    run_plot(*runs)
    assert "s4 is at iteration 20 of it: the curve ends there" in capsys.readouterr().err


def test_labels_are_made_of_what_differs(tmp_path):
    folders = [
        write_run(tmp_path / "a", (0.1,), features="pixels"),
        write_run(tmp_path / "b", (0.1,), features="none"),
        write_run(tmp_path / "c", (0.1,), features="pixels", bt=True),
        write_run(tmp_path / "d", (0.1,), features="pixels", seed=2),
    ]
    assert [group.label for group in groups_of(folders)] == ["pixels, no bt", "blind, no bt", "pixels, bt"]
    assert [group.label for group in groups_of(folders[1:3], ["features"])] == ["blind", "pixels"]
    pooled = groups_of(folders, ["features"])
    assert [(group.label, len(group.runs)) for group in pooled] == [("pixels", 3), ("blind", 1)]
    (everything,) = groups_of(folders, ["dataset"])
    assert (everything.label, len(everything.runs)) == ("demo", 4)
    lr = write_run(tmp_path / "e", (0.1,), features="pixels", follower=replace(PRESETS["demo"].follower, lr=0.5))
    assert [group.label for group in groups_of([folders[0], lr])] == ["lr 0.001", "lr 0.5"]


def test_places_and_settings_that_came_later_do_not_part_runs(runs):
    file = runs[1] / "config.json"
    config = json.loads(file.read_text())
    config["device"], config["runs"] = "cuda", "elsewhere"
    del config["cross_check"], config["model"]["pool_padding"]
    file.write_text(json.dumps(config))
    assert len(groups_of(runs)) == 1


def test_running_means_are_shorter_at_the_ends():
    values = np.array([[0.0, 3.0, 6.0, 0.0]])
    curve = Curve("x", "follower", "loss/word", np.arange(4), values, np.array([-1]))
    assert curve.smoothed(3).values.tolist() == [[1.5, 3.0, 3.0, 3.0]]
    assert curve.smoothed(1).values.tolist() == values.tolist()


def test_the_csv_has_every_point(runs, tmp_path):
    run_plot(*runs, "--csv", tmp_path / "deep" / "curves.csv", "--metric", "success_rate", "loss/imitation")
    rows = list(csv.DictReader((tmp_path / "deep" / "curves.csv").open()))
    names = [("val_unseen", "success_rate"), ("val_seen", "success_rate"), ("loss", "imitation")]
    assert [(row["split"], row["metric"]) for row in rows] == [name for name in names for _ in range(3)]
    first = rows[0]
    assert (first["curve"], first["stage"], first["iteration"], first["n"]) == ("clip_rn50x4", "follower", "10", "3")
    low, mean, high = (float(first[name]) for name in ("low", "mean", "high"))
    assert mean == pytest.approx(0.2)
    assert high - mean == pytest.approx(mean - low) == pytest.approx(T_2 * 0.1 / np.sqrt(3))
    run_plot(runs[0], "--csv", tmp_path / "one.csv")
    assert {row["low"] for row in csv.DictReader((tmp_path / "one.csv").open())} == {""}


def test_the_table_tells_best_and_last_values_and_where(runs, capsys):
    run_plot(*runs, runs[0], "--metric", "success_rate", "nav_error", "--split", "val_unseen")  # doubles count once
    found = capsys.readouterr()
    rate = next(line for line in found.out.splitlines() if "SR %" in line)
    cells = [cell.strip() for cell in re.split("[│┃]", rate)[1:-1]]
    # Best: 40, 70 and 60 at 20, 30 and 20 (standard deviation 15.2753); last: 30, 70 and 50 (20).
    best = f"56.7 ± {T_2 * 15.2753 / np.sqrt(3):.1f}"
    last = f"50.0 ± {T_2 * 20 / np.sqrt(3):.1f}"
    assert cells == ["val_unseen SR %", "clip_rn50x4", "3", best, "20…30", best, "20…30", last, "30"]
    error = next(line for line in found.out.splitlines() if "NE m" in line)
    assert "4.33 ±" in error  # the smallest is best
    assert "--out curves.png" in found.err


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_curves_are_drawn(runs, tmp_path, ending):
    blind = write_run(tmp_path / "blind", (0.1, 0.2), features="none")
    out = tmp_path / "pictures" / f"curves.{ending}"
    run_plot(*runs, blind, "--out", out, "--smooth", "3")
    content = out.read_bytes()
    if ending == "png":
        picture = np.asarray(Image.open(out).convert("RGB")).reshape(-1, 3)
        for color in ((0, 114, 178), (213, 94, 0)):  # a line each
            assert (np.abs(picture.astype(int) - color).sum(1) < 10).sum() > 100
    if ending == "svg":
        words = " ".join(re.findall(r"<text[^>]*>(.*?)</text>", content.decode()))
        said = ("clip_rn50x4 (n = 3)", "blind (n = 1)", "95 % t-interval", "best checkpoint of each run", "SR %")
        assert all(text in words for text in (*said, "val_unseen", "val_seen", "running means over 3 validations"))
        run_plot(*runs, blind, "--out", out, "--smooth", "3")
        assert out.read_bytes() == content
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_panels_show_every_curve_and_no_impossible_value(tmp_path):
    # On val_seen the curves lie elsewhere; the intervals of two seeds reach below 0 and above 100 %.
    def curve(split, values):
        return Curve("x", "follower", f"{split}/spl", np.arange(2), np.array(values), np.array([-1, -1]))

    panels = [[curve("val_unseen", [[0.0, 0.1], [0.2, 0.3]])], [curve("val_seen", [[0.7, 0.9], [0.9, 0.95]])]]
    figure = make_figure(panels, 2, "", 1)
    for axis in figure.axes:
        low, high = axis.get_ylim()
        assert -10 < low <= 0
        assert 92.5 < high < 110
        (line,) = (line for line in axis.lines if len(line.get_xdata()) == 2)
        assert low < min(line.get_ydata()) < max(line.get_ydata()) < high


def test_a_single_run_has_no_band_to_explain(runs, tmp_path):
    run_plot(runs[0], "--out", tmp_path / "one.svg", "--metric", "loss")
    text = (tmp_path / "one.svg").read_text()
    assert "t-interval" not in text
    assert "loss/imitation" in text
    assert "loss/policy" in text


def test_stages_stand_beside_each_other(runs, tmp_path):
    write_run(runs[0], (0.5, 0.8), stage="back_translated")
    run_plot(runs[0], "--stage", "follower", "back_translated", "--out", tmp_path / "two.svg")
    text = (tmp_path / "two.svg").read_text()
    assert "clip_rn50x4, follower (n = 1)" in text
    assert "clip_rn50x4, back_translated (n = 1)" in text


def test_the_speaker_s_loss_is_of_splits_and_of_learning(runs):
    present = ["loss/word", "val_unseen/bleu", "val_unseen/loss", "val_seen/bleu", "val_seen/loss"]
    of_splits = ["val_unseen/loss", "val_seen/loss"]
    config = plot.PlotConfig((runs[0],))
    assert plot.choose_keys(config, present) == (["val_unseen/bleu", "val_seen/bleu", *of_splits], 2)
    assert plot.choose_keys(replace(config, metric=("loss",)), present) == ([*of_splits, "loss/word"], 1)


def test_a_run_that_is_being_written_is_read_as_far_as_it_is(runs):
    with (runs[0] / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "follower", "iter')
    assert len(read_run(runs[0]).stages["follower"]) == 3
    with (runs[0] / "metrics.jsonl").open("a") as file:
        file.write("\n{}\n")
    with pytest.raises(InputError, match=r"metrics.jsonl, line 4, must be an object with a stage, an iteration and"):
        read_run(runs[0])


@pytest.mark.parametrize(
    "line",
    [
        b"[1]",
        b"\xff\x00",
        b"",
        b'{"stage": ["follower"], "iteration": 2}',
        b'{"stage": "follower", "val_unseen/spl": 0.5}',
        b'{"stage": "follower", "iteration": "2"}',
        b'{"stage": "follower", "iteration": 2, "val_unseen/spl": null}',
    ],
)
def test_a_damaged_line_is_named(runs, line):
    file = runs[0] / "metrics.jsonl"
    file.write_bytes(line + b"\n" + file.read_bytes())
    with pytest.raises(InputError, match=r"metrics.jsonl, line 1, must be an object with a stage, an iteration and"):
        read_run(runs[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metric", "sucess_rate"], "--metric must be one of success_rate, .*; did you mean 'success_rate'?"),
        (["--metric", "loss/imitate"], "--metric must be one of loss/imitation, loss/policy, .* mean 'loss/imitation'"),
        (["--split", "unseen"], "--split must be one of val_unseen, val_seen, got 'unseen'; did you mean 'val_unseen'"),
        (["--stage", "speaker"], "--stage must be one of follower, got 'speaker'"),
        (["--group-by", "feature"], "--group-by must be one of .* got 'feature'; did you mean 'features'"),
        (["--smooth", "2"], "--smooth must be an odd number of validations, 1 for none, got 2"),
        (["--out", "curves.jpg"], "--out must name a file that ends in .png, .svg, .pdf, got curves.jpg"),
    ],
)
def test_wrong_flags_are_told(runs, capsys, words, message):
    assert re.search(message, refused(capsys, *runs, *words))


def test_wrong_runs_are_told(runs, tmp_path, capsys):
    assert re.search(
        r"nowhere must be a run's folder .* runs beside it are s1, s2, s3", refused(capsys, tmp_path / "nowhere")
    )
    assert re.search(r"but holds runs \(s1, s2, s3\); name them, e.g. \S+/\*", refused(capsys, tmp_path))
    copy = write_run(tmp_path / "copy", (0.1,), seed=1)
    assert "vln-clip plot needs the folder of a run, got none" in refused(capsys)
    assert re.search(r"must have different seeds, got \S+/s1 and \S+/copy with seed 1", refused(capsys, *runs, copy))
    other = write_run(tmp_path / "other", (0.1,), dataset="r2r")
    message = refused(capsys, *runs, other)
    assert re.search(r"runs must be of one data set, got \S+/s1 of demo and \S+/other of r2r", message)
    begun = write_run(tmp_path / "begun", (), seed=9)
    assert "begun/metrics.jsonl must hold the numbers of a validation" in refused(capsys, begun)
    (begun / "metrics.jsonl").unlink()
    assert "begun has no metrics.jsonl: the run has not come to its first validation" in refused(capsys, begun)
    (runs[0] / "config.json").write_text("[")
    assert "s1/config.json must be a run's configuration" in refused(capsys, runs[0])


def test_runs_on_other_annotations_are_not_compared(runs, capsys):
    for run, sha256 in zip(runs, ("a", "b", "a"), strict=True):
        folder = run / "checkpoints" / "follower" / "last"
        folder.mkdir(parents=True)
        (folder / "checkpoint.json").write_text(json.dumps({"data": {"val_unseen": {"sha256": sha256}}}))
    message = refused(capsys, *runs)
    assert re.search(
        r"same annotations, but \S+/s1 and \S+/s2 have other files of val_unseen; plot them apart", message
    )


def test_features_that_stood_in_are_named(tmp_path):
    run = write_run(tmp_path / "a", (0.1,), features="clip_rn50x4")
    header = run / "checkpoints" / "follower" / "last" / "checkpoint.json"
    header.parent.mkdir(parents=True)
    header.write_text('{"data": {}, "features": "pixels standing in for clip_rn50x4"}')
    (group,) = groups_of([run])
    assert group.label == "pixels standing in for clip_rn50x4"
