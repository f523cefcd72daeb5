"""GQA's, SNLI-VE's and LXMERT's files of the demo pictures."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from tests.gqa_oracle import answer_gqa, judge
from tests.test_demo import digests
from tests.test_demo_pictures import TINY, read
from tests.test_demo_pictures import tiny as tiny  # fixtures
from tests.test_demo_pictures import truth as truth
from vln_clip.envs.demo.pictures.balance import pick
from vln_clip.envs.demo.pictures.captions import descriptions
from vln_clip.envs.demo.pictures.gqa import gqa_candidates
from vln_clip.envs.demo.pictures.gqa_files import place_images, reasoning
from vln_clip.envs.demo.pictures.gqa_forms import GQA_FORMS
from vln_clip.envs.demo.pictures.hypotheses import hypotheses
from vln_clip.envs.demo.pictures.hypothesis_forms import HYPOTHESIS_FORMS, LABELS, OPEN, POLAR, STORY
from vln_clip.envs.demo.pictures.lxmert import houses_by_file
from vln_clip.envs.demo.pictures.seen import Facts, Seen
from vln_clip.tasks.vqa.answers import normalize_label, soft_scores
from vln_clip.tasks.vqa.files import load_questions

SPLITS = {"train": {0, 1, 2}, "val": {3}, "testdev": {4}}  # houses of TINY
LXMERT = ("mscoco_train", "mscoco_nominival", "vgnococo", "mscoco_minival")


def lines(folder: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (folder / "SNLI-VE" / f"snli_ve_{split}.jsonl").read_text().splitlines()]


def gqa(folder: Path, split: str) -> dict[str, dict]:
    return read(folder, f"GQA/{split}_balanced_questions.json")


def house(image_id: str | int) -> int:
    return int(image_id) // 1000 - 1


def test_questions_and_captions_are_what_they_were_before_the_other_files_came(tiny):
    # Of all files of VQA and COCO but the pictures, computed with the version that wrote no others.
    files = sorted([*tiny.glob("VQA/*.json"), *tiny.glob("COCO/annotations/*.json")])
    content = b"".join(file.name.encode() + file.read_bytes() for file in files)
    assert len(files) == 9
    assert hashlib.sha256(content).hexdigest() == "f43c866c1349ce06f055d6b132517af2f932d77973ec19951ee0f53f044a39c3"


def test_gqa_files_are_read_as_gqas_are(tiny):
    for split, houses in SPLITS.items():
        questions = load_questions("gqa", split, tiny)
        assert len(questions) > 10
        assert {house(question.image) for question in questions} == houses
        for question in questions:
            row = gqa(tiny, split)[str(question.question_id)]
            assert question.answer_type == ("open" if row["types"]["structural"] == "query" else "binary")
            assert (tiny / "GQA" / "images" / f"{question.image}.jpg").exists()
    hidden = load_questions("gqa", "submission", tiny)
    assert {house(question.image) for question in hidden} == {5}
    assert not any(question.is_answered for question in hidden)
    assert {key for row in read(tiny, "GQA/submission_all_questions.json").values() for key in row} == {
        *("question", "imageId", "isBalanced")
    }
    ids = [name for split in SPLITS for name in gqa(tiny, split)]
    assert len(ids) == len(set(ids))


def test_gqa_questions_are_of_all_structures_and_have_what_gqa_tells_of_them(tiny):
    rows = [row for split in SPLITS for row in gqa(tiny, split).values()]
    members = "semantic entailed equivalent question imageId isBalanced groups answer semanticStr types fullAnswer"
    assert all(set(row) == set(members.split()) and row["isBalanced"] is True for row in rows)
    structures = Counter(row["types"]["structural"] for row in rows)
    assert set(structures) == {"verify", "query", "choose", "logical", "compare"}
    assert {row["types"]["semantic"] for row in rows} == {"obj", "attr", "rel", "global"}
    assert len({row["types"]["detailed"] for row in rows}) >= 12
    for row in rows:
        assert re.fullmatch(r"[A-Z][a-z, ]+\?", row["question"])
        assert re.fullmatch(r"[A-Z][a-z, ]+\.", row["fullAnswer"])
        if row["answer"] in ("yes", "no"):
            assert row["fullAnswer"].lower().startswith(f"{row['answer']}, ")
        elif row["types"]["semantic"] != "global":
            assert row["answer"] in row["fullAnswer"].lower()


def test_who_knows_what_is_seen_answers_every_gqa_question(tiny, truth):
    rows = [row for split in SPLITS for row in gqa(tiny, split).values()]
    wrong = [row for row in rows if answer_gqa(row["question"], truth[int(row["imageId"])]) != row["answer"]]
    assert wrong == []
    assert len(rows) > 100


def test_who_knows_what_is_seen_answers_whatever_could_be_asked_or_said(truth):
    forms = Counter()
    for facts in list(truth.values())[::2]:
        for question in gqa_candidates(0, facts):
            assert answer_gqa(question.text, facts) == question.answer, question
            forms[question.form] += 1
        for hypothesis in hypotheses(0, facts):
            assert judge(hypothesis.text, facts) == hypothesis.answer, hypothesis
            forms[hypothesis.form] += 1
    assert len(set(forms) & set(GQA_FORMS)) >= len(GQA_FORMS) - 3  # some are rare
    assert len(set(forms) & set(HYPOTHESIS_FORMS)) >= len(HYPOTHESIS_FORMS) - 1


def test_gqa_answers_are_balanced(tiny):
    for split in SPLITS:
        answers = defaultdict(Counter)
        for row in gqa(tiny, split).values():
            answers[row["groups"]["local"]][row["answer"]] += 1
        for group, counts in answers.items():
            form = group.split("-")[0]
            if GQA_FORMS[form].types[0] != "query" or form == "query_place":
                assert len(counts) == 2, (group, counts)
                assert len(set(counts.values())) == 1, (group, counts)


def test_entailed_questions_have_answers_that_agree(tiny):
    rows = {name: row for split in SPLITS for name, row in gqa(tiny, split).items()}
    entailed = [(row, rows[other]) for row in rows.values() for other in row["entailed"]]
    assert entailed
    for row, other in entailed:
        assert row["types"]["structural"] == "query"
        assert row["imageId"] == other["imageId"]
        told = row["answer"] if other["answer"] not in ("yes", "no") else None
        assert told is None or told == other["answer"]
        if told is None:
            assert (row["answer"] in other["question"].lower().split("?")[0]) == (other["answer"] == "yes")
    assert all(name in row["equivalent"] for name, row in rows.items())


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ("select: sofa; query: color", [("select", [], "sofa"), ("query", [0], "color")]),
        # Two branches, 0-1 and 2-3, meet in the last step.
        (
            "select: sofa; exist: ?; select: bed; exist: ?; and: ",
            [
                ("select", [], "sofa"),
                ("exist", [0], "?"),
                ("select", [], "bed"),
                ("exist", [2], "?"),
                ("and", [1, 3], ""),
            ],
        ),
        ("select: a; select: b; same color: ", [("select", [], "a"), ("select", [], "b"), ("same color", [0, 1], "")]),
    ],
)
def test_steps_of_reasoning_name_those_that_they_depend_on(steps, wanted):
    found = [(step["operation"], step["dependencies"], step["argument"]) for step in reasoning(steps)]
    assert found == wanted


def test_hypotheses_have_the_members_of_snli_ve(tiny):
    captions = {row["cocoid"]: row["sentences"] for row in read(tiny, "COCO/annotations/dataset_coco.json")["images"]}
    ids = []
    for split, houses in (("train", {0, 1, 2}), ("dev", {3}), ("test", {4})):
        rows = lines(tiny, split)
        assert {house(row["Flickr30K_ID"]) for row in rows} == houses
        for row in rows:
            members = {
                "annotator_labels",
                "captionID",
                "gold_label",
                "pairID",
                "sentence1",
                "sentence2",
                "Flickr30K_ID",
            }
            assert set(row) == members
            image, caption = row["captionID"].split(".jpg#")
            assert image == row["Flickr30K_ID"]
            assert row["sentence1"] == captions[int(image)][int(caption)]["raw"]
            assert re.fullmatch(rf"{image}\.jpg#{caption}r[1-9]\d*{row['gold_label'][0]}", row["pairID"])
            assert re.fullmatch(r"[A-Z][a-z, ]+\.", row["sentence2"])
            assert len(row["sentence2"].split()) <= 16
            labels = row["annotator_labels"]
            assert len(labels) == 5
            assert labels[0] == row["gold_label"]
            assert labels.count(row["gold_label"]) >= 3
            assert (tiny / "flickr30k" / "flickr30k_images" / f"{image}.jpg").exists()
        ids += [row["pairID"] for row in rows]
        said = [(row["Flickr30K_ID"], row["sentence2"]) for row in rows]
        assert len(set(said)) == len(said)
    assert len(set(ids)) == len(ids) > 100


def test_who_knows_what_is_seen_judges_every_hypothesis(tiny, truth):
    rows = [row for split in ("train", "dev", "test") for row in lines(tiny, split)]
    wrong = [row for row in rows if judge(row["sentence2"], truth[int(row["Flickr30K_ID"])]) != row["gold_label"]]
    assert wrong == []
    labels = Counter(row["gold_label"] for row in rows)
    assert labels["entailment"] == labels["contradiction"] > 0
    assert labels["neutral"] > 0


def seen(name: str, color: str | None, room: str) -> Seen:
    return Seen(name, color, room, 0.05, 0.2, "left", 3.0, True)


def said(facts: Facts) -> dict[str, str]:
    return {hypothesis.text: hypothesis.answer for hypothesis in hypotheses(0, facts)}


def test_hypotheses_by_hand():
    found = said(Facts(7, "office", "carpet", (seen("sofa", "red", "office"),)))
    words = [text for text, label in found.items() if "sofa" in text and "office" in text and label == "entailment"]
    assert words
    assert all("red" in text or " not " in text for text in words)
    elsewhere = [label for text, label in found.items() if re.search("in the (bedroom|kitchen|library)", text)]
    assert "neutral" in elsewhere
    # The red sofa is nowhere else; of other things nothing is known.
    assert all(label == "neutral" or "sofa" in text for text, label in found.items() if "in the library" in text)
    # Where something of a bedroom is seen through the door, nothing is said about what else may be in there.
    both = said(Facts(7, "office", "carpet", (seen("sofa", "red", "office"), seen("bed", "blue", "bedroom"))))
    assert any("bedroom" in text for text, label in found.items() if label == "neutral")
    assert not any("bedroom" in text for text, label in both.items() if label == "neutral")
    assert not any("next room" in text for text in both)


def test_no_sentence_gives_its_label_away(truth):
    found = [hypothesis for facts in truth.values() for hypothesis in hypotheses(0, facts)]
    shares = {name: form.share for name, form in HYPOTHESIS_FORMS.items()}
    picked = pick(np.random.default_rng(0), found, 500, shares)
    topics: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for hypothesis in picked:
        topics[hypothesis.form, hypothesis.topic][hypothesis.answer] += 1
    wanted = {POLAR: {"entailment", "contradiction"}, OPEN: set(LABELS), STORY: {"neutral"}}
    for (form, _), labels in topics.items():
        assert set(labels) == wanted[HYPOTHESIS_FORMS[form].domain]
        assert len(set(labels.values())) == 1
    assert {HYPOTHESIS_FORMS[form].domain for form, _ in topics} == set(wanted)
    # As many of each label: a third of the open ones and all stories are neutral, no polar one is.
    assert sum(shares.values()) == pytest.approx(1)
    neutral = {POLAR: 0, OPEN: 1 / 3, STORY: 1}
    assert sum(form.share * neutral[form.domain] for form in HYPOTHESIS_FORMS.values()) == pytest.approx(
        1 / 3, abs=0.01
    )


def test_lxmert_files_hold_the_sentences_of_the_others(tiny, truth):
    known = {row["ans"] for row in read(tiny, "lxmert/all_ans.json")}
    vqa, gqa_by_image = defaultdict(list), defaultdict(list)
    for split in ("train2014", "val2014"):
        rows = read(tiny, f"VQA/v2_mscoco_{split}_annotations.json")["annotations"]
        texts = {
            row["question_id"]: row["question"]
            for row in read(tiny, f"VQA/v2_OpenEnded_mscoco_{split}_questions.json")["questions"]
        }
        for row in rows:
            scores = soft_scores([answer["answer"] for answer in row["answers"]])
            label = {answer: score for answer, score in scores.items() if answer in known}
            vqa[row["image_id"]].append((texts[row["question_id"]], label))
    for split in SPLITS:
        for row in gqa(tiny, split).values():
            gqa_by_image[int(row["imageId"])].append((row["question"], {row["answer"]: 1.0}))
    captions = {
        row["cocoid"]: [sentence["raw"] for sentence in row["sentences"]]
        for row in read(tiny, "COCO/annotations/dataset_coco.json")["images"]
    }
    houses = {}
    for name in LXMERT:
        content = read(tiny, f"lxmert/{name}.json")
        houses[name] = {house(int(row["img_id"].rsplit("_")[-1])) for row in content}
        for row in content:
            image_id = int(row["img_id"].rsplit("_")[-1])
            is_vg = name == "vgnococo"
            assert row["img_id"].startswith("COCO_") != is_vg
            assert row["sentf"].get("mscoco") == (None if is_vg else captions[image_id])
            assert row["sentf"]["vg"] == descriptions(TINY.seed, truth[image_id], 24)
            source = "visual7w" if is_vg else "vqa"
            asked = list(zip(row["sentf"].get("gqa", []), row["labelf"].get("gqa", []), strict=True))
            kept = [(text, {a: s for a, s in label.items() if a in known}) for text, label in gqa_by_image[image_id]]
            assert asked == kept
            asked = list(zip(row["sentf"].get(source, []), row["labelf"].get(source, []), strict=True))
            if is_vg:
                assert [text for text, _ in asked] == [text for text, _ in vqa[image_id]]
                assert all(set(label.values()) == {1.0} for _, label in asked)
            else:
                assert asked == vqa[image_id]
    assert houses == {"mscoco_train": {0}, "mscoco_nominival": {1}, "vgnococo": {2}, "mscoco_minival": {3, 4}}


def test_listed_answers_are_the_best_ones_of_training_questions_by_frequency(tiny):
    counts, sources = Counter(), defaultdict(set)
    train = {row["image_id"]: row for row in read(tiny, "COCO/annotations/captions_train2014.json")["annotations"]}
    for row in read(tiny, "VQA/v2_mscoco_train2014_annotations.json")["annotations"]:
        answer = normalize_label(row["multiple_choice_answer"])
        counts[answer] += 1
        sources[answer].add("visual7w" if house(row["image_id"]) == 2 else "vqa")
        assert row["image_id"] in train
    for row in gqa(tiny, "train").values():
        counts[row["answer"]] += 1
        sources[row["answer"]].add("gqa")
    rows = read(tiny, "lxmert/all_ans.json")
    assert [row["ans"] for row in rows] == sorted(counts, key=lambda answer: (-counts[answer], answer))
    assert all(set(row["dsets"]) == sources[row["ans"]] for row in rows)


@pytest.mark.parametrize(
    ("num_houses", "wanted"),
    # Shares are 4, 1 and 2 of 7: 40 * 1 // 7 = 5 and 40 * 2 // 7 = 11, the first file gets the other 24.
    [(40, (24, 5, 11)), (7, (4, 1, 2)), (1, (1, 0, 0)), (3, (1, 1, 1))],
)
def test_training_houses_are_shared_among_lxmerts_files(num_houses, wanted):
    found = houses_by_file(range(num_houses))
    assert tuple(map(len, found.values())) == wanted
    assert [number for houses in found.values() for number in houses] == list(range(num_houses))


def test_pictures_are_the_same_under_every_name_and_take_no_space(tiny):
    file = tiny / "COCO" / "images" / "val2014" / "COCO_val2014_000000004001.jpg"
    for other in ("GQA/images/4001.jpg", "flickr30k/flickr30k_images/4001.jpg"):
        assert (tiny / other).samefile(file)


def test_pictures_are_copied_where_links_are_impossible(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"picture")

    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    place_images([(tmp_path / "a.jpg", 12)], tmp_path / "to")
    assert digests(tmp_path / "to") == {"12.jpg": hashlib.sha256(b"picture").hexdigest()}
