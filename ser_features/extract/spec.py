"""What names and keys a feature set."""

import datetime
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ser_features import __version__
from ser_features.extract.estimate import object_frames
from ser_features.fingerprint import fingerprint
from ser_features.records import FeatureSetSpec
from ser_features.store.reader import find
from ser_features.upstreams.protocol import Upstream

KEY_SCHEMA = 1
CLEAN = "clean"
AUDIO = {"channels": "mean", "resampler": "soxr-hq", "dtype": "float32"}
# Pooled sets: 64 utterances a shard. With frames a shard is held in memory whole, so fewer.
POOLED_ROWS, POOLED_CAPACITY = 64, 65536
FRAMES_ROWS = 32


def feature_spec(
    corpus: str, upstream: Upstream, store: Path, frames: bool, dtype: str = "float16"
) -> FeatureSetSpec:
    """The feature set to extract into: one that the store has, or a new one.

    A pooled request is served by a set that has frames too; a set that fell back to float32
    stays float32.
    """
    kinds = ["float16", "float32"] if frames else ["none", "float16", "float32"]
    for kind in kinds:
        found = find(store, _spec(corpus, upstream, kind))
        if found is not None:
            return found.spec
    return _spec(corpus, upstream, dtype if frames else "none")


def rejects_report(store: Path, spec: FeatureSetSpec) -> Path:
    """Where the report of a feature set's rejected utterances lies."""
    return store / "rejects" / spec.corpus / f"{spec.upstream}--{spec.augmentation}-{spec.key[:12]}.csv"


def _spec(corpus: str, upstream: Upstream, frames: str) -> FeatureSetSpec:
    info = upstream.info
    pooled = frames == "none"
    return FeatureSetSpec(
        corpus=corpus,
        upstream=info.name,
        augmentation=CLEAN,
        key=feature_key(info.identity),
        num_layers=info.num_layers,
        dim=info.dim,
        frames=frames,
        rows=POOLED_ROWS if pooled else FRAMES_ROWS,
        capacity=POOLED_CAPACITY if pooled else object_frames(info.num_layers, info.dim, frames),
        provenance=_provenance(upstream),
    )


def feature_key(identity: Any) -> str:
    """The content key: checkpoint hashes, preprocessing, precision, audio rules, augmentation."""
    audio = AUDIO | {"augmentation": CLEAN}
    return fingerprint({"schema": KEY_SCHEMA, "upstream": dict(identity), "audio": audio})


def _provenance(upstream: Upstream) -> dict[str, Any]:
    info = upstream.info
    packages = ("torch", "transformers", "zarr", "numpy", "soxr", "soundfile")
    return {
        "upstream": dict(info.provenance),
        "identity": dict(info.identity),
        "audio": AUDIO,
        "sample_rate": info.sample_rate,
        "hop": info.hop,
        "receptive_field": info.receptive_field,
        "num_parameters": info.num_parameters,
        "serfeat": __version__,
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
