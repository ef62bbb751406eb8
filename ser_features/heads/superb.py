"""SUPERB's emotion head, many of them at once, on the mean over frames of every layer.

The head is softmax-weighted sum of layers -> Linear(D, H) -> mean over frames -> Linear(H, C),
with no activation, dropout or norm (s3prl 0.4.18: Featurizer and downstream/emotion/expert.py).
All of it is affine, so the mean over frames comes first, and the two matrices act as their product
M = W2 W1 [C, D]. That gives the same logits and gradients from rank-C products, not D x H ones:

    logits = z M' + W2 b1 + b2      z = sum_l w_l x_l,  w = softmax(scalars)
    dW1 = W2' G     dW2 = G W1' + s b1'     G = dlogits' z [C, D],  s = sum_b dlogits [C]
    |dW1|^2 = <W2 W2', G G'>        so the gradient is clipped before it is written out
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SuperbShape:
    """Sizes of a head. An upstream of one layer has no layer weights, as in s3prl."""

    num_layers: int
    dim: int
    num_classes: int
    hidden: int = 256

    @property
    def num_scalars(self) -> int:
        """How many layer scalars are learned: one a layer, none for a single layer."""
        return self.num_layers if self.num_layers > 1 else 0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of the small parameters: projector bias, output weight, output bias, scalars."""
        classes = self.num_classes
        return (self.hidden, classes * self.hidden, classes, self.num_scalars)

    @property
    def num_parameters(self) -> int:
        """Parameters of one head."""
        return self.hidden * self.dim + sum(self.sizes)


@dataclass(frozen=True, slots=True)
class HeadWeights:
    """The parameters of one head: [H, D], [H], [C, H], [C] and [L] (or [0]), float32."""

    projector: Floats
    projector_bias: Floats
    output: Floats
    output_bias: Floats
    scalars: Floats

    def __iter__(self) -> Iterator[Floats]:
        return (getattr(self, field.name) for field in fields(self))


def initial_weights(shape: SuperbShape, rng: np.random.Generator) -> HeadWeights:
    """Torch's Linear default, uniform in ±1/sqrt(fan-in), and zero layer scalars."""

    def uniform(fan_in: int, *size: int) -> Floats:
        return rng.uniform(-(fan_in**-0.5), fan_in**-0.5, size).astype(np.float32)

    hidden, classes = shape.hidden, shape.num_classes
    return HeadWeights(
        uniform(shape.dim, hidden, shape.dim),
        uniform(shape.dim, hidden),
        uniform(hidden, classes, hidden),
        uniform(hidden, classes),
        np.zeros(shape.num_scalars, np.float32),
    )


@dataclass(frozen=True, slots=True)
class Blend:
    """A second utterance mixed into each slot of minibatches, and what is set to zero.

    ``rows`` [R, B, L] and ``labels`` [R, B] are the partners'; ``own`` and ``other`` [R, B] weigh
    the features of the two, ``label`` the own label. ``layers`` [R, B, L] and ``features``
    [R, B, D] are 0 where masked, else 1.
    """

    rows: Tensor
    labels: Tensor
    own: Tensor
    other: Tensor
    label: Tensor
    layers: Tensor
    features: Tensor


