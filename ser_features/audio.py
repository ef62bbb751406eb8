"""Recordings in, mono float32 waveforms out: any container and rate that libsndfile reads.

Every recording ends in one of two ways: an ``AudioError`` with a reason from ``REASONS``, or a
``Waveform``, with a ``Note`` where the user should know something. Nothing here keeps state, so
all functions may be called from many threads.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from ser_features.audio_file import Source, blocks, open_audio, show_path
from ser_features.errors import AudioError
from ser_features.records import Note, Utterance

REASONS = {
    "missing": "no file at this path, or a link whose target is gone",
    "permission": "the file or its folder may not be read",
    "unreadable": "the operating system could not read the file",
    "not-a-file": "a directory, a pipe, a device or a socket",
    "empty-file": "zero bytes",
    "not-audio": "no format that libsndfile reads",
    "truncated": "samples that the file promises are missing or cannot be decoded",
    "no-samples": "a valid file of zero samples",
    "sample-rate": "a rate that no recording has",
    "bad-segment": "start and end do not lie inside the recording",
    "not-finite": "NaN or infinite samples",
    "silent": "every sample has the same value",
    "too-short": "shorter than one receptive field of the encoder",
    "too-long": "longer than the encoder or this program takes",
}
"""Every reason code of an ``AudioError`` from this module, in words."""

MAX_SECONDS = 7200
"""The longest stretch that is decoded at once; it bounds memory against headers that lie."""
END_TOLERANCE = 0.05
"""Seconds by which an ``end`` may lie beyond the recording (annotations are rounded)."""
CLIPPED_RUN = 3
"""So many samples in a row at full scale are called clipping."""

_FULL_SCALE = {
    "PCM_S8": 127 / 128,
    "PCM_U8": 127 / 128,
    "ULAW": 32124 / 32768,
    "ALAW": 32256 / 32768,
}


@dataclass(frozen=True, slots=True)
class AudioHeader:
    """What the header says of one utterance, ``start`` and ``end`` applied to ``num_samples``."""

    sample_rate: int
    num_samples: int
    channels: int


@dataclass(frozen=True, slots=True, eq=False)
class Waveform:
    """One decoded utterance: ``samples`` float32 [n], mono, finite, at ``sample_rate`` Hz.

    ``sha256`` is that of the audio before resampling, see ``audio_sha256``.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    sha256: str
    notes: tuple[Note, ...]


def probe(utterance: Utterance) -> AudioHeader:
    """Read the header only (a header without a length costs a decoding).

    Raises AudioError for whatever a header can show: all of ``REASONS`` but ``not-finite``,
    ``silent`` and ``too-short``, and ``truncated`` as far as ``audio_container`` can tell.
    """
    with open_audio(utterance.path) as source:
        first, last = _span(utterance, source)
        return AudioHeader(source.sample_rate, last - first, source.channels)


def load(utterance: Utterance, sample_rate: int) -> Waveform:
    """Decode one utterance, average its channels and resample it (soxr HQ) to ``sample_rate`` Hz.

    The length is ``num_samples_at(probe(utterance), sample_rate)``. Raises AudioError.
    """
    with open_audio(utterance.path) as source:
        first, last = _span(utterance, source)
        mono, full = _decode(source, first, last)
    _check_samples(mono, source)
    notes = [*source.notes, *_clipping(full)]
    return Waveform(
        samples=_resample(mono, source, sample_rate),
        sample_rate=sample_rate,
        sha256=audio_sha256(mono, source.sample_rate),
        notes=tuple(Note(utterance.id, show_path(utterance.path), *note) for note in notes),
    )


def audio_sha256(mono: NDArray[np.float32], sample_rate: int) -> str:
    """Sha256 hex of decoded audio: the bytes of its samples and rate.

    Samples [n] as little-endian float32, then the rate in Hz as a little-endian 64-bit integer.
    Copies of a recording in other lossless containers, or with its channel repeated, hash alike.
    """
    digest = hashlib.sha256(np.ascontiguousarray(mono, dtype="<f4").data)
    digest.update(sample_rate.to_bytes(8, "little"))
    return digest.hexdigest()


def num_samples_at(header: AudioHeader, rate: int) -> int:
    """The exact number of samples that ``load`` returns at ``rate`` Hz.

    libsoxr rounds ``n / (in / out)`` half up in double precision, and so does this.

    >>> num_samples_at(AudioHeader(44100, 44100, 1), 16000)
    16000
    """
    if header.sample_rate == rate:
        return header.num_samples
    return int(header.num_samples / (header.sample_rate / rate) + 0.5)


