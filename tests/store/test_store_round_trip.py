"""What is written is read back, by us and by any Zarr or HDF5 reader."""

import json
import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ser_features.errors import StoreError
from ser_features.store.catalog import find, list_feature_sets
from ser_features.store.export import export_hdf5
from ser_features.store.outputs import fits_float16
from ser_features.store.reader import open_feature_set
from ser_features.store.summary import summarize
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter
from store_factory import (
    content_of,
    fill,
    frames_of,
    make_shards,
    make_spec,
    outputs_of,
    pooled_of,
    source_of,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.integers(1, 21), min_size=1, max_size=12),
    dtype=st.sampled_from(["none", "float16", "float32"]),
    rows=st.integers(1, 5),
    rejected=st.sets(st.integers(0, 11)),
)
def test_every_utterance_comes_back_exactly(tmp_path_factory, lengths, dtype, rows, rejected):
    store = tmp_path_factory.mktemp("store")
    spec = make_spec(dtype, rows=rows, capacity=8)  # up to three objects for one utterance
    absent = {f"u{i}" for i in rejected}
    fill(store, spec, lengths, absent)
    found = open_feature_set(store, found_name := list_feature_sets(store)[0].name)
    expected = [f"u{i}" for i in range(len(lengths)) if f"u{i}" not in absent]
    assert sorted(found.ids) == sorted(expected)
    assert found.complete
    assert found.name == found_name
    assert dict(zip(found.ids, found.num_frames, strict=True)) == {
        key: lengths[int(key[1:])] for key in expected
    }
    for kind in ("mean", "std", "mean_layernorm"):
        for key, row in zip(found.ids, found.pooled(kind), strict=True):
            np.testing.assert_array_equal(row, pooled_of(spec, kind, key))
    if dtype != "none":
        for key in found.ids:
            np.testing.assert_array_equal(
                found.frames(key), frames_of(spec, key, lengths[int(key[1:])])
            )
    report = verify(store)
    assert report.ok
    assert not report.strays


def test_order_and_layers_are_those_asked(tmp_path):
    spec = fill(tmp_path)
    found = open_feature_set(tmp_path, spec)
    ids = ["u4", "u0", "u2", "u0"]
    everything = dict(zip(found.ids, found.pooled("mean"), strict=True))
    chosen = found.pooled("mean", ids, layers=[-1, 0])
    np.testing.assert_array_equal(chosen, [everything[key][[1, 0]] for key in ids])
    np.testing.assert_array_equal(found.frames("u0", [1]), found.frames("u0")[:, [1]])
    assert found.pooled("std", []).shape == (0, 2, 3)


def test_unknown_names_are_errors(tmp_path):
    found = open_feature_set(tmp_path, fill(tmp_path, make_spec("none")))
    with pytest.raises(StoreError, match=r"holds no utterance 'u9' \(6 are there, 3 of 3 shards\)"):
        found.pooled("mean", ["u0", "u9"])
    with pytest.raises(StoreError, match="did you mean 'mean'"):
        found.pooled("men")
    with pytest.raises(StoreError, match="it has layers 0 to 1"):
        found.pooled("mean", layers=[2])
    with pytest.raises(StoreError, match="serfeat extract --frames"):
        found.frames("u0")
    with pytest.raises(StoreError, match="unknown feature set 'emodb/tiny/clean-0'; did you mean"):
        open_feature_set(tmp_path, "emodb/tiny/clean-0")


def test_shards_stream_without_gaps(tmp_path):
    spec = fill(tmp_path, lengths=(3, 2, 3, 21, 4, 4), rejected={"u1"})
    found = open_feature_set(tmp_path, spec)
    for layers in (None, [1]):
        shards = list(found.iter_shards(layers))
        assert [key for shard in shards for key in shard.ids] == list(found.ids)
        for shard in shards:
            rows = [found.frames(key, layers) for key in shard.ids]
            np.testing.assert_array_equal(shard.frames, np.concatenate(rows))
            assert shard.num_frames == tuple(len(row) for row in rows)


