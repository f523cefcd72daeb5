"""R2R-CE and RxR-CE through the programs: scored on the graph, submitted as positions."""

import gzip
import json

import pytest
import torch

from tests.test_bad_input import refused
from tests.toy_world import ALPHA, use_world
from vln_clip import evaluate, submit
from vln_clip.errors import InputError
from vln_clip.records import Prediction
from vln_clip.setting import NO_WORDS, open_setting
from vln_clip.tasks.submission import write_submission


def test_episodes_are_a_data_set_like_any_other(tmp_path, monkeypatch, capsys):
    # The toy building alpha: cameras at 1.5 m, so floors at 0 (Habitat: y 0, z = -y of Matterport).
    data = use_world(tmp_path, monkeypatch)
    items = []
    for number, (path, language) in enumerate([("a0 a1 a2 a4", "en-US"), ("a7 a5 a6", "hi-IN")]):
        places = [ALPHA[name] for name in path.split()]
        reference = [[x, 0.0, -y] for x, y, _ in places]
        items.append(
            {
                "episode_id": 70 + number,
                "trajectory_id": number,
                "scene_id": "mp3d/alpha/alpha.glb",
                "start_position": reference[0],
                "start_rotation": [0.0, 0.0, 0.0, 1.0],
                "info": {"geodesic_distance": 5.0},
                "goals": [{"position": reference[-1], "radius": 3.0}],
                "reference_path": reference,
                "instruction": {
                    "instruction_text": "Walk to the kitchen.",
                    "instruction_id": 500 + number,
                    "language": language,
                },
            }
        )
    for folder, ending in (("R2R-CE", ""), ("RxR-CE", "_guide")):
        file = data / folder / "val_unseen" / f"val_unseen{ending}.json.gz"
        file.parent.mkdir(parents=True)
        file.write_bytes(gzip.compress(json.dumps({"episodes": items}).encode()))
    ours = open_setting("rxr-ce", ["val_unseen"], torch.device("cpu"), vocabulary=NO_WORDS)
    table = ours.table("val_unseen")
    assert [episode.instr_id for episode in table.episodes] == ["500", "501"]
    assert [episode.path for episode in table.episodes] == [("a0", "a1", "a2", "a4"), ("a7", "a5", "a6")]
    assert table.has_goals
    hindi = open_setting("rxr-ce", ["val_unseen@2"], torch.device("cpu"), vocabulary=NO_WORDS, language="hi")
    assert [episode.instr_id for episode in hindi.splits["val_unseen@2"].episodes] == ["501"]

    walks = [Prediction(e.instr_id, tuple((v, 0.0, 0.0) for v in e.path)) for e in table.episodes]
    split = ours.splits["val_unseen"]
    write_submission(tmp_path / "a.jsonl", walks, "rxr-habitat", split, ours.tables)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines[1] == {"instruction_id": 501, "path": [[5.0, 0.0, -2.0], [5.0, 0.0, -5.0], [5.0, 0.0, -7.5]]}
    flags = ["--dataset", "rxr-ce", "--split", "val_unseen"]
    submit.main([*flags, "--validate", str(tmp_path / "a.jsonl")])
    with pytest.raises(InputError, match="must be JSON, but: Extra data: line 2"):
        submit.main(["--dataset", "r2r-ce", "--split", "val_unseen", "--validate", str(tmp_path / "a.jsonl")])
    with pytest.raises(InputError, match="--format rxr-habitat holds positions"):
        write_submission(tmp_path / "b.jsonl", walks, "rxr-habitat")
    # A discrete agent's prediction file is scored on them, and becomes R2R-CE's file.
    predicted = [
        {"instr_id": str(70 + k), "trajectory": [[v, 0.0, 0.0] for v in e.path]} for k, e in enumerate(table.episodes)
    ]
    (tmp_path / "discrete.json").write_text(json.dumps(predicted))
    evaluate.main(
        [
            "--dataset",
            "r2r-ce",
            "--predictions",
            str(tmp_path / "discrete.json"),
            "--json",
            str(tmp_path / "found.json"),
        ]
    )
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["success_rate"], found["ndtw"], found["num_instructions"]) == (1.0, 1.0, 2)
    source, out = str(tmp_path / "discrete.json"), str(tmp_path / "ce.json")
    submit.main(["--dataset", "r2r-ce", "--split", "val_unseen", "--from", source, "--out", out])
    assert set(json.loads((tmp_path / "ce.json").read_text())) == {"70", "71"}
    # What cannot be written is told in one sentence, before a file is.
    for change, message in (
        ({"instr_id": "72"}, "item 0: id 72 must be of split val_unseen, but is of no split of r2r-ce"),
        (
            {"trajectory": [["a0", 0.1 * k, 0.0] for k in range(501)]},
            "states of 70 must be the initial one and at most",
        ),
    ):
        (tmp_path / "discrete.json").write_text(json.dumps([predicted[0] | change, predicted[1]]))
        out = tmp_path / "refused.json"
        flags = ["--dataset", "r2r-ce", "--split", "val_unseen", "--from", source, "--out", out]
        assert message in refused(capsys, submit.main, flags)
        assert not out.exists()
    with pytest.raises(InputError, match=r"got 1 that are not in .*_guide\.json\.gz \(72\); is it the right split"):
        write_submission(tmp_path / "b.jsonl", [Prediction("72", walks[0].trajectory)], "r2r-ce", split, ours.tables)
