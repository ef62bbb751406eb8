"""One HDF5 file from a feature set, for tools that want a single file."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from ser_features.files import staged
from ser_features.fingerprint import canonical_json
from ser_features.store.objects import flush, publish, store_errors
from ser_features.store.reader import FeatureSet
from ser_features.store.schema import CHUNK_FRAMES, POOLED, spec_to_json

_ROWS_AT_ONCE = 256


def export_hdf5(feature_set: FeatureSet, path: Path) -> None:
    """Write ``ids``, ``num_frames``, ``audio_sha256``, ``pooled/*`` and, where kept, ``frames``.

    Utterance i has frames ``offset[i] : offset[i] + num_frames[i]``; attributes hold the spec and
    provenance as JSON. The file appears whole or not at all; memory holds one shard at a time.
    Raises StoreError where it cannot be written.
    """
    import h5py

    with store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = staged(path)
        os.close(handle)
        try:
            with h5py.File(name, "w") as file:
                _write_rows(file, feature_set)
                _write_pooled(file, feature_set)
                if feature_set.spec.frames != "none":
                    _write_frames(file, feature_set)
            flush([name])
            publish({name: path})
        except BaseException:
            name.unlink(missing_ok=True)
            raise


def _write_rows(file: Any, feature_set: FeatureSet) -> None:
    counts = feature_set.num_frames
    digests = [bytes.fromhex(digest) for digest in feature_set.audio_sha256]
    file["ids"] = [key.encode() for key in feature_set.ids]
    file["num_frames"] = counts
    file["offset"] = np.cumsum(counts) - counts
    file["audio_sha256"] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
    file.attrs["spec"] = canonical_json(spec_to_json(feature_set.spec))
    file.attrs["provenance"] = canonical_json(spec_to_json(feature_set.spec)["provenance"])
    file.attrs["complete"] = feature_set.complete


def _write_pooled(file: Any, feature_set: FeatureSet) -> None:
    ids, spec = feature_set.ids, feature_set.spec
    for kind in POOLED:
        shape = (len(ids), spec.num_layers, spec.dim)
        array = file.create_dataset(f"pooled/{kind}", shape, "float32")
        for start in range(0, len(ids), _ROWS_AT_ONCE):
            rows = ids[start : start + _ROWS_AT_ONCE]
            array[start : start + len(rows)] = feature_set.pooled(kind, rows)


def _write_frames(file: Any, feature_set: FeatureSet) -> None:
    spec, total = feature_set.spec, int(feature_set.num_frames.sum())
    shape = (total, spec.num_layers, spec.dim)
    chunks = (min(CHUNK_FRAMES, total), 1, spec.dim) if total else None
    array = file.create_dataset("frames", shape, spec.frames, chunks=chunks)
    start = 0
    for shard in feature_set.iter_shards():
        array[start : start + len(shard.frames)] = shard.frames
        start += len(shard.frames)
    assert start == total
