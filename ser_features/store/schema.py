"""What a store looks like on disk: names, folders and the Zarr documents of a feature set."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from ser_features.errors import DamageError, NewerError, StoreError
from ser_features.files import read_sealed
from ser_features.fingerprint import canonical_json, depth, fingerprint
from ser_features.records import FeatureSetSpec, Json
from ser_features.store.place import Place
from ser_features.store.shards import Sharding

SCHEMA = 1
POOLED = ("mean", "std", "mean_layernorm")
FRAMES_DTYPES = ("none", "float16", "float32")
ID_BYTES = 256
CHUNK_FRAMES = 256
ROOT_FILE = "serfeat.json"
ZARR_ROOT = "features.zarr"
COMMITS_ROOT = "commits"

# What a spec may say at most: far over any encoder, and what it makes a reader allocate is bounded.
MOST = {"num_layers": 2**12, "dim": 2**20, "rows": 2**16, "capacity": 2**24}
MOST_OBJECT_BYTES = 2**32
MOST_DEPTH = 50
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,159}")
_UNSAFE_RUN = re.compile(r"[^A-Za-z0-9._@+-]+")
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Location:
    """Where one feature set lies; ``name`` is ``corpus/upstream/leaf`` in safe parts."""

    store: Place
    name: str

    @property
    def group(self) -> Place:
        """The Zarr group."""
        return self.store / ZARR_ROOT / self.name

    @property
    def commits(self) -> Place:
        """The folder of sealed plans and commit records."""
        return self.store / COMMITS_ROOT / self.name

    @property
    def metadata(self) -> Place:
        """The sealed spec and intended Zarr documents."""
        return self.commits / "metadata.json"

    @property
    def lock(self) -> Place:
        """The file a writer holds."""
        return self.commits / "lock"

    @property
    def staging(self) -> Place:
        """Where a writer on a disk prepares a shard's objects before they get their names."""
        return self.commits / "staging"

    def plan(self, generation: int) -> Place:
        """The sealed plan of one generation."""
        return self.commits / f"plan-{generation:04d}.json"

    def commit(self, index: int) -> Place:
        """The sealed commit record of one shard."""
        return self.commits / f"shard-{index:08d}.json"

    def moved(self, slot: int) -> Place:
        """A sealed record of where audio was found again."""
        return self.commits / f"moved-{slot}.json"

    def relative(self, path: Place) -> str:
        """``path`` as reports name it: relative to the store."""
        return path.relative_to(self.store).as_posix()


def safe_part(name: str) -> str:
    """One path part for any name; names that are not safe as they are get a hash, so none collide.

    >>> safe_part("whisper-base")
    'whisper-base'
    >>> safe_part("../etc").startswith("etc-")
    True
    """
    if _SAFE.fullmatch(name) and len(name) <= 100 and name.lower() != "zarr.json":
        return name
    cleaned = _UNSAFE_RUN.sub("-", name).strip(".-_@+")[:80] or "x"
    return f"{cleaned}-{sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


def set_name(corpus: str, upstream: str, augmentation: str, key: str, frames: str) -> str:
    """``corpus/upstream/leaf`` of a feature set; ``frames`` is none, float16 or float32."""
    suffix = {"none": "", "float16": "-frames16", "float32": "-frames32"}[frames]
    leaf = f"{safe_part(augmentation)}-{key[:12]}{suffix}"
    return f"{safe_part(corpus)}/{safe_part(upstream)}/{leaf}"


def name_of(spec: FeatureSetSpec) -> str:
    """The name under which a spec is stored."""
    return set_name(spec.corpus, spec.upstream, spec.augmentation, spec.key, spec.frames)


def locate(store: Place, name: str) -> Location:
    """The location of ``corpus/upstream/leaf``; StoreError where that would leave the store."""
    parts = name.strip("/").split("/")
    if len(parts) != 3 or not all(_SAFE.fullmatch(part) for part in parts):
        raise StoreError(
            f"{name!r} is not the name of a feature set; expected corpus/upstream/augmentation-key "
            "as 'serfeat store ls' prints it"
        )
    location = Location(store, "/".join(parts))
    check_inside(store, location.group)
    check_inside(store, location.commits)
    return location


