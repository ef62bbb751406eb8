"""A copy is joined with its partner as that is now, whatever was changed, moved and stopped."""

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from fake_upstream import (
    content_by_id,
    files_of,
    make_corpus,
    manifest_of,
    recording,
    run,
    tiny_shards,
    use_fake,
)
from hostile import sealed
from moved_files import LENGTHS, Ear, in_folder, touch
from ser_features.augment.augmented import partner_of
from ser_features.extract.repair import repair
from ser_features.manifest import Manifest
from ser_features.records import Source
from ser_features.store.catalog import list_feature_sets
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter
from stopped_runs import Stop, stopping

HOW: dict[str, Any] = {"augment": ("copypaste-n",)}
SHORT: dict[str, Any] = {"augment": ("copypaste-n:crop=0.1",), "max_seconds": 0.21}
TOO_LONG = 800  # samples more of u3, for that


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Ear:
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=1)
    return Ear(monkeypatch)


def labelled(manifest: Manifest) -> Manifest:
    marked = tuple(structs.replace(each, label="neutral") for each in manifest.utterances)
    return replace(manifest, utterances=marked)


def corpus_in(folder: Path) -> Manifest:
    if not folder.exists():
        make_corpus(folder, LENGTHS)
    return labelled(in_folder(folder))


def values(store: Path, report: Any) -> dict[str, tuple[Any, ...]]:
    """What is stored of each utterance and what it was joined with, wherever the audio lay."""
    return {
        key: (count, source.audio_sha256, source.draw, source.partner.audio_sha256, *rest)
        for key, (count, source, *rest) in content_by_id(store, report.spec).items()
    }


def stopped(manifest: Manifest, store: Path, at: int, after: bool = False, **how: Any) -> None:
    """A run that stops at a write, or comes to its end before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoreWriter, "write", stopping(at, after))
        with suppress(Stop):
            run(manifest, store, **HOW, **how)


def run_name(store: Path) -> str:
    """The name of the only feature set there is."""
    (only,) = list_feature_sets(store)
    return only.name


def change(manifest: Manifest, key: str, seed: int, more: int = 0) -> None:
    recording(manifest.by_id[key].path, LENGTHS[int(key[1])] + more, seed)


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("stop"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("touch"), st.integers(0, 3), st.integers(1, 10**18)),
        st.tuples(st.just("move"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("run"), st.just(0), st.just(0)),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=12, deadline=None)
@given(moves=MOVES, frames=st.booleans(), rows=st.integers(1, 3))
@example([("stop", 2, False), ("change", 0, 0), ("stop", 1, False), ("change", 0, 1)], False, 1)
@example([("stop", 1, True), ("change", 3, 2), ("run", 0, 0), ("change", 3, 0)], True, 2)
def test_whatever_was_changed_and_stopped_the_content_is_that_of_one_run(
    tmp_path_factory, moves, frames, rows
):
    folder = tmp_path_factory.mktemp("partners")
    here, store, how = folder / "a", folder / "store", {"frames": frames, **HOW}
    corpus_in(here)
    with pytest.MonkeyPatch.context() as patch:
        use_fake(patch)
        tiny_shards(patch, rows=rows)
        ear = Ear(patch)
        for what, which, value in moves:
            if what == "change":  # of as many samples, or of more
                change(corpus_in(here), f"u{which}", 40 + value, 80 * (value % 2))
            elif what == "touch":
                touch(corpus_in(here), f"u{which}", time=value)
            elif what == "move":
                here = here.rename(folder / which)
            else:
                at = which if what == "stop" else 10**6
                stopped(corpus_in(here), store, at, bool(value), frames=frames)
        report = run(corpus_in(here), store, **how)
        whole = run(corpus_in(here), folder / "whole", **how)
        assert values(store, report) == values(folder / "whole", whole)
        ear.take()
        files = files_of(store)
        again = run(corpus_in(here), store, **how)
        assert (ear.take(), again.num_new, again.num_moved) == ([], 0, 0)
        assert files_of(store) == files
        assert verify(store).ok


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("changed", ["u0", "u3"])
def test_a_partner_that_changed_while_the_first_run_was_stopped(tmp_path, ear, changed, at):
    """Also one of which nothing was stored yet. All bytes of features are those of a fresh run."""
    manifest, store = corpus_in(tmp_path / "corpus"), tmp_path / "store"
    stopped(manifest, store, at)
    change(manifest, changed, seed=50)
    report = run(manifest, store, **HOW)
    whole = run(manifest, tmp_path / "whole", **HOW)
    assert content_by_id(store, report.spec) == content_by_id(tmp_path / "whole", whole.spec)
    assert run(manifest, store, **HOW).num_new == 0
    assert verify(store).ok


def test_a_change_that_neither_size_nor_time_shows_is_noticed_once_the_partner_is_stored(
    tmp_path, ear
):
    """As where an archive with times of its own was unpacked over another: the records disagree."""
    manifest, store = corpus_in(tmp_path / "corpus"), tmp_path / "store"
    touch(manifest)
    stopped(manifest, store, 1)
    (first,) = content_by_id(store, run_name(store))
    partner = content_by_id(store, run_name(store))[first][1].partner.id
    change(manifest, partner, seed=50)
    touch(manifest, partner)
    run(manifest, store, **HOW)
    report = run(manifest, store, **HOW)
    whole = run(manifest, tmp_path / "whole", **HOW)
    assert content_by_id(store, report.spec) == content_by_id(tmp_path / "whole", whole.spec)
    ear.take()
    assert (run(manifest, store, **HOW).num_new, ear.take()) == (0, [])


@pytest.mark.parametrize("how", ["touched", "moved", "as it was"])
def test_a_partner_of_the_same_audio_is_no_reason_to_join_anew(tmp_path, ear, how):
    """Of the first shard's partner nothing is stored yet."""
    manifest, store = corpus_in(tmp_path / "a"), tmp_path / "store"
    stopped(manifest, store, 1)
    if how == "touched":
        touch(manifest)
    elif how == "moved":
        manifest = corpus_in((tmp_path / "a").rename(tmp_path / "b"))
    report = run(manifest, store, **HOW)
    assert (report.num_present, report.num_new) == (1, len(LENGTHS) - 1)
    (first,) = ["u3"]  # the longest is the first
    partner = partner_of(content_by_id(store, report.spec)[first][1].draw)
    assert ear.take() == ([] if how == "as it was" else sorted([first, partner]))
    assert report.num_moved == (how != "as it was")
    assert (run(manifest, store, **HOW).num_new, ear.take()) == (0, [])


