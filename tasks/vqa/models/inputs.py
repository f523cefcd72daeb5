"""How questions and image grids enter a VQA model."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WordLSTM(nn.Module):
    """Word vectors, then a one-layer LSTM over all L places, padding included, as in the references.

    Args:
        vocabulary_size: number of words; word 0 is padding, whose vector stays zero. None where a text tower gives
            their states.
        word_width: of word vectors.
        hidden_width: D.
        word_vectors: (vocabulary_size, word_width) to start from, trained on; None for random ones.
        tower: text tower of the width ``word_width`` that is trained with the model and reads tokens.
    """

    def __init__(
        self,
        vocabulary_size: int | None,
        word_width: int,
        hidden_width: int,
        word_vectors: Tensor | None,
        tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.embedding = None if vocabulary_size is None else nn.Embedding(vocabulary_size, word_width, padding_idx=0)
        self.tower = tower
        if self.embedding is not None and word_vectors is not None:
            if word_vectors.shape != self.embedding.weight.shape:
                raise ValueError(
                    f"word_vectors must be {(vocabulary_size, word_width)}, words by word_width, "
                    f"got {tuple(word_vectors.shape)}"
                )
            with torch.no_grad():
                self.embedding.weight[1:] = word_vectors[1:]
        self.lstm = nn.LSTM(word_width, hidden_width, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode tokens (B, L) int64, or states (B, L, word_width) of a frozen tower, padded with 0, as (B, L, D)."""
        states = self.embedding is None and self.tower is None
        if tokens.ndim != 2 + states or tokens.shape[1] == 0:
            what = "(B, L, D)" if states else "(B, L)"
            raise ValueError(f"tokens must be {what} with L at least 1, got {tuple(tokens.shape)}")
        if self.embedding is not None:
            return self.lstm(self.embedding(tokens))[0]
        return self.lstm(tokens.float() if self.tower is None else self.tower(tokens))[0]


class ImageInput(nn.Module):
    """Checks a grid and brings it to the model's type; without one, a learned vector is the only cell of the image.

    Args:
        width: C of the grid.
        pad_to: side of the square in whose top left corner the grid is put, the rest zero; None leaves it as it is.
    """

    def __init__(self, width: int, pad_to: int | None = None) -> None:
        super().__init__()
        self.pad_to = pad_to
        self.no_image = nn.Parameter(torch.zeros(width))  # learned by a model that is trained without images

    def forward(self, grid: Tensor | None, num_rows: int) -> Tensor:
        """Return the image that the model sees.

        Args:
            grid: (B, C, h, w) float of any precision; None for no image.
            num_rows: B.

        Returns:
            (B, C, H, W) in the type of the weights: h × w, or ``pad_to`` squared; 1 × 1 without a grid, unpadded.
        """
        width = len(self.no_image)
        if grid is None:
            return self.no_image[:, None, None].expand(num_rows, -1, -1, -1)
        if grid.ndim != 4 or grid.shape[:2] != (num_rows, width):
            raise ValueError(
                f"grid must be ({num_rows}, {width}, h, w), one of the encoder's width for each question, got "
                f"{tuple(grid.shape)}"
            )
        h, w = grid.shape[2:]
        if self.pad_to is not None:
            if max(h, w) > self.pad_to:
                raise ValueError(f"grid must be at most pad_to = {self.pad_to} cells high and wide, got {h} × {w}")
            grid = F.pad(grid, (0, self.pad_to - w, 0, self.pad_to - h))
        return grid.to(self.no_image.dtype)


def locations(image: Tensor) -> Tensor:
    """Return the cells of an image (B, C, H, W), row by row, as (B, H·W, C)."""
    return image.flatten(2).transpose(1, 2)


def attention_map(weights: Tensor, image: Tensor, grid: Tensor | None) -> Tensor | None:
    """Return weights (B, H·W) over the cells of a padded image (B, C, H, W) as (B, h, w) over those of its grid."""
    if grid is None:
        return None
    h, w = grid.shape[2:]
    return weights.detach().unflatten(1, image.shape[2:])[:, :h, :w]
