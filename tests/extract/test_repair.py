"""Any flipped byte is named by verify and mended by repair, or repair says why it cannot be."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from fake_upstream import (
    RATE,
    FakeUpstream,
    Listener,
    content_by_id,
    make_corpus,
    recording,
    run,
    tiny_shards,
    use_fake,
)
from ser_features.errors import DamageError, UpstreamError
from ser_features.extract import repair as repairing
from ser_features.extract.repair import repair
from ser_features.manifest import Manifest
from ser_features.records import FeatureSetSpec
from ser_features.store.reader import open_feature_set
from ser_features.store.schema import locate, name_of
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter

LENGTHS = (900, 1000, 2400, 2400, 5000, 333, 8000)
SILENT = "u2"


class Stored(NamedTuple):
    store: Path
    spec: FeatureSetSpec
    manifest: Manifest

    @property
    def content(self):
        return content_by_id(self.store, self.spec)

    @property
    def commits(self) -> Path:
        return locate(self.store, name_of(self.spec)).commits

    @property
    def group(self) -> Path:
        return locate(self.store, name_of(self.spec)).group

    def bytes(self) -> dict[str, bytes]:
        files = (path for path in self.store.rglob("*") if path.is_file() and path.name != "lock")
        return {path.relative_to(self.store).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stored:
    """Two generations in four shards, one of two objects, one utterance rejected."""
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=2)
    manifest = make_corpus(tmp_path / "corpus", LENGTHS)
    soundfile.write(manifest.by_id[SILENT].path, np.zeros(2400), RATE)
    store = tmp_path / "store"
    run(replace(manifest, utterances=manifest.utterances[:4]), store, frames=True)
    return Stored(store, run(manifest, store, frames=True).spec, manifest)


def flip(path: Path, rng: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)


def test_a_flipped_bit_in_any_file_is_named_and_mended(stored):
    rng, sound, expected = random.Random(11), stored.bytes(), stored.content
    sealed = {name for name in sound if not name.startswith("rejects/")}
    assert len(sealed) > 40
    for name in sorted(sealed):
        flip(stored.store / name, rng)
        report = verify(stored.store)
        assert name in {item.object for item in report.damage}
        mended = repair(stored.store)
        assert mended.failures == ()
        # An object comes from its shard's audio, a document from what the store knows itself.
        is_object = Path(name).name.startswith("c.")
        assert mended.num_shards == (is_object or "/shard-" in name), name
        assert (name in mended.rewritten) == (not is_object), name
        assert verify(stored.store).ok
        assert not verify(stored.store).strays
        assert stored.content == expected
        now = stored.bytes()
        # A plan is rebuilt from the commit records, which know nothing of who was rejected.
        other = {n for n in sound if now.get(n) != sound[n]}
        assert other == ({name} if name.endswith("plan-0000.json") else set())
        (stored.store / name).write_bytes(sound[name])


def test_any_two_damaged_files_are_mended_or_told(stored):
    """Whatever is hit, no wrong value: mended, or a sentence, or work for the next extraction."""
    rng, sound, expected = random.Random(12), stored.bytes(), stored.content
    names = sorted(name for name in sound if not name.startswith("rejects/"))
    told = 0
    for _ in range(25):
        for name in rng.sample(names, 2):
            flip(stored.store / name, rng)
        mended = repair(stored.store)
        if mended.failures:
            told += 1
            assert all(name_of(stored.spec) in text for text in mended.failures)
        else:
            report = run(stored.manifest, stored.store, frames=True)
            assert {row.id for row in report.rejects} == {SILENT}
            assert verify(stored.store).ok
            assert stored.content == expected
        for path in stored.store.rglob("*"):
            if path.is_file() and path.relative_to(stored.store).as_posix() not in sound:
                path.unlink()
        for name, raw in sound.items():
            (stored.store / name).write_bytes(raw)
    assert told < 5  # only where metadata.json and the group's own copy of it are both gone


def test_a_sound_store_is_left_alone(stored):
    before, listener = stored.bytes(), Listener()
    mended = repair(stored.store, progress=listener)
    assert (mended.rewritten, mended.num_shards, mended.failures) == ((), 0, ())
    assert stored.bytes() == before
    assert listener.stages == []


def test_progress_counts_the_damaged_shards(stored):
    for path in sorted((stored.group / "pooled" / "mean").glob("c.*"))[:2]:
        path.unlink()
    listener = Listener()
    assert repair(stored.store, progress=listener).num_shards == 2
    assert listener.stages == [(f"repairing {name_of(stored.spec)}", 2, "shards")]
    assert listener.done == 2


def damage_frames(stored: Stored, utterance: str) -> Path:
    """Break the object that holds an utterance's frames; returns it."""
    for path in sorted(stored.group.glob("frames/c.*")):
        raw = path.read_bytes()
        path.write_bytes(bytes(len(raw)))
        try:
            open_feature_set(stored.store, stored.spec).frames(utterance)
        except DamageError:
            return path
        path.write_bytes(raw)
    pytest.fail(f"no object holds {utterance}")


