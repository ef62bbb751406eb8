"""Layers -> Linear(D, 128) -> ReLU -> self-attentive pooling -> Linear(128, C).

Pooling: one learned vector scores each frame, a softmax over the utterance's own frames makes the
scores weights (arXiv 2008.01077, as in s3prl 0.4.18's SelfAttentionPooling). There is no padding
here, so nothing has to be masked; s3prl adds a mask to the scores.
"""

import torch
from torch import Tensor, nn

from ser_features.heads.mlp import FrameShape, MlpHead, segment_sum, spread


class AttentiveHead(MlpHead):
    """Self-attentive pooling in place of the mean."""

    def __init__(self, shape: FrameShape) -> None:
        super().__init__(shape)
        # no bias: a softmax takes no notice of a constant
        self.score = nn.Linear(shape.hidden, 1, bias=False)

    def pool(self, hidden: Tensor, counts: Tensor) -> Tensor:
        """The weighted mean of each utterance's frames: [F, H] -> [B, H]."""
        scores = self.score(hidden)  # [F, 1]
        # shifting all scores of an utterance changes no weight, so its gradient is none
        shifted = scores - spread(_segment_max(scores.detach(), counts), counts)
        weights = shifted.exp()
        return segment_sum(weights * hidden, counts) / segment_sum(weights, counts)


def _segment_max(values: Tensor, counts: Tensor) -> Tensor:
    """The largest of each utterance's scores: [F, 1] -> [B, 1]."""
    lengths = counts.to(values.device)
    return torch.segment_reduce(values, "max", lengths=lengths, axis=0, unsafe=True)
