"""Ten people who answer a question: most say the truth, some use another word, some slip, some are not sure."""

import numpy as np

from vln_clip.envs.demo.pictures.asking import Candidate
from vln_clip.envs.demo.pictures.words import (
    COLOR_SLIPS,
    COLOR_WORDS,
    FLOOR_WORDS,
    LOOKALIKES,
    NOUNS,
    NUMBERS,
    PLACE_WORDS,
    PLACES,
    ROOM_WORDS,
    ROOMS,
    YES_NO,
)

NUM_ANSWERS = 10
_MOST_DEVIATE = 4  # so that the truth is always the most frequent answer and worth full score
_SYNONYM, _SLIP = 0.09, 0.07  # shares of annotators
_COMMON = ("cabinet", "chair", "lamp", "plant", "table")  # what people take other things for
_CONFIDENCE = ("yes", "maybe", "no")
_SURE, _UNSURE = (0.88, 0.10, 0.02), (0.45, 0.40, 0.15)
_ANSWERS_SEED = 1_000_081


def ten_answers(seed: int, question_id: int, candidate: Candidate) -> list[dict[str, object]]:
    """Return ten answers as the annotation files hold them; the same seed and question give the same ones."""
    rng = np.random.default_rng([seed, question_id, _ANSWERS_SEED])
    synonyms, slips = _synonyms(candidate), _slips(candidate)
    given: list[str] = []
    for _ in range(NUM_ANSWERS):
        draw, free = rng.random(), sum(answer != candidate.answer for answer in given) < _MOST_DEVIATE
        if free and draw < _SLIP and slips:
            given.append(slips[int(rng.integers(len(slips)))])
        elif free and _SLIP <= draw < _SLIP + _SYNONYM and synonyms:
            given.append(synonyms[int(rng.integers(len(synonyms)))])
        else:
            given.append(candidate.answer)
    rows: list[dict[str, object]] = []
    for number, answer in enumerate(given, start=1):
        weights = _SURE if answer == candidate.answer else _UNSURE
        confidence = _CONFIDENCE[int(rng.choice(3, p=weights))]
        rows.append({"answer": answer, "answer_confidence": confidence, "answer_id": number})
    return rows


def _synonyms(candidate: Candidate) -> tuple[str, ...]:
    """Return other words for the true answer."""
    answer = candidate.answer
    if candidate.domain == "number":
        return (NUMBERS[int(answer)],) if int(answer) else ("none", "zero")
    if candidate.domain == "noun":
        return NOUNS[answer].others
    words = {"color": COLOR_WORDS, "place": PLACE_WORDS, "room": ROOM_WORDS, "floor": FLOOR_WORDS, "yes_no": {}}
    return words[candidate.domain].get(answer, ())


def _slips(candidate: Candidate) -> tuple[str, ...]:
    """Return wrong answers that somebody might give."""
    answer = candidate.answer
    if candidate.domain == "number":
        return tuple(str(count) for count in (int(answer) - 1, int(answer) + 1) if count >= 0)
    if candidate.domain == "color":
        return COLOR_SLIPS[answer]
    if candidate.domain == "noun":
        return tuple(sorted(LOOKALIKES[answer])) or tuple(name for name in _COMMON if name != answer)
    options = {"place": PLACES, "room": ROOMS, "floor": tuple(FLOOR_WORDS), "yes_no": YES_NO}[candidate.domain]
    return tuple(option for option in options if option != answer)
