"""CopyPaste: who is joined with whom, which parts, in which order, and with which label."""

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from augment_scene import RATE, augment, drawn, make
from fake_upstream import RATE as FAKE_RATE
from fake_upstream import (
    FakeUpstream,
    content_by_id,
    manifest_of,
    recording,
    tiny_shards,
    use_fake,
)
from ser_features.audio import load
from ser_features.augment.augmented import partner_of
from ser_features.augment.partners import Partners
from ser_features.errors import AudioError
from ser_features.extract.pipeline import Options, extract
from ser_features.extract.repair import repair
from ser_features.records import Utterance
from ser_features.store.reader import open_feature_set

LABELS = ("anger", "Angry", "neutral", "neutral", "neu", "sad", "happy", "happy")
SECONDS = (5.0, 2.0, 6.0, 1.0, 4.5, 3.0, 0.5, 9.0)


@pytest.fixture
def corpus(tmp_path):
    return [
        Utterance(f"u{i}", recording(tmp_path / f"u{i}.wav", int(s * RATE), i, RATE), label)
        for i, (s, label) in enumerate(zip(SECONDS, LABELS, strict=True))
    ]


def steps_of(text, corpus, name, draws=60):
    count = int(SECONDS[int(name[1])] * RATE)
    return [
        drawn(make(text, seed=seed), count, name, corpus=corpus)["steps"][0]
        for seed in range(draws)
    ]


def test_neutral_partners_for_everyone_neutral_ones_too(corpus):
    for name, partners in (
        ("u0", {"u2", "u3", "u4"}),
        ("u3", {"u2", "u4"}),
        ("u5", {"u2", "u3", "u4"}),
    ):
        steps = steps_of("copypaste-n", corpus, name)
        assert {step["partner"] for step in steps} == partners
        assert {step["scheme"] for step in steps} == {"neutral"}


def test_partners_of_the_same_emotion_whatever_its_spelling(corpus):
    for name, partners in (("u0", {"u1"}), ("u2", {"u3", "u4"}), ("u7", {"u6"})):
        steps = steps_of("copypaste-se", corpus, name)
        assert {step["partner"] for step in steps} == partners
        assert {step["scheme"] for step in steps} == {"same"}


def test_both_schemes_are_as_often(corpus):
    steps = steps_of("copypaste-n+se", corpus, "u0", 400)
    same = sum(step["scheme"] == "same" for step in steps)
    assert 160 < same < 240
    assert all((step["partner"] == "u1") == (step["scheme"] == "same") for step in steps)


def test_who_has_no_partner_is_rejected(corpus):
    with pytest.raises(AudioError, match="no other utterance is labelled 'sad'") as caught:
        steps_of("copypaste-se", corpus, "u5", 1)
    assert caught.value.reason == "no-partner"
    with pytest.raises(AudioError, match="it has no label"):
        steps_of("copypaste-n", [*corpus[1:], structs.replace(corpus[0], label=None)], "u0", 1)


def test_four_seconds_of_each_before_or_after(corpus):
    waves = {u.id: load(u, RATE).samples for u in corpus}
    orders = set()
    for seed in range(20):
        one = make("copypaste-n", seed=seed)
        found = drawn(one, len(waves["u0"]), "u0", corpus=corpus)
        step = found["steps"][0]
        assert found["partner"] == step["partner"]
        other = waves[step["partner"]]
        assert step["own"][1] == 4 * RATE
        assert step["other"][1] == min(4 * RATE, len(other))
        parts = [
            wave[start : start + count]
            for wave, (start, count) in ((waves["u0"], step["own"]), (other, step["other"]))
        ]
        assert [len(part) for part in parts] == [step["own"][1], step["other"][1]]
        draw, length = one.draw(corpus[0], len(waves["u0"]), RATE, Partners(corpus))
        joined = one.apply(waves["u0"], draw, RATE, other)
        expected = np.concatenate(parts[::-1] if step["partner_first"] else parts)
        np.testing.assert_array_equal(joined, expected)
        assert len(joined) == length == found["output"]
        orders.add(step["partner_first"])
    assert orders == {True, False}


def test_the_crop_is_a_parameter_and_a_chain_goes_on(corpus):
    wave = load(corpus[0], RATE).samples
    assert len(augment("copypaste-se:crop=1.5", wave, "u0", RATE, corpus)) == 3 * RATE
    chained = augment("copypaste-se:crop=1.5+speed:factor=2", wave, "u0", RATE, corpus)
    assert len(chained) == 1.5 * RATE


