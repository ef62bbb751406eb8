"""One bit, cut or deleted file at a time: found, named, and restored to the very same bytes.

``tests/store/test_store_damage.py`` flips 1 100 bits of a store; here every kind of damage is also
repaired from the audio, and the whole store compared with what it was.
"""

import random
from pathlib import Path

import pytest

from fake_upstream import content_by_id, make_corpus, run, tiny_shards, use_fake
from ser_features.errors import StoreError
from ser_features.extract.repair import repair
from ser_features.manifest import Manifest
from ser_features.store.catalog import list_feature_sets
from ser_features.store.verify import verify


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=2, capacity=16)
    return make_corpus(tmp_path / "corpus", [2400, 900, 700, 500])


@pytest.fixture
def store(corpus: Manifest, tmp_path: Path) -> Path:
    """Two generations, four shards, one utterance over two objects, a pooled set beside."""
    store = tmp_path / "store"
    run(Manifest(corpus.corpus, corpus.utterances[:3]), store, frames=True)
    run(corpus, store, frames=True)
    run(corpus, store, "fake@random:1")
    return store


def bytes_of(store: Path) -> dict[Path, bytes]:
    files = (path for path in store.rglob("*") if path.is_file() and path.name != "lock")
    return {path: path.read_bytes() for path in sorted(files)}


def values_of(store: Path) -> dict[str, dict]:
    return {info.name: content_by_id(store, info.name) for info in list_feature_sets(store)}


def kind_of(path: Path) -> str:
    if path.name.startswith("c."):
        return "data"
    return path.name.partition("-")[0].partition(".")[0]


def never_wrong(store: Path, right: dict[str, dict]) -> bool:
    """Whether reading stopped; it may only give what is right."""
    try:
        found = values_of(store)
    except StoreError:
        return True
    assert all(one.items() <= right[name].items() for name, one in found.items())
    return False


def check(
    corpus: Manifest, store: Path, path: Path, right: dict[str, dict], whole: dict[Path, bytes]
) -> None:
    """Damage to one file is found by verify, and mended to the same bytes."""
    named = {item.object for item in verify(store).damage}
    if path.exists() or not path.name.startswith("shard-"):  # a lost record is work to do
        assert path.relative_to(store).as_posix() in named, path
    never_wrong(store, right)
    assert repair(store).failures == ()
    if not path.exists() or bytes_of(store) != whole:
        run(corpus, store, frames=True)
        run(corpus, store, "fake@random:1")
    assert bytes_of(store) == whole
    assert verify(store).ok


def test_every_flipped_bit_is_found_and_restored(corpus, store, torture, counted) -> None:
    whole, right, rng = bytes_of(store), values_of(store), random.Random(11)
    files, kinds = list(whole), dict.fromkeys(map(kind_of, whole), 0)
    flips = 1200 if torture else 20
    start = rng.randrange(len(files))
    for number in range(flips):
        path = files[(start + number * 7) % len(files)]
        raw = bytearray(whole[path])
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
        check(corpus, store, path, right, whole)
        kinds[kind_of(path)] += 1
    assert sum(kinds.values()) == flips
    counted(flips=flips, found=flips, restored=flips, **kinds)


@pytest.mark.parametrize("how", ["cut", "deleted", "zeros"])
def test_cut_and_deleted_files_are_found_and_restored(corpus, store, how, torture, counted) -> None:
    whole, right, tried = bytes_of(store), values_of(store), 0
    files = list(whole)
    for path in files if torture else files[:: len(files) // 9]:
        raw = whole[path]
        lengths = {0, 1, 4, len(raw) // 2, len(raw) - 4, len(raw) - 1} if how == "cut" else {0}
        for length in sorted(lengths if torture else {max(lengths)}):
            if how == "deleted":
                path.unlink()
            else:
                path.write_bytes(raw[:length] if how == "cut" else bytes(len(raw)))
            check(corpus, store, path, right, whole)
            tried += 1
    counted(how=how, tried=tried, restored=tried)
