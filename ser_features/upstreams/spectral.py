"""Spectral upstreams: one layer of fbank, log-mel or cepstral features, no weights."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ser_features.records import UpstreamInfo
from ser_features.registry import by_name
from ser_features.upstreams import kaldi
from ser_features.upstreams.protocol import LayerOutputs
from ser_features.upstreams.taps import full_float32
from ser_features.upstreams.waves import Waves, check_waves, pad_waves


@dataclass(frozen=True, slots=True)
class Spectral:
    """A spectral feature: a function from a waveform [N] to [T, dim], float32.

    ``recipe`` is the identity: whatever changes the features changes it.
    """

    name: str
    dim: int
    recipe: str
    features: Callable[[Tensor], Tensor]


def fbank(wave: Tensor) -> Tensor:
    """SUPERB's fbank: 80 log mel energies, deltas, deltas of those, normalised: [T, 240]."""
    static = kaldi.log_mel(wave, 80)
    first = kaldi.deltas(static)
    return kaldi.normalized(torch.cat([static, first, kaldi.deltas(first)], dim=1))


def logmel(wave: Tensor) -> Tensor:
    """128 log mel energies, not normalised: [T, 128]. 1024 points, or low filters are empty."""
    return kaldi.log_mel(wave, 128, fft_size=1024)


def mfcc(wave: Tensor) -> Tensor:
    """23 cepstra of 23 mel energies, not normalised: [T, 23]."""
    return kaldi.mfcc(wave, 23, 23)


SPECTRAL = by_name(
    "spectral upstream",
    (
        Spectral("fbank", 240, "kaldi fbank 80, 25/10 ms, deltas 2 x 5 frames, cmvn", fbank),
        Spectral("logmel", 128, "kaldi fbank 128, 25/10 ms, fft 1024", logmel),
        Spectral("mfcc", 23, "kaldi mfcc 23 of 23, 25/10 ms, lifter 22", mfcc),
    ),
    lambda entry: entry.name,
)


class SpectralUpstream:
    """A spectral feature as an upstream of one layer, always float32.

    Utterances are computed one by one, so a batch cannot change them.
    """

    def __init__(self, entry: Spectral, device: torch.device) -> None:
        self._entry, self._device = entry, device
        self.info = UpstreamInfo(
            name=entry.name,
            family="spectral",
            num_layers=1,
            dim=entry.dim,
            sample_rate=kaldi.SAMPLE_RATE,
            hop=kaldi.HOP,
            receptive_field=kaldi.LENGTH,
            num_parameters=0,
            max_seconds=None,
            identity={"family": "spectral", "recipe": entry.recipe, "encoding": 1},
            provenance={"source": "computed", "versions": {"torch": torch.__version__}},
        )

    def num_frames(self, num_samples: int) -> int:
        """Exact frames of a waveform of ``num_samples``; 0 where it is too short for one."""
        return kaldi.num_frames(num_samples)

    @torch.no_grad()
    @full_float32()
    def encode(self, waves: Waves) -> LayerOutputs:
        """The one layer of a ragged batch; see Upstream.encode."""
        samples = check_waves(waves, self.info)
        frames = tuple(self.num_frames(n) for n in samples)
        x = pad_waves(waves, self._device)
        hidden = torch.zeros(1, len(waves), max(frames), self._entry.dim, device=self._device)
        for row, wave, n, end in zip(hidden[0], x, samples, frames, strict=True):
            row[:end] = self._entry.features(wave[:n])
        return LayerOutputs(hidden, frames)
