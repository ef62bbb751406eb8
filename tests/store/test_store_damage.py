"""Every flipped bit, lost file and truncation is found, named, and mended where it can be."""

import random
from pathlib import Path

import numpy as np
import pytest

from ser_features.errors import DamageError, SerfeatError, StoreError
from ser_features.files import read_sealed, write_sealed
from ser_features.records import Source
from ser_features.store.catalog import list_feature_sets
from ser_features.store.reader import open_feature_set
from ser_features.store.repair import repair_metadata
from ser_features.store.schema import locate
from ser_features.store.verify import remove_strays, verify
from ser_features.store.writer import StoreWriter
from store_factory import (
    content_of,
    fill,
    make_shards,
    make_spec,
    outputs_of,
    source_of,
)


def two_generations(store: Path):
    """A set of four shards in two generations, one utterance rejected, one of three objects."""
    spec = fill(store, lengths=(5, 3, 4, 2, 2, 17), rejected={"u3"})
    with StoreWriter(store, spec) as writer:
        first = writer.shards[-1]
        more = make_shards(spec, (4, 4), first.index + 1, first.first_frame + 24, prefix="v")
        writer.add_plan(more, [source_of(key) for shard in more for key in shard.ids])
        for shard in writer.pending:
            writer.write(shard, outputs_of(spec, shard))
    return spec


def location_of(store: Path):
    return locate(store, list_feature_sets(store)[0].name)


def files_of(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if path.is_file() and path.name != "lock")


def extract_again(store: Path, report) -> None:
    """What extraction does with a repair report."""
    for item in report.shards:
        assert [source.path for source in item.sources] == [
            f"/audio/{source.id}.wav" for source in item.sources
        ]
        with StoreWriter(store, item.spec) as writer:
            writer.invalidate([item.shard.index])
            present = {source.id for source in item.sources} - {"u3"}
            writer.write(item.shard, outputs_of(item.spec, item.shard, present))


