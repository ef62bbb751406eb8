"""What names and keys a feature set."""

import datetime
import platform
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from ser_features import __version__
from ser_features.augment.augmented import Augmented
from ser_features.augment.parse import CLEAN
from ser_features.extract.estimate import object_frames
from ser_features.fingerprint import fingerprint
from ser_features.records import FeatureSetSpec
from ser_features.store.catalog import find
from ser_features.store.place import Place
from ser_features.store.schema import check_inside, safe_part
from ser_features.upstreams.protocol import Upstream
from ser_features.upstreams.request import parse_request

KEY_SCHEMA = 1
AUDIO = {"channels": "mean", "resampler": "soxr-hq", "dtype": "float32"}
# Pooled sets: 64 utterances a shard. With frames a shard is held in memory whole, so fewer.
POOLED_ROWS, POOLED_CAPACITY = 64, 65536
FRAMES_ROWS = 32


def feature_spec(
    corpus: str,
    upstream: Upstream,
    request: str,
    store: Place,
    frames: bool,
    augmented: Augmented | None = None,
) -> FeatureSetSpec:
    """The feature set to extract into: one that the store has, or a new one.

    A pooled request is served by a set that has frames too; a set that fell back to float32
    stays float32. ``request`` is the text that loads the upstream again.
    """
    key = feature_key(upstream.info.identity, augmented)
    found = find(store, corpus, upstream.info.name, _name(augmented), key, frames=frames)
    if found is not None and found.spec is not None:
        return found.spec
    return new_spec(corpus, upstream, request, "float16" if frames else "none", augmented)


def rejects_report(store: Place, spec: FeatureSetSpec) -> Place:
    """Where a feature set's rejected utterances are listed; StoreError where a link leads away."""
    name = f"{safe_part(spec.upstream)}--{safe_part(spec.augmentation)}-{spec.key[:12]}.csv"
    report = store / "rejects" / safe_part(spec.corpus) / name
    check_inside(store, report.parent)
    return report


def new_spec(
    corpus: str,
    upstream: Upstream,
    request: str,
    frames: str,
    augmented: Augmented | None = None,
) -> FeatureSetSpec:
    """A feature set that is not in the store yet; ``frames`` is none, float16 or float32."""
    info = upstream.info
    provenance = _provenance(upstream, request)
    if augmented is not None:
        provenance["augmentation"] = augmented.provenance
    pooled = frames == "none"
    return FeatureSetSpec(
        corpus=corpus,
        upstream=info.name,
        augmentation=_name(augmented),
        key=feature_key(info.identity, augmented),
        num_layers=info.num_layers,
        dim=info.dim,
        frames=frames,
        rows=POOLED_ROWS if pooled else FRAMES_ROWS,
        capacity=POOLED_CAPACITY if pooled else object_frames(info.num_layers, info.dim, frames),
        provenance=provenance,
    )


def _from_anywhere(request: str) -> str:
    """The request with its folder, if it names one, written so that it holds in any folder."""
    parsed = parse_request(request)
    if parsed.path is None:
        return request
    folder = parsed.path.absolute()
    target = str(folder) if parsed.is_folder else parsed.target
    return replace(parsed, target=target, path=folder).text


def _name(augmented: Augmented | None) -> str:
    return CLEAN if augmented is None else augmented.name


def feature_key(identity: Any, augmented: Augmented | None = None) -> str:
    """The content key: checkpoint hashes, preprocessing, precision, audio rules, augmentation."""
    audio = AUDIO | {"augmentation": CLEAN if augmented is None else augmented.identity}
    return fingerprint({"schema": KEY_SCHEMA, "upstream": dict(identity), "audio": audio})


def _provenance(upstream: Upstream, request: str) -> dict[str, Any]:
    info = upstream.info
    packages = ("torch", "transformers", "numpy", "soxr", "soundfile")
    return {
        "request": _from_anywhere(request),
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
