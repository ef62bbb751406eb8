"""A store that is mounted read-only: reading goes on, writing is one clear error."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fake_upstream import RATE, content_by_id, files_of, make_corpus, run, tiny_shards, use_fake
from faulty_disk import read_only, watched
from ser_features.errors import StoreError
from ser_features.extract.repair import repair
from ser_features.manifest import Manifest
from ser_features.store.catalog import list_feature_sets
from ser_features.store.verify import verify


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """The third is silent, so that there is a report of rejects."""
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=1)
    made = make_corpus(tmp_path / "corpus", [900, 700, 500, 800])
    soundfile.write(made.utterances[2].path, np.zeros(500), RATE)
    return made


@pytest.mark.parametrize("count", [2, 3])
def test_a_read_only_store_is_read_and_checked(corpus, tmp_path, count) -> None:
    """Also by an extraction that finds nothing to do."""
    store, part = tmp_path / "store", Manifest(corpus.corpus, corpus.utterances[:count])
    first = run(part, store, frames=True)
    before, content = files_of(store), content_by_id(store, first.spec)
    with watched(store, read_only):
        assert content_by_id(store, first.spec) == content
        assert [info.complete for info in list_feature_sets(store)] == [True]
        report = verify(store)
        assert (report.damage, report.strays, report.pending) == ((), (), {})
        again = run(part, store, frames=True)
    assert (again.num_new, again.num_present, again.rejects) == (0, 2, first.rejects)
    assert files_of(store) == before


def test_writing_to_a_read_only_store_names_it_once(corpus, tmp_path) -> None:
    store, part = tmp_path / "store", Manifest(corpus.corpus, corpus.utterances[:2])
    spec = run(part, store).spec
    before, content = files_of(store), content_by_id(store, spec)
    with watched(store, read_only), pytest.raises(StoreError) as told:
        run(corpus, store)
    clear(str(told.value), store)
    assert files_of(store) == before
    assert content_by_id(store, spec) == content
    min((store / "features.zarr").rglob("c.0*")).write_bytes(b"x")
    with watched(store, read_only), pytest.raises(StoreError) as told:
        repair(store)
    clear(str(told.value), store)


def test_a_folder_where_no_store_can_be_made(corpus, tmp_path) -> None:
    with watched(tmp_path / "disk", read_only), pytest.raises(StoreError) as told:
        run(corpus, tmp_path / "disk" / "store")
    clear(str(told.value), tmp_path / "disk")


def clear(text: str, path: Path) -> None:
    assert text.count(os.strerror(errno.EROFS)) == 1, text
    assert str(path) in text
    assert "\n" not in text
