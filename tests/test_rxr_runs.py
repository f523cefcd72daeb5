"""RxR through the programs: one multilingual model or one language, guides, nDTW checkpoints, submissions."""

import gzip
import json
from dataclasses import replace

import pytest
import torch

from tests.test_bad_input import refused
from tests.toy_runs import SMALL, World
from tests.toy_world import point_to
from vln_clip import checkpoint, config, evaluate, job, log, setting, submit
from vln_clip.errors import InputError
from vln_clip.registry import resolve
from vln_clip.run import Run
from vln_clip.tasks.text import Vocabulary

RXR = ("--dataset", "rxr", "--bt", "--eval-every", "2", "--max-input", "20", "--num-aug-paths", "20")
LANGUAGES = ["en", "hi", "te"]


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory):
    """A finished run on the toy RxR in all languages, with back-translation, guides and the nDTW reward."""
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path_factory.mktemp("rxr"), patch)
        world.train(*RXR, "--teacher", "guide", "--reward", "ndtw", name="all")
        world.train(*RXR, "--language", "hi", name="hi")
    return world


@pytest.fixture
def runs(multilingual, monkeypatch):
    point_to(multilingual.folder, monkeypatch)
    return multilingual


def header(run, stage="follower", which="best_val_unseen"):
    return checkpoint.load(run / "checkpoints" / stage / which).header


def test_results_are_told_language_by_language(runs):
    results = json.loads((runs.runs / "all" / "results.json").read_text())
    assert list(results) == ["train", "val_unseen", "val_seen"]
    rows = results["val_unseen"]
    assert {"follower", "follower_ndtw", "follower_last", "back_translated_ndtw", "blind", "random"} <= set(rows)
    for row in rows.values():
        assert row["num_instructions"] == 32
        counts = {language: found["num_instructions"] for language, found in row["by_language"].items()}
        assert counts == {"en": 16, "hi": 8, "te": 8}
        mean = sum(row["by_language"][name]["ndtw"] * counts[name] for name in LANGUAGES) / 32
        assert row["ndtw"] == pytest.approx(mean)
    assert rows["shortest_path"]["success_rate"] == 1.0
    assert rows["shortest_path"]["ndtw"] < 0.9  # no guide is the shortest path
    alone = json.loads((runs.runs / "hi" / "results.json").read_text())["val_unseen"]["follower"]
    assert alone["num_instructions"] == 8
    assert list(alone["by_language"]) == ["hi"]


def test_checkpoints_are_kept_by_success_and_by_ndtw(runs):
    lines = [json.loads(line) for line in (runs.runs / "all" / "metrics.jsonl").read_text().splitlines()]
    found = [line for line in lines if line["stage"] == "follower"]
    for which, metric in (("best_val_unseen", "success_rate"), ("best_val_unseen_ndtw", "ndtw")):
        best = max(found, key=lambda line, metric=metric: line[f"val_unseen/{metric}"])
        assert header(runs.runs / "all", which=which)["iteration"] == best["iteration"]


def test_one_model_has_tags_and_one_language_has_none(runs):
    words = Vocabulary.from_json(header(runs.runs / "all")["words"])
    assert words.languages == tuple(LANGUAGES)
    assert {"Walk".lower(), "జాइए"} & set(words.words) or "walk" in words.words
    alone = Vocabulary.from_json(header(runs.runs / "hi")["words"])
    assert alone.languages == ()
    assert "जाइए" in alone.words
    assert "walk" not in alone.words
    assert header(runs.runs / "hi")["language"] == "hi"


def test_the_speaker_writes_the_language_it_is_told(runs):
    saved = checkpoint.load(runs.runs / "all" / "checkpoints" / "speaker" / "best_val_unseen_bleu")
    assert saved.header["scores"]["val_unseen"]["bleu"] >= 0
    assert saved.header["words"]["languages"] == LANGUAGES


def test_a_checkpoint_is_evaluated_in_its_languages(runs, tmp_path, capsys):
    out = tmp_path / "found.json"
    evaluate.main(["--checkpoint", str(runs.runs / "hi"), "--json", str(out), "--no-context"])
    assert json.loads(out.read_text())["num_instructions"] == 8
    evaluate.main(["--checkpoint", str(runs.runs / "all"), "--json", str(out), "--language", "te", "--no-context"])
    assert json.loads(out.read_text())["num_instructions"] == 8
    evaluate.main(["--checkpoint", str(runs.runs / "all"), "--json", str(out), "--by", "language"])
    found = json.loads(out.read_text())
    assert found["num_instructions"] == 32
    assert sorted(found["by"]["language"]) == LANGUAGES
    assert {"random", "shortest_path", "blind", "no_instruction"} < set(found["rows"])
    with pytest.raises(InputError, match="--language of the data set rxr must be one of en, hi, te, all, got 'zh'"):
        evaluate.main(["--checkpoint", str(runs.runs / "all"), "--language", "zh"])


