"""Zero-shot answers, retrieval and CLIPScore as programs, with towers that know three colors."""

import json
import math

import pytest
import torch

from tests.toy_towers import ColorEncoder, ColorWords, use_colors, write_image
from tests.vqa_data import annotation, annotation_file, question, question_file, save
from vln_clip.caption import __main__ as caption_program
from vln_clip.caption.matching import RetrieveConfig
from vln_clip.errors import InputError
from vln_clip.features.matching import Matcher, MatchingConfig, drawn, find_images
from vln_clip.vqa import __main__ as vqa_program
from vln_clip.vqa.zeroshot import ZeroShot, ZeroShotConfig, spoken

IMAGES = {1: "red", 2: "green", 3: "blue", 4: "red"}
ANSWERS = {1: "red", 2: "green", 3: "no", 4: "blue"}  # of people; two of them agree with the colors
# Three captions of the first image; the fourth picture looks like the first.
CAPTIONS = {1: ["red", "a red wall", "red green"], 2: ["green"], 3: ["blue"], 4: ["something"]}


def key(number):
    return f"COCO_val2014_{number:012d}"


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_DATA", str(tmp_path))
    for number, color in IMAGES.items():
        write_image(tmp_path / "COCO/images/val2014" / f"{key(number)}.png", color)
    questions = [question(image_id=number, text="what color?") for number in IMAGES]
    types = {3: "yes/no"}
    notes = [annotation(1, n, (ANSWERS[n],) * 10, types.get(n, "other")) for n in IMAGES]
    save(tmp_path / "VQA/v2_OpenEnded_mscoco_val2014_questions.json", question_file(*questions))
    save(tmp_path / "VQA/v2_mscoco_val2014_annotations.json", annotation_file(*notes))
    save(tmp_path / "answers.txt", "<unk>\nno\nred\ngreen\nblue\n")
    images = [
        {
            "filename": f"{key(number)}.jpg",
            "cocoid": number,
            "split": "test",
            "sentences": [{"raw": text, "tokens": text.split()} for text in texts],
        }
        for number, texts in CAPTIONS.items()
    ]
    save(tmp_path / "COCO/annotations/dataset_coco.json", {"images": images})
    return tmp_path


def matcher(**options):
    config = MatchingConfig("clip_rn50", device="cpu", **options)
    return Matcher(ColorEncoder(), ColorWords(), config, torch.device("cpu"))


@pytest.mark.parametrize("flags", [[], ["--prompt"], ["--batch", "1"]])
def test_the_nearest_answer_is_given_and_scored_by_type(data, monkeypatch, capsys, flags):
    use_colors(monkeypatch)
    out = data / "results.json"
    words = ["zeroshot", "--features", "clip_rn50", "--dataset", "vqa", "--answers", str(data / "answers.txt")]
    vqa_program.main([*words, "--out", str(out), *flags])
    name = "zero_shot_prompt" if "--prompt" in flags else "zero_shot"
    row = json.loads(out.read_text())["val"][name]
    # red and green are right; "no" is answered with blue, and the last, red, is said to be blue
    assert row["accuracy"] == pytest.approx(0.5)
    assert row["accuracy_other"] == pytest.approx(2 / 3)
    assert row["accuracy_yes/no"] == 0
    assert (row["num_questions"], row["num_answers"], row["features"]) == (4, 4, "colors")  # <unk> is no answer
    assert "vqa: official accuracy on 4 questions; 4 answers" in " ".join(capsys.readouterr().out.split())


def test_both_rows_meet_in_one_file_and_a_drawn_part_says_so(data, monkeypatch, capsys):
    text = use_colors(monkeypatch)
    out = data / "results.json"
    words = ["zeroshot", "--features", "clip_rn50", "--dataset", "vqa", "--answers", str(data / "answers.txt")]
    words += ["--out", str(out), "--limit", "2", "--seed", "5"]
    vqa_program.main(words)
    vqa_program.main([*words, "--prompt"])
    assert list(json.loads(out.read_text())["val"]) == ["zero_shot", "zero_shot_prompt"]
    assert "on 2 questions of 4, drawn with seed 5" in " ".join(capsys.readouterr().out.split())
    assert text.rows == 2 * (2 * 4 + 2 * 4)  # twice: two questions, and the two timed ones