def test_a_partner_that_is_not_in_the_set_itself(tmp_path, ear):
    """It is too long for the set, but a part of it can be joined."""
    manifest, store, how = corpus_in(tmp_path / "a"), tmp_path / "store", SHORT
    change(manifest, "u3", seed=3, more=TOO_LONG)
    report = run(manifest, store, **how)
    assert {one.id for one in report.rejects} == {"u3"}
    before = values(store, report)
    joined = {key for key, one in before.items() if partner_of(one[2]) == "u3"}
    assert joined
    assert (run(manifest, store, **how).num_new, ear.take()) == (0, [])
    manifest = corpus_in((tmp_path / "a").rename(tmp_path / "b"))
    assert run(manifest, store, **how).num_new == 0
    assert set(ear.take()) == {"u0", "u1", "u2", "u3"}
    assert (run(manifest, store, **how).num_new, ear.take()) == (0, [])
    change(manifest, "u3", seed=50, more=TOO_LONG)
    report = run(manifest, store, **how)
    assert report.num_new == len(joined)
    whole = run(manifest, tmp_path / "whole", **how)
    assert values(store, report) == values(tmp_path / "whole", whole)
    assert {key for key in before if before[key] != values(store, report)[key]} == joined


def test_a_partner_that_is_gone_is_named(tmp_path, ear):
    manifest, store = corpus_in(tmp_path / "a"), tmp_path / "store"
    sources = content_by_id(store, run(manifest, store, **HOW).spec)
    joined = {key for key in sources if partner_of(sources[key][1].draw) == "u3"}
    manifest.by_id["u3"].path.unlink()
    found = {one.id: one for one in run(manifest, store, **HOW).rejects}
    assert {key: one.reason for key, one in found.items()} == {
        "u3": "missing",
        **dict.fromkeys(joined, "partner"),
    }
    assert all("its partner 'u3' cannot be used: " in found[key].detail for key in joined)