def test_every_flipped_bit_is_found_and_reads_never_lie(tmp_path):
    spec = fill(tmp_path, lengths=(5, 3, 4))
    files, rng = files_of(tmp_path), random.Random(5)
    assert verify(tmp_path).ok
    sound = content_of(tmp_path, spec)
    for number in range(1100):
        path = files[number % len(files)]
        raw = path.read_bytes()
        bad = bytearray(raw)
        bad[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        report = verify(tmp_path)
        assert str(path.relative_to(tmp_path)) in {item.object for item in report.damage}
        try:
            assert number % 4 or content_of(tmp_path, spec) == sound
        except StoreError as error:
            told = str(error)
            if "serfeat store verify" not in told and "upgrade" not in told:
                raise
        path.write_bytes(raw)
    assert verify(tmp_path).ok


@pytest.mark.parametrize("how", ["flip", "truncate", "empty", "delete", "extend", "folder"])
def test_damage_to_any_file_is_mended(tmp_path, how):
    spec = two_generations(tmp_path)
    sound = content_of(tmp_path, spec)
    for path in files_of(tmp_path):
        harm(path, how)
        name = str(path.relative_to(tmp_path))
        report = verify(tmp_path)
        uncommitted = how == "delete" and path.name.startswith("shard-")
        assert uncommitted or name in {item.object for item in report.damage}, name
        repaired = repair_metadata(tmp_path)
        assert not repaired.lost
        extract_again(tmp_path, repaired)
        if uncommitted:  # no more than work to do
            with StoreWriter(tmp_path, spec) as writer:
                (shard,) = writer.pending
                writer.write(shard, outputs_of(spec, shard, set(shard.ids) - {"u3"}))
        assert content_of(tmp_path, spec) == sound
        report = verify(tmp_path)
        assert report.ok, (name, report.damage)
        assert not report.strays
        assert repair_metadata(tmp_path).rewritten == ()


def harm(path: Path, how: str) -> None:
    raw = path.read_bytes()
    if how == "flip":
        path.write_bytes(raw[:9] + bytes([raw[9] ^ 4]) + raw[10:])
    elif how == "truncate":
        path.write_bytes(raw[:-1])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "extend":
        path.write_bytes(raw + b"\n")
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()


def test_damage_names_object_and_utterances(tmp_path):
    spec = two_generations(tmp_path)
    location = location_of(tmp_path)
    harm(location.group / "frames" / "c.3.0.0", "truncate")  # the second of u5's three
    harm(location.group / "pooled" / "std" / "c.1.0.0", "delete")
    harm(location.group / "id" / "c.0.0", "flip")
    report = verify(tmp_path, location.name)
    prefix = f"features.zarr/{location.name}"
    found = {item.object.removeprefix(prefix): item for item in report.damage}
    assert {(name, d.kind, d.shard, d.ids) for name, d in found.items()} == {
        ("/frames/c.3.0.0", "truncated", 2, ("u5",)),
        ("/pooled/std/c.1.0.0", "missing", 1, ("u2", "u4")),
        ("/id/c.0.0", "changed", 0, ("u0", "u1")),
    }
    again = repair_metadata(tmp_path)
    assert [item.shard.index for item in again.shards] == [0, 1, 2]
    assert again.shards[2].sources == (source_of("u5"),)
    feature_set = open_feature_set(tmp_path, spec)
    with pytest.raises(DamageError) as caught:
        feature_set.pooled("std", ["u4"])
    assert str(caught.value) == (
        f"feature set {location.name}: pooled/std/c.1.0.0 is damaged (missing); it holds u2, u4; "
        "run 'serfeat store verify --repair'"
    )
    with pytest.raises(DamageError, match=r"frames/c\.3\.0\.0 is damaged \(the checksum of"):
        feature_set.frames("u5")
    assert len(feature_set.pooled("std", ["u0"])) == 1  # the rest can still be read


def test_a_bad_checksum_is_found_while_reading(tmp_path):
    spec = two_generations(tmp_path)
    group = location_of(tmp_path).group
    path = group / "pooled" / "mean" / "c.0.0.0"
    harm(path, "flip")
    with pytest.raises(DamageError, match=r"pooled/mean/c\.0\.0\.0 is damaged .*it holds u0, u1;"):
        open_feature_set(tmp_path, spec).pooled("mean")
    harm(group / "frames" / "c.0.0.0", "flip")
    with pytest.raises(DamageError, match=r"frames/c\.0\.0\.0 is damaged .*it holds u0, u1;"):
        list(open_feature_set(tmp_path, spec).iter_shards())


def test_what_a_lost_record_leaves_is_found_from_the_plan(tmp_path):
    spec = two_generations(tmp_path)
    location = location_of(tmp_path)
    harm(location.commit(2), "flip")
    for call in (lambda: open_feature_set(tmp_path, spec), lambda: fill(tmp_path, spec)):
        with pytest.raises(DamageError, match=r"shard-00000002\.json is damaged"):
            call()
    (item,) = repair_metadata(tmp_path).shards
    assert item.sources == (source_of("u5"),)
    assert "u5" not in open_feature_set(tmp_path, spec).ids


def test_both_halves_of_the_metadata_gone_is_said(tmp_path):
    spec = two_generations(tmp_path)
    location = location_of(tmp_path)
    location.metadata.unlink()
    (problem,) = list_feature_sets(tmp_path)
    assert "has lost its metadata.json" in str(problem.problem)
    with pytest.raises(DamageError, match=r"has lost its metadata\.json"):
        fill(tmp_path, spec)
    harm(location.group / "zarr.json", "empty")
    report = repair_metadata(tmp_path)
    assert [item.object for item in report.lost] == [f"commits/{location.name}/metadata.json"]
    assert not verify(tmp_path).ok


def test_metadata_that_contradicts_the_plan_is_damage(tmp_path):
    spec = two_generations(tmp_path)
    location = location_of(tmp_path)
    write_sealed(location.metadata, {**read_sealed(location.metadata), "utterances": 99})
    assert [item.kind for item in verify(tmp_path).damage] == ["invalid"]
    repair_metadata(tmp_path)
    assert verify(tmp_path).ok
    record = read_sealed(location.commit(0))
    for key, value in {
        "objects": {"../../../x": {"sha256": "0" * 64, "size": 1}},
        "sources": record["sources"][::-1],
        "shard": {**record["shard"], "ids": ["x", "y"]},
        "schema": "1",
    }.items():
        write_sealed(location.commit(0), {**record, key: value})
        assert any(item.shard == 0 for item in verify(tmp_path).damage), key
        with pytest.raises(DamageError):
            open_feature_set(tmp_path, spec)


def test_values_of_a_strange_type_are_damage(tmp_path):
    spec = two_generations(tmp_path)
    location = location_of(tmp_path)
    body = read_sealed(location.metadata)
    for change in (
        [],
        {"spec": None},
        {"spec": {**body["spec"], "rows": 0}},
        {"spec": {**body["spec"], "dim": True}},
        {"spec": {**body["spec"], "capacity": 257}},
        {"spec": {**body["spec"], "frames": "float8"}},
        {"documents": {"../../x": ""}},
        {"plans": -1},
    ):
        write_sealed(location.metadata, {**body, **change} if change else change)
        with pytest.raises(SerfeatError, match=r"metadata\.json"):
            open_feature_set(tmp_path, spec)
        assert not verify(tmp_path).ok


def test_strays_are_listed_and_only_leftovers_removed(tmp_path):
    two_generations(tmp_path)
    location = location_of(tmp_path)
    strays = {
        location.group / "notes.txt": "unknown",
        location.group / "frames" / "c.99.0.0": "uncommitted",
        location.group / ".zarr.json.abc.tmp": "temporary",
        location.staging / "id" / "c.0.0": "temporary",
        location.commits / "link": "unknown",
    }
    for path in strays:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (location.commits / "link").unlink()
    (location.commits / "link").symlink_to("/etc")
    report = verify(tmp_path)
    assert report.ok
    assert {location.store / stray.path: stray.kind for stray in report.strays} == strays
    assert len(remove_strays(tmp_path)) == 3
    assert {stray.kind for stray in verify(tmp_path).strays} == {"unknown"}


def test_a_shard_without_known_sources_is_still_listed(tmp_path):
    spec = make_spec()
    shards = make_shards(spec, (5, 3))
    with StoreWriter(tmp_path, spec) as writer:
        writer.add_plan(shards, [Source("u0", "/audio/u0.wav", 1, 2, "")])
        writer.write(shards[0], outputs_of(spec, shards[0]))
    harm(location_of(tmp_path).commit(0), "truncate")
    (item,) = repair_metadata(tmp_path).shards
    assert [source.id for source in item.sources] == ["u0"]
    assert item.shard.ids == ("u0", "u1")


def test_the_report_counts_what_it_saw(tmp_path):
    spec = two_generations(tmp_path)
    ticks: list[tuple[int, int]] = []
    report = verify(tmp_path, tick=lambda done, total: ticks.append((done, total)))
    assert len(ticks) == report.objects
    assert ticks[-1] == (report.num_bytes, report.num_bytes)
    assert sorted(ticks) == ticks
    found = open_feature_set(tmp_path, spec)
    assert report.feature_sets == 1
    assert report.num_bytes == found.num_bytes > 0
    objects = [p for p in files_of(tmp_path) if p.name.startswith("c.")]
    assert report.objects == len(objects)
    assert np.sum([path.stat().st_size for path in objects]) == report.num_bytes
