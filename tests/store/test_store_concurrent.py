"""Who looks while another one writes: no false damage, no false refusal, nothing of his removed."""

import fcntl
import os
import threading

import pytest

from ser_features.store import state, survey
from ser_features.store import verify as verifying
from ser_features.store.layout import end_frame
from ser_features.store.lock import is_locked, writer_lock
from ser_features.store.reader import open_feature_set
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter
from store_factory import fill, make_shards, outputs_of


def grow(writer: StoreWriter, prefix: str, lengths=(4, 4)) -> None:
    """One more generation, written."""
    spec = writer.spec
    frame = max(end_frame(shard, spec) for shard in writer.shards)
    shards = make_shards(spec, lengths, len(writer.shards), frame, prefix)
    writer.add_plan(shards)
    for shard in shards:
        writer.write(shard, outputs_of(spec, shard))


def before_call(monkeypatch, module, name: str, act) -> None:
    """Have ``act`` happen once, right before the function of that name is called."""
    real, left = getattr(module, name), [act]

    def call(*args, **kwargs):
        while left:
            left.pop()()
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, call)


@pytest.mark.parametrize("name", ["load_metadata", "plan_indices", "commit_indices", "load_commit"])
def test_a_set_that_grows_while_it_is_opened_is_sound(tmp_path, monkeypatch, name):
    spec = fill(tmp_path)
    first = open_feature_set(tmp_path, spec).ids
    with StoreWriter(tmp_path, spec) as writer:
        before_call(monkeypatch, state, name, lambda: grow(writer, "v"))
        found = open_feature_set(tmp_path, spec)
    assert found.ids[: len(first)] == first
    assert len(found.pooled("mean")) == len(found.ids)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (survey, "load_metadata"),
        (survey, "plan_indices"),
        (survey, "commit_indices"),
        (survey, "moved_slots"),
        (verifying, "check_documents"),
        (verifying, "check_objects"),
    ],
)
def test_a_set_that_grows_while_it_is_verified_is_sound(tmp_path, monkeypatch, module, name):
    spec = fill(tmp_path)
    with StoreWriter(tmp_path, spec) as writer:
        before_call(monkeypatch, module, name, lambda: grow(writer, "v"))
        assert verify(tmp_path).damage == ()
    assert verify(tmp_path).damage == ()


def test_a_shard_that_is_written_anew_while_it_is_verified_is_no_damage(tmp_path, monkeypatch):
    spec = fill(tmp_path)
    with StoreWriter(tmp_path, spec) as writer:
        before_call(monkeypatch, verifying, "check_objects", writer.delete)
        assert verify(tmp_path).damage == ()


def test_who_asks_whether_it_is_locked_keeps_no_writer_out(tmp_path):
    """``is_locked`` takes a shared lock for a moment."""
    lock = tmp_path / "lock"
    lock.touch()
    held = os.open(lock, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    soon = threading.Timer(0.03, os.close, [held])
    soon.start()
    with writer_lock(lock, "it"):
        assert is_locked(lock)
    soon.join()


def test_a_shared_store_can_be_written_by_the_whole_group(tmp_path):
    before = os.umask(0o002)
    try:
        with writer_lock(tmp_path / "set" / "lock", "it"):
            assert (tmp_path / "set" / "lock").stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(before)


def test_files_of_a_writer_that_has_just_ended_are_no_strays(tmp_path, monkeypatch):
    spec = fill(tmp_path)

    def grown() -> None:
        with StoreWriter(tmp_path, spec) as writer:
            grow(writer, "v")

    before_call(monkeypatch, verifying, "_left", grown)
    assert verify(tmp_path).strays == ()
