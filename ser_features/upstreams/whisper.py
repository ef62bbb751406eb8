"""Whisper encoders: 30-second windows, only the frames of real audio."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from ser_features.errors import UpstreamError
from ser_features.records import Json, UpstreamInfo
from ser_features.upstreams import onednn
from ser_features.upstreams.protocol import LayerOutputs
from ser_features.upstreams.taps import LayerTap, full_float32
from ser_features.upstreams.waves import Waves, check_waves, pad_waves

SAMPLE_RATE = 16_000
HOP = 320  # samples of an encoder frame: a mel hop of 160, then a convolution of stride 2
_MEL_HOP, _N_FFT = 160, 400
_PUBLISHED = {"sampling_rate": SAMPLE_RATE, "hop_length": _MEL_HOP, "n_fft": _N_FFT, "dither": 0.0}
_WINDOWS = 8  # encoded at a time, whatever the batch: each is 1500 frames


def window_samples(config: Any) -> int:
    """Samples of one window: 480 000 (30 s) as published."""
    return int(config.max_source_positions) * HOP


def check_preprocessor(preprocessor: Mapping[str, Json], where: str) -> None:
    """UpstreamError where a checkpoint asks for other features than Whisper's."""
    for key, value in _PUBLISHED.items():
        if preprocessor.get(key, value) != value:
            raise UpstreamError(
                f"{where} asks for {key} = {preprocessor[key]!r}; only {value!r} is supported"
            )
    if preprocessor.get("do_normalize"):
        raise UpstreamError(f"{where} asks for 'do_normalize', which Whisper does not have")


class LogMel:
    """Whisper's log-mel spectrogram on the device (as WhisperFeatureExtractor)."""

    def __init__(self, num_mels: int, device: torch.device) -> None:
        filters = mel_filter_bank(  # [F, M]
            num_frequency_bins=1 + _N_FFT // 2,
            num_mel_filters=num_mels,
            min_frequency=0.0,
            max_frequency=SAMPLE_RATE / 2,
            sampling_rate=SAMPLE_RATE,
            norm="slaney",
            mel_scale="slaney",
        )
        self.filters = torch.from_numpy(filters).to(device, torch.float32).T.contiguous()
        self.window = torch.hann_window(_N_FFT, device=device)

    def __call__(self, x: Tensor) -> Tensor:
        """Windows [W, N] to [W, mel, N / 160], each floored at 8 below its own maximum."""
        spectrum = torch.stft(x, _N_FFT, _MEL_HOP, window=self.window, return_complex=True)
        power = spectrum[..., :-1].abs().square()  # [W, F, T]
        log = (self.filters @ power).clamp(min=1e-10).log10()
        log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8.0)
        return (log + 4.0) / 4.0


class WhisperUpstream:
    """A frozen Whisper encoder; every window is padded to its full length, as it was trained.

    Audio longer than one window (30 s) is encoded in consecutive windows and joined. A window
    with n samples of audio gives its first ceil(n / 320) frames; the rest is padding. Layer 0 is
    the input of the first transformer layer, the last layer the normed output.
    """

    def __init__(self, model: Any, info: UpstreamInfo) -> None:
        self.info = info
        self._model = model
        weight = next(model.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        if self._device.type == "cpu" and onednn.usable(self._dtype):
            onednn.pack_linears(model)
        self._mel = LogMel(model.config.num_mel_bins, weight.device)
        self._tap = LayerTap(model.layers)
        self._window = window_samples(model.config)

    def num_frames(self, num_samples: int) -> int:
        """ceil(n / 320); a window is a multiple of 320, so windows do not change the count."""
        return -(-num_samples // HOP)

    @torch.no_grad()
    @full_float32()
    def encode(self, waves: Waves) -> LayerOutputs:
        """Every layer of a ragged batch; see Upstream.encode."""
        samples = check_waves(waves, self.info)
        frames = tuple(self.num_frames(n) for n in samples)
        shape = (self.info.num_layers, len(waves), max(frames), self.info.dim)
        hidden = torch.zeros(shape, dtype=self._dtype, device=self._device)
        places = [(b, start) for b, n in enumerate(samples) for start in range(0, n, self._window)]
        for first in range(0, len(places), _WINDOWS):
            self._fill(hidden, waves, places[first : first + _WINDOWS])
        return LayerOutputs(hidden, frames)

    def _fill(self, hidden: Tensor, waves: Waves, places: list[tuple[int, int]]) -> None:
        """Encode the windows at (utterance, first sample) into their frames of ``hidden``."""
        parts = [waves[b][start : start + self._window] for b, start in places]
        ends = [self.num_frames(len(part)) for part in parts]
        mel = self._mel(pad_waves(parts, self._device, self._window)).to(self._dtype)
        row, further = places[0][0], any(start for _, start in places)
        layers = hidden[:, row : row + len(parts), : max(ends)]  # [L, W, max(ends), D]
        if further:  # second windows: not one row each
            layers = mel.new_empty((len(hidden), len(parts), *layers.shape[2:]))
        with self._tap.room(layers, _keep_start):
            _keep_start(layers[-1], self._model(mel).last_hidden_state)
        if further:
            for window, ((b, start), end) in enumerate(zip(places, ends, strict=True)):
                at = start // HOP
                hidden[:, b, at : at + end] = layers[:, window, :end]


def _keep_start(place: Tensor, x: Tensor) -> None:
    place.copy_(x[:, : place.shape[1]])