def check_length(
    num_samples: int,
    receptive_field: int,
    max_seconds: float | None,
    *,
    sample_rate: int,
    path: Path,
) -> None:
    """Raise AudioError ``too-short`` or ``too-long`` for what an encoder cannot take.

    ``num_samples`` and ``receptive_field`` count samples at the encoder's ``sample_rate``.
    """
    seconds = num_samples / sample_rate
    if num_samples < receptive_field:
        raise AudioError(
            "too-short",
            f"{show_path(path)}: {num_samples} samples at {sample_rate} Hz are shorter than one "
            f"receptive field of the encoder ({receptive_field} samples, "
            f"{receptive_field / sample_rate:.4g} s); leave it out",
        )
    if max_seconds is not None and seconds > max_seconds:
        raise AudioError(
            "too-long",
            f"{show_path(path)}: {seconds:.4g} s are longer than the limit of {max_seconds:.4g} s; "
            "cut it into segments with start and end, or raise --max-seconds",
        )


def duplicates(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Groups of utterance ids whose audio is the same, from ``(id, sha256)``; order kept.

    >>> duplicates([("a", "1"), ("b", "2"), ("c", "1")])
    (('a', 'c'),)
    """
    groups: dict[str, list[str]] = {}
    for name, digest in pairs:
        groups.setdefault(digest, []).append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _span(utterance: Utterance, source: Source) -> tuple[int, int]:
    """First sample and one past the last, from the utterance's seconds."""
    rate, count = source.sample_rate, source.num_samples
    begin = 0.0 if utterance.start is None else utterance.start
    end = math.inf if utterance.end is None else utterance.end
    text = f"start {utterance.start} and end {utterance.end}, but it has {count / rate:.6g} s"
    if not 0 <= begin < end:  # NaN too
        raise source.error("bad-segment", text, "expected 0 <= start < end, in seconds")
    first, last = (count if math.isinf(at) else round(min(at, 1e9) * rate) for at in (begin, end))
    if last - count > END_TOLERANCE * rate or first >= min(last, count):
        raise source.error("bad-segment", text, "correct start and end in the manifest")
    last = min(last, count)
    if last - first > MAX_SECONDS * rate:
        text = f"{(last - first) / rate:.6g} s are longer than the {MAX_SECONDS} s taken at once"
        raise source.error("too-long", text, "cut it into segments with start and end")
    return first, last


def _decode(source: Source, first: int, last: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mono samples [n], and where any channel is at full scale [n]."""
    limit = _FULL_SCALE.get(source.stream.subtype, 32767 / 32768)
    mono: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
    full: list[NDArray[np.bool_]] = [np.empty(0, np.bool_)]
    for block in blocks(source.stream, first, last, source.path):  # [frames, channels]
        mono.append(_average(block))
        full.append(_at_full_scale(block, limit))
    samples = np.concatenate(mono)
    samples += 0.0  # -0.0 becomes 0.0, which integer formats do not tell apart either
    if len(samples) < last - first:
        text = f"damaged or cut off: {len(samples)} of {last - first} samples could be decoded"
        raise source.error("truncated", text)
    return samples, np.concatenate(full)


def _average(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over channels, in double precision: equal channels give exactly the one channel."""
    if block.shape[1] == 1:
        return block[:, 0]
    total = np.zeros(len(block))
    with np.errstate(invalid="ignore"):  # inf - inf; found by _check_samples
        for channel in block.T:  # ten times as fast as mean(axis=1) of a few columns
            total += channel
    mean: NDArray[np.float32] = (total / block.shape[1]).astype(np.float32)
    return mean


def _at_full_scale(block: NDArray[np.float32], limit: float) -> NDArray[np.bool_]:
    full = np.zeros(len(block), np.bool_)
    for channel in block.T:
        full |= np.abs(channel) >= limit
    return full


def _check_samples(mono: NDArray[np.float32], source: Source) -> None:
    with np.errstate(invalid="ignore"):
        low, high = float(mono.min()), float(mono.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = np.flatnonzero(~np.isfinite(mono))
        found = f"{len(bad)} of {len(mono)} samples are NaN or infinite, the first is {bad[0]}"
        raise source.error("not-finite", found)
    if low == high:
        found = f"digital silence, all {len(mono)} samples are {low:g}"
        raise source.error("silent", found, "record it again or leave it out")


def _clipping(full: NDArray[np.bool_]) -> list[tuple[str, str]]:
    if not full.any():
        return []
    edges = np.flatnonzero(np.diff(full, prepend=False, append=False))  # [2 * runs]
    lengths = edges[1::2] - edges[::2]
    count = int(lengths[lengths >= CLIPPED_RUN].sum())
    if not count:
        return []
    share = f"{count} of {len(full)} samples ({100 * count / len(full):.2g} %)"
    return [("clipped", f"{share} at full scale, {CLIPPED_RUN} or more in a row")]


def _resample(mono: NDArray[np.float32], source: Source, sample_rate: int) -> NDArray[np.float32]:
    if sample_rate == source.sample_rate:
        return mono
    rate = source.sample_rate
    samples: NDArray[np.float32] = soxr.resample(mono, rate, sample_rate, quality="HQ")
    if not len(samples):
        found = f"{len(mono)} samples at {rate} Hz leave none at {sample_rate} Hz"
        raise source.error("too-short", found)
    if not np.isfinite(samples).all():
        found = f"samples up to {np.abs(mono).max():.3g} overflow in resampling"
        raise source.error("not-finite", found)
    return samples
