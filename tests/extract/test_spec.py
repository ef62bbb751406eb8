"""What names a feature set: its content, never where it came from."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fake_upstream import FakeUpstream, make_corpus, run, use_fake
from ser_features.extract.spec import (
    AUDIO,
    feature_key,
    feature_spec,
    new_spec,
    rejects_report,
)
from ser_features.fingerprint import canonical_json, fingerprint
from ser_features.manifest import Manifest
from ser_features.store.catalog import list_feature_sets
from ser_features.store.reader import open_feature_set
from ser_features.store.schema import check_spec, name_of
from ser_features.store.verify import verify
from ser_features.upstreams.load import load_upstream

LENGTHS = (900, 160, 2400, 2400, 5000)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_corpus(tmp_path / "corpus", LENGTHS)


def test_the_key_is_that_of_identity_audio_rules_and_augmentation():
    identity = {"family": "fake", "seed": 0, "precision": "float32"}
    audio = {
        "channels": "mean",
        "resampler": "soxr-hq",
        "dtype": "float32",
        "augmentation": "clean",
    }
    assert feature_key(identity) == fingerprint({"schema": 1, "upstream": identity, "audio": audio})
    keys = {feature_key({**identity, name: "other"}) for name in identity}
    assert len(keys | {feature_key(identity)}) == 4


def test_the_key_does_not_depend_on_names_paths_or_the_corpus(tmp_path):
    a = new_spec("a", FakeUpstream("one"), "one=/x", "none")
    b = new_spec("b", FakeUpstream("two"), "two=/y", "none")
    assert a.key == b.key
    assert name_of(a) != name_of(b)


def test_shapes_of_pooled_and_frame_sets_are_valid():
    upstream = FakeUpstream(dim=768)
    pooled, half, full = (new_spec("a", upstream, "u", kind) for kind in
                          ("none", "float16", "float32"))  # fmt: skip
    for spec in (pooled, half, full):
        check_spec(spec)
        assert (spec.num_layers, spec.dim) == (3, 768)
    assert (pooled.rows, half.rows, full.rows) == (64, 32, 32)
    assert half.capacity == 14_336  # 64 MiB of 3 x 768 halves in whole chunks of 256 frames
    assert full.capacity == 7_168
    assert len({name_of(spec) for spec in (pooled, half, full)}) == 3


def test_provenance_says_how_it_was_made_and_is_plain_json():
    found = new_spec("a", FakeUpstream(seed=3), "fake@random:3", "none").provenance
    assert json.loads(canonical_json(found)) == found
    assert found["request"] == "fake@random:3"
    assert found["identity"] == {"family": "fake", "seed": 3, "precision": "float32"}
    assert (found["audio"], found["sample_rate"]) == (AUDIO, 8000)
    assert {"torch", "numpy"} <= set(found["versions"])


def test_a_store_that_is_not_there_gives_a_new_set(tmp_path):
    upstream = FakeUpstream()
    assert feature_spec("a", upstream, "fake", tmp_path / "none", False).frames == "none"
    assert feature_spec("a", upstream, "fake", tmp_path / "none", True).frames == "float16"
    assert not (tmp_path / "none").exists()


def test_the_report_of_rejects_lies_inside_the_store_whatever_the_names(tmp_path):
    spec = replace(
        new_spec("a", FakeUpstream(), "u", "none"), corpus="../x", upstream="o/n@random:1"
    )
    path = rejects_report(tmp_path, spec)
    assert path.resolve().is_relative_to((tmp_path / "rejects").resolve())
    assert path.name.endswith(f"--clean-{spec.key[:12]}.csv")
    assert rejects_report(tmp_path, replace(spec, corpus="x")) != path


def test_the_store_moves_with_its_corpus(tmp_path, monkeypatch, manifest):
    """Nothing in a key is a path: both folders somewhere else are still the same content."""
    use_fake(monkeypatch)
    report = run(manifest, tmp_path / "store")
    shutil.copytree(tmp_path / "corpus", tmp_path / "new" / "corpus")
    shutil.move(tmp_path / "store", tmp_path / "new" / "store")
    moved = make_corpus(tmp_path / "new" / "corpus", LENGTHS)
    again = run(moved, tmp_path / "new" / "store")
    assert (again.num_new, again.num_present) == (0, len(LENGTHS))
    assert again.spec == report.spec


@pytest.mark.parametrize("name", ["whisper-tiny.en-encoder"])
def test_a_real_checkpoint_has_one_key_wherever_it_lies(tmp_path, shared, name):
    folder = shared / "weights" / name
    (tmp_path / "copy").symlink_to(folder)
    there = load_upstream(f"whisper-tiny.en={folder}")
    copy = load_upstream(f"{tmp_path}/copy")
    assert feature_key(there.info.identity) == feature_key(copy.info.identity)
    half = load_upstream(f"whisper-tiny.en={folder}", precision="bfloat16")
    assert feature_key(half.info.identity) != feature_key(there.info.identity)
    for text in (str(folder), str(tmp_path), "whisper-tiny.en"):
        assert text not in canonical_json(dict(copy.info.identity))


def test_a_pooled_request_is_served_by_a_set_with_frames(tmp_path, monkeypatch, manifest):
    loader, store = use_fake(monkeypatch), tmp_path / "store"
    spec = run(manifest, store, frames=True).spec
    report = run(manifest, store)
    assert (report.spec, report.num_new) == (spec, 0)
    assert loader.made[-1].batches == []
    assert len(list_feature_sets(store)) == 1


def test_frames_asked_later_are_a_set_of_their_own(tmp_path, monkeypatch, manifest):
    use_fake(monkeypatch)
    pooled = run(manifest, tmp_path).spec
    framed = run(manifest, tmp_path, frames=True).spec
    assert (pooled.frames, framed.frames, pooled.key) == ("none", "float16", framed.key)
    a, b = (open_feature_set(tmp_path, spec) for spec in (pooled, framed))
    np.testing.assert_allclose(a.pooled("mean", b.ids), b.pooled("mean"), atol=5e-6)


def test_other_weights_or_precision_live_side_by_side(tmp_path, monkeypatch, manifest):
    use_fake(monkeypatch)
    runs = [("fake", "float32"), ("fake@random:1", "float32"), ("fake", "bfloat16")]
    specs = [run(manifest, tmp_path, name, precision=precision).spec for name, precision in runs]
    assert len({spec.key for spec in specs}) == 3
    means = [open_feature_set(tmp_path, spec).pooled("mean").tobytes() for spec in specs]
    assert means[0] == means[2] != means[1]  # the fake's precision is a name only
    assert all(info.complete for info in list_feature_sets(tmp_path))
    assert verify(tmp_path).ok
    again = run(manifest, tmp_path, "fake@random:1")
    assert (again.num_new, again.spec.key) == (0, specs[1].key)
