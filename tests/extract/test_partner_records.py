"""What is recorded of a partner: repair goes by it, older stores lack it, other sets have none."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest

from fake_upstream import (
    content_by_id,
    files_of,
    make_corpus,
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
    plain,
    spoil,
    stopped,
    values,
)
from moved_files import Ear
from ser_features.augment.augmented import partner_of
from ser_features.extract.repair import repair
from ser_features.records import Source
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter
from stopped_runs import Stop, stopping


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Ear:
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=1)
    return Ear(monkeypatch)


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


def test_repair_finds_a_partner_where_it_is_now(tmp_path, ear):
    store = tmp_path / "store"
    report = run(corpus_in(tmp_path / "a"), store, **HOW)
    before = values(store, report)
    manifest = corpus_in((tmp_path / "a").rename(tmp_path / "b"))
    run(manifest, store, **HOW)
    spoil(store, "u0")
    assert (repair(store).failures, values(store, report)) == ((), before)


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
