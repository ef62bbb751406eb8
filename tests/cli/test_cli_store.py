"""``serfeat store``: look, verify, mend, export."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile

from cli_runner import good_corpus, inside, noise, serfeat
from ser_features.store.catalog import list_feature_sets
from ser_features.store.reader import open_feature_set

TINY = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
    "conv_dim": [8] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
    "model_type": "hubert",
}  # fmt: skip


def checkpoint(folder: Path) -> Path:
    """A folder with the configuration of a tiny encoder; its weights come from a seed."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(TINY))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus and a store of two feature sets."""
    folder = tmp_path_factory.mktemp("sound")
    manifest, store = good_corpus(folder / "corpus").write(), folder / "store"
    args = ("extract", "--manifest", manifest, "--store", store, "--upstreams")
    assert serfeat(*args, "fbank").status == 0
    assert serfeat(*args, "mfcc", "--frames").status == 0
    return folder


@pytest.fixture
def made(sound: Path, tmp_path: Path) -> Path:
    """A copy of it that may be damaged; the audio is the one of the first."""
    shutil.copytree(sound / "store", tmp_path / "store")
    return tmp_path


def content(store: Path) -> dict[str, Any]:
    """All that a reader gives, as bytes."""
    found = {}
    for info in list_feature_sets(store):
        one = open_feature_set(store, info.name)
        arrays = [one.pooled(kind, sorted(one.ids)) for kind in ("mean", "std", "mean_layernorm")]
        if one.spec.frames != "none":
            arrays += [one.frames(key) for key in sorted(one.ids)]
        found[info.name] = (sorted(one.ids), sorted(one.sources.items()),
                            [array.tobytes() for array in arrays])  # fmt: skip
    return found


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def test_ls(made: Path) -> None:
    done = serfeat("store", "ls", made / "store")
    assert (done.status, done.err) == (0, "")
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in done.out.splitlines()]
    fbank, mfcc = (row for row in rows if row)
    assert re.fullmatch(r"made/fbank/clean-[0-9a-f]{12}", fbank[0])
    assert fbank[1:] == ["16", "1", "240", "none", "1/1"]
    assert re.fullmatch(r"made/mfcc/clean-[0-9a-f]{12}-frames16", mfcc[0])
    assert mfcc[1:] == ["16", "1", "23", "float16", "1/1"]


def test_info(made: Path) -> None:
    done = serfeat("store", "info", "mfcc", "--store", made / "store")
    assert (done.status, done.err) == (0, "")
    text = json.loads(done.out)
    assert (text["corpus"], text["upstream"], text["utterances"]) == ("made", "mfcc", 16)
    assert text["provenance"]["request"] == "mfcc"
    assert text["provenance"]["versions"].keys() >= {"torch", "transformers", "soxr"}
    found = open_feature_set(made / "store", text["name"])
    assert text["total_frames"] == found.num_frames.sum()
    sizes = [
        path.stat().st_size for path in (made / "store/features.zarr" / found.name).rglob("c.*")
    ]
    assert text["bytes"] == sum(sizes)


def test_names_that_are_part_of_several_or_none(made: Path) -> None:
    done = serfeat("store", "info", "made", "--store", made / "store")
    assert done.status == 2
    assert re.fullmatch(
        r"'made' is part of several names: made/fbank/clean-\w+, made/mfcc/clean-\w+-frames16; "
        r"give more of it",
        done.error,
    )
    done = serfeat("store", "export", "fbnk", "--store", made / "store", "--hdf5", made / "x.h5")
    assert done.status == 2
    assert done.error.startswith("unknown feature set 'fbnk'; Known: made/fbank/clean-")
    assert not (made / "x.h5").exists()


