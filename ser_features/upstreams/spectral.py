"""Spectral upstreams: one layer of fbank, log-mel or cepstral features, no weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ser_features.records import UpstreamInfo
from ser_features.registry import by_name
from ser_features.upstreams import kaldi
from ser_features.upstreams.protocol import LayerOutputs
from ser_features.upstreams.taps import full_float32
from ser_features.upstreams.waves import Waves, check_waves, in_parts, pad_waves


@dataclass(frozen=True, slots=True)
class Spectral:
    """A spectral feature: ``features`` from waveforms [..., N] to [..., T, dim], float32.

    They are frame by frame; ``whole`` adds what needs all frames of an utterance: [B, T, D] and
    the valid frames of each to [B, T, dim]. ``recipe`` is the identity: whatever changes the
    features changes it.
    """

    name: str
    dim: int
    recipe: str
    features: Callable[[Tensor], Tensor]
    whole: Callable[[Tensor, Sequence[int]], Tensor] | None = None

    def batch(self, x: Tensor, samples: Sequence[int]) -> Tensor:
        """Padded waveforms [B, N] to [B, T, dim]."""
        features = self.features(x)
        ends = [kaldi.num_frames(n) for n in samples]
        return features if self.whole is None else self.whole(features, ends)


def mel(wave: Tensor) -> Tensor:
    """80 log mel energies: [..., T, 80]."""
    return kaldi.log_mel(wave, 80)


def superb(x: Tensor, ends: Sequence[int]) -> Tensor:
    """SUPERB's fbank of [B, T, 80]: with deltas and deltas of those, normalised: [B, T, 240]."""
    return kaldi.normalized(kaldi.with_deltas(x, ends), ends)


def logmel(wave: Tensor) -> Tensor:
    """128 log mel energies, as they are: [..., T, 128]. 1024 points, or low filters are empty."""
    return kaldi.log_mel(wave, 128, fft_size=1024)


def mfcc(wave: Tensor) -> Tensor:
    """23 cepstra of 23 mel energies, not normalised: [..., T, 23]."""
    return kaldi.mfcc(wave, 23, 23)


SPECTRAL = by_name(
    "spectral upstream",
    (
        Spectral("fbank", 240, "kaldi fbank 80, 25/10 ms, deltas 2 x 5 frames, cmvn", mel, superb),
        Spectral("logmel", 128, "kaldi fbank 128, 25/10 ms, fft 1024", logmel),
        Spectral("mfcc", 23, "kaldi mfcc 23 of 23, 25/10 ms, lifter 22", mfcc),
    ),
    lambda entry: entry.name,
)


class SpectralUpstream:
    """A spectral feature as an upstream of one layer, always float32, whatever the batch."""

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
        hidden = in_parts(self._entry.batch, pad_waves(waves, self._device), samples)
        return LayerOutputs(hidden[None], frames)
