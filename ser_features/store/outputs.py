"""What extraction hands to the writer for one shard, checked and laid out as rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_features.errors import StoreError
from ser_features.records import FeatureSetSpec, Shard, Source
from ser_features.store.forms import check_sources
from ser_features.store.layout import array_objects, row_starts
from ser_features.store.objects import ObjectFile
from ser_features.store.schema import ID_BYTES, POOLED, array_names, cut_of
from ser_features.store.shards import write_object

_PIECE = 256  # rows looked at together


@dataclass(frozen=True, slots=True)
class ShardOutputs:
    """What a shard's utterances gave. Utterances that were rejected are simply absent.

    ``sources`` names the n present utterances in the order of ``Shard.ids``, with their
    ``audio_sha256``. The pooled arrays are float32 [n, L, D]; ``frames`` is
    [sum of the present num_frames, L, D], or None where the feature set keeps none.
    """

    sources: tuple[Source, ...]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    mean_layernorm: NDArray[np.float32]
    frames: NDArray[Any] | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The present utterances."""
        return tuple(source.id for source in self.sources)


def fits_float16(array: NDArray[Any]) -> bool:
    """Whether every value is finite and stays finite as float16 (|x| < 65520).

    >>> fits_float16(np.float32([65519.0])), fits_float16(np.float32([65520.0]))
    (True, False)
    """
    return _fits(array, "float16")


def _fits(array: NDArray[Any], dtype: str) -> bool:
    if array.dtype == np.float16:  # an exponent of ones; numpy compares halves very slowly
        pieces = np.array_split(array.view(np.uint16), len(array) // _PIECE + 1)
        return not any(((piece & 0x7C00) == 0x7C00).any() for piece in pieces)
    if not array.size:
        return True
    peaks = np.array([array.min(), array.max()])  # NaN passes through both
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(peaks.astype(dtype)).all())


def check_outputs(spec: FeatureSetSpec, shard: Shard, outputs: ShardOutputs) -> None:
    """StoreError where outputs do not fit their shard or hold values that cannot be stored."""
    where = f"shard {shard.index}"
    present = set(outputs.ids)
    if outputs.ids != tuple(key for key in shard.ids if key in present):
        raise StoreError(f"{where}: the utterances written are not those planned, in their order")
    for source in outputs.sources:
        _check_hash(source, where)
    try:
        check_sources(outputs.sources)
    except ValueError as error:
        raise StoreError(f"{where}: {error}") from error
    shape = (len(outputs.sources), spec.num_layers, spec.dim)
    for kind in POOLED:
        _check_array(getattr(outputs, kind), shape, "float32", f"{where}, pooled {kind}")
    if (outputs.frames is None) != (spec.frames == "none"):
        raise StoreError(f"{where}: the feature set keeps frames {spec.frames!r}")
    if outputs.frames is not None:
        shape = (_present_frames(shard, present), spec.num_layers, spec.dim)
        _check_array(outputs.frames, shape, spec.frames, f"{where}, frames")


def _present_frames(shard: Shard, present: set[str]) -> int:
    pairs = zip(shard.ids, shard.num_frames, strict=True)
    return sum(count for key, count in pairs if key in present)


def _check_hash(source: Source, where: str) -> None:
    try:
        if len(bytes.fromhex(source.audio_sha256)) == 32:
            return
    except ValueError:
        pass
    raise StoreError(
        f"{where}: audio_sha256 of {source.id!r} is {source.audio_sha256!r}, expected 64 hex digits"
    )


def _check_array(array: NDArray[Any], shape: tuple[int, ...], dtype: str, what: str) -> None:
    if array.shape != shape:
        raise StoreError(f"{what}: shape {array.shape}, expected {shape}")
    if not _fits(array, dtype):
        raise StoreError(f"{what}: values that {dtype} cannot hold (NaN, infinite or too large)")


def row_arrays(
    spec: FeatureSetSpec, shard: Shard, outputs: ShardOutputs
) -> dict[str, NDArray[Any]]:
    """Every array but frames, as one full chunk: rows without an utterance are NaN or zero."""
    row_of = {key: row for row, key in enumerate(shard.ids)}
    at = [row_of[key] for key in outputs.ids]
    arrays: dict[str, NDArray[Any]] = {}
    for kind in POOLED:
        rows = np.full((spec.rows, spec.num_layers, spec.dim), np.nan, np.float32)
        rows[at] = getattr(outputs, kind)
        arrays[f"pooled/{kind}"] = rows
    arrays["offset"] = _scatter(spec.rows, at, np.array(row_starts(shard))[at])
    arrays["num_frames"] = _scatter(spec.rows, at, np.array(shard.num_frames)[at])
    digests = [bytes.fromhex(source.audio_sha256) for source in outputs.sources]
    arrays["audio_sha256"] = _bytes(spec.rows, at, digests, 32)
    arrays["id"] = _bytes(spec.rows, at, [key.encode() for key in outputs.ids], ID_BYTES)
    return arrays


def _scatter(rows: int, at: list[int], values: NDArray[Any]) -> NDArray[np.int64]:
    column = np.zeros(rows, np.int64)
    column[at] = values
    return column


def _bytes(rows: int, at: list[int], values: list[bytes], width: int) -> NDArray[np.uint8]:
    table = np.zeros((rows, width), np.uint8)
    for row, value in zip(at, values, strict=True):
        table[row, : len(value)] = np.frombuffer(value, np.uint8)
    return table


def encoders(
    spec: FeatureSetSpec, shard: Shard, outputs: ShardOutputs
) -> Iterator[tuple[str, Callable[[ObjectFile], bool]]]:
    """The objects of a shard in the order to publish: a name, and what writes its bytes.

    That says False for an object without any feature, which is not stored.
    """
    rows = row_arrays(spec, shard, outputs)

    def encode(array: str, k: int, file: ObjectFile) -> bool:
        if array == "frames":
            block = _object_block(spec, shard, outputs, k * spec.capacity)
            return write_object(file, cut_of(spec, array), block)
        if array.startswith("pooled/"):
            return write_object(file, cut_of(spec, array), rows[array])
        file.write_checked(rows[array])
        return bool(outputs.sources)

    for array in array_names(spec):
        for k, name in enumerate(array_objects(spec, shard, array)):
            yield name, partial(encode, array, k)


def _object_block(
    spec: FeatureSetSpec, shard: Shard, outputs: ShardOutputs, start: int
) -> NDArray[Any]:
    """One object's frames of the shard's plan, from outputs that hold the present ones only."""
    assert outputs.frames is not None
    total = sum(shard.num_frames)
    stop = min(start + spec.capacity, total)
    if len(outputs.frames) == total:
        return outputs.frames[start:stop].astype(spec.frames, copy=False)
    block = np.full((stop - start, spec.num_layers, spec.dim), np.nan, spec.frames)
    for planned, given, count in _present_runs(shard, set(outputs.ids)):
        first, last = max(planned, start), min(planned + count, stop)
        if first < last:
            shift = given - planned
            block[first - start : last - start] = outputs.frames[first + shift : last + shift]
    return block


def _present_runs(shard: Shard, present: set[str]) -> Iterator[tuple[int, int, int]]:
    """(start in the plan, start in the outputs, frames) of each present utterance."""
    planned = given = 0
    for key, count in zip(shard.ids, shard.num_frames, strict=True):
        if key in present:
            yield planned, given, count
            given += count
        planned += count
