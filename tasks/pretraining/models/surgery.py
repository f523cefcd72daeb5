"""An answer head for another list of answers, made of the one of pre-training."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from vln_clip.errors import InputError


@torch.no_grad()
def take_answer_rows(
    head_from: nn.Sequential,
    answers_from: Sequence[str],
    head_to: nn.Sequential,
    answers_to: Sequence[str],
    normalize: Callable[[str], str],
) -> int:
    """Copy a head; of its last layer the rows of answers that both lists have, zeros for the others.

    Args:
        head_from: of pre-training, (B, D) to (B, A).
        answers_from: A answers.
        head_to: is changed, (B, D) to (B, K).
        answers_to: K answers.
        normalize: applied to answers of both lists before they are compared. Where two of ``answers_from`` become
            one, the one that stands so in the list counts, else the first.

    Returns:
        How many of ``answers_to`` were found: 3,124 of 3,129 for VQA's public list and 1,736 of 1,842 for GQA's.

    Raises:
        InputError: a list doesn't belong to its head, or the heads differ in width.
    """
    last_from, last_to = _last(head_from, answers_from), _last(head_to, answers_to)
    if last_from.in_features != last_to.in_features:
        raise InputError(
            f"answer heads must be of one width, got {last_from.in_features} and {last_to.in_features}; both models "
            "must have the same sizes"
        )
    rows = {answer: row for row, answer in reversed(list(enumerate(map(normalize, answers_from))))}
    rows |= {answer: row for row, answer in enumerate(answers_from) if normalize(answer) == answer}
    found = [(row, rows[key]) for row, key in enumerate(map(normalize, answers_to)) if key in rows]
    head_to[:-1].load_state_dict(head_from[:-1].state_dict())
    to, source = torch.tensor(found, dtype=torch.int64).view(-1, 2).unbind(1)
    for ours, theirs in ((last_to.weight, last_from.weight), (last_to.bias, last_from.bias)):
        ours.zero_()
        ours[to] = theirs[source].to(ours)
    return len(found)


def _last(head: nn.Sequential, answers: Sequence[str]) -> nn.Linear:
    last = head[-1]
    if not isinstance(last, nn.Linear) or last.out_features != len(answers):
        raise InputError(f"an answer head must end with a row for each of its {len(answers):,} answers, got {last}")
    return last
