"""Layers -> Linear(D, 128) -> ReLU -> mean and standard deviation over frames -> Linear(256, C)."""

import torch
from torch import Tensor

from ser_features.heads.mlp import MlpHead, segment_mean, spread

EPSILON = 1e-5
"""Added to the variance: keeps the root's gradient finite where a unit does not vary."""


class StatisticsHead(MlpHead):
    """Statistics pooling in place of the mean; the standard deviation is the population's."""

    statistics = 2

    def pool(self, hidden: Tensor, counts: Tensor) -> Tensor:
        """Mean and standard deviation of each utterance's frames: [F, H] -> [B, 2H]."""
        mean = segment_mean(hidden, counts)
        # deviations sum to zero, so no gradient goes through the mean
        centred = hidden - spread(mean.detach(), counts)
        variance = segment_mean(centred.square(), counts)
        return torch.cat([mean, (variance + EPSILON).sqrt()], dim=1)
