"""What an interrupted run leaves: shards to write are counted, temporary files are listed."""

import os
import time

import pytest
from typer.testing import CliRunner

from fake_upstream import content_by_id, make_corpus, run, tiny_shards, use_fake
from ser_features.store.lock import writer_lock
from ser_features.store.schema import locate, name_of
from ser_features.store.verify import YOUNG, remove_strays, verify
from ser_features.store.writer import StoreWriter
from ser_features_cli.main import app

LEFT = (
    ".serfeat.json.abc.tmp", "rejects/made-up/.fake--clean.csv.x.tmp",
    "features.zarr/.zarr.json.x.tmp", "features.zarr/made-up/fake/.zarr.json.x.tmp",
)  # fmt: skip


@pytest.fixture
def stored(tmp_path, monkeypatch):
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=1)
    corpus, store = make_corpus(tmp_path / "corpus", [900, 700, 500]), tmp_path / "store"
    return corpus, store, run(corpus, store).spec


def leave(store, age=2 * YOUNG):
    for name in LEFT:
        path = store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")
        os.utime(path, (time.time() - age,) * 2)


def test_planned_shards_that_are_not_written_are_counted(stored) -> None:
    corpus, store, spec = stored
    whole = content_by_id(store, spec)
    assert verify(store).pending == {}
    with StoreWriter(store, spec) as writer:  # as a repair that is killed before it writes
        writer.invalidate([0, 2])
    report = verify(store)
    assert report.ok
    assert report.pending == {name_of(spec): 2}
    told = CliRunner().invoke(app, ["store", "verify", str(store)])
    assert told.exit_code == 0
    assert f"note: {name_of(spec)}: 2 planned shards not written yet" in told.output
    assert run(corpus, store).num_new == 2
    assert verify(store).pending == {}
    assert content_by_id(store, spec) == whole


def test_temporary_files_above_the_sets_are_listed_and_removed(stored) -> None:
    _, store, _ = stored
    leave(store)
    assert {(one.path, one.kind) for one in verify(store).strays} == {
        (name, "temporary") for name in LEFT
    }
    told = CliRunner().invoke(app, ["store", "verify", str(store), "--repair"])
    assert told.exit_code == 0
    assert all(f"removed: {name}" in told.output for name in LEFT)
    assert not any((store / name).exists() for name in LEFT)
    assert verify(store).strays == ()


def test_files_of_a_living_writer_are_left_alone(stored) -> None:
    _, store, spec = stored
    leave(store, age=0)
    assert verify(store).strays == ()
    leave(store)
    with writer_lock(locate(store, name_of(spec)).lock, "it"):
        assert verify(store).strays == ()
    assert len(remove_strays(store)) == len(LEFT)


def test_a_link_leads_nobody_out_of_the_store(stored, tmp_path) -> None:
    _, store, _ = stored
    (tmp_path / "outside").mkdir()
    mine = tmp_path / "outside" / ".mine.tmp"
    mine.write_text("do not touch")
    os.utime(mine, (0, 0))
    (store / "rejects").mkdir(exist_ok=True)
    (store / "rejects" / "x").symlink_to(tmp_path / "outside")
    (store / ".link.tmp").symlink_to(mine)
    assert verify(store).strays == ()
    assert remove_strays(store) == []
    assert mine.read_text() == "do not touch"
