"""A run that stopped is taken up: the same content, and nothing done twice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_upstream import (
    RATE,
    content_by_id,
    make_corpus,
    recording,
    run,
    tiny_shards,
    use_fake,
)
from ser_features.manifest import Manifest
from ser_features.store.reader import open_feature_set
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter
from stopped_runs import Stop, stopping

LENGTHS = (2400, 900, 700, 1234, 5000, 6000, 333, 400, 510)


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(160, 3000), min_size=1, max_size=12),
    stops=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=4),
    frames=st.booleans(),
    rows=st.integers(1, 4),
)
def test_interrupted_at_any_shard_and_resumed_the_content_is_the_same(
    tmp_path_factory, lengths, stops, frames, rows
):
    """Each stop is at the k-th write of a run, before or after it."""
    folder = tmp_path_factory.mktemp("stop")
    with pytest.MonkeyPatch.context() as patch:
        use_fake(patch)
        tiny_shards(patch, rows=rows)
        manifest = make_corpus(folder, lengths)
        spec = run(manifest, folder / "whole", frames=frames).spec
        expected = content_by_id(folder / "whole", spec)
        for at, after in stops:
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(StoreWriter, "write", stopping(at, after))
                try:
                    run(manifest, folder / "store", frames=frames)
                except Stop:
                    found = content_by_id(folder / "store", spec)
                    assert found.items() <= expected.items()
        report = run(manifest, folder / "store", frames=frames)
        assert report.num_present + report.num_new == len(lengths)
        assert content_by_id(folder / "store", spec) == expected
        whole, resumed = (open_feature_set(folder / name, spec) for name in ("whole", "store"))
        assert resumed.ids == whole.ids
        assert verify(folder / "store").ok


def interrupted(manifest: Manifest, store: Path) -> None:
    """An extraction that stops at its second shard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoreWriter, "write", stopping(1, after=False))
        with pytest.raises(Stop):
            run(manifest, store, frames=True)


def test_the_plan_of_a_stopped_run_goes_on(tmp_path, monkeypatch):
    loader = use_fake(monkeypatch)
    tiny_shards(monkeypatch)
    manifest = make_corpus(tmp_path / "corpus", LENGTHS)
    interrupted(manifest, tmp_path / "store")
    report = run(manifest, tmp_path / "store", frames=True)
    assert report.num_present > 0
    assert sum(loader.made[-1].batches) == report.num_new == len(LENGTHS) - report.num_present
    assert len(list((tmp_path / "store" / "commits").rglob("plan-*.json"))) == 1
    found = open_feature_set(tmp_path / "store", report.spec)
    assert found.committed_shards == found.planned_shards


@pytest.mark.parametrize("how", ["longer", "same frames", "silent", "gone", "not asked"])
def test_what_changed_since_the_plan_was_made_is_planned_anew(tmp_path, monkeypatch, how):
    use_fake(monkeypatch)
    tiny_shards(monkeypatch)
    manifest = make_corpus(tmp_path / "corpus", LENGTHS)
    interrupted(manifest, tmp_path / "store")
    path = manifest.by_id["u1"].path
    change = {
        "longer": lambda: recording(path, 1900, seed=50),
        "same frames": lambda: recording(path, 901, seed=50),
        "silent": lambda: soundfile.write(path, np.zeros(900), RATE),
        "gone": path.unlink,
        "not asked": lambda: None,
    }
    change[how]()
    if how == "not asked":
        rest = tuple(u for u in manifest.utterances if u.id != "u1")
        manifest = replace(manifest, utterances=rest)
    report = run(manifest, tmp_path / "store", frames=True)
    run(manifest, tmp_path / "whole", frames=True)
    assert len(report.rejects) == (how in ("silent", "gone"))
    content = content_by_id(tmp_path / "store", report.spec)
    assert content == content_by_id(tmp_path / "whole", report.spec)
    assert open_feature_set(tmp_path / "store", report.spec).complete
    assert verify(tmp_path / "store").ok
