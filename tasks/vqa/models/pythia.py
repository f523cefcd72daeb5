"""Pythia (Jiang et al. 2018) as MMF configures it for grid features: one look at the image, guided by the question.

Axes beyond those of records.py: N image locations, A answers.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from vln_clip.dropout import dropout
from vln_clip.tasks.vqa.models.inputs import ImageInput, WordLSTM, attention_map, locations
from vln_clip.tasks.vqa.models.layers import PADDING_SCORE
from vln_clip.tasks.vqa.models.output import VqaOutput
from vln_clip.token_states import word_mask


class NormedLinear(nn.Module):
    """A linear layer whose weight is a direction times one learned length, followed by a ReLU."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.linear = weight_norm(nn.Linear(in_width, out_width), dim=-1)  # -1: over all dimensions

    def forward(self, x: Tensor) -> Tensor:
        """Map x (…, in) to (…, out)."""
        return torch.relu(self.linear(x))


class QuestionAttention(nn.Module):
    """Weighted sums of word states, side by side.

    Args:
        width: of word states.
        hidden_width: of the scoring network.
        num_glimpses: G sums.
        mask_padding: leave padding out; the reference attends to it.
    """

    def __init__(self, width: int, hidden_width: int, num_glimpses: int, mask_padding: bool) -> None:
        super().__init__()
        self.mask_padding = mask_padding
        self.hidden = nn.Linear(width, hidden_width)
        self.score = nn.Linear(hidden_width, num_glimpses)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """Sum words (B, L, D), mask (B, L) True for real ones, to (B, G·D)."""
        scores = self.score(torch.relu(self.hidden(words)))  # (B, L, G)
        if self.mask_padding:
            scores = scores.masked_fill(~mask[:, :, None], PADDING_SCORE)
        return (torch.softmax(scores, 1).transpose(1, 2) @ words).flatten(1)


class ImageAttention(nn.Module):
    """Scores of locations: the product of image and question in a common space, summed with learned weights."""

    def __init__(self, image_width: int, question_width: int, hidden_width: int, dropout_p: float) -> None:
        super().__init__()
        self.dropout_p = dropout_p
        self.image = NormedLinear(image_width, hidden_width)
        self.question = NormedLinear(question_width, hidden_width)
        self.score = nn.Linear(hidden_width, 1)

    def forward(self, cells: Tensor, question: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return attention (B, N) of a question (B, Q) over cells (B, N, C)."""
        hidden = dropout(self.image(cells), self.dropout_p, generator)  # (B, N, hidden)
        # The learned weights join the question's factor, so that the product of the two is never laid out.
        query = self.question(question) * self.score.weight  # (B, hidden)
        scores = torch.bmm(query[:, None], hidden.transpose(1, 2)).squeeze(1) + self.score.bias
        return torch.softmax(scores, 1)


class Pythia(nn.Module):
    """A question vector looks once at the image; their product is classified by two networks.

    Args:
        vocabulary_size: number of question words, padding (word 0) included; None where a text tower reads them.
        grid_width: C of the image grid.
        num_answers: A.
        word_vectors: (vocabulary_size, word_width) to start from; None for random ones.
        word_width: of word vectors, or of the text tower's states.
        hidden_width: of the LSTM.
        attention_width: hidden layer of the question attention.
        num_glimpses: question vectors put side by side.
        fusion_width: common space of image and question.
        text_width: hidden layer of the classifier's narrow network.
        dropout_p: dropout on the two products; 0 in the paper.
        mask_padding: leave padding out of the question attention; the reference attends to it, so that its answers
            depend on how far questions are padded.
        image_encoder: trained with the model, at a learning rate of its own, on grids as they come, to grids of the
            width ``grid_width``; None uses the features as they are, as the paper does.
        text_tower: trained with the model, at a learning rate of its own; None where ``tokens`` are words of the
            vocabulary, or states (B, L, word_width) of a frozen one.
    """

    def __init__(
        self,
        vocabulary_size: int | None,
        grid_width: int,
        num_answers: int,
        word_vectors: Tensor | None = None,
        *,
        word_width: int = 300,
        hidden_width: int = 1024,
        attention_width: int = 512,
        num_glimpses: int = 2,
        fusion_width: int = 5000,
        text_width: int = 300,
        dropout_p: float = 0.0,
        mask_padding: bool = False,
        image_encoder: nn.Module | None = None,
        text_tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        question_width = num_glimpses * hidden_width
        self.dropout_p = dropout_p
        self.words = WordLSTM(vocabulary_size, word_width, hidden_width, word_vectors, text_tower)
        self.question_attention = QuestionAttention(hidden_width, attention_width, num_glimpses, mask_padding)
        self.image_encoder = image_encoder
        self.image_input = ImageInput(grid_width)
        self.image_attention = ImageAttention(grid_width, question_width, fusion_width, dropout_p)
        self.image_fusion = NormedLinear(grid_width, fusion_width)
        self.question_fusion = NormedLinear(question_width, fusion_width)
        self.text_classifier = nn.Sequential(NormedLinear(fusion_width, text_width), nn.Linear(text_width, num_answers))
        self.image_classifier = nn.Sequential(
            NormedLinear(fusion_width, fusion_width), nn.Linear(fusion_width, num_answers)
        )

    def forward(self, tokens: Tensor, grid: Tensor | None, generator: torch.Generator | None = None) -> VqaOutput:
        """Answer questions.

        Args:
            tokens: (B, L) int64 or states (B, L, word_width), padded with 0 at the end.
            grid: (B, C, h, w) float; None for questions without their images.
            generator: draws dropout masks; None switches dropout off.
        """
        question = self.question_attention(self.words(tokens), word_mask(tokens))  # (B, Q)
        if self.image_encoder is not None and grid is not None:
            grid = self.image_encoder(grid.to(question.dtype))
        image = self.image_input(grid, len(tokens))
        cells = locations(image)  # (B, N, C)
        attention = self.image_attention(cells, question, generator)
        seen = torch.bmm(attention[:, None], cells).squeeze(1)  # (B, C)
        fused = dropout(self.image_fusion(seen) * self.question_fusion(question), self.dropout_p, generator)
        logits = self.text_classifier(fused) + self.image_classifier(fused)
        return VqaOutput((logits,), attention_map(attention, image, grid))