def spoil_longer(path: Path) -> None:
    recording(path, 4000, seed=77)


def spoil_same_length(path: Path) -> None:
    recording(path, soundfile.info(path).frames, seed=77)


def spoil_silent(path: Path) -> None:
    soundfile.write(path, np.zeros(soundfile.info(path).frames), RATE)


SPOILS: list[tuple[Callable[[Path], None], str]] = [
    (spoil_longer, "is not the audio that was extracted; run 'serfeat extract' again"),
    (spoil_same_length, "is not the audio that was extracted; run 'serfeat extract' again"),
    (spoil_silent, "digital silence"),
    (Path.unlink, "no such file"),
]


@pytest.mark.parametrize(("spoil", "sentence"), SPOILS)
def test_other_audio_is_told_and_the_rest_of_the_shard_stays(stored, spoil, sentence):
    damage_frames(stored, "u0")
    expected = {kind: open_feature_set(stored.store, stored.spec).pooled(kind).tobytes()
                for kind in ("mean", "std", "mean_layernorm")}  # fmt: skip
    spoil(stored.manifest.by_id["u0"].path)
    mended = repair(stored.store)
    (told,) = mended.failures
    assert told.startswith(f"{name_of(stored.spec)}, shard ")
    assert str(stored.manifest.by_id["u0"].path) in told
    assert sentence in told
    assert mended.num_shards == 0
    found = open_feature_set(stored.store, stored.spec)
    assert {kind: found.pooled(kind).tobytes() for kind in expected} == expected
    assert len(found.frames("u4"))
    with pytest.raises(DamageError, match="u0"):
        found.frames("u0")


@pytest.mark.parametrize(("spoil", "sentence"), SPOILS)
def test_other_audio_and_no_commit_record_loses_nobody_in_silence(stored, spoil, sentence):
    """The plan has no hashes, so a shard that may have changed is left to the next extraction."""
    before = stored.content
    (record,) = [path for path in stored.commits.glob("shard-*") if b'"u0"' in path.read_bytes()]
    record.write_bytes(b"")
    spoil(stored.manifest.by_id["u0"].path)
    mended = repair(stored.store)
    if spoil is spoil_same_length:  # sound audio of the planned length is what extract would take
        assert (mended.failures, mended.num_shards) == ((), 1)
    else:
        (told,) = mended.failures
        assert sentence in told
        assert "u0" not in open_feature_set(stored.store, stored.spec).ids
    report = run(stored.manifest, stored.store, frames=True)
    gone = {SILENT, "u0"} if spoil in (spoil_silent, Path.unlink) else {SILENT}
    assert {row.id for row in report.rejects} == gone
    content = stored.content
    assert set(content) == set(before) - gone
    assert all(content[key] == before[key] for key in content if key != "u0")
    assert verify(stored.store).ok


def test_an_upstream_that_is_gone_is_told(stored, monkeypatch):
    damage_frames(stored, "u0")
    before = stored.bytes()

    def gone(request: str, **options: str) -> FakeUpstream:
        raise UpstreamError(f"unknown upstream {request!r}")

    monkeypatch.setattr("ser_features.extract.repair.load_upstream", gone)
    mended = repair(stored.store)
    assert mended.failures == (f"{name_of(stored.spec)}: unknown upstream 'fake'",)
    assert stored.bytes() == before


