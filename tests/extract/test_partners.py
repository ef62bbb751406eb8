"""A copy is joined with its partner as that is now, whatever was changed, moved and stopped."""

import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from fake_upstream import (
    RATE,
    content_by_id,
    files_of,
    make_corpus,
    manifest_of,
    recording,
    run,
    tiny_shards,
    use_fake,
)
from joined_copies import (
    HOW,
    SHORT,
    TOO_LONG,
    as_older,
    change,
    corpus_in,
    labelled,
    run_name,
    stopped,
    values,
)
from moved_files import LENGTHS, Ear, in_folder, touch
from ser_features.augment.augmented import partner_of
from ser_features.manifest import Manifest
from ser_features.store.verify import verify


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Ear:
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=1)
    return Ear(monkeypatch)


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


def test_a_silent_partner_is_told_again_without_work(tmp_path, ear):
    manifest, store = corpus_in(tmp_path / "a"), tmp_path / "store"
    path = manifest.by_id["u3"].path
    raw = path.read_bytes()
    soundfile.write(path, np.zeros(1200), RATE)
    report = run(manifest, store, **HOW)
    reasons = {one.id: one.reason for one in report.rejects}
    joined = {key for key, reason in reasons.items() if reason == "partner"}
    assert joined
    assert reasons == {"u3": "silent", **dict.fromkeys(joined, "partner")}
    files = files_of(store)
    again = run(manifest, store, **HOW)
    assert again.rejects == report.rejects
    assert files_of(store) == files
    path.write_bytes(raw)
    whole = run(manifest, tmp_path / "whole", **HOW)
    assert run(manifest, store, **HOW).num_new == len(joined | {"u3"})
    assert values(store, report) == values(tmp_path / "whole", whole)
