"""Records of audio that was found again: they spare decoding, and nothing else depends on them."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from faulty_disk import broken_at, full_from, watched
from hostile import bounded, changed, hows, sealed, values
from ser_features.errors import StoreError, StoreLockedError
from ser_features.records import Source
from ser_features.store import moved
from ser_features.store.catalog import list_feature_sets
from ser_features.store.moved import MOST, find_moved
from ser_features.store.repair import repair_metadata
from ser_features.store.schema import Location, locate, name_of
from ser_features.store.summary import summarize
from ser_features.store.verify import remove_strays, verify
from ser_features.store.writer import StoreWriter
from store_factory import content_of, fill, make_spec, source_of

TESTS = Path(__file__).resolve().parents[1]
EXAMPLES = 400 if "SERFEAT_TORTURE" in os.environ else 10
KEYS = ("u0", "u1", "u2", "u3", "u4", "u5")


def there(key: str, folder: str = "b", salt: str = "") -> Source:
    """An utterance that was found in another folder."""
    return replace(source_of(key, salt), path=f"/{folder}/{key}.wav", mtime_ns=7)


def location_of(store: Path) -> Location:
    return locate(store, name_of(make_spec()))


def remember(store: Path, *found: Source) -> None:
    with StoreWriter(store, make_spec()) as writer:
        writer.remember(found)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Six utterances, two of which were found elsewhere."""
    fill(tmp_path / "store")
    remember(tmp_path / "store", there("u0"), there("u4"))
    return tmp_path / "store"


def sound(store: Path, expected: dict[str, object]) -> None:
    """Nothing but the records of moved audio may have changed, and there is nothing to do."""
    assert content_of(store, make_spec()) == expected
    report = verify(store)
    assert (report.damage, report.strays, report.pending) == ((), (), {})


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from((*KEYS, "stranger")),
            st.tuples(st.sampled_from("bcd"), st.sampled_from(("", "", "", "other audio"))),
            min_size=1,
        ),
        max_size=9,
    )
)
def test_the_newest_is_first_and_nothing_grows(tmp_path_factory, runs) -> None:
    """What is not stored, or is of other audio, is not kept; the oldest goes over into the new."""
    store = tmp_path_factory.mktemp("moved")
    spec = fill(store)
    expected, model = content_of(store, spec), list[dict[str, Source]]()
    for run in runs:
        found = [there(key, folder, salt) for key, (folder, salt) in run.items()]
        remember(store, *(replace(one, draw="drawn") for one in found))
        kept = {one.id: one for one in found if one.audio_sha256 == source_of(one.id).audio_sha256}
        kept.pop("stranger", None)
        oldest = model.pop() if len(model) == MOST else {}
        model.insert(0, oldest | kept)
        assert find_moved(location_of(store)) == tuple(model)
    assert len(list(location_of(store).commits.glob("moved-*"))) == len(model) <= MOST
    sound(store, expected)


def test_older_records_are_read_where_the_newest_does_not_know(store: Path, monkeypatch) -> None:
    remember(store, there("u1", "c"))
    read, load = list[int](), moved.load_moved
    monkeypatch.setattr(
        moved, "load_moved", lambda at, slot: (read.append(slot), load(at, slot))[1]
    )
    newest, oldest = find_moved(location_of(store))
    assert (newest.get("u1"), newest.get("u9"), read) == (there("u1", "c"), None, [1])
    assert (oldest.get("u0"), read) == (there("u0"), [1, 0])


def test_nothing_but_the_record_is_written(store: Path) -> None:
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    (info,) = list_feature_sets(store)
    summary = summarize(store, info.name)
    remember(store, there("u1"))
    after = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    assert {path.name for path in after.keys() - before.keys()} == {"moved-1.json"}
    assert list_feature_sets(store) == [info]
    assert summarize(store, info.name) == summary


def harm(path: Path, how: str) -> None:
    raw = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to("/dev/zero")
    else:
        bad = {"cut": raw[:-1], "empty": b"", "longer": raw + b"\n", "newer": sealed({"schema": 2})}
        path.write_bytes(bad[how])


@pytest.mark.parametrize("how", ["cut", "empty", "longer", "newer", "folder", "link"])
def test_a_damaged_record_is_named_and_hurts_no_reader(store: Path, how: str) -> None:
    remember(store, there("u1", "c"))
    expected, location = content_of(store, make_spec()), location_of(store)
    harm(location.moved(0), how)
    assert find_moved(location) == ({"u1": there("u1", "c")},)
    assert content_of(store, make_spec()) == expected
    report = verify(store)
    assert [one.object for one in report.damage] == [location.relative(location.moved(0))]
    assert report.strays == ()
    mended = repair_metadata(store)
    assert mended.rewritten == (location.relative(location.moved(0)),)
    assert (mended.shards, mended.lost) == ((), ())
    assert find_moved(location) == ({"u1": there("u1", "c")},)
    sound(store, expected)


