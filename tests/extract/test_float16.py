"""Values beyond float16 turn a whole feature set to float32, also where that was interrupted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fake_upstream import (
    RATE,
    FakeUpstream,
    Listener,
    alone,
    content_by_id,
    files_of,
    make_corpus,
    run,
    tiny_shards,
    use_fake,
)
from ser_features.errors import StoreError
from ser_features.manifest import Manifest
from ser_features.store.catalog import list_feature_sets
from ser_features.store.reader import open_feature_set
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter

LENGTHS = (900, 160, 2400, 2400, 5000, 333, 8000, 1234, 161, 640, 3000)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_corpus(tmp_path / "corpus", LENGTHS)


def test_values_beyond_float16_turn_the_set_to_float32(tmp_path, monkeypatch, manifest):
    tiny_shards(monkeypatch)
    use_fake(monkeypatch, scale=20_000.0)
    listener = Listener()
    part = replace(manifest, utterances=manifest.utterances[:7])
    report = run(part, tmp_path, frames=True, progress=listener)
    assert report.spec.frames == "float32"
    (said,) = [text for text in listener.said if "float16" in text]
    assert said.startswith("fake: a value of ")
    assert said.endswith(
        "does not fit float16; storing the frames of this feature set as float32 instead"
    )
    assert [info.spec.frames for info in list_feature_sets(tmp_path)] == ["float32"]
    before = files_of(tmp_path / "features.zarr")
    listener = Listener()
    again = run(manifest, tmp_path, frames=True, progress=listener)
    assert (again.spec, again.num_new, again.num_present) == (report.spec, len(LENGTHS) - 7, 7)
    assert not any("float16" in text for text in listener.said)
    now = files_of(tmp_path / "features.zarr")
    assert all(now[path] == old for path, old in before.items() if path.name != "zarr.json")
    found = open_feature_set(tmp_path, again.spec)
    for utterance in manifest.utterances:
        *_, frames = alone(FakeUpstream(scale=20_000.0), utterance)
        np.testing.assert_array_equal(found.frames(utterance.id), frames)
    assert verify(tmp_path).ok
    assert not verify(tmp_path).strays


def test_overflow_in_a_late_shard_takes_all_shards_along(tmp_path, monkeypatch):
    """The same feature set never mixes precisions: shards written before are written anew."""
    tiny_shards(monkeypatch)
    use_fake(monkeypatch, scale=16_400.0)  # 3 + tanh: over 65504 only where tanh is near 1
    manifest = make_corpus(tmp_path / "corpus", (2000,) * 8)
    soundfile.write(tmp_path / "corpus" / "u7.wav", np.random.default_rng(0).choice(
        [-0.9, 0.9], 1999), RATE)  # fmt: skip
    quiet = replace(manifest, utterances=manifest.utterances[:7])
    for u in quiet.utterances:
        soundfile.write(u.path, 1e-3 * np.random.default_rng(1).standard_normal(2000), RATE)
    assert run(quiet, tmp_path / "store", frames=True).spec.frames == "float16"
    report = run(manifest, tmp_path / "store", frames=True)
    assert (report.spec.frames, report.num_new, report.num_present) == ("float32", 8, 0)
    assert [info.spec.frames for info in list_feature_sets(tmp_path / "store")] == ["float32"]


def test_pooled_sets_hold_large_values(tmp_path, monkeypatch, manifest):
    use_fake(monkeypatch, scale=20_000.0)
    report = run(manifest, tmp_path)
    assert report.spec.frames == "none"
    assert open_feature_set(tmp_path, report.spec).pooled("mean").max() > 5e4


class Stop(BaseException):
    """What a test raises in place of a kill."""


@pytest.mark.parametrize("where", ["__enter__", "delete", "add_plan", "write"])
@pytest.mark.parametrize("after", [False, True])
def test_a_fallback_that_was_killed_goes_on(tmp_path, monkeypatch, manifest, where, after):
    tiny_shards(monkeypatch)
    use_fake(monkeypatch, scale=20_000.0)
    spec = run(manifest, tmp_path / "whole", frames=True).spec
    real, told = getattr(StoreWriter, where), Listener()

    def stopping(self, *args, **kwargs):
        falling = any("float16" in text for text in told.said)
        if falling and not after:
            raise Stop
        result = real(self, *args, **kwargs)
        if falling:
            raise Stop
        return result

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, where, stopping)
        with pytest.raises(Stop):
            run(manifest, tmp_path / "store", frames=True, progress=told)
    report = run(manifest, tmp_path / "store", frames=True)
    assert (report.spec.key, report.spec.frames) == (spec.key, "float32")
    content = content_by_id(tmp_path / "store", report.spec)
    assert content == content_by_id(tmp_path / "whole", spec)
    assert [info.spec.frames for info in list_feature_sets(tmp_path / "store")] == ["float32"]
    assert verify(tmp_path / "store").ok


def test_nobody_outside_the_manifest_is_thrown_away(tmp_path, monkeypatch, manifest):
    """Starting over makes only what the manifest names, so that has to be all."""
    tiny_shards(monkeypatch, rows=1)
    use_fake(monkeypatch)
    first = replace(manifest, utterances=manifest.utterances[:4])
    spec = run(first, tmp_path, frames=True).spec
    before = content_by_id(tmp_path, spec)
    use_fake(monkeypatch, scale=1e6)
    with pytest.raises(StoreError, match=r"4 utterance.s. that are not in this manifest, such as"):
        run(replace(manifest, utterances=manifest.utterances[4:6]), tmp_path, frames=True)
    found = content_by_id(tmp_path, spec)
    assert {key: found[key] for key in before} == before
    assert verify(tmp_path).ok
    report = run(replace(manifest, utterances=manifest.utterances[:6]), tmp_path, frames=True)
    assert (report.spec.frames, report.num_new) == ("float32", 6)
