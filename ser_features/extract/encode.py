"""One shard: waveforms in, stored arrays out. Splits a batch that does not fit the device."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ser_features.errors import UpstreamError
from ser_features.extract.plan import batches
from ser_features.extract.pooling import Pooled, pool, ragged_frames
from ser_features.upstreams.protocol import Upstream

Waves = Sequence[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Outputs of some utterances: pooled [n, L, D] each; frames [sum(frames), L, D] or None."""

    pooled: Pooled
    frames: NDArray[np.float32] | None
    num_frames: tuple[int, ...]


def encode_shard(
    upstream: Upstream, ids: Sequence[str], waves: Waves, budget: int, with_frames: bool
) -> Encoded:
    """Encode waveforms (longest first) in batches of at most ``budget`` padded samples.

    Raises UpstreamError naming the utterance that does not fit the device even alone, or whose
    outputs are not finite.
    """
    parts: list[Encoded] = []
    for batch in batches([len(wave) for wave in waves], budget):
        parts.extend(_encode_or_split(upstream, ids[batch], waves[batch], with_frames))
    encoded = _join(parts)
    _check_finite(encoded, ids, upstream.info.name)
    return encoded


def _encode_or_split(
    upstream: Upstream, ids: Sequence[str], waves: Waves, with_frames: bool
) -> Iterator[Encoded]:
    try:
        yield _encode(upstream, waves, with_frames)
        return
    except torch.cuda.OutOfMemoryError as error:
        if len(waves) == 1:
            seconds = len(waves[0]) / upstream.info.sample_rate
            raise UpstreamError(
                f"{upstream.info.name}: utterance {ids[0]!r} of {seconds:.1f} s does not fit the "
                f"device's memory even alone; reject long ones with --max-seconds, or use "
                f"--device cpu"
            ) from error
    torch.cuda.empty_cache()
    half = len(waves) // 2
    yield from _encode_or_split(upstream, ids[:half], waves[:half], with_frames)
    yield from _encode_or_split(upstream, ids[half:], waves[half:], with_frames)


def _encode(upstream: Upstream, waves: Waves, with_frames: bool) -> Encoded:
    outputs = upstream.encode(waves)
    pooled = pool(outputs.hidden, outputs.num_frames)
    frames = ragged_frames(outputs.hidden, outputs.num_frames) if with_frames else None
    return Encoded(pooled, frames, tuple(outputs.num_frames))


def _check_finite(encoded: Encoded, ids: Sequence[str], name: str) -> None:
    pooled = encoded.pooled  # a frame that is not finite shows in its mean
    for values in (pooled.mean, pooled.std, pooled.mean_layernorm):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
        if len(bad):
            raise UpstreamError(
                f"{name}: the features of utterance {ids[bad[0]]!r} are NaN or infinite; with "
                "--precision float16 try bfloat16 or float32, else the checkpoint is broken"
            )


def _join(parts: Sequence[Encoded]) -> Encoded:
    def rows(arrays: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.concatenate(list(arrays))

    pooled = Pooled(
        rows(part.pooled.mean for part in parts),
        rows(part.pooled.std for part in parts),
        rows(part.pooled.mean_layernorm for part in parts),
    )
    frames = [part.frames for part in parts if part.frames is not None]
    num_frames = tuple(n for part in parts for n in part.num_frames)
    return Encoded(pooled, rows(frames) if frames else None, num_frames)