def test_other_weights_under_the_same_name_are_told(stored, monkeypatch):
    damage_frames(stored, "u0")
    monkeypatch.setattr(
        "ser_features.extract.repair.load_upstream", lambda *_, **__: FakeUpstream(seed=5)
    )
    (told,) = repair(stored.store).failures
    assert told == (
        f"{name_of(stored.spec)}: 'fake' is not the upstream that made it (other weights or "
        "preprocessing); name the right one with --upstreams fake=FOLDER"
    )


def test_a_moved_checkpoint_is_taken_from_where_it_is_now(stored, monkeypatch):
    expected = stored.content
    damage_frames(stored, "u0")
    asked = []

    def load(request: str, *, device: str, precision: str) -> FakeUpstream:
        asked.append((request, device, precision))
        return FakeUpstream()

    monkeypatch.setattr("ser_features.extract.repair.load_upstream", load)
    mended = repair(stored.store, requests=["other=/o", "fake=/new/place"])
    assert (mended.failures, mended.num_shards) == ((), 1)
    assert asked == [("fake=/new/place", "cpu", "float32")]
    assert stored.content == expected


def test_an_upstream_that_fails_is_told_and_the_other_shards_are_mended(stored, monkeypatch):
    for path in sorted((stored.group / "pooled" / "mean").glob("c.*")):
        path.unlink()
    monkeypatch.setattr(
        "ser_features.extract.repair.load_upstream", lambda *_, **__: FakeUpstream(fit_samples=6000)
    )
    mended = repair(stored.store)
    (told,) = mended.failures
    assert "utterance 'u6' of 1.0 s does not fit the device's memory" in told
    assert mended.num_shards > 0
    assert len(open_feature_set(stored.store, stored.spec).pooled("mean", ["u0", "u4"]))


def test_what_does_not_come_back_bit_for_bit_is_told(stored, monkeypatch):
    """Another device gives other last bits: the same features, and no reason to be silent."""
    damage_frames(stored, "u0")
    use_fake(monkeypatch, scale=1 + 2**-20)
    mended = repair(stored.store)
    (told,) = mended.inexact
    assert (mended.failures, mended.num_shards) == ((), 1)
    assert told.startswith(f"{name_of(stored.spec)}, shard ")
    assert verify(stored.store).ok
    use_fake(monkeypatch)
    damage_frames(stored, "u6")
    assert repair(stored.store).inexact == ()


@pytest.mark.parametrize("anew", [False, True])
def test_what_another_process_has_mended_or_planned_anew_is_left_alone(stored, monkeypatch, anew):
    """Between the list of what is damaged and the lock under which it is mended."""
    damage_frames(stored, "u0")
    real, seen = repairing.load_upstream, []

    def late(request: str, **options: str) -> FakeUpstream:
        monkeypatch.setattr(repairing, "load_upstream", real)
        if anew:
            with StoreWriter(stored.store, stored.spec) as writer:
                writer.delete()
            other = replace(stored.manifest, utterances=stored.manifest.utterances[3:])
            run(other, stored.store, frames=True)
        else:
            assert repair(stored.store).num_shards == 1
        seen.append((stored.bytes(), FakeUpstream()))
        return seen[0][1]

    monkeypatch.setattr(repairing, "load_upstream", late)
    mended = repair(stored.store)
    assert (mended.failures, mended.num_shards) == ((), 0)
    ((before, upstream),) = seen
    assert stored.bytes() == before
    assert upstream.batches == []


def test_several_sets_are_mended_each_with_its_own_upstream(stored):
    other = run(stored.manifest, stored.store, "fake@random:1", precision="bfloat16").spec
    both = [content_by_id(stored.store, spec) for spec in (stored.spec, other)]
    for spec in (stored.spec, other):
        for path in locate(stored.store, name_of(spec)).group.glob("pooled/std/c.*"):
            path.write_bytes(b"x")
    mended = repair(stored.store)
    assert mended.failures == ()
    assert [content_by_id(stored.store, spec) for spec in (stored.spec, other)] == both
    assert verify(stored.store).ok
