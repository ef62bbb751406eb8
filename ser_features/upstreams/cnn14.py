"""CNN14 of PANNs (Kong et al., arXiv 1912.10211) as a frozen upstream: its six blocks as layers.

Written anew from the published model (qiuqiangkong/audioset_tagging_cnn, pytorch/models.py), with
its parameter names, so that its checkpoints load. A layer is a block's output, averaged over
frequency (as the published head does before it pools time), averaged over time down to the last
block's rate, and zero-padded to its 2048 channels: layer k has 64 * 2**k values that are not zero.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_features.records import UpstreamInfo
from ser_features.upstreams.protocol import LayerOutputs
from ser_features.upstreams.taps import full_float32
from ser_features.upstreams.waves import Waves, check_waves, on_device, pad_waves

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

    def forward(self, x: Tensor, valid: Tensor | None, pool: int) -> Tensor:
        """[B, C, T, F], pooled by ``pool``; ``valid`` [B, 1, T, 1] is 0 on padding."""
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x = F.relu(norm(conv(x if valid is None else x * valid)))
        return F.avg_pool2d(x, pool) if pool > 1 else x


class LogMel(nn.Module):
    """The published filter bank, under its parameter name."""

    def __init__(self, front: Cnn14Front) -> None:
        super().__init__()
        self.melW = nn.Parameter(mel_weights(front), requires_grad=False)

    def forward(self, power: Tensor) -> Tensor:
        """Power spectra [T, window / 2 + 1] to decibels [T, 64]."""
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

    def spectrogram(self, wave: Tensor) -> Tensor:
        """A waveform [N], float32, to normalised log-mel frames [T, 64], float32."""
        size = self.front.window
        window = torch.hann_window(size, device=wave.device)
        spectrum = torch.stft(wave, size, self.front.hop, window=window, return_complex=True)
        mel = self.logmel_extractor(spectrum.abs().square().T)
        return self.bn0(mel[..., None, None])[..., 0, 0]  # type: ignore[no-any-return]

    def forward(self, spectra: list[Tensor], dtype: torch.dtype) -> Tensor:
        """Spectrograms [T_b, 64] to every layer [6, B, T / 32, 2048]."""
        counts = [len(one) for one in spectra]
        x = nn.utils.rnn.pad_sequence(spectra, batch_first=True).unsqueeze(1).to(dtype)
        frames, step, layers = x.shape[2] // POOLED, POOLED, []
        for index, block in enumerate(self.blocks):
            pool = 2 if index < BLOCKS - 1 else 1
            x = block(x, _valid(x, counts), pool)  # [B, C, T, F]
            counts, step = [count // pool for count in counts], step // pool
            pooled = F.avg_pool1d(x.mean(dim=3)[..., : frames * step], step)
            layers.append(F.pad(pooled.transpose(1, 2), (0, DIM - x.shape[1])))
        return torch.stack(layers)


def _valid(x: Tensor, counts: list[int]) -> Tensor | None:
    """1 on valid frames, 0 on padding, [B, 1, T, 1]; None where nothing is padded."""
    if min(counts) == x.shape[2]:
        return None
    steps = torch.arange(x.shape[2], device=x.device)
    return (steps < on_device(counts, x.device)[:, None]).to(x)[:, None, :, None]


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
        spectra = [self._model.spectrogram(row[:end]) for row, end in zip(x, samples, strict=True)]
        hidden = self._model(spectra, self._dtype)
        return LayerOutputs(hidden, tuple(self.num_frames(n) for n in samples))
