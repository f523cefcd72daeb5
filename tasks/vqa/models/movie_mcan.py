"""MoVie+MCAN (Nguyen et al. 2021), the model of the paper's row "MCAN": two views of the image, three classifiers."""

import torch
from torch import Tensor, nn

from vln_clip.tasks.vqa.models.inputs import ImageInput, WordLSTM, attention_map, locations
from vln_clip.tasks.vqa.models.layers import AttentionPool, GuidedLayer, SelfAttentionLayer, padding_bias
from vln_clip.tasks.vqa.models.movie import Movie
from vln_clip.tasks.vqa.models.output import VqaOutput
from vln_clip.token_states import word_mask


class BranchFusion(nn.Module):
    """Question and the two views of the image in three combinations, each normalized.

    The first adds all three; the second is MoVie's view alone; the third adds the question and the attended view.
    The first has matrices of its own, the other two share theirs out.
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.all_question, self.all_movie, self.all_attended = (nn.Linear(width, out_width) for _ in range(3))
        self.question, self.movie, self.attended = (nn.Linear(width, out_width) for _ in range(3))
        self.norms = nn.ModuleList([nn.LayerNorm(out_width) for _ in range(3)])

    def forward(self, question: Tensor, movie: Tensor, attended: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Combine vectors (B, D) to three (B, out_width)."""
        return (
            self.norms[0](self.all_question(question) + self.all_movie(movie) + self.all_attended(attended)),
            self.norms[1](self.movie(movie)),
            self.norms[2](self.question(question) + self.attended(attended)),
        )


class MovieMcan(nn.Module):
    """A question read by self-attention looks at the image by guided attention and by modulated convolutions.

    Args:
        vocabulary_size: number of question words, padding (word 0) included; None where a text tower reads them.
        grid_width: C of the image grid.
        num_answers: A.
        word_vectors: (vocabulary_size, word_width) to start from; None for random ones.
        word_width: of word vectors, or of the text tower's states.
        width: D of LSTM, attention layers and both views.
        num_layers: of self-attention over the question; as many guided ones over the image.
        num_heads: H.
        feed_forward_width: hidden layer of feed-forward networks.
        pool_width: hidden layer of attention pools.
        movie_width: channels within MoVie's bottlenecks.
        num_movie_blocks: number of bottlenecks.
        fusion_width: of what is classified.
        dropout_p: dropout in attention, feed-forward networks, residuals and pools.
        pad_to: side of the square in whose corner the grid is put; its zero cells are attended to and averaged, as
            the published numbers had it. None computes on the grid alone, in about half the time for 18 × 31 cells.
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
        width: int = 1024,
        num_layers: int = 6,
        num_heads: int = 8,
        feed_forward_width: int = 4096,
        pool_width: int = 512,
        movie_width: int = 256,
        num_movie_blocks: int = 4,
        fusion_width: int = 2048,
        dropout_p: float = 0.1,
        pad_to: int | None = 32,
        text_tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        layer = (width, num_heads, feed_forward_width, dropout_p)
        self.words = WordLSTM(vocabulary_size, word_width, width, word_vectors, text_tower)
        self.question_layers = nn.ModuleList([SelfAttentionLayer(*layer) for _ in range(num_layers)])
        self.question_pool = AttentionPool(width, pool_width, 2, dropout_p)
        self.image_input = ImageInput(grid_width, pad_to)
        self.cells = nn.Linear(grid_width, width)
        self.image_layers = nn.ModuleList([GuidedLayer(*layer) for _ in range(num_layers)])
        self.image_pool = AttentionPool(width, pool_width, 1, dropout_p)
        self.movie = Movie(grid_width, movie_width, width, width, num_movie_blocks)
        self.fusion = BranchFusion(width, fusion_width)
        self.classifiers = nn.ModuleList([nn.Linear(fusion_width, num_answers) for _ in range(3)])

    def forward(self, tokens: Tensor, grid: Tensor | None, generator: torch.Generator | None = None) -> VqaOutput:
        """Answer questions.

        Args:
            tokens: (B, L) int64 or states (B, L, word_width), padded with 0 at the end. How far makes no difference,
                but for empty questions.
            grid: (B, C, h, w) float; None for questions without their images.
            generator: draws dropout masks; None switches dropout off.
        """
        mask = word_mask(tokens)
        words = self.words(tokens)  # (B, L, D)
        bias = padding_bias(mask, words.dtype)
        for layer in self.question_layers:
            words = layer(words, bias, generator)
        pooled, _ = self.question_pool(words, mask, generator)
        condition, question = pooled.unbind(1)  # what modulates MoVie, and what is fused

        image = self.image_input(grid, len(tokens))
        cells = self.cells(locations(image))  # (B, N, D)
        for layer in self.image_layers:
            cells = layer(cells, words, None, bias, generator)
        attended, weights = self.image_pool(cells, None, generator)

        branches = self.fusion(question, self.movie(image, condition), attended.squeeze(1))
        logits = [classify(branch) for classify, branch in zip(self.classifiers, branches, strict=True)]
        return VqaOutput(tuple(logits), attention_map(weights.squeeze(1), image, grid))
