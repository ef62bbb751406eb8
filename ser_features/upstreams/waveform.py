"""wav2vec2-like encoders (wav2vec 2.0, HuBERT, WavLM, data2vec, UniSpeech-SAT, MMS, XLS-R)."""

from typing import Any

import torch
from torch import Tensor, nn

from ser_features.records import UpstreamInfo
from ser_features.upstreams import onednn
from ser_features.upstreams.convs import ConvStack, GroupedProduct, conv_frames
from ser_features.upstreams.exact import Batch, repair
from ser_features.upstreams.protocol import LayerOutputs
from ser_features.upstreams.taps import LayerTap, full_float32
from ser_features.upstreams.waves import Waves, check_waves, normalize_, pad_waves


class WaveformUpstream:
    """A frozen wav2vec2-like encoder whose features do not depend on the batch.

    Layer 0 is the input of the first transformer layer (after the positional convolution), the
    last layer the encoder's output, after its final layer norm where it has one.
    """

    def __init__(self, model: Any, info: UpstreamInfo, *, do_normalize: bool) -> None:
        self.info = info
        self._model = model
        self._do_normalize = do_normalize
        weight = next(model.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        self._batch = Batch(packed=self._device.type == "cpu")
        repair(model, self._batch)
        self._convs = ConvStack(model.feature_extractor, packed=self._batch.packed)
        del model.feature_extractor
        if self._device.type == "cpu":
            _speed_up(model, self._dtype)
        self._tap = LayerTap(model.encoder.layers)

    def num_frames(self, num_samples: int) -> int:
        """Exact frames of a waveform of ``num_samples``; 0 where it is too short for one."""
        return conv_frames(self._convs.strides, num_samples)

    @torch.no_grad()
    @full_float32()
    def encode(self, waves: Waves) -> LayerOutputs:
        """Every layer of a ragged batch; see Upstream.encode."""
        samples = check_waves(waves, self.info)
        frames = tuple(self.num_frames(n) for n in samples)
        x = pad_waves(waves, self._device)  # [B, N]
        if self._do_normalize:
            normalize_(x, samples)
        self._batch.set(frames, self._device)
        hidden = self._project(x, samples)  # [B, T, D], or packed [1, S, D]
        shape, batch = (self.info.num_layers, len(frames), max(frames), self.info.dim), self._batch
        layers = hidden.new_empty(shape)
        with self._tap.room(layers, batch.keep):
            # without transformers' own mask: making one reads the padding back from a GPU
            out = self._model.encoder(batch.clear(hidden))
            batch.keep(layers[-1], out.last_hidden_state)
        return LayerOutputs(layers, frames)

    def _project(self, x: Tensor, samples: tuple[int, ...]) -> Tensor:
        """Waveforms [B, N] to the encoder's input [B, T, D], or packed [1, S, D]."""
        features = self._convs(x, samples)
        projected = self._model.feature_projection(features)
        hidden: Tensor = projected[0] if isinstance(projected, tuple) else projected
        return hidden


def _speed_up(model: Any, dtype: torch.dtype) -> None:
    """Put in what a CPU runs faster; the features stay the same."""
    if onednn.usable(dtype):
        onednn.pack_linears(model)
    if dtype == torch.bfloat16:
        for parent in list(model.encoder.pos_conv_embed.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Conv1d):
                    setattr(parent, name, GroupedProduct(child))
