"""wav2vec (Schneider et al., arXiv 1904.05862) and vq-wav2vec (arXiv 1910.05453).

Written anew from fairseq's published model, with its parameter names, so that its checkpoints load.
Layers as in s3prl: the feature encoder's output, then the output of every aggregator layer. The
model takes no mask, and its group norms run over time: here they count valid frames only, so a
batch gives what each utterance gives alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_features.errors import UpstreamError
from ser_features.records import Json, UpstreamInfo
from ser_features.upstreams.convs import conv_field, conv_frames
from ser_features.upstreams.protocol import LayerOutputs
from ser_features.upstreams.quantize import GumbelQuantizer, KmeansQuantizer
from ser_features.upstreams.taps import full_float32
from ser_features.upstreams.valid import ValidGroups
from ser_features.upstreams.waves import Waves, check_waves, pad_waves

Convs = tuple[tuple[int, int, int], ...]
"""(channels, kernel, stride) of each convolution."""
# Far over any speech encoder: what the options of a checkpoint may make us build.
MOST_CONVS, MOST_SIZE = 100, 2**16


@dataclass(frozen=True, slots=True)
class Wav2VecShape:
    """What of fairseq's configuration decides the features, under its names."""

    conv_feature_layers: Convs
    conv_aggregator_layers: Convs
    activation: str = "relu"
    log_compression: bool = True
    skip_connections_agg: bool = True
    residual_scale: float = 0.5
    non_affine_group_norm: bool = False
    no_conv_bias: bool = False
    agg_zero_pad: bool = False
    vq_type: str = "none"
    vq_vars: int = 320
    vq_groups: int = 2
    vq_dim: int = 0
    vq_depth: int = 1
    combine_groups: bool = False

    @property
    def dim(self) -> int:
        """Channels of every layer."""
        return self.conv_feature_layers[-1][0]

    @property
    def num_layers(self) -> int:
        """The feature encoder's output and every aggregator layer."""
        return len(self.conv_aggregator_layers) + 1

    def frames(self, num_samples: int) -> int:
        """Frames that the feature encoder emits; 0 where the waveform is too short."""
        return conv_frames(self._strides(), num_samples)

    def field(self) -> tuple[int, int]:
        """Receptive field and hop in samples."""
        return conv_field(self._strides())

    def _strides(self) -> Iterator[tuple[int, int]]:
        return ((kernel, stride) for _, kernel, stride in self.conv_feature_layers)

    def to_json(self) -> dict[str, Json]:
        """For the identity of the upstream."""
        convs = ("conv_feature_layers", "conv_aggregator_layers")
        return {k: [list(c) for c in v] if k in convs else v for k, v in asdict(self).items()}