def test_a_later_generation_replaces_an_utterance(tmp_path):
    spec = fill(tmp_path)
    with StoreWriter(tmp_path, spec) as writer:
        (again,) = make_shards(spec, [4], index=3, frame=24, prefix="u")
        writer.add_plan([again])
        before = open_feature_set(tmp_path, spec)
        writer.write(again, outputs_of(spec, again, salt="new"))
        assert writer.sources["u0"] == source_of("u0", "new")
    after = open_feature_set(tmp_path, spec)
    assert (before.planned_shards, before.committed_shards, before.complete) == (4, 3, False)
    np.testing.assert_array_equal(after.frames("u0"), frames_of(spec, "u0new", 4))
    np.testing.assert_array_equal(before.frames("u0"), frames_of(spec, "u0", 5))
    assert sorted(after.ids) == sorted(before.ids)
    assert [k for s in after.iter_shards() for k in s.ids] == list(after.ids)
    assert after.sources["u0"].audio_sha256 != before.sources["u0"].audio_sha256
    counted = summarize(tmp_path, after.name)
    assert (counted.utterances, counted.num_bytes) == (len(after.ids), after.num_bytes)
    assert counted.total_frames == after.num_frames.sum()


def check_arrays(read, spec, lengths):
    """``read(name)`` gives a whole array as a plain Zarr reader sees it."""
    ids = [bytes(row).rstrip(b"\0").decode() for row in read("id")]
    assert sorted(filter(None, ids)) == [f"u{i}" for i in range(len(lengths)) if i != 1]
    for row, key in enumerate(ids):
        if not key:
            assert np.isnan(read("pooled/mean")[row]).all()
            assert read("num_frames")[row] == 0
            continue
        count, start = read("num_frames")[row], read("offset")[row]
        np.testing.assert_array_equal(
            read("frames")[start : start + count], frames_of(spec, key, count)
        )
        np.testing.assert_array_equal(read("pooled/std")[row], pooled_of(spec, "std", key))
        assert bytes(read("audio_sha256")[row]).hex() == source_of(key).audio_sha256


LENGTHS = (3, 2, 3, 21, 4, 4)


@pytest.mark.parametrize("codecs", ["zarr", "zarrs"])
def test_plain_zarr_reads_it(tmp_path, codecs):
    pipelines = {"zarr": {}, "zarrs": {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}}
    with zarr.config.set(pipelines[codecs]):
        check_with_zarr(tmp_path)


def check_with_zarr(tmp_path):
    spec = fill(tmp_path, lengths=LENGTHS, rejected={"u1"})
    root = zarr.open_group(str(tmp_path / "features.zarr"), mode="r")
    group = root[list_feature_sets(tmp_path)[0].name]
    check_arrays(lambda name: group[name][:], spec, LENGTHS)
    assert group.attrs["spec"]["key"] == spec.key
    assert group.attrs["spec"]["provenance"] == dict(spec.provenance)
    assert dict(root.groups()).keys() == {"emodb"}


def test_tensorstore_reads_it(tmp_path):
    tensorstore = pytest.importorskip("tensorstore", reason="tensorstore is not installed")
    spec = fill(tmp_path, lengths=LENGTHS, rejected={"u1"})
    group = tmp_path / "features.zarr" / list_feature_sets(tmp_path)[0].name

    def read(name):
        kvstore = {"driver": "file", "path": str(group / name)}
        return tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result().read().result()

    check_arrays(read, spec, LENGTHS)


@pytest.mark.parametrize("dtype", ["none", "float16"])
def test_hdf5_export(tmp_path, dtype):
    spec = fill(tmp_path / "store", make_spec(dtype), LENGTHS, rejected={"u1"})
    found = open_feature_set(tmp_path / "store", spec)
    export_hdf5(found, tmp_path / "out" / "one.h5")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one.h5"]
    with h5py.File(tmp_path / "out" / "one.h5") as file:
        assert tuple(key.decode() for key in file["ids"][:]) == found.ids
        for kind in ("mean", "std", "mean_layernorm"):
            np.testing.assert_array_equal(file[f"pooled/{kind}"][:], found.pooled(kind))
        assert json.loads(file.attrs["provenance"]) == dict(spec.provenance)
        assert ("frames" in file) == (dtype != "none")
        for i, key in enumerate(found.ids if dtype != "none" else ()):
            start, count = file["offset"][i], file["num_frames"][i]
            np.testing.assert_array_equal(file["frames"][start : start + count], found.frames(key))