def made_up(folder, labels="nnnaaass"):
    paths = [recording(folder / f"u{i}.wav", 900 + 700 * i, i) for i in range(len(labels))]
    names = {"n": "neutral", "a": "angry", "s": "sad"}
    manifest = manifest_of(paths)
    pairs = zip(manifest.utterances, labels, strict=True)
    return replace(manifest, utterances=tuple(structs.replace(u, label=names[c]) for u, c in pairs))


def test_joined_utterances_are_stored_under_their_own_ids(tmp_path, monkeypatch):
    use_fake(monkeypatch)
    manifest = made_up(tmp_path / "corpus")
    options = Options(augment=("copypaste-n:crop=0.2",))
    report = extract(manifest, "fake", tmp_path / "store", options)
    assert (report.num_new, report.rejects) == (8, ())
    found = open_feature_set(tmp_path / "store", report.spec)
    crop = int(0.2 * FAKE_RATE)
    for i in range(8):
        frames = found.num_frames[found.ids.index(f"u{i}")]
        draw = found.sources[f"u{i}"].draw
        assert frames == FakeUpstream().num_frames(
            min(crop, 900 + 700 * i) + min(crop, 900 + 700 * int(partner_of(draw)[1]))
        )


def test_a_partner_that_cannot_be_used_rejects_with_a_reason(tmp_path, monkeypatch):
    use_fake(monkeypatch)
    manifest = made_up(tmp_path / "corpus", "nnaaa")
    manifest.utterances[0].path.write_bytes(b"no audio at all, but some bytes of it")
    recording(manifest.utterances[1].path, 900, 1).write_bytes(b"")
    report = extract(manifest, "fake", tmp_path / "store", Options(augment=("copypaste-n",)))
    reasons = {reject.id: reject.reason for reject in report.rejects}
    assert reasons == {
        "u0": "not-audio",
        "u1": "empty-file",
        "u2": "partner",
        "u3": "partner",
        "u4": "partner",
    }
    (one,) = {reject.detail for reject in report.rejects if reject.id == "u2"}
    assert str(manifest.utterances[2].path) in one
    assert "its partner 'u" in one


def test_a_partner_that_changed_is_joined_anew(tmp_path, monkeypatch):
    use_fake(monkeypatch)
    manifest = made_up(tmp_path / "corpus", "nnaa")
    options, store = Options(augment=("copypaste-n",)), tmp_path / "store"
    first = extract(manifest, "fake", store, options)
    before = content_by_id(store, first.spec)
    recording(manifest.utterances[0].path, 900, 77)
    after = content_by_id(store, extract(manifest, "fake", store, options).spec)
    joined = {name for name, one in before.items() if partner_of(one[1].draw) == "u0"}
    assert "u1" in joined
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"u0", *joined}


@pytest.mark.parametrize("lost", ["object", "commit"])
def test_repair_joins_the_same_partner(tmp_path, monkeypatch, lost):
    use_fake(monkeypatch)
    tiny_shards(monkeypatch)
    manifest, store = made_up(tmp_path / "corpus"), tmp_path / "store"
    report = extract(manifest, "fake", store, Options(frames=True, augment=("copypaste-n+se",)))
    before = content_by_id(store, report.spec)
    if lost == "object":
        victim = min(path for path in (store / "features.zarr").rglob("c.*") if path.is_file())
        victim.write_bytes(b"\0" * victim.stat().st_size)
    else:
        next((store / "commits").rglob("shard-00000001.json")).write_text("{}")
    mended = repair(store)
    assert (mended.failures, mended.num_shards) == ((), 1)
    assert content_by_id(store, report.spec) == before


def test_repair_refuses_a_partner_that_changed(tmp_path, monkeypatch):
    use_fake(monkeypatch)
    manifest, store = made_up(tmp_path / "corpus"), tmp_path / "store"
    extract(manifest, "fake", store, Options(augment=("copypaste-n",)))
    victim = min(path for path in (store / "features.zarr").rglob("c.*") if path.is_file())
    victim.write_bytes(b"\0" * victim.stat().st_size)
    recording(manifest.utterances[0].path, 900, 99)
    (failure,) = repair(store).failures
    assert "u0.wav is not the audio that was extracted" in failure
