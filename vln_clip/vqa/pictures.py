"""Pictures of what a VQA model looked at: the image, and the image under the model's attention, with the answer."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vln_clip.errors import InputError
from vln_clip.features.images import list_images, read_rgb
from vln_clip.files import write_atomically
from vln_clip.tasks.vqa.accuracy import question_score
from vln_clip.vqa.answering import Answerer

COLUMNS = 4
WIDTH_IN = 3.2  # of one picture
DARKEST = 0.3  # what a model did not look at can still be made out


@torch.inference_mode()
def draw_answers(answerer: Answerer, split: str, folder: Path, count: int) -> Path:
    """Draw questions of a split, evenly spread over it, as a sheet ``attention_SPLIT.png``.

    Args:
        answerer: a model that sees; its attention over the grid is laid over the image.
        split: of the questions.
        folder: where the sheet goes.
        count: questions.

    Raises:
        InputError: the images are not there.
    """
    from matplotlib.figure import Figure

    data = answerer.data
    questions, table = data.questions(split), data.table(split)
    rows = torch.linspace(0, len(table) - 1, min(count, len(table))).long().unique().to(data.device)
    output = answerer.model(table.tokens[rows], data.read_grids(table, rows))
    answers = [data.answers.answers[index] for index in output.best(data.answers.unknown).tolist()]
    if output.attention is None:
        raise InputError("--pictures needs a model that looks at images, got one without")
    images = {image.key: image.path for image in list_images(data.image_folders)}
    absent = next((questions[row].image for row in rows.tolist() if questions[row].image not in images), None)
    if absent is not None:
        raise InputError(
            f"--pictures needs the images that questions ask about, got none of the name {absent} in "
            f"{' or '.join(str(data.folder / name) for name in data.row.images)}; put them there"
        )
    num_rows = -(-len(rows) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * WIDTH_IN, num_rows * WIDTH_IN * 0.95), layout="constrained")
    places = np.atleast_1d(figure.subplots(num_rows, COLUMNS, squeeze=False)).ravel()
    for axes in places:
        axes.axis("off")
    for axes, row, answer, weights in zip(places, rows.tolist(), answers, output.attention.cpu(), strict=False):
        question = questions[row]
        picture = read_rgb(images[question.image], True)
        axes.imshow(shaded(np.asarray(picture), weights.float().numpy()))
        right = f" ({100 * question_score(question, answer):.0f} %)" if question.is_answered else ""
        axes.set_title(f"{question.text}\n{answer}{right}", fontsize=7, wrap=True)
    path = folder / f"attention_{split}.png"
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))
    return path


def shaded(picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Darken a picture where a model did not look.

    Args:
        picture: (H, W, 3) uint8.
        weights: (h, w) over the cells of the picture, at least 0.

    Returns:
        (H, W, 3) uint8; what has the most weight is as bright as it was.
    """
    height, width, _ = picture.shape
    relative = weights / max(float(weights.max()), 1e-9)
    small = Image.fromarray((255 * np.sqrt(relative)).astype(np.uint8))  # few cells have most of the weight
    mask = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR), np.float32) / 255
    return (picture * (DARKEST + (1 - DARKEST) * mask[..., None])).astype(np.uint8)