class SuperbStack:
    """R heads of one shape as stacked parameters, with hand-written gradients.

    ``blocks`` are the parameters as an optimiser sees them, ``grads`` their gradients: the
    projectors [R, H, D], and everything else [R, sum(sizes)]. No tensor requires grad.
    """

    def __init__(self, shape: SuperbShape, num_runs: int, device: torch.device) -> None:
        self.shape, self.num_runs = shape, num_runs
        sizes = ((num_runs, shape.hidden, shape.dim), (num_runs, sum(shape.sizes)))
        self.blocks = tuple(torch.zeros(size, device=device) for size in sizes)
        self.grads = tuple(torch.zeros(size, device=device) for size in sizes)
        self._params = (self.blocks[0], *self.views(self.blocks[1]))
        self._grads = (self.grads[0], *self.views(self.grads[1]))

    @property
    def params(self) -> tuple[Tensor, ...]:
        """Projector [R, H, D], its bias [R, H, 1], output [R, C, H], its bias, scalars [R, L]."""
        return self._params

    def views(self, small: Tensor) -> tuple[Tensor, ...]:
        """The small parameters (or their gradients), [R, sum(sizes)], as the tensors they are."""
        bias, output, output_bias, scalars = torch.split(small, list(self.shape.sizes), dim=1)
        # bias vectors as columns [R, n, 1], for the batched products
        return bias.unsqueeze(2), self._matrix(output), output_bias.unsqueeze(2), scalars

    def _matrix(self, output: Tensor) -> Tensor:
        return output.view(self.num_runs, self.shape.num_classes, self.shape.hidden)

    def load(self, run: int, weights: HeadWeights) -> None:
        """Set the parameters of one run."""
        for ours, given in zip(self._params, weights, strict=True):
            ours[run] = torch.from_numpy(given).view(ours[run].shape)

    def weights(self, run: int) -> HeadWeights:
        """A copy of the parameters of one run."""
        return self._copy(self._params, run)

    def gradients_of(self, run: int) -> HeadWeights:
        """A copy of the gradients of one run, as ``backward`` left them."""
        return self._copy(self._grads, run)

    def _copy(self, tensors: tuple[Tensor, ...], run: int) -> HeadWeights:
        arrays = [t[run].to("cpu", copy=True).numpy() for t in tensors]
        arrays[1], arrays[3] = arrays[1][:, 0], arrays[3][:, 0]
        return HeadWeights(*arrays)

    def layer_weights(self) -> Tensor:
        """Softmax of the scalars, [R, L]; ones for a single layer."""
        if not self.shape.num_scalars:
            return self.blocks[0].new_ones(self.num_runs, 1)
        return self._params[4].softmax(dim=1)

    def product(self) -> tuple[Tensor, Tensor]:
        """The affine map from features to logits: M [R, C, D] and its offset [R, 1, C]."""
        projector, bias, output, output_bias, _ = self._params
        offset = torch.baddbmm(output_bias, output, bias)  # [R, C, 1]
        return torch.bmm(output, projector), offset.transpose(1, 2)

    def logits(self, table: Tensor, rows: Tensor, run: int) -> Tensor:
        """Logits [B, C] of one run for utterances whose table rows are ``rows`` [B, L]."""
        projector, bias, output, output_bias, _ = (param[run] for param in self._params)
        weights = self.layer_weights()[run].expand(rows.shape).contiguous()
        mixed = embedding_bag(rows, table, mode="sum", per_sample_weights=weights)  # [B, D]
        return mixed @ (output @ projector).T + (output @ bias + output_bias).T

    def backward(
        self,
        table: Tensor,
        rows: Tensor,
        labels: Tensor,
        weight: Tensor,
        clip: float,
        blend: Blend | None = None,
    ) -> Tensor:
        """Fill ``grads`` with each run's gradient, clipped to norm ``clip``; return the norms [R].

        ``table`` [N*L, D] holds layer l of utterance n in row n*L + l; ``rows`` [R, B, L] the
        minibatch of each run, ``labels`` [R, B] its classes. The loss is the sum of cross-entropies
        weighted by ``weight`` [R, B] (1/B for a mean).
        """
        mixed, scalars = self.mix(table, rows, blend)
        z = mixed.detach()
        matrix, offset = self.product()
        logits = torch.baddbmm(offset, z, matrix.transpose(1, 2))  # [R, B, C]
        dlogits = logits.softmax(dim=2).mul_(weight.unsqueeze(2))
        given = weight if blend is None else weight * blend.label
        dlogits.scatter_add_(2, labels.unsqueeze(2), -given.unsqueeze(2))
        if blend is not None:
            dlogits.scatter_add_(2, blend.labels.unsqueeze(2), (given - weight).unsqueeze(2))
        if self.shape.num_scalars:
            dmixed = torch.bmm(dlogits, matrix)  # [R, B, D]
            self._grads[4].copy_(torch.autograd.grad(mixed, scalars, dmixed)[0])
        outer = torch.bmm(dlogits.transpose(1, 2), z)  # [R, C, D]
        return self._finish(outer, dlogits.sum(dim=1).unsqueeze(2), clip)

    def mix(self, table: Tensor, rows: Tensor, blend: Blend | None = None) -> tuple[Tensor, Tensor]:
        """Weighted sums of layers [R, B, D] in one pass over the rows, nothing gathered first.

        With them a leaf tensor of the scalars, for their gradient.
        """
        runs, batch, layers = rows.shape
        scalars = self._params[4].detach().requires_grad_(self.shape.num_scalars > 0)
        if blend is not None:
            return self._blended(table, rows, scalars, blend), scalars
        if not self.shape.num_scalars:
            return table.index_select(0, rows.flatten()).view(runs, batch, -1), scalars
        with torch.enable_grad():
            weights = scalars.softmax(dim=1).unsqueeze(1).expand(rows.shape).reshape(-1, layers)
            mixed = embedding_bag(
                rows.view(-1, layers), table, mode="sum", per_sample_weights=weights
            )
            return mixed.view(runs, batch, -1), scalars

    def _blended(self, table: Tensor, rows: Tensor, scalars: Tensor, blend: Blend) -> Tensor:
        runs, batch, layers = rows.shape
        both = torch.cat([rows, blend.rows], dim=2)
        with torch.enable_grad():
            share = scalars.softmax(dim=1) if self.shape.num_scalars else scalars.new_ones(runs, 1)
            share = share.unsqueeze(1) * blend.layers
            weights = torch.cat(
                [share * blend.own.unsqueeze(2), share * blend.other.unsqueeze(2)], dim=2
            )
            mixed = embedding_bag(
                both.view(-1, 2 * layers),
                table,
                mode="sum",
                per_sample_weights=weights.view(-1, 2 * layers),
            )
            return mixed.view(runs, batch, -1) * blend.features

    def _finish(self, outer: Tensor, bias_sum: Tensor, clip: float) -> Tensor:
        """All other gradients from G [R, C, D] and s [R, C, 1], and the clipping of each run."""
        projector, bias, output, _, _ = self._params
        d_projector, d_bias, d_output, d_output_bias, _ = self._grads
        d_output.copy_(torch.bmm(outer, projector.transpose(1, 2)))
        d_output.baddbmm_(bias_sum, bias.transpose(1, 2))
        d_bias.copy_(torch.bmm(output.transpose(1, 2), bias_sum))
        d_output_bias.copy_(bias_sum)
        gram = torch.bmm(output, output.transpose(1, 2)) * torch.bmm(outer, outer.transpose(1, 2))
        squares = gram.sum(dim=(1, 2)).clamp_min_(0) + self.grads[1].square().sum(dim=1)
        norms = squares.sqrt_()
        # torch.nn.utils.clip_grad_norm_, each run by itself
        scale = (clip / (norms + 1e-6)).clamp_max_(1)
        self.grads[1].mul_(scale.unsqueeze(1))
        torch.bmm(output.transpose(1, 2), outer * scale.view(-1, 1, 1), out=d_projector)
        return norms
