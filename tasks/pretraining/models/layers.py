"""BERT's parts as transformers builds them, whose dropout a generator can decide.

Its layers draw dropout from PyTorch's global generator. ``seeded`` puts that one, for the time of a forward pass, where
a generator of ours says, so that a run that goes on draws what it would have drawn.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from vln_clip.dropout import dropout
from vln_clip.tasks.pretraining.models.sizes import PAD, VilSizes

if TYPE_CHECKING:
    from transformers import BertConfig

NORM_EPS = 1e-12
_MOST_SEEDS = 2**63 - 1
Part = TypeVar("Part", bound=nn.Module)


def bert_config(sizes: VilSizes) -> "BertConfig":
    """Return what transformers calls these sizes."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        intermediate_size=sizes.feed_forward_width,
        max_position_embeddings=sizes.max_tokens,
        hidden_dropout_prob=sizes.dropout,
        attention_probs_dropout_prob=sizes.dropout,
        layer_norm_eps=NORM_EPS,
        pad_token_id=PAD,
        attn_implementation="sdpa",  # type: ignore[call-arg]
    )


def bert_embeddings(sizes: VilSizes) -> nn.Module:
    """Return BERT's embeddings, tokens (B, L) to (B, L, D): of word, position and segment 0, normalized."""
    from transformers.models.bert.modeling_bert import BertEmbeddings

    return prepared(BertEmbeddings(bert_config(sizes)), sizes.initial_std)


def bert_layers(sizes: VilSizes) -> nn.ModuleList:
    """Return BERT's layers; call them through ``run_layer``."""
    from transformers.models.bert.modeling_bert import BertLayer

    config = bert_config(sizes)
    return nn.ModuleList([prepared(BertLayer(config), sizes.initial_std) for _ in range(sizes.num_layers)])


def run_layer(layer: nn.Module, states: Tensor, mask: Tensor) -> Tensor:
    """Run a layer over states (B, N, D) that look where mask (B, 1, 1, N) is True; return (B, N, D)."""
    found = layer(states, mask)
    return found[0] if isinstance(found, tuple) else found  # transformers before version 5 returns a tuple


class WordHead(nn.Module):
    """BERT's head of masked word pieces, without its table: that is the one of the embeddings."""

    def __init__(self, sizes: VilSizes) -> None:
        from transformers.models.bert.modeling_bert import BertPredictionHeadTransform

        super().__init__()
        self.transform = prepared(BertPredictionHeadTransform(bert_config(sizes)), sizes.initial_std)
        self.bias = nn.Parameter(torch.zeros(sizes.vocab_size))

    def forward(self, states: Tensor, table: Tensor) -> Tensor:
        """Score the words of a table (W, D) at states (M, D); return logits (M, W)."""
        return nn.functional.linear(self.transform(states), table, self.bias)


class Dropout(nn.Dropout):
    """PyTorch's dropout, several times as fast on a CPU; it draws from the global generator too."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries of x while training."""
        if self.training and x.device.type == "cpu":
            return dropout(x, self.p, torch.default_generator)
        return super().forward(x)


def prepared(module: Part, std: float) -> Part:
    """Initialize a module as BERT does, N(0, std), and give it our dropout; never do this to an image encoder."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)
            elif part.padding_idx is not None:
                nn.init.zeros_(part.weight[part.padding_idx].detach())
        for name, child in part.named_children():
            if type(child) is nn.Dropout:
                setattr(part, name, Dropout(child.p))
    return module


@contextmanager
def seeded(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Let PyTorch's global generators of the CPU and one device be a function of one draw, and restore them after.

    Args:
        generator: what is drawn from; None changes nothing.
        device: of the modules.
    """
    if generator is None:
        yield
        return
    seed = int(torch.randint(_MOST_SEEDS, (1,), generator=generator, device=generator.device))
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