def test_export(made: Path) -> None:
    output = made / "new folder" / "ä b.h5"
    done = serfeat("store", "export", "mfcc", "--store", made / "store", "--hdf5", output)
    assert (done.status, done.out) == (0, "")
    assert re.fullmatch(rf"{re.escape(str(output))}: 16 utterances, \d+\.\d kB\n", done.err)
    names = [info.name for info in list_feature_sets(made / "store") if "mfcc" in info.name]
    found = open_feature_set(made / "store", names[0])
    with h5py.File(output) as file:
        ids = [key.decode() for key in file["ids"][:]]
        assert ids == list(found.ids)
        np.testing.assert_array_equal(file["pooled/std"][:], found.pooled("std"))
        start, count = int(file["offset"][3]), int(file["num_frames"][3])
        frames = file["frames"][start : start + count]
        np.testing.assert_array_equal(frames, found.frames(ids[3]))
        assert json.loads(file.attrs["provenance"])["request"] == "mfcc"


def test_a_sound_store(made: Path) -> None:
    done = serfeat("store", "verify", made / "store")
    assert (done.status, done.out) == (0, "")
    assert re.fullmatch(r"2 feature sets, 15 objects, \d+\.\d .B: every byte is whole\n", done.err)
    again = serfeat("store", "verify", made / "store", "--repair")
    assert (again.status, again.err) == (0, done.err)


DAMAGE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a byte of pooled features": ("*/*/*/pooled/mean/c.0.0.0", flip, "changed, its sha256"),
    "a byte of frames": ("made/mfcc/*/frames/c.0.0.0", flip, "changed, its sha256 is not that"),
    "a byte of ids": ("made/fbank/*/id/c.0.0", flip, "changed, its sha256 is not that"),
    "an object lost": ("made/mfcc/*/pooled/std/c.0.0.0", Path.unlink, "missing, the file is not"),
    "an object cut": (
        "made/fbank/*/pooled/std/c.0.0.0",
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        "truncated, 100 bytes, expected ",
    ),
    "a Zarr document": ("made/fbank/*/pooled/mean/zarr.json", flip, "changed, differs from"),
    "a Zarr document lost": ("made/zarr.json", Path.unlink, "missing, the file is not there"),
    "the group's attributes": ("made/mfcc/*/zarr.json", flip, "changed, differs from"),
    "sealed metadata": ("commits/made/fbank/*/metadata.json", flip, "changed, "),
    "metadata lost": ("commits/made/fbank/*/metadata.json", Path.unlink, "missing, "),
    "a plan": ("commits/made/mfcc/*/plan-0000.json", flip, "changed, "),
    "a commit record": ("commits/made/mfcc/*/shard-00000000.json", flip, "changed, "),
    "the store's own file": ("serfeat.json", flip, "changed, "),
    "the store's own file lost": ("serfeat.json", Path.unlink, "missing, "),
}


def where(store: Path, pattern: str) -> Path:
    root = store if pattern.startswith(("commits", "serfeat")) else store / "features.zarr"
    return sorted(root.glob(pattern))[0]


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_mended(sound: Path, made: Path, name: str) -> None:
    store = made / "store"
    pattern, damage, kind = DAMAGE[name]
    path = where(store, pattern)
    damage(path)
    done = serfeat("store", "verify", store)
    assert done.status == 1
    assert done.error == f"{store}: 1 damaged file; run it again with --repair"
    (line,) = (each for each in done.lines if each.startswith("damaged: "))
    assert line.startswith(f"damaged: {path.relative_to(store)}: {kind}")
    if path.name.startswith("c."):
        assert (
            line.endswith(
                "; it holds a-angry-0, a-angry-1, a-sad-0, a-sad-1, b-angry-0 and 11 more"
            )
            or "it holds " in line
        )
    done = serfeat("store", "verify", store, "--repair")
    assert done.status == 0, done.err
    assert done.lines[-1].endswith(": every byte is whole")
    assert content(store) == content(sound / "store")
    assert serfeat("store", "verify", store).status == 0


def test_one_of_two_shards_is_mended_alone(tmp_path: Path) -> None:
    corpus, store = good_corpus(tmp_path / "corpus", "ab"), tmp_path / "store"
    args = ("extract", "--store", store, "--upstreams", "fbank", "--manifest")
    serfeat(*args, corpus.write())
    corpus.record("later", noise(seed=8))
    serfeat(*args, corpus.write())
    whole = content(store)
    flip(where(store, "made/fbank/*/pooled/mean/c.1.0.0"))
    assert "it holds later" in serfeat("store", "verify", store).err
    done = serfeat("store", "verify", store, "--repair")
    assert done.status == 0
    assert "1 shard extracted again" in done.lines
    assert content(store) == whole


