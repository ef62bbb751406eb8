"""Where audio was found again, on an object store: recorded there as in a folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from ser_features.errors import StoreError, StoreLockedError, UnreachableError
from ser_features.store.moved import MOST, find_moved
from ser_features.store.repair import repair_metadata
from ser_features.store.schema import locate, name_of
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter
from store_factory import content_of, fill, make_spec, source_of

PATIENCE = "0.7"  # seconds; see conftest
NAME = name_of(make_spec())


def there(key, folder="b"):
    return replace(source_of(key), path=f"/{folder}/{key}.wav")


def remember(root, *found) -> None:
    with StoreWriter(root, make_spec()) as writer:
        writer.remember(found)


def test_it_is_the_same_as_in_a_folder(s3, tmp_path):
    for root in (s3.root, tmp_path):
        fill(root)
        for number in range(MOST + 2):
            remember(root, there("u0", str(number)), there(f"u{number}", "x"))
        assert len(find_moved(locate(root, NAME))) == MOST
    local, distant = (locate(root, NAME) for root in (tmp_path, s3.root))
    assert find_moved(distant) == find_moved(local)
    for slot in range(MOST):
        assert distant.moved(slot).read_bytes() == local.moved(slot).read_bytes()
    assert content_of(s3.root, make_spec()) == content_of(tmp_path, make_spec())
    assert verify(s3.root) == verify(tmp_path)
    assert (verify(s3.root).damage, verify(s3.root).strays) == ((), ())
    with StoreWriter(s3.root, make_spec()) as writer:
        writer.delete()
    assert not [name for name in s3.content() if name.startswith("commits")]


def test_a_damaged_one_is_named_left_out_and_removed(s3):
    fill(s3.root)
    remember(s3.root, there("u0"))
    expected, location = content_of(s3.root, make_spec()), locate(s3.root, NAME)
    location.moved(0).put(location.moved(0).read_bytes()[:-1])
    assert find_moved(location) == ()
    assert content_of(s3.root, make_spec()) == expected
    assert [one.object for one in verify(s3.root).damage] == [f"commits/{NAME}/moved-0.json"]
    assert repair_metadata(s3.root).rewritten == (f"commits/{NAME}/moved-0.json",)
    assert verify(s3.root).ok
    assert not location.moved(0).exists()


@pytest.mark.parametrize("kind", [403, 500, "cut"])
def test_where_it_is_refused_it_is_told_and_nothing_is_lost(s3, kind):
    fill(s3.root)
    expected = content_of(s3.root, make_spec())
    s3.faults.add("PUT", "moved-0", kind)
    with pytest.raises(StoreError, match=r"s3://bucket-.*moved-0\.json"):
        remember(s3.root, there("u0"))
    s3.faults.clear()
    assert find_moved(locate(s3.root, NAME)) == ()
    assert content_of(s3.root, make_spec()) == expected
    remember(s3.root, there("u0"))
    assert find_moved(locate(s3.root, NAME)) == ({"u0": there("u0")},)
    s3.faults.add("GET", "moved-0", kind)
    with pytest.raises(UnreachableError, match="moved-0"):  # that is no damage
        find_moved(locate(s3.root, NAME))
    assert content_of(s3.root, make_spec()) == expected  # no reader asks for it


WRITE = """
import sys
sys.path[:0] = {paths!r}
from ser_features.store.place import open_root
from ser_features.store.writer import StoreWriter
from store_factory import make_spec, source_of
with StoreWriter(open_root({store!r}), make_spec()) as writer:
    writer.remember([source_of("u1")])
"""


def test_a_killed_writer_leaves_the_old_ones(s3, monkeypatch):
    monkeypatch.setenv("SERFEAT_S3_LEASE", "1")
    fill(s3.root)
    remember(s3.root, there("u0"))
    expected = content_of(s3.root, make_spec())
    s3.faults.add("PUT", "moved-1", "call", times=1, call=lambda: os.kill(pid, signal.SIGKILL))
    tests = Path(__file__).resolve().parents[1]
    code = WRITE.format(paths=[str(tests), str(tests.parent)], store=str(s3.root))
    with subprocess.Popen([sys.executable, "-c", code]) as child:
        pid = child.pid
        assert child.wait(60) == -signal.SIGKILL
    assert find_moved(locate(s3.root, NAME)) == ({"u0": there("u0")},)
    assert content_of(s3.root, make_spec()) == expected
    assert verify(s3.root).ok
    for _ in range(100):
        try:
            remember(s3.root, there("u2"))
            break
        except StoreLockedError:
            time.sleep(0.1)
    assert find_moved(locate(s3.root, NAME)) == ({"u2": there("u2")}, {"u0": there("u0")})
