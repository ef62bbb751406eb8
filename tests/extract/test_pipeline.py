"""Extraction end to end: what is stored, what is done again and what is not, what is rejected."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from fake_upstream import (
    HOP,
    RATE,
    FakeUpstream,
    Listener,
    alone,
    content_by_id,
    files_of,
    make_corpus,
    manifest_of,
    recording,
    run,
    tiny_shards,
    use_fake,
)
from ser_features.errors import StoreError, StoreLockedError, UsageError
from ser_features.extract import engine, estimate
from ser_features.manifest import Manifest
from ser_features.records import Utterance
from ser_features.store.catalog import list_feature_sets
from ser_features.store.reader import open_feature_set
from ser_features.store.writer import StoreWriter
from ser_features.upstreams.load import load_upstream

LENGTHS = (900, 160, 2400, 2400, 5000, 333, 8000, 1234, 161, 640, 3000)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_corpus(tmp_path / "corpus", LENGTHS)


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("request_", ["fake", "fbank"])
def test_features_are_those_of_each_utterance_alone(
    tmp_path, monkeypatch, manifest, frames, request_
):
    if request_ == "fake":
        use_fake(monkeypatch)
        tiny_shards(monkeypatch)
        upstream = FakeUpstream()
    else:
        upstream = load_upstream("fbank")
        keep = [u for u in manifest.utterances if u.id not in ("u1", "u8")]  # under 25 ms
        manifest = replace(manifest, utterances=tuple(keep))
    report = run(manifest, tmp_path / "store", request_, frames=frames)
    found = open_feature_set(tmp_path / "store", report.spec)
    assert (report.num_new, report.num_present, report.rejects) == (len(manifest), 0, ())
    assert found.complete
    assert set(found.ids) == set(manifest.by_id)
    # Longest first, then by id: the plan's order.
    lengths = {u.id: soundfile.info(u.path).frames for u in manifest.utterances}
    assert list(found.ids) == sorted(found.ids, key=lambda key: (-lengths[key], key))
    for i, key in enumerate(found.ids):
        mean, std, normed, own = alone(upstream, manifest.by_id[key])
        assert (
            found.num_frames[i]
            == len(own)
            == upstream.num_frames(lengths[key] * upstream.info.sample_rate // RATE)
        )
        # Sums over a padded batch may add in another order than alone: float32 rounding only.
        for kind, value in (("mean", mean), ("std", std), ("mean_layernorm", normed)):
            np.testing.assert_allclose(found.pooled(kind, [key])[0], value, rtol=0, atol=5e-6)
        if frames:  # nothing is summed over frames; one core or two: float32 rounding, then float16
            np.testing.assert_allclose(found.frames(key), own, rtol=2**-10, atol=1e-6)


def test_batches_are_longest_first_and_bounded(tmp_path, monkeypatch, manifest):
    loader = use_fake(monkeypatch)
    monkeypatch.setattr(engine, "lanes_of", lambda *_: 1)  # several would come as they please
    run(manifest, tmp_path / "a", batch_seconds=2.0)
    run(manifest, tmp_path / "b", batch_seconds=1e-9)
    many, single = loader.made
    assert sum(many.batches) == sum(single.batches) == len(LENGTHS)
    assert many.batches[:4] == [1, 1, 1, 2]  # 8000, 5000, 3000, twice 2400 samples: no padding
    assert set(single.batches) == {1}
    name = list_feature_sets(tmp_path / "a")[0].name
    a, b = (open_feature_set(tmp_path / which, name) for which in "ab")
    np.testing.assert_allclose(a.pooled("mean"), b.pooled("mean"), rtol=0, atol=5e-6)


def test_a_second_run_does_nothing(tmp_path, monkeypatch, manifest):
    loader, store = use_fake(monkeypatch), tmp_path / "store"
    tiny_shards(monkeypatch)
    first = run(manifest, store, frames=True)
    before = files_of(store)
    listener = Listener()
    again = run(manifest, store, frames=True, progress=listener)
    assert files_of(store) == before
    assert loader.made[-1].batches == []
    assert (again.num_new, again.num_present) == (0, len(LENGTHS))
    assert (again.audio_seconds, again.spec) == (0.0, first.spec)
    assert listener.said == []
    assert first.audio_seconds == pytest.approx(sum(LENGTHS) / RATE)


def test_progress_and_the_announcement(tmp_path, monkeypatch, manifest):
    use_fake(monkeypatch)
    listener = Listener()
    run(manifest, tmp_path / "store", progress=listener)
    seconds = sum(LENGTHS) / RATE
    frames = sum((n - 160) // HOP + 1 for n in LENGTHS)
    size = len(LENGTHS) * 3 * 3 * 4 * 4 / 1e3
    assert listener.said == [
        f"made-up · fake: {len(LENGTHS)} utterances, {seconds:.1f} s of audio, "
        f"{frames} frames, {size:.1f} kB"
    ]
    assert [stage[0] for stage in listener.stages] == ["reading headers", "extracting fake"]
    assert listener.stages[-1][1:] == (pytest.approx(seconds), "s of audio")
    assert listener.done == pytest.approx(seconds)


def test_only_new_utterances_are_extracted(tmp_path, monkeypatch, manifest):
    loader, store = use_fake(monkeypatch), tmp_path / "store"
    tiny_shards(monkeypatch)
    part = replace(manifest, utterances=manifest.utterances[2:6])
    first = run(part, store, frames=True)
    before, sound = files_of(store / "features.zarr"), content_by_id(store, first.spec)
    report = run(manifest, store, frames=True)
    assert (report.num_new, report.num_present) == (len(LENGTHS) - 4, 4)
    assert sum(loader.made[-1].batches) == len(LENGTHS) - 4
    objects = [path for path in before if path.name != "zarr.json"]
    now = files_of(store / "features.zarr")
    assert all(now[path] == before[path] for path in objects)
    content = content_by_id(store, report.spec)
    assert {key: content[key] for key in sound} == sound
    assert len(list((store / "commits").rglob("plan-*.json"))) == 2
    run(manifest, tmp_path / "whole", frames=True)
    assert content == content_by_id(tmp_path / "whole", report.spec)
    # What left the corpus stays, and does no harm.
    report = run(part, store, frames=True)
    assert (report.num_new, report.num_present) == (0, 4)
    assert content_by_id(store, report.spec) == content


@pytest.mark.parametrize("num_samples", [2400, 1700])
def test_a_changed_file_replaces_its_row(tmp_path, monkeypatch, manifest, num_samples):
    loader, store = use_fake(monkeypatch), tmp_path / "store"
    tiny_shards(monkeypatch)
    before = content_by_id(store, run(manifest, store, frames=True).spec)
    recording(manifest.by_id["u2"].path, num_samples, seed=99)
    report = run(manifest, store, frames=True)
    assert (report.num_new, loader.made[-1].batches) == (1, [1])
    content = content_by_id(store, report.spec)
    assert set(content) == set(before)
    assert {key for key in content if content[key] != before[key]} == {"u2"}
    mean, *_, frames = alone(FakeUpstream(), manifest.by_id["u2"])
    found = open_feature_set(store, report.spec)
    np.testing.assert_array_equal(found.frames("u2"), frames.astype(np.float16))
    np.testing.assert_allclose(found.pooled("mean", ["u2"])[0], mean, atol=5e-6)


def test_a_touched_or_moved_file_is_not_extracted_again(tmp_path, monkeypatch, manifest):
    store = tmp_path / "store"
    use_fake(monkeypatch)
    run(manifest, store)
    before = files_of(store)
    os.utime(manifest.by_id["u2"].path, ns=(5, 5))
    moved = (tmp_path / "corpus").rename(tmp_path / "elsewhere")
    there = manifest_of([moved / u.path.name for u in manifest.utterances])
    for each in (there, replace(there, utterances=there.utterances[::-1])):
        report = run(each, store)
        assert (report.num_new, report.num_present) == (0, len(LENGTHS))
    after = files_of(store)
    assert before.items() <= after.items()
    assert [path.name for path in after.keys() - before.keys()] == ["moved-0.json"]


def test_an_id_that_now_names_another_file_is_extracted_again(tmp_path, monkeypatch):
    """Files from an archive often share their size and their time."""
    use_fake(monkeypatch)
    paths = [recording(tmp_path / name / "a.wav", 2400, seed) for seed, name in enumerate("xy")]
    for path in paths:
        os.utime(path, ns=(10**18, 10**18))
    run(manifest_of(paths[:1]), tmp_path / "store")
    report = run(manifest_of(paths[1:]), tmp_path / "store")
    assert report.num_new == 1
    mean, *_ = alone(FakeUpstream(), Utterance("a", paths[1]))
    found = open_feature_set(tmp_path / "store", report.spec).pooled("mean", ["a"])[0]
    np.testing.assert_allclose(found, mean, atol=5e-6)


def test_segments_of_one_file_are_utterances(tmp_path, monkeypatch):
    use_fake(monkeypatch)
    path = recording(tmp_path / "long.wav", 3 * RATE, 0)

    def cut(*bounds: Sequence[float]) -> Manifest:
        pairs = [Utterance(f"s{i}", path, start=a, end=b) for i, (a, b) in enumerate(bounds)]
        return Manifest("cut", tuple(pairs))

    manifest = cut((0.0, 1.0), (1.0, 2.5))
    report = run(manifest, tmp_path / "store")
    found = open_feature_set(tmp_path / "store", report.spec)
    assert dict(zip(found.ids, found.num_frames, strict=True)) == {"s0": 99, "s1": 149}
    for utterance in manifest.utterances:
        mean, *_ = alone(FakeUpstream(), utterance)
        np.testing.assert_allclose(found.pooled("mean", [utterance.id])[0], mean, atol=5e-6)
    assert run(manifest, tmp_path / "store").num_new == 0
    assert run(cut((0.0, 1.0), (1.0, 2.25)), tmp_path / "store").num_new == 1


def test_relative_paths_hold_from_any_folder(tmp_path, monkeypatch, manifest):
    use_fake(monkeypatch)
    monkeypatch.chdir(tmp_path)
    relative = manifest_of([u.path.relative_to(tmp_path) for u in manifest.utterances])
    report = run(relative, tmp_path / "store")
    sources = open_feature_set(tmp_path / "store", report.spec).sources
    assert all(source.path == str(manifest.by_id[key].path) for key, source in sources.items())
    before = files_of(tmp_path / "store")
    assert run(manifest, tmp_path / "store").num_new == 0
    assert files_of(tmp_path / "store") == before


def test_duplicate_audio_is_reported_and_kept(tmp_path, monkeypatch):
    use_fake(monkeypatch)
    paths = [recording(tmp_path / f"{name}.wav", 900, seed) for name, seed in zip("abc", (1, 2, 1),
             strict=True)]  # fmt: skip
    report = run(manifest_of(paths), tmp_path / "store")
    assert [set(group) for group in report.duplicates] == [{"a", "c"}]
    assert report.num_new == 3
    again = run(manifest_of(paths), tmp_path / "store")
    assert [set(group) for group in again.duplicates] == [{"a", "c"}]


def test_an_empty_corpus_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="corpus 'none' has no utterances to extract"):
        run(Manifest("none", ()), tmp_path)


def test_a_disk_that_cannot_hold_it_stops_before_anything_is_written(
    tmp_path, monkeypatch, manifest
):
    use_fake(monkeypatch)
    usage = SimpleNamespace(free=64 * 2**20 + 100)
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        StoreError, match=r"the features need .* kB and the disk has \d+\.\d MB free"
    ):
        run(manifest, tmp_path / "store")
    assert not (tmp_path / "store").exists()


# Others at work


def test_a_set_finished_by_another_meanwhile_is_not_done_again(tmp_path, monkeypatch, manifest):
    loader = use_fake(monkeypatch)
    enter = StoreWriter.__enter__

    def late(self):
        monkeypatch.setattr(StoreWriter, "__enter__", enter)
        run(replace(manifest, utterances=manifest.utterances[:6]), tmp_path)
        return enter(self)

    monkeypatch.setattr(StoreWriter, "__enter__", late)
    report = run(manifest, tmp_path)
    assert (report.num_new, report.num_present) == (len(LENGTHS) - 6, 6)
    assert sum(sum(made.batches) for made in loader.made) == len(LENGTHS)


def test_the_same_set_has_one_writer(tmp_path, monkeypatch, manifest):
    use_fake(monkeypatch)
    other = replace(manifest, utterances=manifest.utterances[:1])
    spec = run(other, tmp_path).spec
    with StoreWriter(tmp_path, spec):
        with pytest.raises(StoreLockedError, match=f"is being written by process {os.getpid()} "):
            run(manifest, tmp_path)
        assert run(manifest, tmp_path, "fake@random:1").num_new == len(LENGTHS)
        assert run(other, tmp_path).num_new == 0  # nothing to write: no lock needed
    assert run(manifest, tmp_path).num_new == len(LENGTHS) - 1


def test_an_error_of_the_disk_ends_the_run(tmp_path, monkeypatch, manifest):
    use_fake(monkeypatch)
    tiny_shards(monkeypatch)
    write, calls = StoreWriter.write, []

    def failing(self, shard, outputs):
        calls.append(shard.index)
        if len(calls) == 2:
            raise StoreError("cannot write here: No space left on device")
        write(self, shard, outputs)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write", failing)
        with pytest.raises(StoreError, match="No space left on device"):
            run(manifest, tmp_path)
    assert calls == [0, 1]
    report = run(manifest, tmp_path)
    assert report.num_present > 0
    assert report.num_new + report.num_present == len(LENGTHS)


def test_fake_features_do_not_depend_on_the_batch():
    """The yardstick itself: what the other tests compare with."""
    rng = np.random.default_rng(0)
    waves = [rng.standard_normal(n).astype(np.float32) for n in (900, 500)]
    upstream = FakeUpstream()
    both = upstream.encode(waves)
    for b, wave in enumerate(waves):
        single = upstream.encode([wave])
        count = single.num_frames[0]
        assert both.num_frames[b] == count
        assert torch.equal(both.hidden[:, b, :count], single.hidden[:, 0, :count])
