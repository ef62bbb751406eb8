"""Augmented feature sets: their keys, their draws in the store, and that they come out the same."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from msgspec import structs

from fake_upstream import (
    RATE,
    FakeUpstream,
    content_by_id,
    files_of,
    make_corpus,
    tiny_shards,
    use_fake,
)
from ser_features.augment.augmented import augmented_sets, recall
from ser_features.errors import UsageError
from ser_features.extract import pipeline
from ser_features.extract.pipeline import Options, extract, extract_sets
from ser_features.extract.repair import repair
from ser_features.extract.spec import feature_key, new_spec
from ser_features.store.catalog import list_feature_sets
from ser_features.store.reader import open_feature_set
from ser_features.store.verify import verify

LENGTHS = (900, 160, 2400, 2400, 5000, 333, 8000, 1234, 161, 640, 3000)


@pytest.fixture
def manifest(tmp_path):
    return make_corpus(tmp_path / "corpus", LENGTHS)


@pytest.fixture
def noise(tmp_path):
    for i in range(3):
        folder = tmp_path / "noise" / str(i)
        folder.mkdir(parents=True)
        samples = 0.1 * np.random.RandomState(i).standard_normal(3000 * (i + 1))
        soundfile.write(folder / "n.wav", samples.clip(-1, 1), 8000)
    return f"noise:snr=10,folder={tmp_path / 'noise'}"


def store_bytes(store):
    """Every object and sealed file but for the times that provenance holds."""
    return {
        path.relative_to(store): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and path.name not in ("lock", "metadata.json", "zarr.json")
    }


def spoil(store):
    """Damage one stored object."""
    victim = min(path for path in (store / "features.zarr").rglob("c.*") if path.is_file())
    victim.write_bytes(b"\0" * victim.stat().st_size)


def test_clean_sets_keep_their_key(tmp_path, monkeypatch, manifest, noise):
    identity = {"family": "fake", "seed": 0, "precision": "float32"}
    known = "35d9bf96ea5ea5421e5df36c2fa65c5d9b4fd3e8590da6d2e9628bddb6315800"
    spec = new_spec("a", FakeUpstream(), "fake", "none")
    assert (spec.augmentation, spec.key) == ("clean", feature_key(identity))
    assert spec.key == known  # as before there were augmentations
    assert "augmentation" not in spec.provenance
    use_fake(monkeypatch)
    report = extract(manifest, "fake", tmp_path / "store", Options(augment=("clean",)))
    assert report.spec.key == spec.key
    found = open_feature_set(tmp_path / "store", report.spec)
    assert {source.draw for source in found.sources.values()} == {""}


@pytest.mark.parametrize(
    ("frames", "more"), [(True, ()), (False, ("room:t60=0.15+pink+stretch+codec", "mismatch-7"))]
)
def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(
    tmp_path, monkeypatch, manifest, noise, frames, more
):
    pytest.importorskip("pedalboard", reason="needs the extra 'augment'")
    pytest.importorskip("pyroomacoustics", reason="needs the extra 'augment'")
    use_fake(monkeypatch)
    tiny_shards(monkeypatch)
    stores = []
    for workers in (1, 5):
        stores.append(tmp_path / f"store{workers}")
        options = Options(frames=frames, workers=workers, augment=(noise, *more), copies=2, seed=3)
        extract_sets(manifest, "fake", stores[-1], options)
    one, other = map(store_bytes, stores)
    assert one == other
    assert len(list_feature_sets(stores[0])) == 2 + 2 * len(more)


def test_copies_differ_and_a_second_run_does_nothing(tmp_path, monkeypatch, manifest, noise):
    loader, store = use_fake(monkeypatch), tmp_path / "store"
    options = Options(workers=2, augment=("clean", noise), copies=3)
    reports = extract_sets(manifest, "fake", store, options)
    names = [report.spec.augmentation for report in reports]
    assert names == ["clean", "noise-10db", "noise-10db+1", "noise-10db+2"]
    assert len(loader.made) == 1
    means = [open_feature_set(store, report.spec).pooled("mean").tobytes() for report in reports]
    assert len(set(means)) == 4
    before = files_of(store)
    again = extract_sets(manifest, "fake", store, options)
    assert [report.num_new for report in again] == [0] * 4
    assert loader.made[-1].batches == []
    assert files_of(store) == before
    with pytest.raises(UsageError, match="extract_sets"):
        extract(manifest, "fake", store, options)


def test_what_is_stored_is_what_was_drawn(tmp_path, monkeypatch, manifest, noise):
    use_fake(monkeypatch)
    options = Options(workers=2, augment=(noise,), seed=5)
    clean = extract(manifest, "fake", tmp_path / "store")
    report = extract(manifest, "fake", tmp_path / "store", options)
    found, before = (open_feature_set(tmp_path / "store", r.spec) for r in (report, clean))
    made = recall(found.spec.provenance)
    assert made == augmented_sets((noise,), seed=5)[0]
    for name in found.ids:
        source = found.sources[name]
        clean = structs.replace(source, draw="")
        assert clean == before.sources[name]  # the clean recording's hash
        samples, _ = soundfile.read(source.path, dtype="float32")
        wave = made.apply(samples, source.draw, RATE)
        outputs = FakeUpstream().encode([wave]).hidden.numpy()  # [L, 1, T, D]
        mean = np.nanmean(outputs[:, 0], axis=1)
        np.testing.assert_allclose(found.pooled("mean", [name])[0], mean, rtol=0, atol=5e-6)
        assert json.loads(source.draw)["steps"][0]["snr"] == 10
    assert verify(tmp_path / "store").ok


def test_adding_utterances_draws_only_theirs(tmp_path, monkeypatch, manifest, noise):
    use_fake(monkeypatch)
    options = Options(workers=2, augment=(noise,))
    part = replace(manifest, utterances=manifest.utterances[3:7])
    first = extract(part, "fake", tmp_path / "a", options)
    some = content_by_id(tmp_path / "a", first.spec)
    extract(manifest, "fake", tmp_path / "a", options)
    whole = extract(manifest, "fake", tmp_path / "b", options)
    grown, fresh = (content_by_id(tmp_path / which, whole.spec) for which in "ab")
    assert {name: grown[name] for name in some} == some
    assert {name: one[1] for name, one in grown.items()} == {
        name: one[1] for name, one in fresh.items()
    }


@pytest.mark.parametrize("lost", ["object", "commit"])
def test_repair_gives_the_same_bytes_from_the_recorded_draw(
    tmp_path, monkeypatch, manifest, noise, lost
):
    use_fake(monkeypatch)
    tiny_shards(monkeypatch)
    store = tmp_path / "store"
    report = extract(manifest, "fake", store, Options(frames=True, augment=(noise,)))
    before, content = store_bytes(store), content_by_id(store, report.spec)
    if lost == "object":
        spoil(store)
    else:  # only the plan still knows the draws of this shard
        next((store / "commits").rglob("shard-00000001.json")).write_text("{}")
    mended = repair(store)
    assert (mended.failures, mended.num_shards) == ((), 1)
    assert content_by_id(store, report.spec) == content
    assert store_bytes(store) == before


def test_repair_asks_for_the_folder_that_was_used(tmp_path, monkeypatch, manifest, noise):
    use_fake(monkeypatch)
    store = tmp_path / "store"
    extract(manifest, "fake", store, Options(augment=(noise,)))
    spoil(store)
    soundfile.write(tmp_path / "noise" / "more.wav", np.ones(800) * 0.1, 8000)
    (failure,) = repair(store).failures
    assert "noise-10db" in failure
    assert str(tmp_path / "noise") in failure


@pytest.mark.parametrize("how", ["changed", "gone", "no audio"])
def test_a_noise_that_is_replaced_during_a_run_ends_it(tmp_path, monkeypatch, manifest, noise, how):
    """A set's key says which noises are in it: another one is never mixed, nor counts as a reject.

    On another machine a worker may see other files under the same names.
    """
    load, store = use_fake(monkeypatch), tmp_path / "store"
    path = tmp_path / "noise" / "1" / "n.wav"
    raw = path.read_bytes()

    def spoiling(request: str, **options):
        if how == "changed":
            soundfile.write(path, np.full(6000, 0.2), 8000)
        elif how == "gone":
            path.unlink()
        else:
            path.write_bytes(b"x" * len(raw))
        return load(request, **options)

    monkeypatch.setattr(pipeline, "load_upstream", spoiling)
    with pytest.raises(UsageError, match=rf"{path} (is|cannot be) .*: put that back"):
        extract(manifest, "fake", store, Options(augment=(noise,)))
    path.write_bytes(raw)
    monkeypatch.setattr(pipeline, "load_upstream", load)
    report = extract(manifest, "fake", store, Options(augment=(noise,)))
    assert report.rejects == ()
    extract(manifest, "fake", tmp_path / "whole", Options(augment=(noise,)))
    assert content_by_id(store, report.spec) == content_by_id(tmp_path / "whole", report.spec)
