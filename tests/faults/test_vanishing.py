"""A folder that vanishes at any moment: an error that says so, and a store that can be mended."""

import shutil
from pathlib import Path

import pytest

from fake_upstream import content_by_id, make_corpus, run, tiny_shards, use_fake
from faulty_disk import happens_at, watched
from ser_features.errors import DamageError, SerfeatError, StoreError
from ser_features.extract.repair import repair
from ser_features.extract.shards import _nothing as nothing
from ser_features.manifest import Manifest
from ser_features.store.catalog import list_feature_sets
from ser_features.store.schema import locate
from ser_features.store.verify import remove_strays, verify
from ser_features.store.writer import StoreWriter

STRIDE = 23
FOLDERS = ("store", "group", "objects", "commits", "staging")
MENDED = "run 'serfeat store verify"


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=2)
    return make_corpus(tmp_path / "corpus", [2400, 900, 700])


def contents(store: Path) -> dict[str, dict]:
    return {info.name: content_by_id(store, info.name) for info in list_feature_sets(store)}


def places(store: Path, name: str) -> dict[str, Path]:
    location = locate(store, name)
    return {
        "store": store,
        "group": location.group,
        "objects": location.group / "pooled" / "mean",
        "commits": location.commits,
        "staging": location.staging,
    }


def recovered(corpus: Manifest, store: Path) -> dict[str, dict]:
    """What is there after doing what the messages say."""
    for _ in range(3):
        try:
            run(corpus, store, frames=True)
            if verify(store).ok:
                return contents(store)
        except DamageError as error:
            told = str(error)
            assert MENDED in told
        assert repair(store).failures == ()
    raise AssertionError("the messages do not lead anywhere")


@pytest.mark.parametrize("which", FOLDERS)
def test_a_folder_that_vanishes_during_extraction(
    corpus, tmp_path, which, torture, counted
) -> None:
    whole, store = tmp_path / "whole", tmp_path / "store"
    with watched(whole) as disk:
        run(corpus, whole, frames=True)
    right = contents(whole)
    (name,) = right
    folder = places(store, name)[which]
    numbers, stopped = range(0, disk.changes, 1 if torture else STRIDE), 0
    for number in numbers:
        harm = happens_at(number, lambda: shutil.rmtree(folder, ignore_errors=True))
        with watched(store, harm):
            try:
                run(corpus, store, frames=True)
            except SerfeatError as error:
                stopped, told = stopped + 1, str(error)
                assert str(store) in told or name in told, told
        assert recovered(corpus, store) == right
        remove_strays(store)
        report = verify(store)
        assert (report.damage, report.strays) == ((), ())
        shutil.rmtree(store)
    assert stopped
    counted(folder=which, points=len(numbers), stopped=stopped)


def test_audio_that_vanishes_is_rejected_and_comes_back(corpus, tmp_path, torture, counted) -> None:
    whole, store = tmp_path / "whole", tmp_path / "store"
    with watched(whole) as disk:
        run(corpus, whole, frames=True)
    right = contents(whole)
    away, here, rejected = tmp_path / "away", tmp_path / "corpus", 0
    numbers = range(0, disk.changes, 1 if torture else STRIDE)
    for number in numbers:
        with watched(store, happens_at(number, lambda: here.rename(away))):
            report = run(corpus, store, frames=True)
        assert {reject.reason for reject in report.rejects} <= {"missing"}
        assert report.num_new + len(report.rejects) == 3
        rejected += len(report.rejects)
        (found,) = contents(store).values()
        assert found.items() <= next(iter(right.values())).items()
        if away.exists():
            away.rename(here)
        report = run(corpus, store, frames=True)
        assert report.rejects == ()
        assert contents(store) == right
        shutil.rmtree(store)
    assert rejected
    counted(points=len(numbers), rejected=rejected)


def test_a_store_that_another_process_made_anew_is_left_alone(corpus, tmp_path) -> None:
    """``rm -rf store`` and a new start, while the first process still runs."""
    store = tmp_path / "store"
    run(corpus, store, frames=True)
    spec = list_feature_sets(store)[0].spec
    with StoreWriter(store, spec) as first:
        shutil.rmtree(store)
        run(corpus, store, frames=True)
        right = contents(store)
        with pytest.raises(StoreError, match=r"was removed or replaced while .* was being written"):
            first.invalidate([0])
    assert contents(store) == right
    assert verify(store).ok


def test_what_another_process_stages_in_a_new_store_is_left_alone(corpus, tmp_path) -> None:
    """Both stage under one path: nothing of the first may go out under the second's sums."""
    store = tmp_path / "store"
    run(corpus, store, frames=True)
    spec = list_feature_sets(store)[0].spec
    with StoreWriter(store, spec) as first:
        first.invalidate([0])
        shard = first.pending[0]
        shutil.rmtree(store)
        staged = locate(store, first.name).staging / "frames" / "c.0.0.0"
        staged.parent.mkdir(parents=True)
        staged.write_bytes(b"of another writer")
        locate(store, first.name).lock.touch()
        with pytest.raises(StoreError, match=r"was removed or replaced while"):
            first.write(shard, nothing(spec))
        assert staged.read_bytes() == b"of another writer"
    assert staged.read_bytes() == b"of another writer"
