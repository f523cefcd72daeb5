"""All that is said about the drawn pictures, split by house: questions, captions, hypotheses, and their aggregate."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from vln_clip.envs.demo.pictures import files, gqa_files, lxmert, snli_ve
from vln_clip.envs.demo.pictures.asking import Candidate, candidates
from vln_clip.envs.demo.pictures.balance import SHARES, pick
from vln_clip.envs.demo.pictures.captions import captions, descriptions
from vln_clip.envs.demo.pictures.config import PicturesConfig
from vln_clip.envs.demo.pictures.gqa import gqa_candidates
from vln_clip.envs.demo.pictures.gqa_forms import GQA_FORMS
from vln_clip.envs.demo.pictures.hypotheses import hypotheses
from vln_clip.envs.demo.pictures.hypothesis_forms import HYPOTHESIS_FORMS
from vln_clip.envs.demo.pictures.seen import Facts

FactsByHouse = dict[str, dict[int, tuple[Facts, ...]]]  # by split, by number of the house
C = TypeVar("C", bound=Candidate)

_PICK_SEED, _PICK_GQA_SEED, _PICK_HYPOTHESES_SEED = 1_000_117, 1_000_193, 1_000_199
_GQA_SHARES = {name: form.share for name, form in GQA_FORMS.items()}
_HYPOTHESIS_SHARES = {name: form.share for name, form in HYPOTHESIS_FORMS.items()}


def write_annotations(folder: Path, config: PicturesConfig, facts: FactsByHouse) -> None:
    """Write all files about the pictures that stand in a folder, and put the pictures where they tell them to be.

    GQA's testdev and SNLI-VE's test split are the second half of the houses of val2014, as Karpathy's test split is.
    """
    aggregate = lxmert.Aggregate()
    _write_questions(folder, config, facts, aggregate)
    _write_captions(folder, config, facts, aggregate)
    train, val = config.houses_of("train2014"), config.houses_of("val2014")
    early, late = val[: len(val) // 2], val[len(val) // 2 :]
    _write_gqa(folder, config, facts, {"train": train, "val": early, "testdev": late}, aggregate)
    _write_hypotheses(folder, config, facts, {"train": train, "dev": early, "test": late}, aggregate.captions)
    _write_aggregate(folder, config, facts, aggregate)


def _of(facts: FactsByHouse, houses: range) -> list[Facts]:
    """Return what the pictures of some houses show."""
    return [seen for by_house in facts.values() for house in houses for seen in by_house.get(house, ())]


def _pick(
    make: Callable[[int, Facts], Sequence[C]],
    pictures: Sequence[Facts],
    config: PicturesConfig,
    draws: tuple[int, int],
    per_picture: int,
    shares: Mapping[str, float],
) -> list[C]:
    """Pick some of what can be asked or said about some pictures; ``draws`` are seeds of the picking."""
    found = [candidate for seen in pictures for candidate in make(config.seed, seen)]
    rng = np.random.default_rng([config.seed, *draws])
    return pick(rng, found, per_picture * len(pictures), shares)


def _write_questions(folder: Path, config: PicturesConfig, facts: FactsByHouse, aggregate: lxmert.Aggregate) -> None:
    """Pick and write the questions of every split."""
    for index, split in enumerate(facts):
        pictures = _of(facts, config.houses_of(split))
        draws = (index, _PICK_SEED)
        picked = _pick(candidates, pictures, config, draws, config.questions_per_picture, SHARES)
        for question, answers in files.write_questions(folder, config, split, picked):
            aggregate.add_vqa(question, answers)


def _write_captions(folder: Path, config: PicturesConfig, facts: FactsByHouse, aggregate: lxmert.Aggregate) -> None:
    """Write the captions; Karpathy's val and test splits are halves of the houses of val2014."""

    def of(houses: range) -> dict[int, list[str]]:
        texts = {seen.image_id: captions(config.seed, seen) for seen in _of(facts, houses)}
        aggregate.captions.update(texts)
        return texts

    val = config.houses_of("val2014")
    train = of(config.houses_of("train2014"))
    halves = {"val": of(val[: len(val) // 2]), "test": of(val[len(val) // 2 :])}
    files.write_captions(folder, config, "train2014", train, start=1)
    files.write_captions(folder, config, "val2014", halves["val"] | halves["test"], start=1 + 5 * len(train))
    test_ids = [seen.image_id for seen in _of(facts, config.houses_of("test2015"))]
    files.write_test_images(folder, config, "test2015", test_ids)
    files.write_karpathy(folder, {"train2014": {"train": train}, "val2014": halves})


def _write_gqa(
    folder: Path, config: PicturesConfig, facts: FactsByHouse, splits: dict[str, range], aggregate: lxmert.Aggregate
) -> None:
    """Write GQA's questions, of the test houses without answers, and its images."""
    for index, (split, houses) in enumerate((splits | {"submission": config.houses_of("test2015")}).items()):
        pictures, draws = _of(facts, houses), (index, _PICK_GQA_SEED)
        picked = _pick(gqa_candidates, pictures, config, draws, config.gqa_per_picture, _GQA_SHARES)
        rows = gqa_files.gqa_rows(picked)
        if split == "submission":
            gqa_files.write_submission(folder, rows)
            continue
        gqa_files.write_gqa(folder, split, rows)
        for question in picked:
            aggregate.add_gqa(question)
    gqa_files.place_images(_images(folder, facts, tuple(facts)), folder / gqa_files.GQA / "images")


def _write_hypotheses(
    folder: Path,
    config: PicturesConfig,
    facts: FactsByHouse,
    splits: dict[str, range],
    texts: Mapping[int, Sequence[str]],
) -> None:
    """Write SNLI-VE's hypotheses and its images."""
    for index, (split, houses) in enumerate(splits.items()):
        pictures, draws = _of(facts, houses), (index, _PICK_HYPOTHESES_SEED)
        picked = _pick(hypotheses, pictures, config, draws, config.hypotheses_per_picture, _HYPOTHESIS_SHARES)
        snli_ve.write_snli_ve(folder, split, config.seed, picked, texts)
    gqa_files.place_images(_images(folder, facts, ("train2014", "val2014")), folder / snli_ve.IMAGES)


def _write_aggregate(folder: Path, config: PicturesConfig, facts: FactsByHouse, aggregate: lxmert.Aggregate) -> None:
    """Write LXMERT's files: those of training share the houses of train2014, minival holds val2014."""
    keys: dict[str, dict[int, str]] = {}
    for split in ("train2014", "val2014"):
        for seen in _of(facts, config.houses_of(split)):
            told = descriptions(config.seed, seen, config.descriptions_per_picture)
            aggregate.descriptions[seen.image_id] = told
    for name, houses in lxmert.houses_by_file(config.houses_of("train2014")).items():
        key = "{}" if name == "vgnococo" else "COCO_train2014_{:012d}"
        keys[name] = {seen.image_id: key.format(seen.image_id) for seen in _of(facts, houses)}
    val = _of(facts, config.houses_of("val2014"))
    keys[lxmert.MINIVAL] = {seen.image_id: f"COCO_val2014_{seen.image_id:012d}" for seen in val}
    lxmert.write_lxmert(folder, aggregate, keys)


def _images(folder: Path, facts: FactsByHouse, splits: Sequence[str]) -> list[tuple[Path, int]]:
    """Return the files of some splits' pictures and their numbers."""
    return [
        (files.images_of(folder, split) / files.image_name(split, seen.image_id), seen.image_id)
        for split in splits
        for house in facts[split].values()
        for seen in house
    ]
