"""What a feature set holds in numbers, without a record of each utterance."""

from dataclasses import dataclass

from ser_features.errors import DamageError, StoreError
from ser_features.files import uncollected
from ser_features.records import FeatureSetSpec
from ser_features.store.place import Place, side_by_side
from ser_features.store.schema import check_store, locate
from ser_features.store.state import commit_indices, load_metadata, load_outline


@dataclass(frozen=True, slots=True)
class Summary:
    """``utterances`` are those that are present, ``total_frames`` and ``num_bytes`` theirs."""

    name: str
    spec: FeatureSetSpec
    utterances: int
    total_frames: int
    num_bytes: int
    committed_shards: int
    planned_shards: int


@uncollected()
def summarize(store: Place, name: str) -> Summary:
    """Count what ``open_feature_set`` would show of ``corpus/upstream/leaf``.

    No plan is read, and of the commit records only ids, frames and sizes. Raises StoreError where
    there is no such feature set, DamageError where a sealed file is damaged.
    """
    check_store(store)
    location, frames, num_bytes = locate(store, name), dict[str, int](), 0
    try:
        metadata, indices = load_metadata(location), commit_indices(location)
        outlines = side_by_side(location.commits, lambda i: load_outline(location, i), indices)
    except FileNotFoundError as error:
        raise DamageError(f"{error.filename} is not there; run 'serfeat store verify'") from error
    except OSError as error:
        raise StoreError(f"cannot read {name}: {error}") from error
    for outline in outlines:  # an utterance that was extracted twice counts once
        frames |= outline.frames
        num_bytes += outline.num_bytes
    sizes = (num_bytes, len(indices), metadata.shards)
    return Summary(location.name, metadata.spec, len(frames), sum(frames.values()), *sizes)
