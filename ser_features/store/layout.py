"""Where shards lie: rows, frames and objects that a shard owns, and what a shard may be."""

from collections.abc import Collection, Mapping

from ser_features.errors import StoreError
from ser_features.records import FeatureSetSpec, Shard
from ser_features.store.schema import ID_BYTES, POOLED, array_names

# A stranger's plan may say any number of frames: what is listed for a shard stays bounded.
MOST_OBJECTS = 2**16
MOST = 2**62  # of a row or frame: they are int64 in the arrays
_KEY_TAIL = {"offset": "", "num_frames": "", "id": ".0", "audio_sha256": ".0"}


def object_name(array: str, index: int) -> str:
    """The path of object ``index`` (along the first axis) of an array, relative to the group.

    >>> object_name("pooled/mean", 3), object_name("offset", 3)
    ('pooled/mean/c.3.0.0', 'offset/c.3')
    """
    return f"{array}/c.{index}{_KEY_TAIL.get(array, '.0.0')}"


def num_objects(shard: Shard, spec: FeatureSetSpec) -> int:
    """Objects of the frames array that a shard owns; an utterance may be longer than one."""
    return -(-sum(shard.num_frames) // spec.capacity)


def end_frame(shard: Shard, spec: FeatureSetSpec) -> int:
    """Where the next shard's frames may start: the end of this one's last object."""
    return shard.first_frame + num_objects(shard, spec) * spec.capacity


def row_starts(shard: Shard) -> list[int]:
    """The first frame of each planned utterance in the frames array."""
    starts = [shard.first_frame]
    for count in shard.num_frames[:-1]:
        starts.append(starts[-1] + count)
    return starts


def first_object(spec: FeatureSetSpec, shard: Shard, array: str) -> int:
    """The index of a shard's first object of an array."""
    return shard.first_frame // spec.capacity if array == "frames" else shard.index


def array_objects(spec: FeatureSetSpec, shard: Shard, array: str) -> list[str]:
    """The objects of one array that a shard may own."""
    first, count = first_object(spec, shard, array), num_objects(shard, spec)
    return [object_name(array, first + k) for k in range(count if array == "frames" else 1)]


def shard_objects(spec: FeatureSetSpec, shard: Shard) -> list[str]:
    """Every object that a shard may own, in the order they are published."""
    return [name for array in array_names(spec) for name in array_objects(spec, shard, array)]


def owns(spec: FeatureSetSpec, shard: Shard, name: str) -> bool:
    """Whether ``name`` is one of ``shard_objects``, without listing them."""
    array, _, key = name.rpartition("/")
    number = key.split(".")[1] if key.count(".") else ""
    if array not in array_names(spec) or not (number.isascii() and number.isdecimal()):
        return False
    place = int(number[:20]) - first_object(spec, shard, array)
    count = num_objects(shard, spec) if array == "frames" else 1
    return 0 <= place < count and name == object_name(array, int(number[:20]))


def check_sizes(
    spec: FeatureSetSpec, shard: Shard, present: Collection[str], sizes: Mapping[str, int]
) -> None:
    """ValueError where a shard's objects are too small to hold its present utterances.

    What a reader allocates is what they hold, so a record cannot make it allocate more.
    """
    pairs = zip(shard.ids, shard.num_frames, strict=True)
    frames = sum(count for key, count in pairs if key in present)
    values = spec.num_layers * spec.dim
    need = dict.fromkeys(array_names(spec), len(present))
    need |= {f"pooled/{kind}": 4 * values * len(present) for kind in POOLED}
    if spec.frames != "none":
        need["frames"] = {"float16": 2, "float32": 4}[spec.frames] * values * frames
    if sizes and min(sizes.values()) < 1:
        raise ValueError("an object without a byte")
    held = dict.fromkeys(need, 0)
    for name, size in sizes.items():
        held[name.rpartition("/")[0]] += size
    if small := [array for array, bytes_ in need.items() if held[array] < bytes_]:
        raise ValueError(f"{small[0]} has {held[small[0]]} bytes, at least {need[small[0]]} needed")


def ids_in_object(spec: FeatureSetSpec, shard: Shard, name: str) -> tuple[str, ...]:
    """The planned utterances of a shard that lie in one of its objects, at least in part."""
    if not name.startswith("frames/"):
        return shard.ids
    first = int(name.split(".")[1]) * spec.capacity
    rows = zip(shard.ids, row_starts(shard), shard.num_frames, strict=True)
    return tuple(
        key for key, start, count in rows if start < first + spec.capacity and start + count > first
    )


def check_shard(shard: Shard, spec: FeatureSetSpec) -> None:
    """StoreError where a shard does not fit its feature set."""
    where = f"shard {shard.index}"
    if not shard.ids or len(shard.ids) > spec.rows or len(shard.ids) != len(shard.num_frames):
        raise StoreError(
            f"{where} has {len(shard.ids)} utterances and {len(shard.num_frames)} frame counts; "
            f"expected as many, 1 to {spec.rows}"
        )
    if min(shard.num_frames) < 1:
        raise StoreError(f"{where} holds an utterance without frames")
    if shard.first_frame < 0 or shard.first_frame % spec.capacity:
        raise StoreError(
            f"{where} starts at frame {shard.first_frame}; expected a multiple of {spec.capacity}"
        )
    if num_objects(shard, spec) > MOST_OBJECTS or end_frame(shard, spec) > MOST:
        raise StoreError(f"{where} says {sum(shard.num_frames)} frames, more than can be")
    if not _plain(shard.ids):
        for key in shard.ids:
            check_id(key)
    if len(set(shard.ids)) < len(shard.ids):
        twice = next(key for key in shard.ids if shard.ids.count(key) > 1)
        raise StoreError(f"utterance {twice!r} is planned twice in one shard")


def _plain(ids: tuple[str, ...]) -> bool:
    """Whether ``check_id`` has certainly nothing to say of any of these."""
    text = "".join(ids)
    lengths = set(map(len, ids))
    return text.isascii() and "\0" not in text and min(lengths) > 0 and max(lengths) <= ID_BYTES


def check_id(key: str) -> None:
    """StoreError where an utterance id cannot be stored."""
    raw = encode_text(key, "utterance id")
    if not raw or len(raw) > ID_BYTES or 0 in raw:
        raise StoreError(
            f"utterance id {key[:40]!r} takes {len(raw)} bytes; expected 1 to {ID_BYTES} bytes of "
            "UTF-8 without NUL: shorten it in the manifest"
        )


def encode_text(text: str, what: str) -> bytes:
    """UTF-8 bytes; StoreError where the text has none (a file name in another encoding)."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise StoreError(f"{what} {text!r} is not valid Unicode: rename it") from None