def test_the_cost_is_told_beforehand(data, monkeypatch, caplog):
    use_colors(monkeypatch)
    with caplog.at_level("INFO", "vln_clip"):
        words = ["--features", "clip_rn50", "--dataset", "vqa", "--answers", str(data / "answers.txt")]
        vqa_program.main(["zeroshot", *words])
    assert "4 questions x 4 answers = 16 texts, about 1 s on cpu" in caplog.text


@pytest.mark.parametrize(("seconds", "words"), [(0.1, "1 s"), (119, "119 s"), (7000, "117 minutes"), (2e5, "2 days")])
def test_times_are_told_in_one_unit(seconds, words):
    assert spoken(seconds) == words


def test_prompt_and_chunks():
    few, all_ = matcher(batch=2), matcher()
    red = torch.tensor([1.0, 0.0, 0.0])
    answers = ["green", "red", "red red green"]
    # cosines 0, 1, 2 / sqrt(5), times 10
    for one in (few, all_):
        logits = ZeroShot(one, answers, prompt=True).logits(red, "what is it?")
        assert logits.tolist() == pytest.approx([0.0, 10.0, 20 / math.sqrt(5)])
    assert len(ZeroShot(few, answers, False).logits(red, "x", chunks=1)) == 2
    assert ZeroShot(all_, answers, True).begin("Is it?") == "question: Is it? answer:"
    assert ZeroShot(all_, answers, False).begin("Is it?") == "Is it?"


def test_retrieval_of_a_split(data, monkeypatch):
    use_colors(monkeypatch)
    out = data / "results.json"
    caption_program.main(["retrieve", "--features", "clip_rn50", "--dataset", "coco", "--out", str(out)])
    row = json.loads(out.read_text())["test"]["retrieval_colors"]
    # Texts: "red" and "a red wall" are as near to picture 4 as to 1, "red green" to 1, 4 and 2: ranks 1, 1, 2; "green"
    # and "blue" find theirs; "something" is as near to all: rank 3. Pictures: 1 finds "red" first; 2 and 3 theirs;
    # 4 has "something" (cosine 0.58) after the two with 1 and "red green" with 0.71.
    assert row["image_R@1"] == pytest.approx(2 / 6)
    assert row["image_R@5"] == 1
    assert row["text_R@1"] == pytest.approx(3 / 4)
    assert (row["num_images"], row["num_captions"]) == (4, 6)


def test_clip_score_of_a_result_file(data, monkeypatch, caplog):
    use_colors(monkeypatch)
    results, details, out = data / "mine.json", data / "details.json", data / "results.json"
    captions = {1: "red", 2: "red green", 3: "red", 99: "blue"}
    save(results, [{"image_id": number, "caption": text} for number, text in captions.items()])
    words = ["score", "--features", "clip_rn50", "--dataset", "coco", "--results", str(results)]
    with caplog.at_level("INFO", "vln_clip"):
        caption_program.main([*words, "--details", str(details), "--out", str(out)])
    # cosines to the images 1, 1/sqrt(2), 0; to the nearest reference 1, 1/sqrt(2), 0
    half = math.sqrt(0.5)
    direct, nearest = [2.5, 2.5 * half, 0.0], [1.0, half, 0.0]
    joint = [2 * a * b / (a + b) if a + b else 0.0 for a, b in zip(direct, nearest, strict=True)]
    items = json.loads(details.read_text())
    assert [item["CLIPScore"] for item in items] == pytest.approx(direct)
    assert [item["RefCLIPScore"] for item in items] == pytest.approx(joint)
    row = json.loads(out.read_text())["test"]["mine"]
    assert (row["CLIPScore"], row["RefCLIPScore"]) == pytest.approx((sum(direct) / 3, sum(joint) / 3))
    assert "1 captions of other images are left out" in caplog.text


