"""A store behind s3:// holds the same bytes as one in a folder, and everything works on it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr
from obstore.store import S3Store
from zarr.storage import ObjectStore

from ser_features.errors import DamageError, StoreError, UsageError
from ser_features.records import Source
from ser_features.store.catalog import find, list_feature_sets
from ser_features.store.export import export_hdf5
from ser_features.store.fetch import joined
from ser_features.store.place import address, open_root
from ser_features.store.reader import open_feature_set
from ser_features.store.repair import repair_metadata
from ser_features.store.schema import locate
from ser_features.store.verify import remove_strays, verify
from ser_features.store.writer import StoreWriter
from store_factory import content_of, fill, make_shards, make_spec, outputs_of

LENGTHS = (5, 3, 4, 2, 2, 17)


def local_content(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("frames", ["none", "float16"])
def test_the_same_bytes_as_in_a_folder(s3, tmp_path, frames):
    spec = make_spec(frames)
    fill(tmp_path, spec, LENGTHS, rejected={"u3"})
    fill(s3.root, spec, LENGTHS, rejected={"u3"})
    assert s3.content() == local_content(tmp_path)
    assert content_of(s3.root, spec) == content_of(tmp_path, spec)
    assert list_feature_sets(s3.root) == list_feature_sets(tmp_path)
    assert verify(s3.root) == verify(tmp_path)
    assert verify(s3.root).ok


def test_plain_zarr_reads_it_from_the_server(s3):
    spec = fill(s3.root, lengths=(5, 3, 4))
    found = open_feature_set(s3.root, spec)
    options = {"client_options": {"allow_http": True}}
    plain = ObjectStore(S3Store(s3.root.bucket, prefix=s3.root.key, **options), read_only=True)
    group = zarr.open_group(plain, path=f"features.zarr/{found.name}", mode="r")
    assert group["frames"].shape[1:] == (2, 3)
    assert np.array_equal(group["frames"][:5], found.frames("u0"))
    assert np.array_equal(group["pooled/mean"][0], found.pooled("mean", ["u0"])[0])
    assert bytes(group["id"][1]).rstrip(b"\0") == b"u1"


def test_it_grows_is_deleted_and_resumes(s3):
    spec = make_spec()
    shards = make_shards(spec, LENGTHS)
    with StoreWriter(s3.root, spec) as writer:
        writer.add_plan(shards[:1])
    with StoreWriter(s3.root, spec) as writer:
        writer.add_plan(shards[1:])
        for shard in writer.pending[:-1]:
            writer.write(shard, outputs_of(spec, shard))
    assert not open_feature_set(s3.root, spec).complete
    with StoreWriter(s3.root, spec) as writer:
        (shard,) = writer.pending
        writer.write(shard, outputs_of(spec, shard))
        writer.invalidate([0])
        writer.write(shards[0], outputs_of(spec, shards[0]))
    assert open_feature_set(s3.root, spec).complete
    assert verify(s3.root).ok
    with StoreWriter(s3.root, spec) as writer:
        writer.delete()
    assert list_feature_sets(s3.root) == []
    kept = set(s3.content())
    assert not [name for name in kept if "/c." in name or name.startswith("commits")]


def test_what_a_shard_no_longer_stores_is_removed(s3):
    """An utterance of several objects is rejected when its shard is written again."""
    spec = make_spec()
    (shard,) = make_shards(spec, (20,))
    with StoreWriter(s3.root, spec) as writer:
        writer.add_plan([shard])
        writer.write(shard, outputs_of(spec, shard))
        assert any("/c." in name for name in s3.content())
        writer.invalidate([0])
        writer.write(shard, outputs_of(spec, shard, present=set()))
    assert not any("/c." in name for name in s3.content())
    assert verify(s3.root).ok


def test_damage_is_found_named_and_mended(s3):
    spec = fill(s3.root, lengths=(5, 3, 4))
    sound, location = s3.content(), locate(s3.root, list_feature_sets(s3.root)[0].name)
    harmed = {
        "frames/c.0.0.0": lambda raw: raw[:-7],
        "pooled/mean/c.0.0.0": lambda raw: raw[:20] + b"~" + raw[21:],
        "frames/zarr.json": lambda raw: raw + b" ",
    }
    for name, harm in harmed.items():
        (location.group / name).put(harm((location.group / name).read_bytes()))
    (location.group / "id/c.1.0").unlink()
    location.metadata.unlink()
    kinds = {item.object: item.kind for item in verify(s3.root).damage}
    assert sorted(kinds.values()) == ["changed", "missing", "missing", "truncated"]
    report = repair_metadata(s3.root)
    assert not report.lost
    assert {item.shard.index for item in report.shards} == {0, 1}
    with pytest.raises(DamageError, match=r"pooled/mean/c\.0\.0\.0 is damaged"):
        open_feature_set(s3.root, spec).pooled("mean")
    with pytest.raises(DamageError, match="damaged"):
        open_feature_set(s3.root, spec).frames("u0")
    with StoreWriter(s3.root, spec) as writer:
        for item in report.shards:
            writer.invalidate([item.shard.index])
            writer.write(item.shard, outputs_of(spec, item.shard))
    assert s3.content() == sound


def test_strays_are_listed_and_removed(s3):
    fill(s3.root)
    group = locate(s3.root, list_feature_sets(s3.root)[0].name).group
    (group / "frames" / "c.99.0.0").put(b"left behind")
    (group / "notes.txt").put("not ours")
    assert {stray.kind for stray in verify(s3.root).strays} == {"uncommitted", "unknown"}
    assert len(remove_strays(s3.root)) == 1
    assert {stray.kind for stray in verify(s3.root).strays} == {"unknown"}


def test_large_objects_are_read_by_parts(s3, monkeypatch):
    monkeypatch.setattr("ser_features.store.fetch.WHOLE", 0)
    monkeypatch.setattr("ser_features.store.fetch.GAP", 0)
    monkeypatch.setattr("ser_features.store.fetch.PIECE", 4000)
    spec = fill(s3.root, make_spec(capacity=512, num_layers=4, dim=8), lengths=(300, 200))
    found = open_feature_set(s3.root, spec)
    whole = found.frames("u1")
    s3.faults.requests.clear()
    assert np.array_equal(found.frames("u1", [2]), whole[:, [2]])
    ranges = [asked for _, path, asked in s3.faults.requests if "/frames/c." in path]
    assert ranges[0] == "bytes=-132"
    assert len(ranges) == 1 + 1  # the index, and the one chunk that holds it
    assert len(joined([(0, 3000), (3000, 5000), (5000, 6000)])) == 2


def test_export_and_find(s3, tmp_path):
    spec = fill(s3.root)
    assert find(s3.root, spec.corpus, spec.upstream, "clean", spec.key, frames=True)
    export_hdf5(open_feature_set(s3.root, spec), tmp_path / "x.h5")
    assert (tmp_path / "x.h5").stat().st_size > 1000


def test_where_there_is_nothing(s3):
    nowhere = open_root(f"s3://{s3.root.bucket}/other")
    with pytest.raises(StoreError, match=r"no feature store at s3://bucket-\d+/other"):
        list_feature_sets(nowhere)
    with pytest.raises(StoreError, match=r"there is no bucket 'no-such-bucket'"):
        list_feature_sets(open_root("s3://no-such-bucket/features"))
    with (
        pytest.raises(StoreError, match=r"there is no bucket 'no-such-bucket'"),
        StoreWriter(open_root("s3://no-such-bucket/features"), make_spec()),
    ):
        pass
    fill(s3.root)
    with pytest.raises(StoreError, match="feature set"):
        open_feature_set(s3.root, "emodb/tiny/none-000000000000")


@pytest.mark.parametrize(
    "text",
    [
        "s3://key:hidden-thing@bucket/x",
        "s3://hidden-thing@bucket/x",
        "s3://bucket/x?token=hidden-thing",
        "s3://bucket/x#hidden-thing",
        "s3://bucket:9000/x",
        "s3://",
        "s3:///x",
        "s3://UPPER/x",
        "s3://[hidden-thing/x",
        "s3://bucket/../other",
        "gs://bucket/x",
        "https://host/bucket?sig=hidden-thing",
    ],
)
def test_an_address_is_a_bucket_and_a_folder_only(text):
    with pytest.raises(UsageError) as caught:
        open_root(text)
    assert "hidden-thing" not in str(caught.value)
    assert "s3://BUCKET/FOLDER" in str(caught.value)


def test_paths_behave_like_paths(s3):
    root = s3.root
    assert str(root) == f"s3://{root.bucket}/team/features"
    assert address(root) == str(root) == str(open_root(f"{root}/"))
    assert pickle.loads(pickle.dumps(root)) == root
    assert b"planted" not in pickle.dumps(root)
    assert (root / "a/b").parent.name == "a"
    assert (root / "a" / "b").relative_to(root).as_posix() == "a/b"
    assert not (root / "ab").is_relative_to(root / "a")
    assert sorted([root / "b", root / "a"]) == [root / "a", root / "b"]
    assert not root.exists()
    (root / "x/y.json").put("{}")
    assert root.is_dir()
    assert [path.name for path in root.iterdir()] == ["x"]
    assert [path.name for path in root.glob("*/y*.json")] == ["y.json"]
    assert not (root / "x/y").exists()  # a part of a name is no folder


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("ser_features.store.remote.find_spec", lambda name: None)
    with pytest.raises(StoreError, match=r"pip install 'serfeat\[s3\]'"):
        open_root("s3://bucket/x")


def test_sources_are_the_same(s3):
    spec = fill(s3.root)
    assert all(isinstance(one, Source) for one in open_feature_set(s3.root, spec).sources.values())