def test_hdf5_export_survives_a_power_cut(tmp_path, monkeypatch):
    """What has its name has its content: flushed before, and the name after."""
    spec, events = fill(tmp_path / "store"), []
    found, real = open_feature_set(tmp_path / "store", spec), Path.replace

    def fsync(handle):
        events.append(Path(f"/proc/self/fd/{handle}").readlink().name)

    def moved(path, target):
        events.append("moved")
        return real(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", moved)
    export_hdf5(found, tmp_path / "out" / "one.h5")
    written, *rest = events
    assert written.startswith(".one.h5.")
    assert rest == ["moved", "out"]


def test_hdf5_export_of_an_empty_set(tmp_path):
    spec = fill(tmp_path / "store", only=())
    export_hdf5(open_feature_set(tmp_path / "store", spec), tmp_path / "one.h5")
    with h5py.File(tmp_path / "one.h5") as file:
        assert file["pooled/mean"].shape == (0, 2, 3)
        assert not file.attrs["complete"]


def test_hdf5_export_that_fails_leaves_nothing(tmp_path):
    spec = fill(tmp_path / "store")
    found = open_feature_set(tmp_path / "store", spec)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write"):
        export_hdf5(found, tmp_path / "file" / "one.h5")


def test_listing_and_finding(tmp_path):
    pooled = fill(tmp_path, make_spec("none"), only={0})
    framed = fill(tmp_path, make_spec("float16"))
    first, second = list_feature_sets(tmp_path)
    assert (first.planned_shards, first.committed_shards, first.complete) == (3, 1, False)
    assert (second.planned_utterances, second.complete) == (6, True)
    names = pooled.corpus, pooled.upstream, pooled.augmentation, pooled.key
    assert pooled.key == framed.key
    assert find(tmp_path, *names, frames=True) == second
    assert find(tmp_path, *names, frames=False) == second
    assert find(tmp_path, *names[:3], "0" * 64, frames=False) is None
    assert find(tmp_path / "nowhere", *names, frames=False) is None
    fill(tmp_path / "other", make_spec("none"))
    found = find(tmp_path / "other", *names, frames=False)
    assert found is not None
    assert found.spec == pooled
    assert find(tmp_path / "other", *names, frames=True) is None


def test_content_does_not_depend_on_the_write_order(tmp_path):
    spec = fill(tmp_path / "a")
    with StoreWriter(tmp_path / "b", spec) as writer:
        writer.add_plan(make_shards(spec, (5, 3, 4, 2, 2, 7)))
        for shard in reversed(writer.pending):
            writer.write(shard, outputs_of(spec, shard))
    assert content_of(tmp_path / "a", spec) == content_of(tmp_path / "b", spec)


def test_float16_range():
    assert fits_float16(np.array([65519.0, -65519.0], np.float32))
    assert not fits_float16(np.array([0.0, -65520.0], np.float32))
    assert not fits_float16(np.array([0.0, np.nan, 1.0], np.float32))
    assert not fits_float16(np.array([np.inf], np.float32))
    assert fits_float16(np.empty((0, 3), np.float32))


def test_listing_needs_no_zarr(tmp_path):
    import subprocess

    fill(tmp_path)
    code = (
        "import sys, pathlib; from ser_features.store.catalog import list_feature_sets;"
        "import ser_features.store.reader, ser_features.store.writer, ser_features.store.repair;"
        "print(len(list_feature_sets(pathlib.Path(sys.argv[1]))),"
        "[m for m in ('zarr', 'zarrs', 'h5py', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 []\n"
