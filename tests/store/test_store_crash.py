"""Writers that die, stop at any step, or meet another one: nothing committed is lost."""

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ser_features.errors import StoreError, StoreLockedError
from ser_features.store.catalog import find, list_feature_sets
from ser_features.store.reader import open_feature_set
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

LENGTHS = [3, 2, 3, 21, 4, 4, *[5, 3] * 12]

WRITE_ALL = """
import sys, pathlib
sys.path[:0] = [{tests!r}, {root!r}]
from store_factory import make_shards, make_spec, outputs_of
from ser_features.store.writer import StoreWriter
spec = make_spec()
with StoreWriter(pathlib.Path({store!r}), spec) as writer:
    print("locked", flush=True)
    if not writer.shards:
        writer.add_plan(make_shards(spec, {lengths!r}))
    for shard in writer.pending:
        writer.write(shard, outputs_of(spec, shard))
    {then}
"""


def start_writer(store: Path, then: str = "pass") -> subprocess.Popen[str]:
    tests = Path(__file__).resolve().parents[1]
    code = WRITE_ALL.format(
        tests=str(tests), root=str(tests.parent), store=str(store), lengths=LENGTHS, then=then
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def finish(store: Path, spec) -> None:
    with StoreWriter(store, spec) as writer:
        if not writer.shards:
            writer.add_plan(make_shards(spec, LENGTHS))
        for shard in writer.pending:
            writer.write(shard, outputs_of(spec, shard))


def test_killed_writers_lose_nothing_that_was_committed(tmp_path):
    spec, rng = make_spec(), random.Random(3)
    finish(tmp_path / "whole", spec)
    for round_ in range(6):
        store = tmp_path / str(round_)
        process = start_writer(store)
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        time.sleep(rng.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if list_feature_sets(store):
            report = verify(store)
            assert report.ok, report.damage
            assert {stray.kind for stray in report.strays} <= {"temporary", "uncommitted"}
        finish(store, spec)
        assert content_of(store, spec) == content_of(tmp_path / "whole", spec)
        remove_strays(store)
        report = verify(store)
        assert report.ok
        assert not report.strays


class Stop(BaseException):
    """What a test raises in place of a kill."""


def steps_until_done(run, stop_at: int, monkeypatch) -> bool:
    """Run until the ``stop_at``-th change of a file name; whether it came to the end."""
    count = 0

    def counted(real):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count > stop_at:
                raise Stop
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "rename", "unlink", "mkdir"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        try:
            run()
        except Stop:
            return False
    return True


@pytest.mark.parametrize("existing", [False, True])
def test_a_stop_at_every_single_step_is_recovered(tmp_path, monkeypatch, existing):
    spec = make_spec()
    lengths = (5, 3, 7)
    fill(tmp_path / "whole", spec, lengths)
    expected = content_of(tmp_path / "whole", spec)
    for step in range(existing, 200, 2):
        store = tmp_path / str(step)
        if existing:
            with StoreWriter(store, spec) as writer:
                writer.add_plan(make_shards(spec, lengths[:2]))

        def resume(store=store):
            with StoreWriter(store, spec) as writer:
                known = {key for shard in writer.shards for key in shard.ids}
                shards = make_shards(spec, lengths)
                missing = [s for s in shards if not known & set(s.ids)]
                writer.add_plan(missing)
                for shard in writer.pending:
                    writer.write(shard, outputs_of(spec, shard))

        done = steps_until_done(resume, step, monkeypatch)
        if find(store, spec.corpus, spec.upstream, "clean", spec.key, frames=True):
            found = open_feature_set(store, spec)
            whole = open_feature_set(tmp_path / "whole", spec)
            for key in found.ids:
                assert np.array_equal(found.frames(key), whole.frames(key))
            assert not verify(store).damage or not done
        resume()
        assert content_of(store, spec) == expected
        assert verify(store).ok
        if done:
            break
    else:
        pytest.fail("never came to the end")
    assert step > 20


def test_deleting_is_safe_at_every_step(tmp_path, monkeypatch):
    spec = make_spec()
    for step in range(200):
        store = tmp_path / str(step)
        fill(store, spec)
        with StoreWriter(store, spec) as writer:
            writer.remember([source_of("u0")])

        def delete(store=store):
            with StoreWriter(store, spec) as writer:
                writer.delete()

        if steps_until_done(delete, step, monkeypatch):
            break
        with StoreWriter(store, spec):  # never "damaged"
            pass
    assert step > 5
    assert list_feature_sets(store) == []
    assert [path.name for path in (store / "commits").rglob("*") if path.is_file()] == ["lock"]
    assert fill(store, spec) == open_feature_set(store, spec).spec


def test_a_reader_never_sees_part_of_an_utterance(tmp_path):
    spec = make_spec()
    finish(tmp_path / "whole", spec)
    whole = open_feature_set(tmp_path / "whole", spec)
    errors: list[BaseException] = []
    store, seen = tmp_path / "store", set()

    def write():
        try:
            finish(store, spec)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    running = True
    while running:
        running = thread.is_alive()
        if not find(store, spec.corpus, spec.upstream, "clean", spec.key, frames=True):
            continue
        found = open_feature_set(store, spec)
        seen.add(len(found.ids))
        rows = dict(zip(found.ids, found.pooled("mean"), strict=True))
        for key in found.ids[-3:]:
            assert np.array_equal(rows[key], whole.pooled("mean", [key])[0])
            assert np.array_equal(found.frames(key), whole.frames(key))
    thread.join()
    assert not errors
    assert max(seen) == len(LENGTHS)


def test_objects_are_durable_before_their_record(tmp_path, monkeypatch):
    spec, events = make_spec(), []
    (shard, *_) = shards = make_shards(spec, (5, 3, 4))
    replace_ = Path.replace
    with StoreWriter(tmp_path, spec) as writer:
        writer.add_plan(shards)

        def fsync(handle):
            events.append(("fsync", Path(f"/proc/self/fd/{handle}").resolve().name))

        def moved(path, target):
            events.append(("move", Path(target).name))
            return replace_(path, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", moved)
        writer.write(shard, outputs_of(spec, shard))
    moves = [name for kind, name in events if kind == "move"]
    assert moves[-1] == "shard-00000000.json"
    assert moves[-2] == "c.0.0"  # the ids, which say that a row is there
    first = events.index(("move", moves[0]))
    assert sum(kind == "fsync" for kind, _ in events[:first]) == len(moves) - 1
    settled = events.index(("move", moves[-1]))
    folders = {name for kind, name in events[:settled] if kind == "fsync"}
    assert {"frames", "mean", "id", "offset"} <= folders


def test_every_folder_is_durable_before_the_first_record(tmp_path, monkeypatch):
    """A record survives a power cut only where the names of all folders above it do."""
    spec, settled, store = make_spec(), set(), tmp_path / "new" / "store"
    (shard, *_) = shards = make_shards(spec, (5, 3, 4))
    monkeypatch.setattr(
        os, "fsync", lambda handle: settled.add(Path(f"/proc/self/fd/{handle}").readlink())
    )
    with StoreWriter(store, spec) as writer:
        writer.add_plan(shards)
        folders = {path for path in (store.parent, *store.parent.rglob("*")) if path.is_dir()}
        assert len(folders) > 12
        assert {folder.parent for folder in folders} <= settled
        writer.write(shard, outputs_of(spec, shard))


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL])
def test_a_folder_that_cannot_be_made_durable_keeps_the_record_back(tmp_path, monkeypatch, code):
    """Some file systems cannot do that (EINVAL) and are used as they are; an error is one."""
    spec = make_spec()
    (shard, *_) = shards = make_shards(spec, (5, 3, 4))

    def fsync(handle):
        if Path(f"/proc/self/fd/{handle}").readlink().name == "std":
            raise OSError(code, os.strerror(code))

    with StoreWriter(tmp_path, spec) as writer:
        writer.add_plan(shards)
        monkeypatch.setattr(os, "fsync", fsync)
        if code == errno.EINVAL:
            writer.write(shard, outputs_of(spec, shard))
        else:
            with pytest.raises(StoreError, match="Input/output error"):
                writer.write(shard, outputs_of(spec, shard))
        assert writer.committed == ({0} if code == errno.EINVAL else set())


def test_two_writers_do_not_share_a_set(tmp_path):
    spec = make_spec()
    with StoreWriter(tmp_path, spec), StoreWriter(tmp_path, make_spec("none")):
        with pytest.raises(StoreLockedError) as caught, StoreWriter(tmp_path, spec):
            pass
        with pytest.raises(StoreLockedError):
            remove_strays(tmp_path)
    told = str(caught.value)
    assert f"is being written by process {os.getpid()} on " in told
    assert "since 20" in told
    assert "wait until it is done, or stop it" in told
    with StoreWriter(tmp_path, spec):
        pass


def test_a_lock_of_a_dead_process_is_no_obstacle(tmp_path):
    spec = make_spec()
    process = start_writer(tmp_path, then="import time; print('done', flush=True); time.sleep(60)")
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["locked\n", "done\n"]
    with (
        pytest.raises(StoreLockedError, match=f"process {process.pid} "),
        StoreWriter(tmp_path, spec),
    ):
        pass
    assert verify(tmp_path).ok  # reading goes on
    process.kill()
    process.wait()
    process.stdout.close()
    with StoreWriter(tmp_path, spec) as writer:
        assert not writer.pending
