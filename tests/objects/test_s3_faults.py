"""Requests that are refused, slowed, cut short, or never answered; writers that are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ser_features.errors import StoreError, StoreLockedError, UnreachableError
from ser_features.store.place import open_root
from ser_features.store.reader import open_feature_set
from ser_features.store.repair import repair_metadata
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter
from store_factory import content_of, fill, make_shards, make_spec, outputs_of

LENGTHS = (5, 3, 4, 2, 2, 17)
PATIENCE = "0.7"  # seconds; see conftest


@pytest.fixture
def whole(tmp_path):
    """The content of the same feature set, written in a folder."""
    return content_of(tmp_path, fill(tmp_path, make_spec(), LENGTHS))


@pytest.fixture
def patient(s3, monkeypatch):
    """The same store for who waits longer: on a busy machine two retries may take a second."""
    monkeypatch.setenv("SERFEAT_S3_PATIENCE", "20")
    return open_root(str(s3.root))


def finish(root, spec=None) -> None:
    spec = spec or make_spec()
    with StoreWriter(root, spec) as writer:
        if not writer.shards:
            writer.add_plan(make_shards(spec, LENGTHS))
        for shard in writer.pending:
            writer.write(shard, outputs_of(spec, shard))


@pytest.mark.parametrize("kind", [500, 503, "cut", "mute"])
@pytest.mark.parametrize("what", ["c.1.0.0", "shard-00000001", "/lock"])
def test_a_burst_of_failed_puts_is_gone_through(s3, whole, patient, kind, what):
    fault = s3.faults.add("PUT", what, kind, times=2)
    finish(patient)
    assert fault.seen == 2
    assert content_of(patient, make_spec())["ids"] == whole["ids"]
    assert verify(patient).ok


@pytest.mark.parametrize("kind", [500, 503, "truncate", "slow", "cut"])
def test_a_burst_of_failed_reads_is_gone_through(s3, whole, patient, kind):
    finish(patient)
    rules = [s3.faults.add("GET", what, kind, times=1) for what in ("frames/c.0", "shard-00000001")]
    found = content_of(patient, make_spec())
    assert [rule.seen for rule in rules] == [1, 1]
    assert {**found, "sources": None} == {**whole, "sources": None}


@pytest.mark.parametrize(
    ("what", "kind"),
    [("pooled/std/c.1", 403), ("pooled/std/c.1", "cut"), ("id/c.1", 500), ("shard-00000001", 403)],
)
def test_where_it_stays_refused_nothing_is_lost(s3, whole, what, kind):
    fault = s3.faults.add("PUT", what, kind)
    with pytest.raises(StoreError, match="s3://bucket-") as caught:
        finish(s3.root)
    expected = {403: "403 .*check your AWS credentials", 500: "500", "cut": "the connection failed"}
    assert caught.match(expected[kind])
    assert fault.seen == 1 if kind == 403 else fault.seen > 1  # what cannot help is not repeated
    first = make_shards(make_spec(), LENGTHS)[0]
    found = open_feature_set(s3.root, make_spec())
    assert found.ids == first.ids
    assert verify(s3.root).ok
    s3.faults.clear()
    finish(s3.root)
    assert content_of(s3.root, make_spec())["frames"] == whole["frames"]


@pytest.mark.parametrize("kind", [403, 500, "truncate"])
def test_a_server_that_does_not_answer_is_no_damage(s3, kind):
    finish(s3.root)
    before = s3.content()
    s3.faults.add("GET", "shard-00000001", kind)
    for look in (verify, repair_metadata, lambda root: open_feature_set(root, make_spec())):
        with pytest.raises(UnreachableError, match="shard-00000001"):
            look(s3.root)
    s3.faults.clear()
    assert s3.content() == before
    s3.faults.add("GET", "frames/c.0", kind)
    found = open_feature_set(s3.root, make_spec())
    with pytest.raises(UnreachableError):
        found.frames("u0")
    assert np.isfinite(found.pooled("mean")).all()


WRITE = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from ser_features.store.place import open_root
from ser_features.store.writer import StoreWriter
from store_factory import make_shards, make_spec, outputs_of
spec = make_spec()
with StoreWriter(open_root({store!r}), spec) as writer:
    writer.add_plan(make_shards(spec, {lengths!r}))
    for shard in writer.pending:
        writer.write(shard, outputs_of(spec, shard))
"""


def start_writer(store) -> subprocess.Popen[bytes]:
    tests = Path(__file__).resolve().parents[1]
    code = WRITE.format(tests=str(tests), root=str(tests.parent), store=str(store), lengths=LENGTHS)
    return subprocess.Popen([sys.executable, "-c", code])


@pytest.mark.parametrize("where", ["id/c.1.0", "shard-00000001", "plan-0000"])
def test_a_killed_writer_leaves_a_sound_store_and_a_lease_that_runs_out(
    s3, whole, monkeypatch, where
):
    monkeypatch.setenv("SERFEAT_S3_LEASE", "1")
    s3.faults.add("PUT", where, "call", times=1, call=lambda: os.kill(child.pid, signal.SIGKILL))
    child = start_writer(s3.root)
    assert child.wait(60) == -signal.SIGKILL
    if where != "plan-0000":
        found = open_feature_set(s3.root, make_spec())
        committed = make_shards(make_spec(), LENGTHS)[: found.committed_shards]
        assert found.ids == tuple(key for shard in committed for key in shard.ids)
        assert verify(s3.root).ok
    with pytest.raises(StoreLockedError, match=f"process {child.pid} on .* its lease ends at"):
        finish(s3.root)
    wait_for_the_lease(s3.root)
    assert content_of(s3.root, make_spec())["frames"] == whole["frames"]
    assert verify(s3.root).ok


def wait_for_the_lease(root) -> None:
    for _ in range(200):
        try:
            return finish(root)
        except StoreLockedError:
            time.sleep(0.1)
    raise AssertionError("the lease of a dead writer never ran out")
