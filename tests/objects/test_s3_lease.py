"""One writer at a time on an object store, by the server's clock."""

import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from ser_features.errors import StoreError, StoreLockedError, UnreachableError, UsageError
from ser_features.store import lease
from ser_features.store.lock import is_locked
from ser_features.store.reader import open_feature_set
from ser_features.store.schema import locate, name_of
from ser_features.store.verify import remove_strays, verify
from ser_features.store.writer import StoreWriter
from store_factory import fill, make_shards, make_spec, outputs_of


def lock_of(root):
    return locate(root, name_of(make_spec())).lock


def test_a_second_writer_is_told_who_and_until_when(s3):
    spec = make_spec()
    with StoreWriter(s3.root, spec), StoreWriter(s3.root, make_spec("none")):
        assert is_locked(lock_of(s3.root))
        with pytest.raises(StoreLockedError) as caught, StoreWriter(s3.root, spec):
            pass
        with pytest.raises(StoreLockedError):
            remove_strays(s3.root)
        assert verify(s3.root).ok  # reading goes on
    assert f"is being written by process {os.getpid()} on " in str(caught.value)
    assert caught.match(r"since 20\d\d-.*its lease ends at \d\d:\d\d:\d\d UTC")
    assert not is_locked(lock_of(s3.root))
    with StoreWriter(s3.root, spec):  # freed: no wait
        pass


def until(condition) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("never")


def test_it_is_renewed_while_the_writer_lives(s3, monkeypatch):
    monkeypatch.setenv(lease.SECONDS, "2")
    with StoreWriter(s3.root, make_spec()) as writer:
        until(lambda: json.loads(lock_of(s3.root).read_bytes())["renewed"] >= 2)
        writer.add_plan(make_shards(make_spec(), (3, 2)))


def test_a_lost_lease_stops_the_first_writer(s3, monkeypatch):
    monkeypatch.setenv(lease.SECONDS, "1")
    spec = make_spec()
    shards = make_shards(spec, (5, 3, 4))
    with StoreWriter(s3.root, spec) as first:
        first.add_plan(shards)
        s3.faults.add("PUT", "/lock$", 403)  # it can no longer renew
        until(lambda: not is_locked(lock_of(s3.root)))
        with pytest.raises(StoreLockedError, match="could not be renewed for 1 s"):
            first.invalidate([])
        until(lambda: all(thread.name != lease.RENEWER for thread in threading.enumerate()))
        s3.faults.clear()
        with StoreWriter(s3.root, spec) as second:
            for shard in second.pending:
                second.write(shard, outputs_of(spec, shard))
            before = s3.content()
            with pytest.raises(StoreLockedError, match="this writer lost its lease"):
                first.write(shards[0], outputs_of(spec, shards[0]))
            for change in (
                lambda: first.invalidate([0]),
                lambda: first.abandon([0]),
                lambda: first.add_plan(make_shards(spec, (2,), 2, 16, "v")),
            ):
                with pytest.raises(StoreLockedError):
                    change()
            assert s3.content() == before
        assert json.loads(lock_of(s3.root).read_bytes())["token"] == ""
    assert open_feature_set(s3.root, spec).complete
    assert verify(s3.root).ok


def test_a_taken_lease_is_noticed_by_the_next_renewal(s3, monkeypatch):
    monkeypatch.setenv(lease.SECONDS, "1")
    with StoreWriter(s3.root, make_spec()) as writer:
        lock_of(s3.root).put(json.dumps({"token": "another", "pid": 1, "host": "h", "since": "s",
                                         "seconds": 60}))  # fmt: skip

        def refused() -> bool:
            try:
                writer.abandon([])
                writer.invalidate([])
            except StoreLockedError as error:
                return "another writer has taken it over" in str(error)
            return False

        until(refused)
    assert json.loads(lock_of(s3.root).read_bytes())["token"] == "another"  # not freed by us


def test_a_record_that_came_first_is_not_overwritten(s3):
    """What is left of the race: a writer that sleeps between the check and its request."""
    spec = make_spec()
    shards = make_shards(spec, (5, 3, 4))
    with StoreWriter(s3.root, spec) as writer:
        writer.add_plan(shards)
        record = locate(s3.root, writer.name).commit(0)
        record.put("of another writer")
        with pytest.raises(StoreError, match="it was changed meanwhile"):
            writer.write(shards[0], outputs_of(spec, shards[0]))
        assert record.read_bytes() == b"of another writer"


def test_a_renewal_whose_answer_was_lost_does_not_count_from_now(s3):
    """It came through earlier, so the lease ends earlier than a renewal of this moment would."""
    held = lease._Lease(lock_of(s3.root), "it", 60)
    held.take()
    tag = held._tag
    held._beat = 1
    lock_of(s3.root).put_over(held._body(), tag)  # and no answer: the tag is not known
    held._beat = 2
    assert held._renew()
    assert json.loads(lock_of(s3.root).read_bytes())["renewed"] == 2
    held.free()
    assert not is_locked(lock_of(s3.root))


@pytest.mark.parametrize("fault", [("PUT", 403), ("HEAD", 403)])
def test_a_lease_is_not_taken_over_by_our_own_clock(s3, monkeypatch, fault):
    """Where the server does not tell its time nobody can say that a lease has run out."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=30)

    with StoreWriter(s3.root, make_spec()) as first:
        s3.faults.add(fault[0], r"/\.clock\.", fault[1])
        with monkeypatch.context() as patch:
            patch.setattr(lease, "datetime", Ahead)
            with pytest.raises(UnreachableError, match="403"), StoreWriter(s3.root, make_spec()):
                pass
        first.add_plan(make_shards(make_spec(), (3, 2)))


@pytest.mark.parametrize("hours", [-30, 30])
def test_a_wrong_local_clock_changes_nothing(s3, monkeypatch, hours):
    class Wrong(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=hours)

    fill(s3.root)
    with StoreWriter(s3.root, make_spec()):
        monkeypatch.setattr(lease, "datetime", Wrong)
        with pytest.raises(StoreLockedError) as caught, StoreWriter(s3.root, make_spec()):
            pass
    told = caught.value.args[0].partition("ends at ")[2][:8]
    days = [datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=s) for s in range(75)]
    assert told in {f"{moment:%H:%M:%S}" for moment in days}


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", '{"seconds": "x"}', "[" * 9999])
def test_a_lock_that_says_nothing_is_held_for_a_while(s3, text):
    lock = lock_of(s3.root)
    lock.put(text)
    with (
        pytest.raises(StoreLockedError, match="an unknown machine"),
        StoreWriter(s3.root, make_spec()),
    ):
        pass


@pytest.mark.parametrize("text", ["0", "x", "nan", "1e9"])
def test_lease_seconds_are_checked(monkeypatch, text):
    monkeypatch.setenv(lease.SECONDS, text)
    with pytest.raises(UsageError, match="expected 1 to 86400 seconds"):
        lease.lease_seconds()
