"""Files that were moved or touched and sound the same: decoded once, then known."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from fake_upstream import (
    RATE,
    FakeUpstream,
    Listener,
    content_by_id,
    files_of,
    make_corpus,
    recording,
    run,
    tiny_shards,
    use_fake,
)
from faulty_disk import full_from, read_only, watched
from moved_files import LENGTHS, Ear, in_folder, location_of, touch
from ser_features.augment.augmented import partner_of
from ser_features.extract.pipeline import Options
from ser_features.extract.remarks import remarks
from ser_features.extract.repair import repair
from ser_features.manifest import Manifest
from ser_features.records import Utterance
from ser_features.store.lock import writer_lock
from ser_features.store.moved import MOST
from ser_features.store.verify import verify
from ser_features.studies import cost


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Ear:
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=2)
    return Ear(monkeypatch)


MOVES = st.one_of(
    st.tuples(st.just("touch"), st.integers(0, 3), st.integers(1, 10**18)),
    st.tuples(st.just("move"), st.sampled_from("abc"), st.just(0)),
    st.tuples(st.just("change"), st.integers(0, 3), st.integers(0, 1)),
    st.tuples(st.just("run"), st.just(0), st.just(0)),
)


@settings(max_examples=10, deadline=None)
@given(moves=st.lists(MOVES, min_size=1, max_size=8), frames=st.booleans())
def test_whatever_was_moved_the_content_is_right_and_heard_once(tmp_path_factory, moves, frames):
    folder = tmp_path_factory.mktemp("moves")
    here, store = folder / "a", folder / "store"
    with pytest.MonkeyPatch.context() as patch:
        use_fake(patch)
        tiny_shards(patch, rows=2)
        ear = Ear(patch)
        make_corpus(here, LENGTHS)
        run(in_folder(here), store, frames=frames)
        for what, which, value in moves:
            if what == "touch":
                touch(in_folder(here), f"u{which}", time=value)
            elif what == "move":
                here = here.rename(folder / which)
            elif what == "change":
                recording(here / f"u{which}.wav", LENGTHS[which], 40 + value)
            else:
                run(in_folder(here), store, frames=frames)
        moved = run(in_folder(here), store, frames=frames)
        ear.take()
        again = run(in_folder(here), store, frames=frames)
        assert (ear.take(), again.num_moved, again.num_new) == ([], 0, 0)
        assert again.num_present == moved.num_present + moved.num_new == len(LENGTHS)
        fresh = run(in_folder(here), folder / "fresh", frames=frames)
        assert values(store, again) == values(folder / "fresh", fresh)
        assert len(list(location_of(store, again).commits.glob("moved-*"))) <= MOST
        report = verify(store)
        assert (report.damage, report.strays) == ((), ())


def values(store: Path, report: object) -> dict[str, tuple]:
    """What is stored of each utterance, wherever its audio lies."""
    found = content_by_id(store, report.spec)
    return {key: (count, source.audio_sha256, *rest)
            for key, (count, source, *rest) in found.items()}  # fmt: skip


def test_a_moved_corpus_is_decoded_once_and_that_is_said(tmp_path, ear):
    store = tmp_path / "store"
    make_corpus(tmp_path / "a", LENGTHS)
    before = content_by_id(store, run(in_folder(tmp_path / "a"), store).spec)
    there = in_folder((tmp_path / "a").rename(tmp_path / "b"))
    report = run(there, store)
    assert ear.take() == sorted(there.by_id)
    assert (report.num_moved, report.num_present, report.num_new) == (4, 4, 0)
    assert remarks(report) == [
        "note: 4 stored utterances are in files that were moved or touched; their audio is the same"
    ]
    assert content_by_id(store, report.spec) == before
    files = files_of(store)
    again = run(there, store)
    assert (ear.take(), again.num_moved, remarks(again)) == ([], 0, [])
    assert files_of(store) == files


def test_copies_of_a_corpus_in_several_folders_are_all_known(tmp_path, ear):
    """Machines that share a store, each with the corpus in a folder of its own."""
    make_corpus(tmp_path / "0", LENGTHS)
    places = [tmp_path / str(i) for i in range(MOST + 1)]
    for place in places[1:]:
        shutil.copytree(tmp_path / "0", place)
    for place in places:
        run(in_folder(place), tmp_path / "store")
    assert len(ear.take()) == MOST * len(LENGTHS)
    for place in [*places, *reversed(places)]:
        assert run(in_folder(place), tmp_path / "store").num_moved == 0
    assert ear.take() == []


def test_a_corpus_that_is_touched_every_day_fills_no_disk(tmp_path, ear):
    corpus = make_corpus(tmp_path / "corpus", LENGTHS)
    sizes = set()
    for day in range(3 * MOST):
        touch(corpus, time=10**17 + day)
        report = run(corpus, tmp_path / "store")
        records = list(location_of(tmp_path / "store", report).commits.glob("moved-*"))
        sizes.add(sum(path.stat().st_size for path in records))
        assert len(records) <= MOST
    assert len(ear.take()) == (3 * MOST - 1) * len(LENGTHS)
    assert max(sizes) < MOST * 2000


def test_what_is_new_beside_what_was_moved(tmp_path, ear):
    store, corpus = tmp_path / "store", make_corpus(tmp_path / "a", LENGTHS)
    run(Manifest(corpus.corpus, corpus.utterances[:2]), store)
    there = in_folder((tmp_path / "a").rename(tmp_path / "b"))
    report = run(there, store)
    assert (ear.take(), report.num_moved, report.num_new) == (["u0", "u1"], 2, 2)
    assert (run(there, store).num_present, ear.take()) == (4, [])


def test_what_is_too_long_now_is_heard_once_too(tmp_path, ear):
    store, corpus = tmp_path / "store", make_corpus(tmp_path / "corpus", LENGTHS)
    run(corpus, store)
    touch(corpus)
    limits = {"max_seconds": 0.1}
    report = run(corpus, store, **limits)
    assert {row.reason for row in report.rejects} == {"too-long"}
    assert len(ear.take()) == len(LENGTHS)
    run(corpus, store, **limits)
    assert run(corpus, store).num_present == len(LENGTHS)
    assert ear.take() == []


def test_segments_of_a_file_that_was_moved(tmp_path, ear):
    store, path = tmp_path / "store", recording(tmp_path / "long.wav", 3 * RATE, 0)

    def cut(path: Path, last: float | None = None) -> Manifest:
        ends = (1.0, 2.0, last)
        pairs = [Utterance(f"s{i}", path, start=float(i), end=end) for i, end in enumerate(ends)]
        return Manifest("cut", tuple(pairs))

    run(cut(path), store)
    there = path.rename(tmp_path / "moved.wav")
    assert run(cut(there), store).num_moved == 3
    assert ear.take() == ["s0", "s1", "s2"]
    assert run(cut(there, 3.0), store).num_moved == 1  # the same audio, said otherwise
    assert ear.take() == ["s2"]
    for last in (None, 3.0):
        assert run(cut(there, last), store).num_moved == 0
    assert ear.take() == []


def test_partners_are_heard_once(tmp_path, ear):
    store, how = tmp_path / "store", {"augment": ("copypaste-n",)}

    def labelled(folder: Path) -> Manifest:
        corpus = in_folder(folder)
        marked = tuple(structs.replace(u, label="neutral") for u in corpus.utterances)
        return replace(corpus, utterances=marked)

    make_corpus(tmp_path / "a", LENGTHS)
    report = run(labelled(tmp_path / "a"), store, **how)
    assert (report.num_new, report.rejects) == (4, ())
    before = content_by_id(store, report.spec)
    there = labelled((tmp_path / "a").rename(tmp_path / "b"))
    report = run(there, store, **how)
    assert (report.num_moved, report.num_new) == (4, 0)
    assert set(ear.take()) == set(there.by_id)
    assert (run(there, store, **how).num_present, ear.take()) == (4, [])
    assert content_by_id(store, report.spec) == before
    partner = partner_of(before["u0"][1].draw)
    assert partner is not None
    recording(there.by_id[partner].path, 700, 77)  # it, and whoever is joined with it
    assert run(there, store, **how).num_new > 1
    ear.take()
    assert (run(there, store, **how).num_new, ear.take()) == (0, [])


def test_other_audio_at_a_known_place_is_extracted(tmp_path, ear):
    """A record counts only for the audio that was heard there."""
    store, corpus = tmp_path / "store", make_corpus(tmp_path / "corpus", LENGTHS)
    path = corpus.by_id["u1"].path
    first = values(store, run(corpus, store))
    raw = path.read_bytes()
    touch(corpus, "u1", time=7)
    run(corpus, store)
    recording(path, 700, 50)
    touch(corpus, "u1", time=8)
    assert run(corpus, store).num_new == 1
    path.write_bytes(raw)  # the first sound again, where and when it was once known
    touch(corpus, "u1", time=7)
    ear.take()
    report = run(corpus, store)
    assert (report.num_new, ear.take()) == (1, ["u1"])
    assert values(store, report) == first


@pytest.mark.parametrize("how", ["read-only", "locked"])
def test_where_it_cannot_be_written_the_run_goes_on_and_says_so(tmp_path, ear, how):
    store, corpus = tmp_path / "store", make_corpus(tmp_path / "corpus", LENGTHS)
    location = location_of(store, run(corpus, store))
    touch(corpus)
    before, listener = files_of(store), Listener()
    if how == "locked":
        with writer_lock(location.lock, "feature set x"):
            report = run(corpus, store, progress=listener)
    else:
        with watched(store, read_only):
            report = run(corpus, store, progress=listener)
    assert (report.num_moved, report.num_present, report.num_new) == (4, 4, 0)
    (told,) = [text for text in listener.said if "moved or touched" in text]
    assert "cannot be recorded, so the next run decodes them again: " in told
    assert ("Read-only file system" if how == "read-only" else "is being written by") in told
    assert files_of(store) == before
    assert len(ear.take()) == len(LENGTHS)
    assert run(corpus, store).num_moved == 4
    assert run(corpus, store).num_moved == 0


def test_a_disk_that_is_full_at_any_change_stops_no_run(tmp_path, ear):
    store, corpus = tmp_path / "store", make_corpus(tmp_path / "corpus", LENGTHS)
    before = values(store, run(corpus, store))
    shutil.copytree(store, tmp_path / "first")
    touch(corpus)
    with watched(store) as disk:
        run(corpus, store)
    assert disk.changes > 5
    for number in range(disk.changes):
        shutil.rmtree(store)
        shutil.copytree(tmp_path / "first", store)
        with watched(store, full_from(number)):
            report = run(corpus, store)
        assert (report.num_moved, report.num_present) == (4, 4)
        assert values(store, report) == before
        assert verify(store).ok


@pytest.mark.parametrize("how", ["flip", "delete"])
def test_a_lost_record_costs_decoding_again(tmp_path, ear, how):
    store, corpus = tmp_path / "store", make_corpus(tmp_path / "corpus", LENGTHS)
    run(corpus, store)
    touch(corpus)
    record = location_of(store, run(corpus, store)).moved(0)
    ear.take()
    if how == "flip":
        raw = bytearray(record.read_bytes())
        raw[-9] ^= 1
        record.write_bytes(raw)
        assert [one.object for one in verify(store).damage] == [str(record.relative_to(store))]
        assert repair(store).rewritten == (str(record.relative_to(store)),)
    else:
        record.unlink()
    assert verify(store).ok
    assert run(corpus, store).num_moved == len(ear.take()) == 4
    assert (run(corpus, store).num_moved, ear.take()) == (0, [])


def test_repair_finds_the_audio_where_it_is_now(tmp_path, ear):
    store = tmp_path / "store"
    make_corpus(tmp_path / "a", LENGTHS)
    report = run(in_folder(tmp_path / "a"), store, frames=True)
    before = values(store, report)
    (tmp_path / "a").rename(tmp_path / "b")
    group = location_of(store, report).group

    def spoil() -> None:
        for path in group.glob("frames/c.*"):
            path.write_bytes(b"x")

    spoil()
    assert all("no such file" in text for text in repair(store).failures)
    run(in_folder(tmp_path / "b"), store, frames=True)
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    for place in "bc":  # also where the newest of several places is gone by then
        run(in_folder(tmp_path / "c"), store, frames=True)
        shutil.rmtree(tmp_path / ("c" if place == "b" else "b"))
        spoil()
        mended = repair(store)
        assert (mended.failures, mended.num_shards) == ((), 2)
        assert values(store, report) == before
        assert verify(store).ok
        shutil.copytree(tmp_path / "b", tmp_path / "c") if place == "b" else None


def test_a_dry_run_decodes_nothing_that_is_known(tmp_path, ear):
    store = tmp_path / "store"
    corpus = make_corpus(tmp_path / "corpus", LENGTHS)
    spec = run(corpus, store).spec
    touch(corpus)
    need, upstream = cost.Need("made-up", "fake"), FakeUpstream()
    assert cost._size(corpus, need, None, upstream, store, Options())[0] == 4
    assert len(ear.take()) == 4
    run(corpus, store)
    ear.take()
    assert cost._size(corpus, need, None, upstream, store, Options())[0] == 4
    assert ear.take() == []
    assert need.stored["clean"].spec == spec
