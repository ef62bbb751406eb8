"""Where shards lie: rows, frames and objects that a shard owns, and what a shard may be."""

import math

from ser_features.errors import StoreError
from ser_features.records import FeatureSetSpec, Shard
from ser_features.store.schema import ID_BYTES, array_names

_KEY_TAIL = {"offset": "", "num_frames": "", "id": ".0", "audio_sha256": ".0"}


def object_name(array: str, index: int) -> str:
    """The path of object ``index`` (along the first axis) of an array, relative to the group.

    >>> object_name("pooled/mean", 3), object_name("offset", 3)
    ('pooled/mean/c.3.0.0', 'offset/c.3')
    """
    return f"{array}/c.{index}{_KEY_TAIL.get(array, '.0.0')}"


def num_objects(shard: Shard, spec: FeatureSetSpec) -> int:
    """Objects of the frames array that a shard owns; an utterance may be longer than one."""
    return math.ceil(sum(shard.num_frames) / spec.capacity)


def end_frame(shard: Shard, spec: FeatureSetSpec) -> int:
    """Where the next shard's frames may start: the end of this one's last object."""
    return shard.first_frame + num_objects(shard, spec) * spec.capacity


def row_starts(shard: Shard) -> list[int]:
    """The first frame of each planned utterance in the frames array."""
    starts = [shard.first_frame]
    for count in shard.num_frames[:-1]:
        starts.append(starts[-1] + count)
    return starts


def array_objects(spec: FeatureSetSpec, shard: Shard, array: str) -> list[str]:
    """The objects of one array that a shard may own."""
    if array != "frames":
        return [object_name(array, shard.index)]
    first = shard.first_frame // spec.capacity
    return [object_name(array, first + k) for k in range(num_objects(shard, spec))]


def shard_objects(spec: FeatureSetSpec, shard: Shard) -> list[str]:
    """Every object that a shard may own, in the order they are published."""
    return [name for array in array_names(spec) for name in array_objects(spec, shard, array)]


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
    for key in shard.ids:
        check_id(key)


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
