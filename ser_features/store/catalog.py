"""What feature sets a store holds, without opening an array."""

from dataclasses import dataclass

from ser_features.errors import DamageError, StoreError, UnreachableError
from ser_features.records import FeatureSetSpec
from ser_features.store.place import Place, side_by_side
from ser_features.store.schema import (
    COMMITS_ROOT,
    FRAMES_DTYPES,
    ROOT_FILE,
    ZARR_ROOT,
    check_store,
    locate,
    set_name,
)
from ser_features.store.state import commit_indices, load_metadata


@dataclass(frozen=True, slots=True)
class FeatureSetInfo:
    """One line of ``serfeat store ls``.

    ``spec`` is None and ``problem`` says why where the metadata cannot be read.
    ``committed_shards`` counts the commit records; abandoned shards have one too.
    """

    name: str
    spec: FeatureSetSpec | None
    planned_shards: int = 0
    committed_shards: int = 0
    planned_utterances: int = 0
    problem: str | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing that was planned is still to be written."""
        return self.problem is None and self.committed_shards == self.planned_shards


def list_feature_sets(store: Place) -> list[FeatureSetInfo]:
    """Every feature set in the order of its name, damaged ones too.

    Raises StoreError where ``store`` is no feature store.
    """
    check_store(store)
    return side_by_side(store, lambda name: _describe(store, name), names_in(store))


def find(
    store: Place, corpus: str, upstream: str, augmentation: str, key: str, *, frames: bool
) -> FeatureSetInfo | None:
    """The feature set of that content; a pooled request is served by one with frames too.

    Of several, the one with the largest committed share. Raises DamageError where the one that is
    there is damaged, StoreError where ``store`` is no feature store; None too where it is not yet.
    """
    if not any((store / name).exists() for name in (ROOT_FILE, ZARR_ROOT, COMMITS_ROOT)):
        return None
    check_store(store)
    kinds = FRAMES_DTYPES[1:] if frames else FRAMES_DTYPES
    found = [_exact(store, set_name(corpus, upstream, augmentation, key, kind)) for kind in kinds]
    sets = [info for info in found if info is not None and info.spec and info.spec.key == key]
    return max(sets, key=_share, default=None)


def _share(info: FeatureSetInfo) -> float:
    return info.committed_shards / (info.planned_shards or 1)


def _exact(store: Place, name: str) -> FeatureSetInfo | None:
    if not locate(store, name).metadata.exists():
        return None
    info = _describe(store, name)
    if info.problem:
        raise DamageError(info.problem)
    return info


def names_in(store: Place) -> list[str]:
    """``corpus/upstream/leaf`` of all that looks like a feature set, by either half of it."""
    sealed = (store / COMMITS_ROOT).glob("*/*/*/metadata.json")
    groups = (store / ZARR_ROOT).glob("*/*/*/zarr.json")
    return sorted({"/".join(path.parts[-4:-1]) for path in (*sealed, *groups)})


def _describe(store: Place, name: str) -> FeatureSetInfo:
    try:
        location = locate(store, name)
        metadata = load_metadata(location)
        commits = commit_indices(location)
    except FileNotFoundError:
        problem = f"{name} has lost its metadata.json; run 'serfeat store verify --repair'"
        return FeatureSetInfo(name, None, problem=problem)
    except UnreachableError:
        raise
    except (StoreError, OSError) as error:
        return FeatureSetInfo(name, None, problem=str(error))
    return FeatureSetInfo(name, metadata.spec, metadata.shards, len(commits), metadata.utterances)