@pytest.mark.parametrize("where", ["stored", "pending", "not in the set"])
def test_repair_refuses_another_partner_than_was_joined(tmp_path, ear, where):
    manifest, store = corpus_in(tmp_path / "a"), tmp_path / "store"
    change(manifest, "u3", seed=3, more=TOO_LONG)
    how = SHORT if where == "not in the set" else HOW
    if where == "pending":
        stopped(manifest, store, 1)
    report = run(manifest, tmp_path / "whole" if where == "pending" else store, **how)
    before = content_by_id(store, report.spec)
    partners = {key: partner_of(one[1].draw) for key, one in before.items()}
    joined = next(key for key in partners if (partners[key] in before) == (where == "stored"))
    partner = str(partners[joined])
    spoil(store, joined)
    raw = manifest.by_id[partner].path.read_bytes()
    change(manifest, partner, seed=70, more=TOO_LONG * (partner == "u3"))
    (failure,) = repair(store).failures
    assert f"{partner}.wav is not the audio that was extracted" in failure
    manifest.by_id[partner].path.write_bytes(raw)
    mended = repair(store)
    assert (mended.failures, mended.num_shards) == ((), 1)
    assert values(store, report) == {key: plain(one) for key, one in before.items()}
    assert verify(store).ok


def plain(one: tuple[Any, ...]) -> tuple[Any, ...]:
    count, source, *rest = one
    return (count, source.audio_sha256, source.draw, source.partner.audio_sha256, *rest)


def spoil(store: Path, key: str) -> None:
    """Damage the object of one utterance's pooled means."""
    (index,) = [
        int(path.stem.rpartition("-")[2])
        for path in store.rglob("shard-*.json")
        if key in [one["id"] for one in json.loads(path.read_bytes())["body"]["sources"]]
    ]
    (victim,) = store.rglob(f"pooled/mean/c.{index}.0.0")
    victim.write_bytes(b"\0" * victim.stat().st_size)


def test_repair_finds_a_partner_where_it_is_now(tmp_path, ear):
    store = tmp_path / "store"
    report = run(corpus_in(tmp_path / "a"), store, **HOW)
    before = values(store, report)
    manifest = corpus_in((tmp_path / "a").rename(tmp_path / "b"))
    run(manifest, store, **HOW)
    spoil(store, "u0")
    assert (repair(store).failures, values(store, report)) == ((), before)


def as_older(store: Path) -> None:
    """The store as a serfeat made it that did not record what was joined."""
    for path in store.rglob("shard-*.json"):
        body = json.loads(path.read_bytes())["body"]
        for source in body["sources"]:
            assert source.pop("partner")
        path.write_bytes(sealed(body))


def test_an_older_store_is_read_and_kept_up_to_date(tmp_path, ear):
    manifest, store = corpus_in(tmp_path / "a"), tmp_path / "store"
    spec = run(manifest, store, **HOW).spec
    before = content_by_id(store, spec)
    as_older(store)
    assert verify(store).ok
    older = content_by_id(store, spec)
    assert {key: (one[0], *one[2:]) for key, one in older.items()} == {
        key: (one[0], *one[2:]) for key, one in before.items()
    }
    assert not any(isinstance(one[1].partner, Source) for one in older.values())
    files = files_of(store)
    assert (run(manifest, store, **HOW).num_new, ear.take()) == (0, [])
    assert files_of(store) == files
    joined = {key for key, one in older.items() if partner_of(one[1].draw) == "u3"}
    change(manifest, "u3", seed=50)
    assert run(manifest, store, **HOW).num_new == len(joined | {"u3"})
    whole = content_by_id(tmp_path / "whole", run(manifest, tmp_path / "whole", **HOW).spec)
    found = content_by_id(store, spec)
    assert {key: (one[0], *one[2:]) for key, one in found.items()} == {
        key: (one[0], *one[2:]) for key, one in whole.items()
    }
    assert isinstance(found["u3"][1].partner, Source)


def test_nothing_is_recorded_where_nothing_is_joined(tmp_path, ear):
    """So the bytes of other sets stay as they were; ``tests/history`` compares them."""
    store = tmp_path / "store"
    run(corpus_in(tmp_path / "a"), store, augment=("gain",))
    run(corpus_in(tmp_path / "a"), store)
    assert not any(b'"partner"' in path.read_bytes() for path in store.rglob("*.json"))