def test_a_flipped_bit_is_found_and_the_next_record_takes_its_place(store: Path, torture) -> None:
    location, rng = location_of(store), random.Random(3)
    path = location.moved(0)
    raw = path.read_bytes()
    for position in range(0, len(raw), 1 if torture else 11):
        bad = bytearray(raw)
        bad[position] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        assert find_moved(location) == ()
        assert [Path(one.object).name for one in verify(store).damage] == ["moved-0.json"]
    remember(store, there("u2"))
    assert find_moved(location) == ({"u2": there("u2")},)
    assert verify(store).ok


def test_a_deleted_record_is_no_damage(store: Path) -> None:
    expected = content_of(store, make_spec())
    location_of(store).moved(0).unlink()
    assert find_moved(location_of(store)) == ()
    sound(store, expected)


def test_a_record_that_says_anything(store: Path) -> None:
    """Its seal is right and what it says is not: nobody stumbles over it."""
    location, expected = location_of(store), content_of(store, make_spec())
    whole = location.moved(0).read_bytes()
    body = json.loads(whole)["body"]

    @settings(max_examples=EXAMPLES, database=None, deadline=None)
    @given(pick=st.integers(0, 10**6), how=hows, new=values)
    def attempt(pick: int, how: str, new: object) -> None:
        location.moved(0).write_bytes(sealed(changed(body, pick, how, new)))
        with bounded():
            find_moved(location)
            verify(store)
            remember(store, there("u1"), there("u2"))
            assert there("u2") in [one.get("u2") for one in find_moved(location)]
        repair_metadata(store)
        sound(store, expected)
        for path in location.commits.glob("moved-*"):
            path.unlink()

    attempt()


def test_a_number_at_its_end_is_no_obstacle(store: Path) -> None:
    location = location_of(store)
    body = json.loads(location.moved(0).read_bytes())["body"]
    location.moved(0).write_bytes(sealed({**body, "number": 2**62 - 1}))
    for _ in range(MOST + 1):
        remember(store, there("u1"))
    assert verify(store).ok
    assert any("u1" in one for one in find_moved(location))


KILL = """
import json, os, pathlib, shutil, signal, sys
sys.path[:0] = [{tests!r}, {root!r}]
from faulty_disk import happens_at, watched
from ser_features.store.writer import StoreWriter
from store_factory import make_spec
from test_store_moved import there
first, killed = pathlib.Path({first!r}), 0
for number in range(1000):
    store = first.parent / f"killed-{{number}}"
    shutil.copytree(first, store)
    child = os.fork()
    if not child:
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        with watched(store, happens_at(number, kill)), StoreWriter(store, make_spec()) as writer:
            writer.remember([there(f"u{{i}}", "new") for i in range(6)])
        os._exit(0)
    if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        break
    killed += 1
print(killed)
"""


def test_killed_at_any_change_the_record_is_the_old_one_or_the_new_one(store, counted) -> None:
    """``kill -9`` before each change on the disk, with all slots taken."""
    for folder in "cde":
        remember(store, there("u1", folder))
    before, expected = find_moved(location_of(store)), content_of(store, make_spec())
    code = KILL.format(tests=str(TESTS), root=str(TESTS.parent), first=str(store))
    path = os.pathsep.join([str(Path(__file__).parent), str(TESTS), str(TESTS.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    killed = int(done.stdout)
    new = tuple({**before[-1], **{key: there(key, "new") for key in KEYS}} for _ in "x")
    seen = set()
    for number in range(killed + 1):
        one = store.with_name(f"killed-{number}")
        found = find_moved(location_of(one))
        assert found in (before, new + before[:-1])
        seen.add(found == before)
        assert content_of(one, make_spec()) == expected
        assert verify(one).ok
        remove_strays(one)
        sound(one, expected)
    assert seen == {True, False}
    assert killed > 5
    counted(kills=killed)


@pytest.mark.parametrize("fault", [full_from, broken_at])
def test_a_disk_that_fails_at_any_change(store: Path, fault, torture, counted) -> None:
    first, expected = store.with_name("first"), content_of(store, make_spec())
    shutil.copytree(store, first)
    with watched(store) as disk:
        remember(store, there("u1"))
    numbers, told = range(0, disk.changes, 1 if torture else 2), list[str]()
    for number in numbers:
        shutil.rmtree(store)
        shutil.copytree(first, store)
        with watched(store, fault(number)):
            try:
                remember(store, there("u1"))
            except StoreError as error:
                told.append(str(error))
        remove_strays(store)
        sound(store, expected)
        remember(store, there("u1"))
        assert there("u1") in [one.get("u1") for one in find_moved(location_of(store))]
    assert told
    assert all(str(store) in text for text in told)
    counted(points=len(numbers), stopped=len(told))


def test_only_who_holds_the_lock_writes_it(store: Path) -> None:
    with StoreWriter(store, make_spec()):
        with pytest.raises(StoreLockedError):
            remember(store, there("u1"))
        assert len(find_moved(location_of(store))) == 1
        assert verify(store).strays == ()


def test_a_name_that_is_not_text_is_told(store: Path) -> None:
    with pytest.raises(StoreError, match="is not valid Unicode: rename it"):
        remember(store, replace(there("u1"), path="/b/\udcff.wav"))
    assert find_moved(location_of(store)) == ({key: there(key) for key in ("u0", "u4")},)
