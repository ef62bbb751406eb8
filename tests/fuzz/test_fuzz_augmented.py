"""An augmented feature set from a stranger, every seal right: mended as it was, or told by name."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from fake_upstream import content_by_id, make_corpus, tiny_shards, use_fake
from hostile import bounded, changed, everything, hows, sealed, told, values
from ser_features.augment import folder as recordings
from ser_features.augment.augmented import recall
from ser_features.augment.folder import read_recordings
from ser_features.errors import AudioError, SerfeatError, StoreError, UsageError
from ser_features.extract.pipeline import Options, extract
from ser_features.extract.repair import repair
from ser_features.manifest import Manifest
from ser_features.mixture import partner_of
from ser_features.records import Source
from ser_features.store.verify import verify

EXAMPLES = 400 if "SERFEAT_TORTURE" in os.environ else 8
FILES = ("plan-0000.json", "shard-00000000.json")
DRAWS = st.one_of(values, st.sampled_from(["u2", "u9", [0, 2**40], [2**62, 2**62], {"kind": "x"}]))
TEXTS = st.sampled_from([
    "clean", "noise", "noise:folder=/proc", "noise:folder=~nobody-here/x", "room", "gain+gain",
    "+".join(["speed:factor=0.5"] * 15), "+".join(["gain"] * 400), "+" * 9000, '"', "codec:level=9",
    "noise:folder=/dev/zero", "pitch:" + "," * 4000, "copypaste-n+copypaste-se",
])  # fmt: skip


class Scene:
    """One tiny store of noise and CopyPaste, and what is right in it."""

    def __init__(self, folder: Path) -> None:
        corpus = make_corpus(folder / "corpus", [900, 500, 700])
        utterances = tuple(structs.replace(one, label="neutral") for one in corpus.utterances)
        self.corpus = Manifest(corpus.corpus, utterances)
        self.folder, self.store = folder, folder / "store"
        (folder / "noise").mkdir()
        noise = 0.1 * np.random.RandomState(0).standard_normal(800)
        soundfile.write(folder / "noise" / "n.wav", noise, 8000)
        self.text = f"copypaste-n:crop=0.1+noise:snr=10,folder={folder / 'noise'}"
        report = extract(self.corpus, "fake", self.store, self.options)
        self.spec, self.right = report.spec, self.arrays(content_by_id(self.store, report.spec))
        (self.commits,) = [path.parent for path in self.store.rglob("metadata.json")]
        self.group = next((self.store / "features.zarr").rglob("pooled")).parent
        self.name = self.group.relative_to(self.store / "features.zarr").as_posix()
        shutil.copytree(self.store, folder / "whole")
        self.outcomes = {"mended": 0, "refused": 0}

    @property
    def options(self) -> Options:
        return Options(workers=1, augment=(self.text,))

    @staticmethod
    def arrays(content: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        """Without the sources, which are what a stranger wrote."""
        return {key: (one[0], *one[2:]) for key, one in content.items()}

    def change(self, name: str, change: Callable[[Any], Any]) -> None:
        """A fresh store with one file changed and a shard to extract again."""
        shutil.rmtree(self.store)
        shutil.copytree(self.folder / "whole", self.store)
        path = self.commits / name
        path.write_bytes(sealed(change(json.loads(path.read_bytes())["body"])))
        if name.startswith("plan"):
            (self.commits / "shard-00000000.json").write_text("{}")
        min((self.group / "pooled" / "mean").glob("c.0.*")).unlink()

    def use(self) -> None:
        """Mend it, check it, extend it; nothing else is touched, and no value is wrong."""
        guarded = [self.folder / name for name in ("corpus", "noise", "whole")]
        before = [everything(folder) for folder in guarded]
        for work in (self.mend, self.check, self.extend):
            try:
                with bounded():
                    work()
            except SerfeatError as error:
                told(error, self.name, str(self.store), "made-up")
        assert [everything(folder) for folder in guarded] == before

    def mend(self) -> None:
        mended = repair(self.store)
        for failure in mended.failures:
            told(StoreError(failure), self.name)
        self.outcomes["refused" if mended.failures else "mended"] += 1
        if mended.num_shards:
            found = self.arrays(content_by_id(self.store, self.spec))
            assert found.items() <= self.right.items()

    def check(self) -> None:
        verify(self.store)

    def extend(self) -> None:
        extract(self.corpus, "fake", self.store, self.options)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=1)
    return Scene(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_recorded_draw_that_says_anything(scene: Scene, name: str, counted) -> None:
    """Lengths beyond all bounds, partners of any type: it is drawn again, never believed."""

    @settings(max_examples=EXAMPLES, database=None)
    @given(pick=st.integers(0, 10**6), how=hows, new=DRAWS, raw=st.booleans())
    def attempt(pick: int, how: str, new: object, raw: bool) -> None:
        def spoil(body: Any) -> Any:
            for source in body["sources"]:
                drawn = changed(json.loads(source["draw"]), pick, how, new)
                source["draw"] = json.dumps(new if raw and pick % 4 == 0 else drawn)
            return body

        scene.change(name, spoil)
        scene.use()

    scene.change(name, lambda body: body)
    scene.use()
    assert scene.outcomes == {"mended": 1, "refused": 0}
    attempt()
    assert scene.outcomes["refused"]
    counted(file=name, **scene.outcomes)


def test_a_recorded_partner_that_says_anything(scene: Scene, counted) -> None:
    """What an utterance was joined with: it is decoded and compared, never believed."""

    @settings(max_examples=EXAMPLES, database=None)
    @given(pick=st.integers(0, 10**6), how=hows, new=DRAWS, raw=st.booleans())
    def attempt(pick: int, how: str, new: object, raw: bool) -> None:
        def spoil(body: Any) -> Any:
            for source in body["sources"]:
                whole = raw and pick % 4 == 0
                source["partner"] = new if whole else changed(source["partner"], pick, how, new)
            return body

        scene.change("shard-00000000.json", spoil)
        scene.use()

    def other(body: Any) -> Any:
        body["sources"][0]["partner"]["audio_sha256"] = "0" * 64
        return body

    scene.change("shard-00000000.json", other)
    scene.use()
    assert scene.outcomes == {"mended": 0, "refused": 1}
    attempt()
    counted(part="partner", **scene.outcomes)


@pytest.mark.parametrize("part", ["augmentation", "provenance"])
def test_an_augmentation_that_says_anything(scene: Scene, part: str, counted) -> None:
    @settings(max_examples=EXAMPLES, database=None)
    @given(pick=st.integers(0, 10**6), how=hows, new=st.one_of(values, TEXTS), text=st.booleans())
    def attempt(pick: int, how: str, new: object, text: bool) -> None:
        def spoil(body: Any) -> Any:
            provenance = body["spec"]["provenance"]
            if part == "provenance":
                body["spec"]["provenance"] = changed(provenance, pick, how, new)
            elif text:
                provenance[part]["text"] = new
            else:
                provenance[part] = changed(provenance[part], pick, how, new)
            return body

        scene.change("metadata.json", spoil)
        scene.use()

    attempt()
    assert scene.outcomes["refused"]
    counted(file="metadata.json", part=part, **scene.outcomes)


def test_an_identity_that_is_no_mapping_is_told(scene: Scene) -> None:
    def spoil(body: Any) -> Any:
        body["spec"]["provenance"]["identity"] = ["x"]
        return body

    scene.change("metadata.json", spoil)
    (told_,) = repair(scene.store).failures
    assert scene.name in told_
    assert "no identity" in told_


def test_steps_that_grow_without_end_are_refused() -> None:
    stored = {"text": "+".join(["speed:factor=0.5"] * 16), "seed": 0, "copy": 0}
    with pytest.raises(UsageError, match="not what it was made with"):
        recall({"augmentation": stored})
    with pytest.raises(UsageError, match="at most 16 steps"):
        recall({"augmentation": {**stored, "text": "+".join(["gain"] * 17)}})


@pytest.mark.parametrize("draw", ["[]", "{", '{"partner": ["a"]}', '{"partner": 3}', "[" * 9000])
def test_a_draw_that_cannot_be_read_gives_no_partner(draw: str) -> None:
    with pytest.raises(StoreError, match="recorded draw of 'u' cannot be used"):
        partner_of(Source("u", "u.wav", 0, 0, "", draw=draw))


def test_a_folder_of_links_in_circles_is_read_once(tmp_path: Path) -> None:
    root = tmp_path / "noise"
    (root / "a").mkdir(parents=True)
    soundfile.write(root / "a" / "n.wav", np.full(800, 0.1), 8000)
    for place in ("a/up", "a/again", "b"):
        (root / place).symlink_to(root, target_is_directory=True)
    with bounded():
        (found,) = read_recordings(str(root))
    assert found.num_samples == 800


def test_a_folder_of_too_much_is_refused(tmp_path: Path, monkeypatch) -> None:
    for i in range(5):
        (tmp_path / f"{i}.txt").touch()
    monkeypatch.setattr(recordings, "MOST_ENTRIES", 4)
    with pytest.raises(UsageError, match=f"{tmp_path} holds more than 4 files"):
        read_recordings(str(tmp_path))
    monkeypatch.setattr(recordings, "MOST_ENTRIES", 40)
    (tmp_path / "huge.wav").touch()
    os.truncate(tmp_path / "huge.wav", 2**33)
    with pytest.raises(AudioError, match=r"huge\.wav: 8589934592 bytes"):
        read_recordings(str(tmp_path))
    (tmp_path / "huge.wav").unlink()
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AudioError, match=r"gone\.wav: No such file"):
        read_recordings(str(tmp_path))