def test_reading_damaged_features_is_an_error_that_says_what_to_do(made: Path) -> None:
    path = where(made / "store", "made/fbank/*/pooled/mean/c.0.0.0")
    flip(path)
    done = serfeat("store", "export", "fbank", "--store", made / "store", "--hdf5", made / "x.h5")
    assert done.status == 1
    assert "pooled/mean/c.0.0.0 is damaged" in done.error
    assert done.error.endswith("run 'serfeat store verify --repair'")
    assert not (made / "x.h5").exists()
    (made / "store" / "serfeat.json").unlink()
    done = serfeat("store", "ls", made / "store")
    assert done.status == 1
    assert done.error == (
        f"{made / 'store' / 'serfeat.json'} is missing; run 'serfeat store verify --repair'"
    )


def test_ls_shows_the_sound_sets_beside_a_damaged_one(made: Path) -> None:
    where(made / "store", "commits/made/fbank/*/metadata.json").unlink()
    done = serfeat("store", "ls", made / "store")
    assert "made/mfcc" in done.out
    assert re.search(r"^damaged: made/fbank/clean-\w+ has lost its metadata\.json; ", done.err)


def test_changed_audio_is_not_mended_with(tmp_path: Path) -> None:
    corpus, store = good_corpus(tmp_path / "corpus"), tmp_path / "store"
    args = ("extract", "--manifest", corpus.write(), "--store", store, "--upstreams", "fbank")
    serfeat(*args)
    flip(where(store, "made/fbank/*/pooled/mean/c.0.0.0"))
    path = corpus.folder / "a-sad-0.wav"
    sound = path.read_bytes()
    soundfile.write(path, noise(4800, seed=77), 16000)
    done = serfeat("store", "verify", store, "--repair")
    assert done.status == 1
    assert done.error == f"{store}: 1 damaged file; not all could be mended"
    (line,) = (each for each in done.lines if each.startswith("not mended: "))
    assert re.fullmatch(
        rf"not mended: made/fbank/clean-\w+, shard 0: {re.escape(str(path))} is not the audio that "
        "was extracted; run 'serfeat extract' again",
        line,
    )
    path.write_bytes(sound)
    assert serfeat("store", "verify", store, "--repair").status == 0


def test_an_upstream_that_moved(tmp_path: Path) -> None:
    store, old = tmp_path / "store", checkpoint(tmp_path / "old")
    manifest = good_corpus(tmp_path / "corpus", "a").write()
    with inside(tmp_path):  # written as it is seen from here, found from anywhere
        done = serfeat(
            "extract", "--manifest", manifest, "--store", store, "--upstreams",
            "tiny@random:0=old,./old@random:0",
        )  # fmt: skip
    assert done.status == 0, done.err
    whole = content(store)
    path = where(store, "made/tiny*/*/pooled/mean/c.0.0.0")
    for each in (path, where(store, "made/old*/*/pooled/mean/c.0.0.0")):
        flip(each)
        assert serfeat("store", "verify", store, "--repair").status == 0
        assert content(store) == whole
    flip(path)
    new = old.rename(tmp_path / "new")
    done = serfeat("store", "verify", store, "--repair")
    assert done.status == 1
    (line,) = (each for each in done.lines if each.startswith("not mended: "))
    assert f"no checkpoint folder at {old}" in line
    assert "--upstreams tiny@random:0=FOLDER" in line
    wrong = checkpoint(tmp_path / "wrong")
    (wrong / "config.json").write_text(json.dumps({**TINY, "hidden_size": 32}))
    args = ("store", "verify", store, "--repair", "--upstreams")
    done = serfeat(*args, f"tiny@random:0={wrong}")
    assert done.status == 1
    assert "is not the upstream that made it (other weights or preprocessing)" in done.err
    done = serfeat(*args, f"tiny@random:0={new}")
    assert done.status == 0, done.err
    assert content(store) == whole
