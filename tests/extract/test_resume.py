"""A run that stopped is taken up: the same content, and nothing done twice."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_upstream import (
    RATE,
    content_by_id,
    make_corpus,
    manifest_of,
    recording,
    run,
    tiny_shards,
    use_fake,
)
from ser_features.augment.augmented import partner_of
from ser_features.manifest import Manifest
from ser_features.store.reader import open_feature_set
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter

LENGTHS = (2400, 900, 700, 1234, 5000, 6000, 333, 400, 510)


class Stop(BaseException):
    """What a test raises in place of a kill."""


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


def stopping(at: int, after: bool) -> Callable[..., None]:
    """A ``StoreWriter.write`` that stops at its ``at``-th call, before or after the writing."""
    write, count = StoreWriter.write, iter(range(10**6))

    def stopped(self: StoreWriter, *args: Any) -> None:
        last = next(count) == at
        if last and not after:
            raise Stop
        write(self, *args)
        if last:
            raise Stop

    return stopped


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


@pytest.mark.parametrize("changed", ["u0", "u3"])
@pytest.mark.parametrize("others", [True, False])
def test_who_was_joined_with_audio_that_changed_is_made_anew(
    tmp_path, monkeypatch, changed, others
):
    """A run stops between an utterance and those that have it as a partner."""
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=1)
    manifest = labelled(make_corpus(tmp_path / "corpus", (900, 700, 500, 1200)))
    how: dict[str, Any] = {"augment": ("copypaste-n",)}
    spec = run(manifest, tmp_path / "first", **how).spec
    sources = content_by_id(tmp_path / "first", spec)
    joined = {key for key in sources if partner_of(sources[key][1].draw) == changed} - {changed}
    assert joined
    (new,) = labelled(manifest_of([recording(tmp_path / "new.wav", 600, 60)])).utterances
    path = manifest.by_id[changed].path
    recording(path, soundfile.info(path).frames, seed=50)
    expected = content_by_id(tmp_path / "whole", run(manifest, tmp_path / "whole", **how).spec)
    for at in range(1 + len(joined)):
        store = tmp_path / str(at)
        shutil.copytree(tmp_path / "first", store)
        with monkeypatch.context() as patch:
            patch.setattr(StoreWriter, "write", stopping(at, after=False))
            with pytest.raises(Stop):
                run(manifest, store, **how)
        if others:  # the shards that were left behind are abandoned by a run over other utterances
            apart = [u for u in manifest.utterances if u.id not in {changed, *joined}]
            assert run(replace(manifest, utterances=(*apart, new)), store, **how).num_new == 1
        assert 1 <= run(manifest, store, **how).num_new <= 1 + len(joined)
        found = content_by_id(store, spec)
        assert {key: found[key] for key in expected} == expected
        assert run(manifest, store, **how).num_new == 0
        assert verify(store).ok


def labelled(manifest: Manifest) -> Manifest:
    marked = tuple(replace(each, label="neutral") for each in manifest.utterances)
    return replace(manifest, utterances=marked)


@pytest.mark.parametrize("at", range(1, 4))
@pytest.mark.parametrize("changed", ["u0", "u3"])
def test_a_partner_that_changed_while_the_first_run_was_stopped(tmp_path, monkeypatch, changed, at):
    """Of other audio, as long as before; what is touched only is not made anew."""
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=1)
    manifest = labelled(make_corpus(tmp_path / "corpus", (900, 700, 500, 1200)))
    store = tmp_path / "store"
    how: dict[str, Any] = {"augment": ("copypaste-n",)}
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write", stopping(at, after=False))
        with pytest.raises(Stop):
            run(manifest, store, **how)
    path = manifest.by_id[changed].path
    recording(path, soundfile.info(path).frames, seed=50)
    report = run(manifest, store, **how)
    whole = run(manifest, tmp_path / "whole", **how)
    assert content_by_id(store, report.spec) == content_by_id(tmp_path / "whole", whole.spec)
    assert run(manifest, store, **how).num_new == 0
    assert verify(store).ok
