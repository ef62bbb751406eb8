"""One writer, whole shards, crashes at any moment, and what the writer refuses."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from ser_features.errors import DamageError, StoreError
from ser_features.files import read_sealed, write_sealed
from ser_features.records import Shard
from ser_features.store.catalog import list_feature_sets
from ser_features.store.reader import open_feature_set
from ser_features.store.schema import locate, safe_part
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter
from store_factory import (
    content_of,
    fill,
    make_shards,
    make_spec,
    outputs_of,
    source_of,
)


def odd(**change):
    return structs.replace(source_of("u1"), **change)


def test_resuming_keeps_what_is_stored(tmp_path):
    spec = fill(tmp_path, only={1})
    other = replace(spec, rows=9, capacity=16, provenance={"date": "later"})
    with StoreWriter(tmp_path, other) as writer:
        assert writer.spec == spec
        assert writer.committed == {1}
        assert [shard.index for shard in writer.pending] == [0, 2]


def test_a_plan_that_could_not_be_read_again_is_not_written(tmp_path, monkeypatch):
    spec = make_spec()
    monkeypatch.setattr("ser_features.store.place.MOST_BYTES", 100)
    with (
        StoreWriter(tmp_path, spec) as writer,
        pytest.raises(StoreError, match=r"plan-0000\.json would take .* a manifest of some"),
    ):
        writer.add_plan(make_shards(spec, [3]))
    assert verify(tmp_path).ok


def test_abandoned_shards_are_settled(tmp_path):
    spec = fill(tmp_path, only={1})
    with StoreWriter(tmp_path, spec) as writer:
        writer.abandon([0, 2])
        assert not writer.pending
        with pytest.raises(StoreError, match="already written"):
            writer.abandon([0])
        with pytest.raises(StoreError, match="has no shard 7"):
            writer.abandon([7])
    found = open_feature_set(tmp_path, spec)
    assert found.complete
    assert found.ids == ("u2", "u3", "u4")
    assert verify(tmp_path).ok


def test_invalidated_shards_are_written_again(tmp_path):
    spec = fill(tmp_path)
    before = content_of(tmp_path, spec)
    with StoreWriter(tmp_path, spec) as writer:
        writer.invalidate([1])
        assert open_feature_set(tmp_path, spec).ids == ("u0", "u1", "u5")
        assert [stray.kind for stray in verify(tmp_path).strays] == []  # locked: not judged
        (shard,) = writer.pending
        writer.write(shard, outputs_of(spec, shard, present={"u2"}))
    assert open_feature_set(tmp_path, spec).ids == ("u0", "u1", "u2", "u5")
    with StoreWriter(tmp_path, spec) as writer:
        writer.invalidate([1])
    assert {stray.kind for stray in verify(tmp_path).strays} == {"uncommitted"}
    with StoreWriter(tmp_path, spec) as writer:
        writer.write(shard, outputs_of(spec, shard))
    assert content_of(tmp_path, spec) == before
    assert not verify(tmp_path).strays


def test_a_shard_without_any_good_utterance(tmp_path):
    spec = fill(tmp_path, rejected={"u2", "u3", "u4"})
    found = open_feature_set(tmp_path, spec)
    assert found.ids == ("u0", "u1", "u5")
    assert found.complete
    assert verify(tmp_path).ok


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mean": np.zeros((1, 2, 3), np.float32)}, r"pooled mean: shape \(1, 2, 3\), expected"),
        ({"std": np.full((2, 2, 3), np.nan, np.float32)}, "pooled std: values that float32"),
        ({"frames": np.full((8, 2, 3), 65520, np.float32)}, "frames: values that float16 cannot"),
        ({"frames": np.zeros((7, 2, 3), np.float16)}, r"frames: shape \(7, 2, 3\), expected"),
        ({"frames": None}, "the feature set keeps frames 'float16'"),
        ({"sources": (source_of("u1"), source_of("u0"))}, "not those planned, in their order"),
        ({"sources": (source_of("u0"), source_of("x"))}, "not those planned, in their order"),
        (
            {"sources": (source_of("u0"), odd(audio_sha256="ab"))},
            "64 hex",
        ),
        (
            {"sources": (source_of("u0"), odd(path="\udcff"))},
            "not valid Unic",
        ),
    ],
)
def test_outputs_that_do_not_fit_are_refused(tmp_path, change, told):
    spec = make_spec()
    (shard,) = make_shards(spec, (5, 3))
    with StoreWriter(tmp_path, spec) as writer:
        writer.add_plan([shard])
        with pytest.raises(StoreError, match=told):
            writer.write(shard, replace(outputs_of(spec, shard), **change))
        assert not writer.committed
    assert verify(tmp_path).ok


@pytest.mark.parametrize(
    ("shard", "told"),
    [
        (
            Shard(1, ("a",), (1,), 0),
            "at frame 0 does not follow the plan; expected shard 0",
        ),
        (Shard(0, ("a",), (1,), 3), "starts at frame 3; expected a multiple of 8"),
        (Shard(0, (), (), 0), "has 0 utterances"),
        (Shard(0, tuple("abcde"), (1,) * 5, 0), "has 5 utterances and 5 frame counts; .* 1 to 4"),
        (Shard(0, ("a",), (1, 2), 0), "has 1 utterances and 2 frame counts"),
        (Shard(0, ("a",), (0,), 0), "an utterance without frames"),
        (Shard(0, ("a", "a"), (1, 1), 0), "'a' is planned twice"),
        (Shard(0, ("",), (1,), 0), "takes 0 bytes; expected 1 to 256 bytes"),
        (Shard(0, ("ü" * 129,), (1,), 0), "takes 258 bytes; expected 1 to 256 bytes"),
        (Shard(0, ("a\0",), (1,), 0), "without NUL"),
        (Shard(0, ("\udcff",), (1,), 0), "is not valid Unicode"),
    ],
)
def test_plans_that_cannot_be_stored_are_refused(tmp_path, shard, told):
    with StoreWriter(tmp_path, make_spec()) as writer:
        with pytest.raises(StoreError, match=told):
            writer.add_plan([shard])
        assert not writer.shards


def test_shards_outside_the_plan_are_refused(tmp_path):
    spec = fill(tmp_path)
    (shard, *_) = make_shards(spec, (5, 3))
    with StoreWriter(tmp_path, spec) as writer:
        with pytest.raises(StoreError, match=r"shard 0 of .* is already written"):
            writer.write(shard, outputs_of(spec, shard))
        with pytest.raises(StoreError, match="shard 0 is not in the plan"):
            writer.write(replace(shard, num_frames=(5, 2)), outputs_of(spec, shard))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("where", ["replace", "unlink"])
def test_a_disk_that_refuses_is_a_store_error(tmp_path, monkeypatch, code, where):
    spec = fill(tmp_path, only={0})

    def refuse(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    with StoreWriter(tmp_path, spec) as writer:
        shard = writer.pending[0]
        with monkeypatch.context() as patch:
            patch.setattr(Path, where, refuse)
            with pytest.raises(StoreError, match=f"cannot write .*: {os.strerror(code)}"):
                writer.write(shard, outputs_of(spec, shard))
        writer.write(shard, outputs_of(spec, shard))
    assert verify(tmp_path).ok


def test_a_full_disk_is_a_store_error(tmp_path):
    """RLIMIT_FSIZE refuses large files as a full disk does, to zarrs' own writes too."""
    code = f"""
import resource, sys, pathlib
sys.path[:0] = {[str(Path(__file__).resolve().parents[1]), str(Path.cwd())]!r}
from store_factory import *
from ser_features.errors import StoreError
spec = make_spec("float32", rows=1, capacity=4096, dim=64)
(shard,) = make_shards(spec, [4096])
with StoreWriter(pathlib.Path({str(tmp_path)!r}), spec) as writer:
    writer.add_plan([shard])
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        writer.write(shard, outputs_of(spec, shard))
    except StoreError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert not writer.committed
    writer.write(shard, outputs_of(spec, shard))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cannot write" in done.stdout
    assert "File too large" in done.stdout
    assert verify(tmp_path).ok
    assert not verify(tmp_path).strays


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreError, match="cannot write"),
        StoreWriter(tmp_path / "file" / "store", make_spec()),
    ):
        pass


def test_a_folder_that_vanishes(tmp_path):
    import shutil

    spec = fill(tmp_path / "store", only={0})
    with StoreWriter(tmp_path / "store", spec) as writer:
        shutil.rmtree(tmp_path / "store")
        with pytest.raises(StoreError, match="was removed or replaced"):
            writer.write(writer.pending[0], outputs_of(spec, writer.pending[0]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_store_is_read_but_not_written(tmp_path):
    spec = fill(tmp_path, only={0})
    folders = [path for path in (tmp_path, *tmp_path.rglob("*")) if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    try:
        assert len(open_feature_set(tmp_path, spec).ids) == 2
        with pytest.raises(StoreError, match="cannot write"), StoreWriter(tmp_path, spec) as writer:
            writer.write(writer.pending[0], outputs_of(spec, writer.pending[0]))
    finally:
        for path in folders:
            path.chmod(0o755)


def test_newer_and_foreign_stores(tmp_path):
    spec = fill(tmp_path / "store")
    write_sealed(tmp_path / "store" / "serfeat.json", {"schema": 2})
    calls = [
        lambda: list_feature_sets(tmp_path / "store"),
        lambda: open_feature_set(tmp_path / "store", spec),
        lambda: verify(tmp_path / "store"),
        lambda: StoreWriter(tmp_path / "store", spec).__enter__(),
    ]
    for call in calls:
        with pytest.raises(StoreError, match=r"store schema 2, .* reads up to 1: upgrade serfeat"):
            call()
    for call in (list_feature_sets, verify):
        with pytest.raises(StoreError, match=r"no feature store at .*nowhere"):
            call(tmp_path / "nowhere")


def test_a_newer_feature_set_says_so(tmp_path):
    spec = fill(tmp_path)
    path = locate(tmp_path, list_feature_sets(tmp_path)[0].name).metadata
    write_sealed(path, {**read_sealed(path), "schema": 2})
    assert "upgrade serfeat" in str(list_feature_sets(tmp_path)[0].problem)
    with pytest.raises(StoreError, match="upgrade serfeat"):
        open_feature_set(tmp_path, spec)


@pytest.mark.parametrize(
    "name",
    ["../x", "..", ".", "a/b", "/etc/passwd", "zarr.json", "a\nb", "ü", "", "x" * 300],
)
def test_names_stay_inside_the_store(tmp_path, name):
    assert "/" not in safe_part(name)
    if not name:
        with pytest.raises(StoreError, match="must be names"):
            StoreWriter(tmp_path, make_spec(corpus=name))
        return
    store = tmp_path / "store"
    spec = fill(store, make_spec(corpus=name, upstream=name, augmentation=name))
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert open_feature_set(store, spec).spec == spec
    assert open_feature_set(store, list_feature_sets(store)[0].name).spec == spec


def test_safe_names_do_not_collide():
    names = ["a/b", "a-b", "a:b", "a b", "A-b", "..a-b", "a-b.", *"abc"]
    assert len({safe_part(name) for name in names}) == len(names)
    assert safe_part("hubert-base") == "hubert-base"


@pytest.mark.parametrize("name", ["../../x/y/z", "a/../b", "a/b", "a/b/c/d", "a/b/.c", "", "//"])
def test_paths_from_users_stay_inside_the_store(tmp_path, name):
    fill(tmp_path)
    with pytest.raises(StoreError, match="is not the name of a feature set"):
        open_feature_set(tmp_path, name)


def test_links_out_of_the_store_are_not_followed(tmp_path):
    spec = fill(tmp_path / "store", only={0})
    outside = tmp_path / "outside"
    mean = tmp_path / "store" / "features.zarr" / list_feature_sets(tmp_path / "store")[0].name
    (mean / "pooled" / "mean").rename(outside)
    (mean / "pooled" / "mean").symlink_to(outside)
    before = sorted(path.name for path in outside.iterdir())
    with pytest.raises(StoreError, match="leads outside the store"):
        open_feature_set(tmp_path / "store", spec).pooled("mean")
    with pytest.raises(StoreError, match="leads outside the store"):
        fill_rest(tmp_path / "store", spec)
    assert sorted(path.name for path in outside.iterdir()) == before
    (tmp_path / "store" / "commits" / "linked").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="leads outside the store"):
        open_feature_set(tmp_path / "store", "linked/a/b")


def fill_rest(store, spec):
    with StoreWriter(store, spec) as writer:
        for shard in writer.pending:
            writer.write(shard, outputs_of(spec, shard))


def test_a_set_under_the_wrong_name_is_damage(tmp_path):
    fill(tmp_path)
    name = list_feature_sets(tmp_path)[0].name
    (tmp_path / "commits" / "emodb").rename(tmp_path / "commits" / "other")
    (tmp_path / "features.zarr" / "emodb").rename(tmp_path / "features.zarr" / "other")
    with pytest.raises(DamageError, match="it was moved or renamed"):
        open_feature_set(tmp_path, name.replace("emodb", "other"))