def check_inside(store: Place, path: Place) -> None:
    """StoreError where a link in the store leads ``path`` out of it."""
    if not (isinstance(path, Path) and isinstance(store, Path)):
        return  # an object store knows no links
    if not path.resolve().is_relative_to(store.resolve()):
        raise StoreError(f"{path} leads outside the store {store}; remove that link")


def check_store(store: Place) -> None:
    """StoreError unless ``store`` is a feature store of a schema that this version reads."""
    try:
        check_schema(read_sealed(store / ROOT_FILE), store)
    except FileNotFoundError:
        if (store / ZARR_ROOT).exists() or (store / COMMITS_ROOT).exists():
            raise DamageError(
                f"{store / ROOT_FILE} is missing; run 'serfeat store verify --repair'"
            ) from None
        raise StoreError(
            f"no feature store at {store}; 'serfeat extract --store {store}' makes one"
        ) from None
    except OSError as error:
        raise StoreError(f"cannot read the store {store}: {error.strerror or error}") from error


def check_schema(body: Json, where: object) -> None:
    """NewerError where ``body`` says a schema newer than this version reads."""
    found = body.get("schema") if isinstance(body, dict) else None
    if type(found) is not int or found < 1:
        raise DamageError(f"{where}: no valid store schema (found {found!r}, expected {SCHEMA})")
    if found > SCHEMA:
        raise NewerError(
            f"{where} has store schema {found}, this version of serfeat reads up to {SCHEMA}: "
            "upgrade serfeat (pip install -U serfeat)"
        )


def spec_to_json(spec: FeatureSetSpec) -> Json:
    """The spec as plain JSON values (tuples of the provenance become lists)."""
    return json.loads(canonical_json(asdict(spec)))


def spec_from_json(body: Json) -> FeatureSetSpec:
    """The checked spec; ValueError, TypeError or KeyError where the JSON is not one."""
    spec = FeatureSetSpec(**body)
    check_spec(spec)
    return spec


def check_spec(spec: FeatureSetSpec) -> None:
    """ValueError where a spec does not describe a feature set."""
    texts = (spec.corpus, spec.upstream, spec.augmentation)
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError("corpus, upstream and augmentation must be names")
    if not isinstance(spec.provenance, Mapping) or depth(spec.provenance) > MOST_DEPTH:
        raise ValueError("the provenance is no mapping, or is nested too deeply")
    if not (isinstance(spec.key, str) and _KEY.fullmatch(spec.key)):
        raise ValueError(f"key {spec.key!r} is not a sha256 in hexadecimal")
    if spec.frames not in FRAMES_DTYPES:
        raise ValueError(f"frames {spec.frames!r} is none of {', '.join(FRAMES_DTYPES)}")
    for name, most in MOST.items():
        value = getattr(spec, name)
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{name} must be an integer from 1 to {most}, found {value!r}")
    arrays = ("pooled",) if spec.frames == "none" else ("pooled", "frames")
    if max(cut_of(spec, array).object_bytes for array in arrays) > MOST_OBJECT_BYTES:
        raise ValueError(f"one object would take more than {MOST_OBJECT_BYTES} bytes")
    if spec.capacity % chunk_frames(spec):
        raise ValueError(f"capacity {spec.capacity} is not a multiple of {CHUNK_FRAMES} frames")


def chunk_frames(spec: FeatureSetSpec) -> int:
    """Frames of an inner chunk of the frames array."""
    return min(CHUNK_FRAMES, spec.capacity)


def array_names(spec: FeatureSetSpec) -> tuple[str, ...]:
    """The arrays of a feature set as they are written: ``id`` last, as it says 'present'."""
    frames = () if spec.frames == "none" else ("frames",)
    pooled = tuple(f"pooled/{kind}" for kind in POOLED)
    return (*frames, *pooled, "offset", "num_frames", "audio_sha256", "id")


