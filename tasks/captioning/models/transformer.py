"""The captioning Transformer of specification §3.2: grid features in, a distribution over the next word out.

How captions are written with it is in ``decoding`` and ``beam``. Index 0 begins, ends and pads captions, the others are
words. Weights are drawn from PyTorch's generator, dropout from the one handed in. Axes: ``W`` indices of the
vocabulary, ``S`` captions of one image, ``N`` grid cells.
"""

import math
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from vln_clip.dropout import dropout
from vln_clip.tasks.captioning.models.decoder import DecoderLayer, DecoderState
from vln_clip.tasks.captioning.models.layers import EncoderLayer, Norm, RepeatableDropout, build_norm, sinusoids

MAX_POSITIONS = 512  # positions that words may have; captions have 20


class CaptionTransformer(nn.Module):
    """Pre-norm Transformer that captions images given as grids of features.

    With ``grid_width=None`` it never sees an image: one learned vector takes the place of the embedded grid cells,
    and the same encoder and decoder follow.
    """

    def __init__(
        self,
        vocabulary_size: int,
        grid_width: int | None,
        *,
        width: int = 512,
        hidden_width: int = 2048,
        num_layers: int = 6,
        num_heads: int = 8,
        dropout_p: float = 0.1,
        visual_dropout_p: float = 0.5,
        norm: Norm = "torch",
    ) -> None:
        """Build with fresh weights: Xavier-uniform matrices, but PyTorch's default for the visual embedding.

        Args:
            vocabulary_size: indices W, 0 included.
            grid_width: channels C of the grid features; None for a model without images.
            width: D, of words, cells and everything between layers.
            hidden_width: of the feed-forward networks.
            num_layers: of the encoder, and of the decoder.
            num_heads: H, divides ``width``.
            dropout_p: in both stacks and on word embeddings.
            visual_dropout_p: on the embedded grid.
            norm: ``torch`` is ``nn.LayerNorm``; ``reference`` the variant of the public checkpoints.
        """
        super().__init__()
        if width % num_heads or width % 2:
            raise ValueError(f"width must be even and a multiple of num_heads={num_heads}, got {width}")
        self.vocabulary_size, self.grid_width, self.width = vocabulary_size, grid_width, width
        self.num_heads, self.dropout_p, self.visual_dropout_p = num_heads, dropout_p, visual_dropout_p
        self.visual = None if grid_width is None else nn.Linear(grid_width, width)
        self.blank = nn.Parameter(torch.randn(1, 1, width)) if grid_width is None else None
        sizes = (width, hidden_width, num_heads, dropout_p, norm)
        self.encoder = nn.ModuleList(EncoderLayer(*sizes) for _ in range(num_layers))
        self.encoder_norm = build_norm(norm, width)
        self.decoder = nn.ModuleList(DecoderLayer(index, *sizes) for index in range(num_layers))
        self.decoder_norm = build_norm(norm, width)
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.words = nn.Linear(width, vocabulary_size)
        self.positions: Tensor
        self.register_buffer("positions", sinusoids(MAX_POSITIONS, width), persistent=False)
        self._reset()

    def _reset(self) -> None:
        for layer in (*self.encoder.modules(), *self.decoder.modules()):
            if callable(reset := getattr(layer, "reset", None)):
                reset()
        nn.init.xavier_uniform_(self.embedding.weight)
        nn.init.xavier_uniform_(self.words.weight)

    def _decoder_layers(self) -> list[DecoderLayer]:
        return [cast(DecoderLayer, layer) for layer in self.decoder]

    def encode(self, grid: Tensor | None, generator: torch.Generator | None = None, num_images: int = 1) -> Tensor:
        """Encode images.

        Args:
            grid: (B, C, h, w) of any float type; None, and only that, for a model without images.
            generator: source of dropout; None for evaluation.
            num_images: B of a model without images.

        Returns:
            Memory, (B, N, D) with N = h · w, or N = 1 without images.

        Raises:
            ValueError: the grid has another shape, or is absent or given against how the model was built.
        """
        x = self._embed(grid, generator, num_images)
        for layer in self.encoder:
            x = layer(x, generator)
        return self.encoder_norm(x)

    def _embed(self, grid: Tensor | None, generator: torch.Generator | None, num_images: int) -> Tensor:
        wanted = "None, as the model has no images" if self.grid_width is None else f"(B, {self.grid_width}, h, w)"
        found = None if grid is None else tuple(grid.shape)
        if self.visual is None or grid is None:
            if self.blank is None or grid is not None:
                raise ValueError(f"grid must be {wanted}, got {found}")
            return self.blank.expand(num_images, -1, -1)
        if grid.ndim != 4 or grid.shape[1] != self.grid_width:
            raise ValueError(f"grid must be {wanted}, got {found}")
        cells = grid.flatten(2).transpose(1, 2).to(self.visual.weight.dtype)  # (B, N, C)
        return dropout(torch.relu(self.visual(cells)), self.visual_dropout_p, generator)

    def forward(self, grid: Tensor | None, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Score the next word after each word of given captions.

        Args:
            grid: as ``encode`` takes it.
            tokens: (B, S, L) int64, S captions of each image, beginning with 0 and padded with 0.
            generator: source of dropout; None for evaluation.

        Returns:
            Logits, (B, S, L, W).
        """
        memory = self.encode(grid, generator, len(tokens))
        noise = None if generator is None else RepeatableDropout(generator, tokens.shape[-1])
        return self.decode(memory, tokens, noise)

    def decode(self, memory: Tensor, tokens: Tensor, noise: RepeatableDropout | None = None) -> Tensor:
        """Score the next word after each word of whole captions: ``forward`` from the memory (B, N, D) on."""
        return self.words(self.states(memory, tokens, noise))

    def states(self, memory: Tensor, tokens: Tensor, noise: RepeatableDropout | None = None) -> Tensor:
        """Return what ``words`` scores the next words from, (B, S, L, D)."""
        x = self._embed_words(tokens, 0, noise)
        for layer in self._decoder_layers():
            x = layer(x, layer.image.keys_and_values(memory), noise=noise)
        return self.decoder_norm(x)

    def begin(self, memory: Tensor, num_captions: int, max_words: int) -> DecoderState:
        """Return the state before the first word of ``num_captions`` captions of each image."""
        B, S, T = len(memory), num_captions, max_words
        H = self.num_heads
        image = [layer.image.keys_and_values(memory) for layer in self._decoder_layers()]
        image = [(keys.contiguous(), values.contiguous()) for keys, values in image]
        empty = partial(memory.new_empty, (B, H, T, S, self.width // H))
        words = [(empty(), empty()) for _ in image]
        slots = torch.arange(S, device=memory.device)[None, :, None].repeat(B, 1, T)
        return DecoderState(image, words, slots)

    def step(self, tokens: Tensor, state: DecoderState, noise: RepeatableDropout | None = None) -> Tensor:
        """Score the word after the next one, as ``decode`` does, from what is cached of those before.

        Args:
            tokens: (B, S) int64, the next word of each caption, 0 at first.
            state: goes on by one word. No gradients reach what it holds: call this under ``torch.no_grad``.
            noise: dropout; None drops nothing.

        Returns:
            Logits, (B, S, W).
        """
        x = self._embed_words(tokens.unsqueeze(-1), state.length, noise)
        visible = state.visible()
        for layer, memory in zip(self.decoder, state.memory, strict=True):
            x = layer(x, memory, state, visible, noise)
        state.length += 1
        return self.words(self.decoder_norm(x)).squeeze(2)

    def _embed_words(self, tokens: Tensor, start: int, noise: RepeatableDropout | None) -> Tensor:
        """Embed words (B, S, L) that begin at a position, (B, S, L, D)."""
        end = start + tokens.shape[-1]
        if end > MAX_POSITIONS:
            raise ValueError(f"captions must have at most {MAX_POSITIONS} words, got {end}")
        x = self.embedding(tokens) * math.sqrt(self.width) + self.positions[start:end]
        if noise is None or self.dropout_p == 0:
            return x
        return noise.drop(x, self.dropout_p, "embedding", 2, start)