@pytest.fixture
def spoken(runs, tmp_path):
    """Return a function that writes the guides' paths of val_unseen in some languages as predictions."""
    packed = (runs.data / "RxR" / "rxr_val_unseen_guide.jsonl.gz").read_bytes()
    guides = [json.loads(line) for line in gzip.decompress(packed).splitlines()]

    def write(*languages):
        chosen = [item for item in guides if item["language"][:2] in languages]
        items = [{"instruction_id": item["instruction_id"], "path": item["path"]} for item in chosen]
        path = tmp_path / f"{'_'.join(languages)}.jsonl"
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
        return path

    return write


def test_results_are_compared_in_the_language_asked_for(runs, tmp_path, capsys):
    out, results = tmp_path / "found.json", runs.runs / "all" / "results.json"
    saved = json.loads(results.read_text())["val_unseen"]["back_translated"]
    words = ["--compare", results, runs.runs / "hi", "--no-context", "--json", out]
    log.program(evaluate.main, [str(word) for word in (*words, "--language", "hi")])
    rows = json.loads(out.read_text())["rows"]
    assert rows["all/back_translated"]["spl"] == saved["by_language"]["hi"]["spl"]
    assert {row["num_instructions"] for row in rows.values()} == {8}
    assert "not over the same instructions" not in capsys.readouterr().err
    log.program(evaluate.main, [str(word) for word in words])
    assert "rows are not over the same instructions: all/back_translated 32, hi 8" in capsys.readouterr().err
    of_hindi = runs.runs / "hi" / "results.json"
    for language, message in (("te", "--language te, got hi only"), ("all", "--language all, got hi only")):
        told = refused(capsys, evaluate.main, ["--compare", results, of_hindi, "--language", language])
        assert f"{of_hindi}: back_translated on val_unseen must have scores for {message}" in told


def test_files_of_single_languages_are_told_apart(spoken, capsys):
    english, hindi = spoken("en"), spoken("hi")
    words = ["--dataset", "rxr", "--no-context"]
    told = refused(capsys, evaluate.main, [*words, "--compare", english, hindi])
    assert "got 16 without one, e.g. " in told
    assert "; nothing is there in hi, te: --language scores a single language" in told
    told = refused(capsys, evaluate.main, [*words, "--allow-missing", "--compare", english, hindi])
    assert (
        "--compare en hi: agents must answer the same instructions to be compared, but 16 instructions in en and "
        "8 instructions in hi share none" in told
    )
    log.program(evaluate.main, [str(word) for word in (*words, "--predictions", english, "--language", "en")])