class Convolutions(nn.Module):
    """A stack of conv, norm and activation, of the feature encoder or the aggregator."""

    def __init__(self, shape: Wav2VecShape, layers: Convs, channels: int, *, causal: bool) -> None:
        super().__init__()
        self.shape, self.causal = shape, causal
        self.conv_layers, self.residual_proj = nn.ModuleList(), nn.ModuleDict()
        for index, (width, kernel, stride) in enumerate(layers):
            bias = causal and not shape.no_conv_bias
            conv = nn.Conv1d(channels, width, kernel, stride, bias=bias)
            norm = ValidGroups(1, width, affine=not shape.non_affine_group_norm)
            # fairseq's places: the aggregator pads first, both have a dropout before the norm
            first = 1 if causal else 0
            self.conv_layers.append(nn.ModuleDict({f"{first}": conv, f"{first + 2}": norm}))
            if causal and shape.skip_connections_agg and width != channels:
                self.residual_proj[str(index)] = nn.Conv1d(channels, width, 1, bias=False)
            channels = width

    def forward(self, x: Tensor, ends: Sequence[int]) -> list[Tensor]:
        """The output [B, C, T] of every layer; ``ends`` are valid frames (samples) of ``x``."""
        outputs = []
        for index, layer in enumerate(self.conv_layers):
            x, ends = self._layer(index, layer, x, ends)
            outputs.append(x)
        return outputs

    def _layer(
        self, index: int, layer: nn.Module, x: Tensor, ends: Sequence[int]
    ) -> tuple[Tensor, Sequence[int]]:
        conv, norm = layer.values()  # type: ignore[operator]
        width, step = conv.kernel_size[0], conv.stride[0]
        if not self.causal:
            after = [(end - width) // step + 1 for end in ends]
            return self._activate(norm(conv(x), after)), after
        mode = "constant" if self.shape.agg_zero_pad else "replicate"
        y = self._activate(norm(conv(F.pad(x, (width - 1, 0), mode=mode)), ends))
        if self.shape.skip_connections_agg:
            key = str(index)
            same = self.residual_proj[key](x) if key in self.residual_proj else x
            y = (y + same) * math.sqrt(self.shape.residual_scale)
        return y, ends

    def _activate(self, x: Tensor) -> Tensor:
        return F.gelu(x) if self.shape.activation == "gelu" else F.relu(x)


class Wav2VecModel(nn.Module):
    """Feature encoder, quantizer where there is one, aggregator."""

    def __init__(self, shape: Wav2VecShape) -> None:
        super().__init__()
        self.shape = shape
        self.feature_extractor = Convolutions(shape, shape.conv_feature_layers, 1, causal=False)
        self.feature_aggregator = Convolutions(
            shape, shape.conv_aggregator_layers, shape.dim, causal=True
        )
        width = shape.vq_dim or shape.dim
        shared, size = shape.combine_groups, (shape.dim, shape.vq_vars, shape.vq_groups, width)
        if shape.vq_type == "gumbel":
            self.vector_quantizer: nn.Module | None = GumbelQuantizer(
                *size, shape.vq_depth, shared=shared, gelu=shape.activation == "gelu"
            )
        else:
            kmeans = shape.vq_type == "kmeans"
            self.vector_quantizer = KmeansQuantizer(*size, shared=shared) if kmeans else None

    def forward(self, x: Tensor, samples: Sequence[int]) -> Tensor:
        """Waveforms [B, N] to every layer [L, B, T, D]."""
        ends = [self.shape.frames(n) for n in samples]
        z = self.feature_extractor(x.unsqueeze(1), samples)[-1]  # [B, C, T]
        if self.shape.log_compression:
            z = (z.abs() + 1).log()
        quantized = z
        if isinstance(self.vector_quantizer, KmeansQuantizer):
            quantized = self.vector_quantizer(z, ends)
        elif self.vector_quantizer is not None:
            quantized = self.vector_quantizer(z)
        return torch.stack([z, *self.feature_aggregator(quantized, ends)]).transpose(2, 3)


class Wav2VecUpstream:
    """A frozen wav2vec or vq-wav2vec whose features do not depend on the batch."""

    def __init__(self, model: Wav2VecModel, info: UpstreamInfo) -> None:
        self.info, self._model = info, model
        weight = next(model.parameters())
        self._device, self._dtype = weight.device, weight.dtype

    def num_frames(self, num_samples: int) -> int:
        """Exact frames of a waveform of ``num_samples``; 0 where it is too short for one."""
        return self._model.shape.frames(num_samples)

    @torch.no_grad()
    @full_float32()
    def encode(self, waves: Waves) -> LayerOutputs:
        """Every layer of a ragged batch; see Upstream.encode."""
        samples = check_waves(waves, self.info)
        x = pad_waves(waves, self._device).to(self._dtype)
        hidden = self._model(x, samples)
        return LayerOutputs(hidden, tuple(self.num_frames(n) for n in samples))


def check_shape(shape: Wav2VecShape, where: str) -> Wav2VecShape:
    """The shape; UpstreamError where it is not one that is supported."""
    for field in fields(shape):
        value = getattr(shape, field.name)
        if not _sound(value, field.default):
            raise UpstreamError(
                f"{where}: {field.name} is {str(value)[:80]!r}; expected {_expected(field.default)}"
            )
    widths = {width for width, _, _ in shape.conv_aggregator_layers} | {shape.dim}
    if len(widths) > 1:
        raise UpstreamError(f"{where}: layers of different widths {sorted(widths)}; expected one")
    if any(stride > 1 for _, _, stride in shape.conv_aggregator_layers):
        raise UpstreamError(f"{where}: conv_aggregator_layers has strides over 1; expected 1")
    if shape.vq_type != "none":
        _check_codes(shape, where)
    if shape.activation not in ("relu", "gelu") or shape.vq_type not in (
        "none",
        "gumbel",
        "kmeans",
    ):
        raise UpstreamError(
            f"{where}: activation {shape.activation[:40]!r} and quantizer {shape.vq_type[:40]!r}; "
            "expected relu or gelu, and none, gumbel or kmeans"
        )
    return shape


def _check_codes(shape: Wav2VecShape, where: str) -> None:
    """UpstreamError where code vectors could not take the place of the features."""
    if shape.vq_dim not in (0, shape.dim):
        raise UpstreamError(f"{where}: vq_dim is {shape.vq_dim}; expected {shape.dim}, or 0 for it")
    if shape.vq_vars < 1 or shape.vq_groups < 1 or shape.dim % shape.vq_groups:
        raise UpstreamError(
            f"{where}: {shape.vq_groups} groups of {shape.vq_vars} codes; expected some of each, "
            f"and groups that share {shape.dim} values evenly"
        )


def _sound(value: Any, default: Any) -> bool:
    """Whether an option may be what a checkpoint says it is, by its kind of default."""
    if default is MISSING:
        return 0 < len(value) <= MOST_CONVS and all(
            type(size) is int and 0 < size <= MOST_SIZE for conv in value for size in conv
        )
    if isinstance(default, str):
        return isinstance(value, str)
    kinds = (float, int) if isinstance(default, float) else (type(default),)
    return type(value) in kinds and 0 <= value <= MOST_SIZE


def _expected(default: Any) -> str:
    """The sentence to that."""
    if default is MISSING:
        return f"1 to {MOST_CONVS} triples of channels, kernel and stride, 1 to {MOST_SIZE} each"
    number = f"a number from 0 to {MOST_SIZE}"
    kinds = {str: "a word", bool: "True or False", int: f"{number}, whole", float: number}
    return kinds[type(default)]
