"""CNN14 of PANNs (Kong et al., arXiv 1912.10211) as a frozen upstream: its six blocks as layers.

Written anew from the published model (qiuqiangkong/audioset_tagging_cnn, pytorch/models.py), with
its parameter names, so that its checkpoints load. A layer is a block's output, averaged over
frequency (as the published head does before it pools time), averaged over time down to the last
block's rate, and zero-padded to its 2048 channels: layer k has 64 * 2**k values that are not zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_features.records import UpstreamInfo
from ser_features.upstreams.protocol import LayerOutputs
from ser_features.upstreams.taps import full_float32
from ser_features.upstreams.waves import (
    Waves,
    check_waves,
    in_parts,
    on_device,
    pad_waves,
    valid,
)

MELS, BLOCKS, DIM = 64, 6, 2048
POOLED = 32  # spectrogram frames in a frame of the last block: five of six blocks halve time


@dataclass(frozen=True, slots=True)
class Cnn14Front:
    """The log-mel front end: samples and hertz."""

    sample_rate: int
    window: int
    hop: int
    high_hz: float
    low_hz: float = 50.0


FRONTS = {
    "cnn14": Cnn14Front(32_000, 1024, 320, 14_000.0),
    "cnn14-16k": Cnn14Front(16_000, 512, 160, 8_000.0),
}
"""``cnn14`` is the published Cnn14, at 32 kHz; ``cnn14-16k`` its Cnn14_16k."""


def mel_weights(front: Cnn14Front) -> Tensor:
    """librosa's mel filters (Slaney), [window / 2 + 1, 64], as torchlibrosa builds them."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        front.window // 2 + 1, MELS, front.low_hz, front.high_hz, front.sample_rate,
        norm="slaney", mel_scale="slaney",
    )  # fmt: skip
    return torch.from_numpy(np.asarray(filters, np.float32))


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU, then average pooling."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)

    def forward(self, x: Tensor, mask: Tensor | None, pool: int) -> Tensor:
        """[B, C, T, F], pooled by ``pool``; ``mask`` [B, 1, T, 1] is 0 on padding."""
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x = F.relu(norm(conv(x if mask is None else x * mask)))
        return F.avg_pool2d(x, pool) if pool > 1 else x


class LogMel(nn.Module):
    """The published filter bank, under its parameter name."""

    def __init__(self, front: Cnn14Front) -> None:
        super().__init__()
        self.melW = nn.Parameter(mel_weights(front), requires_grad=False)

    def forward(self, power: Tensor) -> Tensor:
        """Power spectra [..., window / 2 + 1] to decibels [..., 64]."""
        return 10 * (power @ self.melW).clamp(min=1e-10).log10()


class Cnn14Model(nn.Module):
    """Log-mel, batch norm, six blocks. The tagging head is left out."""

    def __init__(self, front: Cnn14Front) -> None:
        super().__init__()
        self.front = front
        self.logmel_extractor = LogMel(front)
        self.bn0 = nn.BatchNorm2d(MELS)
        for index in range(BLOCKS):
            before = 1 if index == 0 else 32 * 2**index
            setattr(self, f"conv_block{index + 1}", Block(before, 64 * 2**index))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks in order."""
        return [getattr(self, f"conv_block{index + 1}") for index in range(BLOCKS)]

    def spectrogram(self, x: Tensor, samples: Sequence[int]) -> Tensor:
        """Waveforms [B, N], float32, to normalised log-mel frames [B, T, 64], float32."""
        size = self.front.window
        window = torch.hann_window(size, device=x.device)
        x = _reflected(x, samples, size // 2)
        spectrum = torch.stft(
            x, size, self.front.hop, window=window, center=False, return_complex=True
        )  # [B, F, T]
        mel = self.logmel_extractor(spectrum.abs().square().transpose(1, 2))
        flat = mel.flatten(0, 1)[..., None, None]
        return self.bn0(flat).view(mel.shape)  # type: ignore[no-any-return]

    def forward(self, spectra: Tensor, counts: list[int], dtype: torch.dtype) -> Tensor:
        """Spectrograms [B, T, 64] with ``counts`` valid frames to every layer [6, B, T', 2048].

        T' = T // 32.
        """
        x = spectra.unsqueeze(1).to(dtype)
        frames, step, layers = x.shape[2] // POOLED, POOLED, []
        for index, block in enumerate(self.blocks):
            pool = 2 if index < BLOCKS - 1 else 1
            x = block(x, _mask(x, counts), pool)  # [B, C, T, F]
            counts, step = [count // pool for count in counts], step // pool
            pooled = F.avg_pool1d(x.mean(dim=3)[..., : frames * step], step)
            layers.append(F.pad(pooled.transpose(1, 2), (0, DIM - x.shape[1])))
        return torch.stack(layers)


def _reflected(x: Tensor, samples: Sequence[int], width: int) -> Tensor:
    """[B, N] with ``width`` samples mirrored at both ends of each waveform (the STFT's padding)."""
    last = on_device(samples, x.device)[:, None] - 1
    place = torch.arange(-width, x.shape[1] + width, device=x.device).abs()
    return x.gather(1, (last - (last - place).abs()).clamp_(min=0))


def _mask(x: Tensor, counts: list[int]) -> Tensor | None:
    """1 on valid frames, 0 on padding, [B, 1, T, 1]; None where nothing is padded."""
    if min(counts) == x.shape[2]:
        return None
    return valid(counts, x.shape[2], x.device).to(x)[:, None, :, None]


class Cnn14Upstream:
    """A frozen CNN14 whose features do not depend on the batch; its front end stays float32."""

    def __init__(self, model: Cnn14Model, info: UpstreamInfo, dtype: torch.dtype) -> None:
        self.info, self._model, self._dtype = info, model, dtype
        self._device = model.bn0.weight.device
        for block in model.blocks:
            block.to(dtype)

    def num_frames(self, num_samples: int) -> int:
        """Exact frames of a waveform of ``num_samples``; 0 where it is too short for one."""
        return (num_samples // self._model.front.hop + 1) // POOLED

    @torch.no_grad()
    @full_float32()
    def encode(self, waves: Waves) -> LayerOutputs:
        """Every layer of a ragged batch; see Upstream.encode."""
        samples = check_waves(waves, self.info)
        x = pad_waves(waves, self._device)
        spectra = in_parts(self._model.spectrogram, x, samples)
        counts = [n // self._model.front.hop + 1 for n in samples]
        hidden = self._model(spectra, counts, self._dtype)
        return LayerOutputs(hidden, tuple(self.num_frames(n) for n in samples))
