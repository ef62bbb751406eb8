"""A store from a stranger, every seal of it right: the values, or an error that names the file.

Whatever its records say, reading, checking, mending and extending it end soon, take little memory,
run nothing and write nothing outside of it.
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import hostile
from fake_upstream import make_corpus, run, tiny_shards, use_fake
from hostile import bounded, changed, everything, hows, sealed, told, values
from ser_features.errors import DamageError, SerfeatError, StoreError
from ser_features.extract.repair import repair
from ser_features.fingerprint import fingerprint
from ser_features.manifest import Manifest
from ser_features.store.catalog import list_feature_sets
from ser_features.store.export import export_hdf5
from ser_features.store.reader import open_feature_set
from ser_features.store.verify import remove_strays, verify

EXAMPLES = 400 if "SERFEAT_TORTURE" in os.environ else 5
FILES = ("metadata.json", "plan-0000.json", "shard-00000000.json", "serfeat.json")


class Scene:
    """One store, what is right in it, and all that a user does with it."""

    def __init__(self, folder: Path, corpus: Manifest) -> None:
        self.folder, self.corpus = folder, corpus
        self.store, self.out = folder / "store", folder / "out"
        run(Manifest(corpus.corpus, corpus.utterances[:2]), self.store, frames=True)
        (self.name,) = [info.name for info in list_feature_sets(self.store)]
        self.group = self.store / "features.zarr" / self.name
        self.commits = self.store / "commits" / self.name
        (folder / "outside").mkdir()
        (folder / "outside" / "mine").write_text("do not touch")
        shutil.copytree(self.store, folder / "whole")
        self.outcomes = {"fine": 0, "refused": 0}

    def fresh(self) -> None:
        shutil.rmtree(self.store)
        shutil.copytree(self.folder / "whole", self.store)

    def file(self, name: str) -> Path:
        return self.store / name if name == "serfeat.json" else self.commits / name

    def use(self) -> None:
        """Every operation: it comes through, or says what is wrong with what."""
        guarded = [self.folder / name for name in ("outside", "corpus", "whole")]
        before = [everything(folder) for folder in guarded]
        for work in (self.look, self.read, self.export, self.check, self.extend, self.mend):
            try:
                with bounded():
                    work()
                self.outcomes["fine"] += 1
            except SerfeatError as error:
                told(error, str(self.store), self.name, "shard", "corpus", "the store")
                self.outcomes["refused"] += 1
        assert [everything(folder) for folder in guarded] == before
        assert {path.name for path in self.folder.iterdir()} <= {
            "outside", "corpus", "whole", "store", "out"
        }  # fmt: skip

    def look(self) -> None:
        list_feature_sets(self.store)

    def read(self) -> None:
        found = open_feature_set(self.store, self.name)
        for kind in ("mean", "std", "mean_layernorm"):
            assert np.isfinite(found.pooled(kind)).all()
        for key in found.ids:
            assert np.isfinite(found.frames(key)).all()
        assert sum(len(shard.ids) for shard in found.iter_shards()) == len(found.ids)

    def export(self) -> None:
        export_hdf5(open_feature_set(self.store, self.name), self.out / "a.h5")

    def check(self) -> None:
        verify(self.store)

    def extend(self) -> None:
        run(self.corpus, self.store, frames=True)

    def mend(self) -> None:
        repair(self.store)
        remove_strays(self.store)
        verify(self.store)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=1)
    return Scene(tmp_path, make_corpus(tmp_path / "corpus", [900, 500, 700]))


@pytest.mark.parametrize("name", FILES)
def test_a_sealed_file_that_says_anything(scene: Scene, name: str, counted) -> None:
    body = json.loads(scene.file(name).read_bytes())["body"]

    @settings(max_examples=EXAMPLES, database=None)
    @given(pick=st.integers(0, 10**6), how=hows, new=values)
    @example(pick=46, how="replace", new="\ud800")  # half a character, in a text or as a path
    @example(pick=999999, how="replace", new="\ud800")
    def attempt(pick: int, how: str, new: object) -> None:
        scene.fresh()
        scene.file(name).write_bytes(sealed(changed(body, pick, how, new)))
        scene.use()

    attempt()
    assert scene.outcomes["refused"]
    counted(file=name, **scene.outcomes)


LIES = {
    "dim": ("spec", 2**40), "num_layers": ("spec", 10**9), "rows": ("spec", 2**50),
    "capacity": ("spec", 2**60), "plans": (None, 2**61), "shards": (None, 2**61),
}  # fmt: skip


@pytest.mark.parametrize("field", LIES)
def test_a_lying_size_is_refused_before_anything_is_allocated(scene: Scene, field: str) -> None:
    body = json.loads(scene.file("metadata.json").read_bytes())["body"]
    part, value = LIES[field]
    (body[part] if part else body)[field] = value
    scene.file("metadata.json").write_bytes(sealed(body))
    assert verify(scene.store).damage
    if field != "shards":  # that is only told, and not what reading goes by
        with bounded(), pytest.raises(DamageError, match=r"metadata\.json"):
            open_feature_set(scene.store, scene.name)
    scene.use()


@pytest.mark.parametrize("field", ["num_frames", "first_frame", "index"])
@pytest.mark.parametrize("value", [2**40, 2**61, 10**400])
def test_a_shard_of_any_length_is_refused(scene: Scene, field: str, value: int) -> None:
    for name, shards in (("plan-0000.json", "shards"), ("shard-00000000.json", "shard")):
        body = json.loads(scene.file(name).read_bytes())["body"]
        shard = body[shards][0] if shards == "shards" else body[shards]
        shard[field] = [value] * len(shard["ids"]) if field == "num_frames" else value
        scene.file(name).write_bytes(sealed(body))
    scene.use()


def test_the_attributes_of_a_group_may_say_anything(scene: Scene, counted) -> None:
    """They are what a lost metadata.json is made from."""
    document = json.loads((scene.group / "zarr.json").read_bytes())

    @settings(max_examples=EXAMPLES, database=None)
    @given(pick=st.integers(0, 10**6), how=hows, new=values)
    def attempt(pick: int, how: str, new: object) -> None:
        scene.fresh()
        scene.file("metadata.json").unlink()
        made = changed(document, pick, how, new)
        attributes = made.get("attributes")
        if isinstance(attributes, dict) and isinstance(attributes.get("spec"), dict):
            with suppress(ValueError, RecursionError):
                attributes["spec_sha256"] = fingerprint(attributes["spec"])
        (scene.group / "zarr.json").write_text(json.dumps(made))
        scene.use()

    attempt()
    counted(file="zarr.json", **scene.outcomes)


PLANTED = {
    "pipe": lambda path, outside: os.mkfifo(path),
    "link to a file": lambda path, outside: path.symlink_to(outside / "mine"),
    "link to a folder": lambda path, outside: path.symlink_to(outside),
    "link to a device": lambda path, outside: path.symlink_to("/dev/zero"),
    "folder": lambda path, outside: path.mkdir(),
    "huge": lambda path, outside: (path.touch(), os.truncate(path, 2**40)),
}
TARGETS = (
    "serfeat.json", "features.zarr/zarr.json", "COMMITS/metadata.json", "COMMITS/plan-0000.json",
    "COMMITS/shard-00000000.json", "COMMITS/lock", "COMMITS/staging", "GROUP/zarr.json",
    "GROUP/pooled", "GROUP/frames", "GROUP/pooled/mean/c.0.0.0", "GROUP/id/c.0.0", "COMMITS",
    "GROUP", "commits", "features.zarr", "rejects",
)  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_no_plain_file_is_neither_followed_nor_waited_for(
    scene, target, torture, counted
) -> None:
    names = {"COMMITS": scene.commits, "GROUP": scene.group}
    first, _, rest = target.partition("/")
    path = names.get(first, scene.store / first) / rest
    start = TARGETS.index(target)
    for kind in PLANTED if torture else [list(PLANTED)[start % 6]]:
        plant = PLANTED[kind]
        scene.fresh()
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        plant(path, scene.folder / "outside")
        scene.use()
    counted(target=target, **scene.outcomes)


def test_a_report_of_rejects_may_say_anything(scene: Scene) -> None:
    """It only costs trying the files again, and is never written through a link."""
    silent = scene.folder / "corpus" / "u1.wav"
    silent.write_bytes(silent.read_bytes()[:44] + bytes(1000))
    scene.store.joinpath("rejects").mkdir()
    report = run(scene.corpus, scene.store, frames=True).rejects
    (path,) = (scene.store / "rejects").rglob("*.csv")
    for text in (b"", b"\xff\xfe", b"id,path\n" + b'"' * 10**6, b"\0" * 999, b"id\n" * 9999):
        path.write_bytes(text)
        assert run(scene.corpus, scene.store, frames=True).rejects == report
    shutil.rmtree(scene.store / "rejects")
    (scene.store / "rejects").symlink_to(scene.folder / "outside")
    with pytest.raises(StoreError, match="leads outside the store"):
        run(scene.corpus, scene.store, frames=True)
    assert [p.name for p in (scene.folder / "outside").iterdir()] == ["mine"]


def test_the_watch_itself_holds() -> None:
    with pytest.raises(AssertionError, match="MB"), bounded():
        np.empty(2**27)
    deep: Callable[[], object] = lambda: hostile.nested(3)  # noqa: E731
    assert deep() == [[[[]]]]