def documents(spec: FeatureSetSpec, num_rows: int, num_frames: int) -> dict[str, str]:
    """The text of every zarr.json of the group, by path relative to it."""
    table = {"zarr.json": _group(_attributes(spec)), "pooled/zarr.json": _group({})}
    for kind in POOLED:
        table[f"pooled/{kind}/zarr.json"] = _sharded(cut_of(spec, "pooled"), num_rows, "utterance")
    if spec.frames != "none":
        table["frames/zarr.json"] = _sharded(cut_of(spec, "frames"), num_frames, "frame")
    table["offset/zarr.json"] = _plain("int64", (num_rows,), spec.rows)
    table["num_frames/zarr.json"] = _plain("int64", (num_rows,), spec.rows)
    table["audio_sha256/zarr.json"] = _plain("uint8", (num_rows, 32), spec.rows)
    table["id/zarr.json"] = _plain("uint8", (num_rows, ID_BYTES), spec.rows)
    return table


def spec_from_attributes(text: str) -> FeatureSetSpec:
    """The spec that a group's zarr.json carries; ValueError where its own seal does not hold."""
    attributes = json.loads(text)["attributes"]
    if fingerprint(attributes["spec"]) != attributes["spec_sha256"]:
        raise ValueError("the seal of the attributes does not hold")
    return spec_from_json(attributes["spec"])


def root_documents(name: str) -> dict[str, str]:
    """The zarr.json texts above a feature set, by path relative to the store."""
    corpus, upstream, _ = name.split("/")
    folders = (ZARR_ROOT, f"{ZARR_ROOT}/{corpus}", f"{ZARR_ROOT}/{corpus}/{upstream}")
    return {f"{folder}/zarr.json": _group({}) for folder in folders}


def _attributes(spec: FeatureSetSpec) -> Json:
    body = spec_to_json(spec)
    return {"serfeat_schema": SCHEMA, "spec": body, "spec_sha256": fingerprint(body)}


def _group(attributes: Json) -> str:
    return _text({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def cut_of(spec: FeatureSetSpec, array: str) -> Sharding:
    """How objects of ``frames`` or of a pooled array are cut into chunks with a checksum each."""
    if array == "frames":  # one layer a chunk: a layer of the whole corpus is a quick read
        return Sharding(
            spec.frames, spec.capacity, spec.num_layers, spec.dim, chunk_frames(spec), 1
        )
    # One row a chunk: gap rows take no room, and one utterance is one small read.
    return Sharding("float32", spec.rows, spec.num_layers, spec.dim, 1, spec.num_layers)


def _sharded(cut: Sharding, length: int, rows: str) -> str:
    checked = [_bytes(cut.dtype), {"name": "crc32c"}]
    configuration = {
        "chunk_shape": [cut.inner_rows, cut.inner_layers, cut.dim],
        "codecs": checked,
        "index_codecs": [_bytes("uint64"), {"name": "crc32c"}],
        "index_location": "end",
    }
    codec = {"name": "sharding_indexed", "configuration": configuration}
    shape, names = (length, cut.num_layers, cut.dim), [rows, "layer", "dim"]
    return _array(cut.dtype, shape, cut.rows, codecs=[codec], names=names, fill="NaN")


def _plain(dtype: str, shape: tuple[int, ...], rows: int) -> str:
    codecs = [_bytes(dtype), {"name": "crc32c"}]
    names = ["utterance", "byte"][: len(shape)]
    return _array(dtype, shape, rows, codecs=codecs, names=names, fill=0)


def _bytes(dtype: str) -> Json:
    if dtype == "uint8":
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}


def _array(
    dtype: str, shape: tuple[int, ...], rows: int, *, codecs: Json, names: list[str], fill: Json
) -> str:
    document: Mapping[str, Json] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": (rows, *shape[1:])}},
        # All objects of an array in one folder: one fsync makes a rename durable.
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": codecs,
        "dimension_names": names,
        "attributes": {},
    }
    return _text(document)


def _text(document: Json) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