@pytest.mark.parametrize("changed", ["u0", "u3"])
@pytest.mark.parametrize(("others", "older"), [(True, False), (False, False), (True, True)])
def test_who_was_joined_with_audio_that_changed_is_made_anew(tmp_path, ear, changed, others, older):
    """A run stops between an utterance and those that have it as a partner."""
    manifest = corpus_in(tmp_path / "corpus")
    spec = run(manifest, tmp_path / "first", **HOW).spec
    sources = content_by_id(tmp_path / "first", spec)
    joined = {key for key in sources if partner_of(sources[key][1].draw) == changed} - {changed}
    assert joined
    if older:
        as_older(tmp_path / "first")
    (new,) = labelled(manifest_of([recording(tmp_path / "new.wav", 600, 60)])).utterances
    change(manifest, changed, seed=50)
    expected = content_by_id(tmp_path / "whole", run(manifest, tmp_path / "whole", **HOW).spec)
    for at in range(1 + len(joined)):
        store = tmp_path / str(at)
        shutil.copytree(tmp_path / "first", store)
        stopped(manifest, store, at)
        if others:  # the shards that were left behind are abandoned by a run over other utterances
            apart = [u for u in manifest.utterances if u.id not in {changed, *joined}]
            assert run(replace(manifest, utterances=(*apart, new)), store, **HOW).num_new == 1
        assert 1 <= run(manifest, store, **HOW).num_new <= 1 + len(joined)
        found = content_by_id(store, spec)
        assert {key: found[key][2:] for key in expected} == {
            key: one[2:] for key, one in expected.items()
        }
        assert run(manifest, store, **HOW).num_new == 0
        assert verify(store).ok


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [("copypaste-se", "gggggg", "ggggee"), ("copypaste-n+se", "nnnnnn", "gggnnn")],
)
def test_who_is_called_otherwise_now_is_joined_with_another(tmp_path, ear, text, before, after):
    """A draw says "of the same label": where that no longer holds, another partner is drawn."""
    make_corpus(tmp_path / "a", (*LENGTHS, 800, 600))
    plain, store, how = in_folder(tmp_path / "a", 6), tmp_path / "store", {"augment": (text,)}
    names = {"g": "glad", "e": "eager", "n": "neutral"}

    def called(letters: str) -> Manifest:
        pairs = zip(plain.utterances, letters, strict=True)
        return replace(
            plain, utterances=tuple(structs.replace(u, label=names.get(c)) for u, c in pairs)
        )

    def wrong(content: dict[str, tuple[Any, ...]], manifest: Manifest) -> set[str]:
        steps = {key: json.loads(one[1].draw)["steps"][0] for key, one in content.items()}
        label = {u.id: u.label for u in manifest.utterances}
        asked = {k: label[k] if s["scheme"] == "same" else "neutral" for k, s in steps.items()}
        return {key for key, step in steps.items() if label[step["partner"]] != asked[key]}

    first = content_by_id(store, run(called(before), store, **how).spec)
    assert not wrong(first, called(before))
    changed = wrong(first, called(after))
    assert 0 < len(changed) < len(first)
    report = run(called(after), store, **how)
    assert (report.num_new, report.rejects) == (len(changed), ())
    content = content_by_id(store, report.spec)
    assert not wrong(content, called(after))
    assert all(content[key] == first[key] for key in first.keys() - changed)
    for manifest in (called(after), called("------")):  # as it is, or labels not known
        assert run(manifest, store, **how).num_new == 0
    assert verify(store).ok


@pytest.mark.parametrize("how", ["more to choose from", "another length"])
def test_a_stopped_plan_goes_on_only_with_the_draws_that_it_says(tmp_path, ear, how):
    """So that repair, which may have only the plan, gives what was stored."""
    whole = labelled(make_corpus(tmp_path / "a", [2400] * 6))
    first = replace(whole, utterances=whole.utterances[:4])
    store, options = tmp_path / "store", {"augment": ("copypaste-n:crop=0.1",)}
    with pytest.MonkeyPatch.context() as patch, suppress(Stop):
        patch.setattr(StoreWriter, "write", stopping(0, after=False))
        run(first, store, **options)
    if how == "another length":
        recording(first.utterances[1].path, 2399, seed=3)
    manifest = whole if how == "more to choose from" else first
    report = run(manifest, store, **options)
    before = content_by_id(store, report.spec)
    for path in store.rglob("shard-*.json"):
        if json.loads(path.read_bytes())["body"]["sources"]:
            path.write_text("{}")
    assert repair(store).failures == ()
    assert content_by_id(store, report.spec) == before
    assert run(manifest, store, **options).num_new == 0
