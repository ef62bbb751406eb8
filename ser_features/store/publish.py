"""How a shard's objects get their names: staged and renamed in a folder, put whole elsewhere."""

import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ser_features.records import FeatureSetSpec, Shard
from ser_features.store.layout import shard_objects
from ser_features.store.objects import ObjectFile, ObjectSum
from ser_features.store.outputs import ShardOutputs, encoders
from ser_features.store.remote import ObjectPath

# Objects on their way at once: the memory that they take is bounded by a shard's.
PUTS = 4


def stage_shard(
    staging: Path, spec: FeatureSetSpec, shard: Shard, outputs: ShardOutputs
) -> dict[str, ObjectSum]:
    """Encode a shard into the folder ``staging``; object name → sum, in the order to publish."""
    sums: dict[str, ObjectSum] = {}
    for name, encode in encoders(spec, shard, outputs):
        path = staging / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            target = ObjectFile(file)
            stored = encode(target)
        if stored:
            sums[name] = target.total
        else:
            path.unlink()
    return sums


def put_shard(
    group: ObjectPath,
    spec: FeatureSetSpec,
    shard: Shard,
    outputs: ShardOutputs,
    check: Callable[[], None],
) -> dict[str, ObjectSum]:
    """Put every object of a shard, whole or not at all; object name → sum.

    ``check`` is called before each and raises where the lease is lost. The ids, which say that a
    row is there, go last. What an earlier attempt left and this one does not store is removed.
    """
    sums: dict[str, ObjectSum] = {}
    puts: list[Future[None]] = []
    last: list[tuple[str, memoryview]] = []
    with ThreadPoolExecutor(PUTS) as pool:
        for name, encode in encoders(spec, shard, outputs):
            memory = io.BytesIO()
            target = ObjectFile(memory)
            if encode(target):
                sums[name] = target.total
                if name.startswith("id/"):
                    last.append((name, memory.getbuffer()))
                    continue
                check()
                puts.append(pool.submit((group / name).put, memory.getbuffer()))
        for done in puts:
            done.result()
    check()
    group.delete_all([group / n for n in shard_objects(spec, shard) if n not in sums])
    for name, data in last:
        (group / name).put(data)
    return sums