def test_what_is_converted_holds_the_language_asked_for_and_no_other_split(runs, spoken, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    words = ["--dataset", "rxr", "--from", spoken("en", "hi", "te"), "--out", out, "--split"]
    submit.main([str(word) for word in (*words, "val_unseen", "--language", "hi")])
    assert len(out.read_text().splitlines()) == 8
    out.unlink()
    told = refused(capsys, submit.main, [*words, "train"])
    assert "en_hi_te.jsonl: line 1: id 65 must be of split train, but is of val_unseen (in all 32 of 32" in told
    assert not out.exists()


def test_a_finished_run_and_an_interrupted_one_go_on(runs, tmp_path, monkeypatch, capsys):
    before = (runs.runs / "hi" / "results.json").read_bytes()
    runs.train(*RXR, "--language", "hi", name="hi")
    assert (runs.runs / "hi" / "results.json").read_bytes() == before
    with pytest.raises(InputError, match="another configuration: language is 'te' now and was 'hi'"):
        runs.train(*RXR, "--language", "te", name="hi")


def test_unknown_languages_are_refused_before_any_work(own_world):
    with pytest.raises(InputError, match="--language of the data set rxr must be one of en, hi, te, all, got 'fr'"):
        own_world.train("--dataset", "rxr", "--language", "fr", name="fr")
    with pytest.raises(InputError, match="--language of the data set r2r must be one of en, all, got 'hi'"):
        own_world.train("--language", "hi", name="hi")


def test_submissions_name_every_instruction_of_the_test_split(runs):
    path = next((runs.runs / "all").glob("submission_test_standard*.jsonl"))
    items = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(items) == 32
    assert [item["instruction_id"] for item in items] == sorted(item["instruction_id"] for item in items)
    assert all(set(item) == {"instruction_id", "path"} and item["path"][0][0] == "b" for item in items)
    submit.main(["--validate", str(path), "--dataset", "rxr", "--split", "test_standard"])
    alone = next((runs.runs / "hi").glob("submission_test_standard*.jsonl"))
    assert len(alone.read_text().splitlines()) == 8


def test_the_world_of_a_data_set_is_its_panoramas():
    assert setting.DATASETS["rxr"].world == setting.DATASETS["r4r"].world == "r2r"
    assert setting.DATASETS["demo-rxr"].world == "demo"


def test_every_data_set_has_a_preset_and_a_reader():
    assert set(config.PRESETS) == set(setting.DATASETS)
    for name, dataset in setting.DATASETS.items():
        assert config.PRESETS[name].dataset == dataset.name == name
        assert callable(resolve("reader", {name: dataset.reader}, name))
    # The paper's RxR recipe (specification 5.3 and 11).
    rxr = config.PRESETS["rxr"].follower
    assert (rxr.ml_weight, rxr.max_input, rxr.iters, rxr.eval_every) == (0.4, 160, 200_000, 1_000)
    assert (rxr.teacher, rxr.reward) == ("shortest", "progress")


def test_another_tokenizer_is_kept_with_the_checkpoint(own_world, tmp_path):
    run = own_world.train("--tokenizer", "unicode", "--teacher", "guide", name="words")
    assert Vocabulary.from_json(header(run)["words"]).tokenizer.name == "unicode"
    out = tmp_path / "found.json"
    evaluate.main(["--checkpoint", str(run), "--json", str(out), "--no-context"])
    assert json.loads(out.read_text())["num_instructions"] == 12
    with pytest.raises(InputError, match="tokenizer"):
        own_world.train("--tokenizer", str(tmp_path / "nowhere"), name="lost")


def test_pre_exploration_is_kept_apart_by_name(own_world, capsys):
    run = own_world.train("--bt", "--pre-explore", "--num-aug-paths", "30", name="explored")
    results = json.loads((run / "results.json").read_text())["val_unseen"]
    assert list(results)[-2:] == ["pre_explored", "pre_explored_last"]
    assert "back_translated" in results
    source = header(run, "pre_explored")["unlabelled_paths"]
    assert source.endswith("in the buildings of val_unseen and test")
    assert "buildings" not in header(run, "back_translated")["unlabelled_paths"]
    about = json.loads((run / "submission_test_pre_explored.about.json").read_text())
    assert (about["agent"], about["unlabelled_paths"]) == ("pre_explored", source)
    assert json.loads((run / "submission_test.about.json").read_text())["agent"] == "back_translated"
    # Neither evaluation nor submission takes it unless its own folder is named.
    assert setting.find_checkpoint(run).parent.name == "back_translated"
    with pytest.raises(SystemExit) as stopped:
        own_world.train("--pre-explore", name="lost")
    assert stopped.value.code == 2
    assert "--pre-explore goes on from back-translation; add --bt" in " ".join(capsys.readouterr().err.split())


def test_pre_exploration_walks_unseen_buildings(own_world, monkeypatch):
    settings = config.parse([*SMALL, "--bt", "--runs", str(own_world.runs), "--num-aug-paths", "40"], lambda name: name)
    opened = job.open_job(replace(settings, features="none"), Run(replace(settings, name="paths")))
    found = job.pre_explored_paths(opened)
    scans = {opened.setting.tables.keys[i][0] for i in found.table.viewpoint.tolist()}
    assert scans == {"beta"}
    assert {opened.setting.tables.keys[i][0] for i in opened.unlabelled.table.viewpoint.tolist()} <= {"alpha", "gamma"}
    assert len(found.table) == 40


def test_a_checkpoint_of_one_language_stays_with_it(runs, own_world, monkeypatch, caplog):
    point_to(runs.folder, monkeypatch)
    loaded = setting.load_follower(runs.runs / "hi", "rxr", ["val_unseen"], torch.device("cpu"))
    assert {e.language for e in loaded.setting.splits["val_unseen"].episodes} == {"hi"}
    with pytest.raises(InputError, match="has learned hi, but r2r is in en; --language names one"):
        setting.load_follower(runs.runs / "hi", "r2r", ["val_unseen"], torch.device("cpu"))
    loaded = setting.load_follower(runs.runs / "all", "r2r", ["val_unseen"], torch.device("cpu"))
    assert len(loaded.setting.splits["val_unseen"].episodes) == 12


def test_a_language_that_a_file_lacks_is_told(runs, tmp_path):
    content = gzip.decompress((runs.data / "RxR" / "rxr_val_unseen_guide.jsonl.gz").read_bytes())
    rows = [json.loads(line) for line in content.splitlines()]
    file = tmp_path / "english.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows if row["language"].startswith("en")))
    flags = ["--checkpoint", str(runs.runs / "all"), "--split", str(file), "--language", "hi"]
    with pytest.raises(InputError, match=r"english\.jsonl must hold .* in the language 'hi', got none"):
        evaluate.main(flags)
    with pytest.raises(InputError, match="in the language 'hi', got none"):
        submit.main(flags)


def test_a_file_of_another_language_is_told(runs, capsys):
    path = next((runs.runs / "hi").glob("submission_test_standard*.jsonl"))
    words = ["--dataset", "rxr", "--split", "test_standard", "--language", "te", "--validate", str(path)]
    with pytest.raises(InputError, match="problems, see above"):
        submit.main(words)
    assert "test_standard in hi" in capsys.readouterr().out
