"""Sizes of a CLIP-ViL_p model."""

from dataclasses import dataclass

PAD = 0  # the word piece [PAD]


@dataclass(frozen=True)
class VilSizes:
    """Sizes of the Transformer and of what enters it; the defaults are BERT-base's.

    Attributes:
        vocab_size: word pieces, [PAD] included.
        width: D, a multiple of ``num_heads``.
        num_layers: of the Transformer.
        num_heads: H.
        feed_forward_width: hidden layer of feed-forward networks.
        max_tokens: rows of the table of text positions.
        dropout: of embeddings, attention weights and residuals.
        num_positions: most rows and most columns of an image grid.
        initial_std: of random weights; BERT's suits its width, narrower models learn sooner with more.
    """

    vocab_size: int
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    feed_forward_width: int = 3072
    max_tokens: int = 512
    dropout: float = 0.1
    num_positions: int = 25
    initial_std: float = 0.02

    def __post_init__(self) -> None:
        counts = ("vocab_size", "width", "num_layers", "num_heads", "feed_forward_width", "max_tokens", "num_positions")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.num_heads:
            raise ValueError(f"width must be a multiple of num_heads, {self.num_heads}, got {self.width}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")


# What learns the demo's few words on two cores; put the vocabulary's size in with ``dataclasses.replace``.
DEMO_SIZES = VilSizes(
    vocab_size=1000,
    width=128,
    num_layers=3,
    num_heads=4,
    feed_forward_width=512,
    max_tokens=32,
    dropout=0.0,  # none is needed before a thousand steps, and it costs half of them
    initial_std=0.09,
)
