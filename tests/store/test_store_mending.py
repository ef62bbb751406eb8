"""What repair must not do: remove what is not damaged, or what another writer made meanwhile."""

import pytest

from ser_features.errors import StoreError
from ser_features.files import read_sealed, write_sealed
from ser_features.store import state
from ser_features.store.layout import end_frame
from ser_features.store.repair import repair_metadata
from ser_features.store.schema import locate, name_of
from ser_features.store.verify import remove_strays, verify
from ser_features.store.writer import StoreWriter
from store_factory import content_of, fill, make_shards, outputs_of


def bytes_of(store) -> dict:
    files = (path for path in store.rglob("*") if path.is_file() and path.name != "lock")
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize("which", ["metadata.json", "plan-0000.json", "shard-00000001.json"])
def test_what_a_newer_serfeat_wrote_is_no_damage(tmp_path, which):
    """Old code must not "mend" what it cannot read."""
    path = locate(tmp_path, name_of(fill(tmp_path))).commits / which
    write_sealed(path, {**read_sealed(path), "schema": 2})
    before = bytes_of(tmp_path)
    for work in (verify, repair_metadata, remove_strays):
        with pytest.raises(StoreError, match=r"has store schema 2, .* upgrade serfeat") as caught:
            work(tmp_path)
        assert which in str(caught.value)
    assert bytes_of(tmp_path) == before


@pytest.mark.parametrize("generations", [0, 1])
def test_a_plan_and_the_count_of_plans_are_lost_together(tmp_path, generations):
    """Their records alone say what is stored: no shard is thrown away."""
    spec = fill(tmp_path)
    location = locate(tmp_path, name_of(spec))
    if generations:
        grow_by_one(tmp_path, spec)
    expected = content_of(tmp_path, spec)
    location.metadata.unlink()
    location.plan(generations).unlink()
    names = {damage.object for damage in verify(tmp_path).damage}
    assert {location.relative(p) for p in (location.metadata, location.plan(generations))} <= names
    repaired = repair_metadata(tmp_path)
    assert (repaired.shards, repaired.lost) == ((), ())
    assert content_of(tmp_path, spec) == expected
    report = verify(tmp_path)
    assert (report.damage, report.strays) == ((), ())


def grow_by_one(store, spec) -> None:
    with StoreWriter(store, spec) as writer:
        frame = max(end_frame(shard, spec) for shard in writer.shards)
        shards = make_shards(spec, (4, 4), len(writer.shards), frame, "v")
        writer.add_plan(shards)
        for shard in shards:
            writer.write(shard, outputs_of(spec, shard))


def test_a_set_that_has_grown_as_often_as_it_can_stays_readable(tmp_path, monkeypatch):
    """One plan more would have a name that nobody looks for."""
    spec = fill(tmp_path)
    grow_by_one(tmp_path, spec)
    expected = content_of(tmp_path, spec)
    monkeypatch.setattr(state, "MOST_PLANS", 2)
    with pytest.raises(StoreError, match=r"has grown 2 times.*into another store"):
        grow_by_one(tmp_path, spec)
    assert content_of(tmp_path, spec) == expected
    assert verify(tmp_path).ok
