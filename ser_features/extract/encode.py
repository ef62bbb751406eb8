"""One shard: waveforms in, stored arrays out. Splits a batch that does not fit the device.

A GPU is given a shard's work and goes on by itself; ``Encoding.collect`` waits for it. Between the
two another shard can be given to it, so that it never waits for this process. On a CPU batches run
side by side in lanes, each on its share of the cores: faster than one batch on all of them
(benchmarks/README.md).
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_features.errors import UpstreamError
from ser_features.extract.outbox import Outbox
from ser_features.extract.plan import batches
from ser_features.extract.pooling import Pooled, pool_on_device, ragged_on_device
from ser_features.upstreams.protocol import Upstream

Waves = Sequence[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Outputs of some utterances: pooled [n, L, D] each; frames [sum(frames), L, D] or None.

    Frames are float32, or float16 where a GPU has converted them: infinite where too large.
    """

    pooled: Pooled
    frames: NDArray[np.floating] | None
    num_frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """One batch's outputs on the host, or on their way there."""

    pooled: tuple[Tensor, ...]
    frames: Tensor | None
    num_frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Encoding:
    """A shard whose batches have been started. ``done`` where nothing is under way (a CPU)."""

    ids: tuple[str, ...]
    name: str
    outbox: Outbox
    parts: tuple[Sent, ...]

    @property
    def done(self) -> bool:
        """Whether ``collect`` has nothing to wait for."""
        return self.outbox.empty

    def collect(self) -> Encoded:
        """The outputs; UpstreamError naming the utterance whose outputs are not finite."""
        self.outbox.wait()
        encoded = _join(self.parts)
        _check_finite(encoded, self.ids, self.name)
        return encoded


def start_shard(
    upstream: Upstream,
    ids: Sequence[str],
    waves: Waves,
    budget: int,
    with_frames: bool,
    *,
    halve: bool = False,
    lanes: int = 1,
) -> Encoding:
    """Start encoding waveforms (longest first) in batches of at most ``budget`` padded samples.

    ``halve`` lets a GPU send frames as float16; ``lanes`` are batches at a time, on a CPU only. An
    utterance over the budget runs alone: several such at once could fill the memory. Raises
    UpstreamError naming the utterance that does not fit the device even alone.
    """
    outbox = Outbox()
    encode = partial(_encode, upstream, outbox, with_frames, halve)

    def run(batch: slice) -> list[Sent]:
        return list(_encode_or_split(encode, upstream, ids[batch], waves[batch]))

    todo = batches([len(wave) for wave in waves], budget)
    alone = sum(len(waves[batch.start]) > budget for batch in todo)  # the first: longest first
    parts = [*map(run, todo[:alone]), *_in_lanes(run, todo[alone:], lanes)]
    sent = tuple(one for part in parts for one in part)
    return Encoding(tuple(ids), upstream.info.name, outbox, sent)


def _in_lanes(
    run: Callable[[slice], list[Sent]], todo: Sequence[slice], lanes: int
) -> list[list[Sent]]:
    """Every batch in order, ``lanes`` at a time, each on its share of the cores."""
    if lanes == 1 or not todo:
        return [run(batch) for batch in todo]
    threads = torch.get_num_threads()
    share = max(1, threads // lanes)
    pool = ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(share,))
    try:
        return list(pool.map(run, todo))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the library's own switch is the process's


def _encode_or_split(
    encode: Callable[[Waves], Sent], upstream: Upstream, ids: Sequence[str], waves: Waves
) -> Iterator[Sent]:
    try:
        yield encode(waves)
        return
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        if len(waves) == 1:
            seconds = len(waves[0]) / upstream.info.sample_rate
            raise UpstreamError(
                f"{upstream.info.name}: utterance {ids[0]!r} of {seconds:.1f} s does not fit the "
                f"device's memory even alone; reject long ones with --max-seconds, or use "
                f"--device cpu"
            ) from error
    torch.cuda.empty_cache()  # waits for copies that are under way and frees what they read
    half = len(waves) // 2
    yield from _encode_or_split(encode, upstream, ids[:half], waves[:half])
    yield from _encode_or_split(encode, upstream, ids[half:], waves[half:])


def out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out: also where cuBLAS, cuDNN or cuFFT asked for it, not torch."""
    lacking = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUFFT_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(name in str(error) for name in lacking)


def _encode(
    upstream: Upstream, outbox: Outbox, with_frames: bool, halve: bool, waves: Waves
) -> Sent:
    outputs = upstream.encode(waves)
    pooled = pool_on_device(outputs.hidden, outputs.num_frames)
    frames = None
    if with_frames:
        ragged = ragged_on_device(outputs.hidden, outputs.num_frames)
        frames = outbox.send(ragged.half() if halve and ragged.is_cuda else ragged.float())
    return Sent(tuple(outbox.send(part) for part in pooled), frames, tuple(outputs.num_frames))


def _check_finite(encoded: Encoded, ids: Sequence[str], name: str) -> None:
    pooled = encoded.pooled  # a frame that is not finite shows in its mean
    for values in (pooled.mean, pooled.std, pooled.mean_layernorm):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
        if len(bad):
            raise UpstreamError(
                f"{name}: the features of utterance {ids[bad[0]]!r} are NaN or infinite; with "
                "--precision float16 try bfloat16 or float32, else the checkpoint is broken"
            )


def _join(parts: Sequence[Sent]) -> Encoded:
    pooled = (torch.cat(part).numpy() for part in zip(*(p.pooled for p in parts), strict=True))
    frames = [part.frames for part in parts if part.frames is not None]
    num_frames = tuple(n for part in parts for n in part.num_frames)
    return Encoded(Pooled(*pooled), torch.cat(frames).numpy() if frames else None, num_frames)
