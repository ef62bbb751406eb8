"""Whole spectrograms as ResNet heads read them: voiced frames only where asked, normalised."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ser_features.errors import TrainError
from ser_features.train.chunks import Chunk
from ser_features.train.resnet_recipes import ResNetConfig
from ser_features.train.specaugment import apply_masks
from ser_features.train.vad import log_energy, voiced
from ser_features.views import FrameView, Indices


class Spectrograms:
    """The spectrograms of the rows ``needed`` of a view: held in memory where they fit.

    ``num_frames`` [N] counts the frames that are left of each of them (0 for other rows); an
    utterance without a voiced frame keeps them all. Raises TrainError for a feature set of several
    layers, which is no spectrogram.
    """

    def __init__(self, view: FrameView, needed: Indices, config: ResNetConfig) -> None:
        if view.num_layers > 1:
            raise TrainError(
                f"{config.head} reads a spectrogram (logmel or mfcc), found {view.num_layers} "
                f"layers of {view.upstream}: name a spectral upstream, or another head"
            )
        self._view, self._config = view, config
        self.bands = view.dim
        self.num_frames = np.zeros(len(view.ids), np.int64)
        size = int(view.num_frames[needed].sum()) * view.dim * 4
        self._held: dict[int, Tensor] = {}
        self._load(needed, keep=size <= config.memory_bytes)

    def _load(self, needed: Indices, *, keep: bool) -> None:
        if not keep and not self._config.vad:
            self.num_frames[needed] = self._view.num_frames[needed]
            return
        with ThreadPoolExecutor(self._config.readers) as pool:
            for row, frames in zip(needed.tolist(), pool.map(self._read, needed), strict=True):
                self.num_frames[row] = len(frames)
                if keep:
                    self._held[row] = frames

    def read(self, row: int) -> Tensor:
        """The prepared frames of one row, [T, bands] float32."""
        held = self._held.get(row)
        return self._read(row) if held is None else held

    def _read(self, row: int) -> Tensor:
        frames = torch.from_numpy(self._view.read(int(row))[:, 0].astype(np.float32))
        if self._config.vad:
            kept = voiced(log_energy(frames, self._view.upstream))
            frames = frames[kept] if bool(kept.any()) else frames
        return normalized(frames, self._config.frame_norm)

    def chunks(self, chunks: Sequence[Chunk], length: int) -> Tensor:
        """Chunks [B, length, bands] as they were drawn, shorter ones repeated from their start."""
        parts = [self._chunk(chunk) for chunk in chunks]
        return torch.stack([part[torch.arange(length) % len(part)] for part in parts])

    def _chunk(self, chunk: Chunk) -> Tensor:
        frames = self.read(chunk.row)
        if chunk.masks is not None:
            frames = apply_masks(frames, chunk.masks)
        part = frames[chunk.start : chunk.start + chunk.length]
        if chunk.pasted is not None:
            part = torch.cat([part, self._chunk(chunk.pasted)])
        if chunk.mixed is not None:
            other = self._chunk(chunk.mixed)
            other = other[torch.arange(len(part)) % len(other)]
            part = chunk.share * part + (1 - chunk.share) * other
        return part if chunk.hidden is None else apply_masks(part, chunk.hidden)

    def whole(self, rows: Indices) -> tuple[Tensor, Tensor]:
        """Whole spectrograms, padded with zeros: [B, longest, bands], and their lengths [B]."""
        parts = [self.read(row) for row in rows.tolist()]
        lengths = torch.tensor([len(part) for part in parts])
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), lengths


def normalized(frames: Tensor, how: str) -> Tensor:
    """Each band of [T, bands] with zero mean over frames, and for mean-variance unit variance.

    The deviation is the population's; 1e-5 is added to it, so that a constant band stays zero.
    """
    if how == "none":
        return frames
    centred = frames - frames.mean(0)
    if how == "mean":
        return centred
    return centred / (centred.square().mean(0).sqrt() + 1e-5)