@pytest.mark.parametrize(
    ("program", "words", "message"),
    [
        (vqa_program, ["zeroshot", "--features", "pixels"], "got 'pixels' which sees images only"),
        (caption_program, ["retrieve", "--features", "imagenet_resnet50"], "which sees images only"),
        (caption_program, ["retrieve", "--features", "clip_rn50", "--weights", "w.pt"], "'w.pt' which does not exist"),
        (caption_program, ["score", "--features", "clip_rn50", "--results", "none.json"], "none.json"),
    ],
)
def test_bad_commands_are_refused(data, monkeypatch, program, words, message):
    monkeypatch.chdir(data)
    with pytest.raises(InputError, match=message):
        program.main([*words, "--device", "cpu"])


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (ZeroShotConfig, {"limit": 0}, "--limit must be positive, got 0"),
        (RetrieveConfig, {"limit": -1}, "--limit must be positive, got -1"),
        (MatchingConfig, {"batch": 0}, "--batch must be positive, got 0"),
        (MatchingConfig, {"random_weights": True, "weights": "w"}, "--weights and --random-weights may be given, got"),
    ],
)
def test_bad_settings_are_refused(config, options, message):
    with pytest.raises(InputError, match=message):
        config("clip_rn50", **options)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (vqa_program, ["zeroshot"]),
        (caption_program, ["retrieve"]),
        (caption_program, ["score", "--results", "mine.json"]),
    ],
)
def test_another_file_at_out_is_told_of_before_the_work(data, monkeypatch, program, words):
    monkeypatch.chdir(data)
    text = use_colors(monkeypatch)
    save(data / "mine.json", [{"image_id": 1, "caption": "red"}])
    with pytest.raises(InputError, match=r"mine\.json must be a run's results\.json"):
        program.main([*words, "--features", "clip_rn50", "--device", "cpu", "--out", "mine.json"])
    assert text.rows == 0


def test_captions_of_another_split_are_refused(data, monkeypatch):
    use_colors(monkeypatch)
    results = save(data / "mine.json", [{"image_id": 99, "caption": "red"}])
    with pytest.raises(InputError, match="captions of images of split 'test', got 1 captions of others"):
        caption_program.main(
            ["score", "--features", "clip_rn50", "--dataset", "coco", "--results", str(results), "--device", "cpu"]
        )


def test_random_weights_are_asked_for_and_told(monkeypatch, caplog):
    asked = []
    monkeypatch.setattr(
        "vln_clip.features.matching.create_encoder", lambda *words: asked.append(words) or ColorEncoder()
    )
    monkeypatch.setattr("vln_clip.features.matching.create_text_encoder", lambda *words: ColorWords())
    with caplog.at_level("WARNING", "vln_clip"):
        found = Matcher.create(MatchingConfig("clip_rn50", random_weights=True, device="cpu"))
    assert "clip_rn50 knows nothing, every number that follows is chance" in caplog.text
    assert found.label == "colors with random weights"
    Matcher.create(MatchingConfig("clip_rn50", device="cpu"))
    assert [words[1] for words in asked] == [False, True]


def test_images_get_the_native_preprocessing_and_keep_their_order(data):
    files = find_images(data, ["COCO/images/val2014", "COCO/images/none"], [key(3), key(1)])
    assert matcher().encode_images(files).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_absent_and_damaged_images_are_told(data):
    with pytest.raises(InputError, match=r"must be in .*none, which does not exist"):
        find_images(data, ["COCO/images/none"], [key(1)])
    with pytest.raises(InputError, match=f"1 of 2 are not there, the first '{key(9)}'"):
        find_images(data, ["COCO/images/val2014"], [key(1), key(9)])
    path = data / "COCO/images/val2014" / f"{key(1)}.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="complete JPEG, PNG or WebP file"):
        matcher().encode_images(find_images(data, ["COCO/images/val2014"], [key(1)]))


def test_texts_come_back_in_their_order_whatever_their_length():
    texts = ["blue " * 30, "red", "a long green thing", "blue", ""]
    found = matcher(batch=2).encode_texts(texts)
    assert found.argmax(1).tolist() == [2, 0, 1, 2, 0]
    assert torch.allclose(found.norm(dim=1), torch.ones(5))


def test_draws_are_the_same_for_a_seed_and_keep_the_order():
    assert drawn(5, None, 0) == drawn(5, 9, 0) == [0, 1, 2, 3, 4]
    part = drawn(1000, 20, 3)
    assert part == sorted(set(part)) == drawn(1000, 20, 3)
    assert len(part) == 20
    assert part != drawn(1000, 20, 4)
