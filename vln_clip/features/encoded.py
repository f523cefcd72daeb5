"""Features of an encoder that is being trained: made when a rollout looks, and their gradients brought back to it.

The graph of one step of navigation would hold the activations of some thousand pictures. Here there are two passes:
the first encodes without gradients what the rollouts ask for; each viewpoint's features are a leaf, on which the
rollouts leave their gradient. The second pass encodes the same pictures again, a few at a time, and sends that gradient
on into the weights. Memory is that of a few pictures, the gradients are those of the one large graph.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vln_clip.encoders import Encoder
from vln_clip.features.rendered import RenderedViews
from vln_clip.records import NUM_VIEWS


class EncodedViews:
    """A feature bank over rendered views and an encoder whose weights change.

    The encoder stays in evaluation mode: statistics of batch norms are kept, so that a picture's features do not
    depend on which others it is encoded with, and both passes agree.

    Attributes:
        name: of the encoder.
        width: D.
        device: of the encoder.
        dtype: float32.
        stand_in_for: empty: nothing stands in here.
        encoder: the encoder.
        rendered: the views.
        num_encoded: pictures encoded so far in the first passes and in validation, each once per viewpoint and weights.
    """

    def __init__(
        self, encoder: Encoder, views: RenderedViews, micro_batch: int, product_dtype: torch.dtype | None = None
    ):
        self.encoder, self.name, self.width = encoder, encoder.name, encoder.pooled_width
        self.device = next(encoder.parameters()).device
        self.dtype, self.stand_in_for, self.num_encoded = torch.float32, "", 0
        self.rendered, self._micro_batch, self._product_dtype = views, micro_batch, product_dtype
        self._features: dict[int, Tensor] = {}  # (36, D) of each viewpoint
        self._collecting = False

    def views(self, index: Tensor) -> Tensor:
        """Return the features of all views of some viewpoints; those not yet encoded with these weights are now.

        Args:
            index: global viewpoint indices, (B,) int64.

        Returns:
            (B, 36, D) float32; in training their gradient is collected.
        """
        rows = index.tolist()
        missing = sorted(set(rows) - self._features.keys())
        for part, images in self._pictures(missing):
            with torch.no_grad():
                features = torch.cat([self._encode(chunk) for chunk in images.split(self._micro_batch)])
            self.num_encoded += len(images)
            for row, own in zip(part, features.unflatten(0, (len(part), NUM_VIEWS)), strict=True):
                self._features[row] = own.clone().requires_grad_(self._collecting)
        return torch.stack([self._features[row] for row in rows])

    def begin_step(self) -> None:
        """Forget all features; those made from now on collect gradients."""
        self._features, self._collecting = {}, True

    def end_step(self) -> None:
        """Forget all features: the weights are about to change. Those made from now on are for looking only."""
        self._features, self._collecting = {}, False

    def backward(self) -> None:
        """Send the collected gradients into the encoder's weights, one micro-batch after the other."""
        gradients = {
            row: features.grad for row, features in sorted(self._features.items()) if features.grad is not None
        }
        self._features = {}
        for part, images in self._pictures(list(gradients)):
            collected = torch.cat([gradients.pop(row) for row in part])  # (n * 36, D)
            for chunk, gradient in zip(
                images.split(self._micro_batch), collected.split(self._micro_batch), strict=True
            ):
                self._encode(chunk).backward(gradient)

    def _pictures(self, rows: Sequence[int]) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Yield viewpoints with their pictures, (n * 36, 3, h, w) uint8: as few as fill a micro-batch."""
        step = max(1, self._micro_batch // NUM_VIEWS)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            yield part, self.rendered.read(part).flatten(0, 1)

    def _encode(self, images: Tensor) -> Tensor:
        """Encode a few pictures, (n, 3, h, w) uint8, to (n, D) float32."""
        mixed = torch.autocast(self.device.type, dtype=self._product_dtype, enabled=self._product_dtype is not None)
        with mixed:
            return self.encoder.pooled(self.encoder.transform.scale(images.to(self.device))).float()
