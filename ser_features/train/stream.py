"""Passes over the frames of a corpus: held in memory, or read from the store window by window.

A window is a set of utterances that are in memory together. Windows follow from the corpus and the
epoch alone, so what a run sees does not depend on other runs, nor on where the frames are kept.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from ser_features.errors import TrainError
from ser_features.views import FrameView, Indices

BLOCKS = 16
"""A window is drawn from this many places of the store."""


@dataclass(frozen=True, slots=True)
class Window:
    """Frames [sum, L, D] on the training device; those of row ``r`` begin at ``starts[r]``."""

    rows: Indices
    frames: Tensor
    starts: Indices
    num_frames: Indices

    def gather(self, rows: Indices, normalize: bool) -> tuple[Tensor, Tensor]:
        """Frames [F, L, D], float32, of some rows one after another, and their counts [B]."""
        counts = self.num_frames[rows]
        parts = [
            self.frames[a : a + n]
            for a, n in zip(self.starts[rows].tolist(), counts.tolist(), strict=True)
        ]
        if normalize:
            parts = [_normalized(part.float()) for part in parts]
        shape = (int(counts.sum()), *self.frames.shape[1:])
        gathered = torch.empty(shape, device=self.frames.device)
        return torch.cat(parts, out=gathered), torch.from_numpy(counts)


def _normalized(frames: Tensor) -> Tensor:
    """Each layer of an utterance [T, L, D] with zero mean and unit variance over [T, D]."""
    by_layer = frames.transpose(0, 1)  # [L, T, D]
    return layer_norm(by_layer, by_layer.shape[1:]).transpose(0, 1)


class Frames(Protocol):
    """Where the frames of a pass come from."""

    def windows(self, parts: Sequence[Indices]) -> Iterator[Window]:
        """One window for each part (rows that are in memory together), in order."""


def plan_pass(view: FrameView, window_frames: int, epoch: int) -> list[Indices]:
    """The windows of one pass, as sorted rows: every row once, at most ``window_frames`` each.

    Neighbours in the store are cut into blocks; a window joins blocks from random places, because
    the store is sorted by length. A corpus that fits is one window.
    """
    if view.num_frames.sum() <= window_frames:
        return [np.arange(len(view.ids))]
    stored = np.argsort(view.stored)
    blocks = list(pieces(stored, view.num_frames, max(1, window_frames // BLOCKS)))
    order = np.random.default_rng([epoch]).permutation(len(blocks))
    sizes = np.array([view.num_frames[block].sum() for block in blocks])
    groups = pieces(order, sizes, window_frames)
    return [np.sort(np.concatenate([blocks[i] for i in group])) for group in groups]


def pieces(rows: Indices, sizes: Indices, most: int) -> Iterator[Indices]:
    """Cut ``rows`` in order so that each part's ``sizes`` sum to ``most`` at most, or is one row.

    >>> sizes = np.array([5, 1, 2, 9])
    >>> [part.tolist() for part in pieces(np.array([0, 1, 2, 3, 1]), sizes, 6)]
    [[0, 1], [2], [3], [1]]
    """
    start = total = 0
    for i, size in enumerate(sizes[rows].tolist()):
        if i > start and total + size > most:
            yield rows[start:i]
            start, total = i, 0
        total += size
    if start < len(rows):
        yield rows[start:]


class HeldFrames:
    """All needed frames on the device: float32 where ``memory_bytes`` lets it, else as stored."""

    def __init__(
        self,
        view: FrameView,
        needed: Indices,
        memory_bytes: int,
        readers: int,
        device: torch.device,
    ) -> None:
        values = int(view.num_frames[needed].sum()) * len(view.layers) * view.dim
        dtype = torch.float32 if values * 4 <= memory_bytes else _stored_dtype(view)
        with ThreadPoolExecutor(readers) as pool:
            self._all = _read(view, needed, dtype, pool, device)

    def windows(self, parts: Sequence[Indices]) -> Iterator[Window]:
        """Views of the one tensor."""
        return (replace(self._all, rows=rows) for rows in parts)


class StreamedFrames:
    """Frames read anew in every pass: the next window by threads while this one is used."""

    def __init__(self, view: FrameView, readers: int, device: torch.device) -> None:
        self._view, self._readers, self._device = view, readers, device

    def windows(self, parts: Sequence[Indices]) -> Iterator[Window]:
        """Each part as it is read from the store; two are in memory at most."""
        dtype = _stored_dtype(self._view)
        with ThreadPoolExecutor(self._readers) as pool, ThreadPoolExecutor(1) as ahead:
            coming: deque[Future[Window]] = deque()
            for rows in parts:
                coming.append(ahead.submit(_read, self._view, rows, dtype, pool, self._device))
                if len(coming) == 2:
                    # the one read ahead has only begun: the caller lets go of its window first
                    yield coming.popleft().result()
            if coming:
                yield coming.popleft().result()


def open_frames(
    view: FrameView,
    needed: Indices,
    window_bytes: int,
    memory_bytes: int,
    readers: int,
    device: torch.device,
) -> Frames:
    """Frames of the rows ``needed``: held where they fit in ``memory_bytes``, else streamed.

    Raises TrainError where not even two windows fit.
    """
    total = int(view.num_frames[needed].sum()) * view.frame_bytes
    if total <= memory_bytes:
        return HeldFrames(view, needed, memory_bytes, readers, device)
    if 2 * window_bytes > memory_bytes:
        raise TrainError(
            f"{total} bytes of frames do not fit in memory_bytes {memory_bytes}, and reading them "
            f"window by window needs two windows of window_bytes {window_bytes}: "
            f"set window_bytes to {memory_bytes // 2} or less"
        )
    return StreamedFrames(view, readers, device)


def _stored_dtype(view: FrameView) -> torch.dtype:
    return torch.from_numpy(np.empty(0, view.dtype)).dtype


def _read(
    view: FrameView,
    rows: Indices,
    dtype: torch.dtype,
    pool: ThreadPoolExecutor,
    device: torch.device,
) -> Window:
    """The frames of ``rows`` in one tensor, decoded by the pool's threads, neighbours together."""
    ordered = rows[np.argsort(view.stored[rows])]
    ends = view.num_frames[ordered].cumsum()
    starts = np.full(len(view.ids), -1, np.int64)
    starts[ordered] = ends - view.num_frames[ordered]
    shape = (int(ends[-1]), len(view.layers), view.dim)
    frames = torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")

    def copy(row: int) -> None:
        part = frames[starts[row] : starts[row] + view.num_frames[row]]
        part.copy_(torch.from_numpy(view.read(row)))

    for _ in pool.map(copy, ordered.tolist()):
        pass
    return Window(rows, frames.to(device, non_blocking=True), starts, view.num_frames)
