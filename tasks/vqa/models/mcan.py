"""MCAN (Yu et al. 2019) as openvqa builds it, small and large; simpler than the paper's MoVie+MCAN."""

import torch
from torch import Tensor, nn

from vln_clip.normalization import ReferenceNorm
from vln_clip.tasks.vqa.models.inputs import ImageInput, WordLSTM, attention_map, locations
from vln_clip.tasks.vqa.models.layers import AttentionPool, GuidedLayer, SelfAttentionLayer, padding_bias
from vln_clip.tasks.vqa.models.output import VqaOutput
from vln_clip.token_states import word_mask


class Mcan(nn.Module):
    """A question read by self-attention guides attention over the image; their pooled sum is classified.

    Args:
        vocabulary_size: number of question words, padding (word 0) included; None where a text tower reads them.
        grid_width: C of the image grid.
        num_answers: A.
        word_vectors: (vocabulary_size, word_width) to start from; None for random ones.
        word_width: of word vectors, or of the text tower's states.
        width: D of LSTM and attention layers.
        num_layers: of self-attention over the question; as many guided ones over the image.
        num_heads: H.
        feed_forward_width: hidden layer of feed-forward networks.
        pool_width: hidden layer of attention pools.
        fusion_width: F of what is classified.
        dropout_p: dropout in attention, feed-forward networks, residuals and pools.
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
        width: int = 512,
        num_layers: int = 6,
        num_heads: int = 8,
        feed_forward_width: int = 2048,
        pool_width: int = 512,
        fusion_width: int = 1024,
        dropout_p: float = 0.1,
        text_tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        layer = (width, num_heads, feed_forward_width, dropout_p, ReferenceNorm)
        self.words = WordLSTM(vocabulary_size, word_width, width, word_vectors, text_tower)
        self.question_layers = nn.ModuleList([SelfAttentionLayer(*layer) for _ in range(num_layers)])
        self.question_pool = AttentionPool(width, pool_width, 1, dropout_p)
        self.question_fusion = nn.Linear(width, fusion_width)
        self.image_input = ImageInput(grid_width)
        self.cells = nn.Linear(grid_width, width)
        self.image_layers = nn.ModuleList([GuidedLayer(*layer) for _ in range(num_layers)])
        self.image_pool = AttentionPool(width, pool_width, 1, dropout_p)
        self.image_fusion = nn.Linear(width, fusion_width)
        self.norm = ReferenceNorm(fusion_width)
        self.classifier = nn.Linear(fusion_width, num_answers)

    def forward(self, tokens: Tensor, grid: Tensor | None, generator: torch.Generator | None = None) -> VqaOutput:
        """Answer questions.

        Args:
            tokens: (B, L) int64 or states (B, L, word_width), padded with 0 at the end. How far makes no difference,
                but for empty questions.
            grid: (B, C, h, w) float; cells that are all zero are padding. None for questions without their images.
            generator: draws dropout masks; None switches dropout off.
        """
        mask = word_mask(tokens)
        words = self.words(tokens)  # (B, L, D)
        bias = padding_bias(mask, words.dtype)
        for layer in self.question_layers:
            words = layer(words, bias, generator)
        question, _ = self.question_pool(words, mask, generator)  # (B, 1, D)

        image = self.image_input(grid, len(tokens))
        cells = locations(image)  # (B, N, C)
        cell_mask = None if grid is None else (grid != 0).any(1).flatten(1)
        cell_bias = None if cell_mask is None else padding_bias(cell_mask, words.dtype)
        cells = self.cells(cells)  # (B, N, D)
        for layer in self.image_layers:
            cells = layer(cells, words, cell_bias, bias, generator)
        seen, weights = self.image_pool(cells, cell_mask, generator)

        fused = self.question_fusion(question.squeeze(1)) + self.image_fusion(seen.squeeze(1))
        return VqaOutput((self.classifier(self.norm(fused)),), attention_map(weights.squeeze(1), image, grid))
