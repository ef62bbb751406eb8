"""Stores and run records of every version that ever was are read, with the values they had."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ser_features.results import load_record, load_records, missing
from ser_features.store.catalog import list_feature_sets
from ser_features.store.moved import find_moved
from ser_features.store.reader import open_feature_set
from ser_features.store.schema import locate
from ser_features.store.summary import summarize
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter

HERE = Path(__file__).resolve().parent
VERSIONS = sorted(path.name for path in HERE.iterdir() if (path / "expected.json").exists())


def expected(version: str) -> dict:
    return json.loads((HERE / version / "expected.json").read_text(encoding="utf-8"))


def sets_of(store: Path) -> dict:
    found = {info.spec.frames: info for info in list_feature_sets(store)}
    assert all(info.complete for info in found.values())
    return {kind: open_feature_set(store, info.name) for kind, info in found.items()}


def test_there_is_history() -> None:
    assert "0.1.0.dev1" in VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_store_is_read(version: str) -> None:
    store, wanted = HERE / version / "store", expected(version)["store"]
    assert verify(store).ok
    found = sets_of(store)
    assert sorted(found) == sorted(wanted)
    for kind, one in found.items():
        right = wanted[kind]
        counted = summarize(store, one.name)
        assert (counted.utterances, counted.num_bytes) == (len(right["ids"]), one.num_bytes)
        assert counted.total_frames == sum(right["num_frames"])
        assert (counted.committed_shards, counted.planned_shards) == (3, 3)
        assert list(one.ids) == right["ids"]
        assert one.num_frames.tolist() == right["num_frames"]
        assert list(one.audio_sha256) == right["audio_sha256"]
        assert [source.path for source in one.sources.values()] == right["paths"]
        again = [[key, s.path] for r in find_moved(locate(store, one.name)) for key, s in r.items()]
        assert again == right.get("moved", [])  # none before 0.1.0.dev3
        for pooled in ("mean", "std", "mean_layernorm"):
            assert one.pooled(pooled).tolist() == right[pooled]
        for key, frames in right.get("frames", {}).items():
            stored = one.frames(key)
            assert stored.dtype == kind
            assert np.array_equal(stored, frames)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_store_can_be_written_on(version: str, tmp_path: Path) -> None:
    shutil.copytree(HERE / version / "store", tmp_path / "store")
    for one in sets_of(tmp_path / "store").values():
        with StoreWriter(tmp_path / "store", one.spec) as writer:
            assert not writer.pending
            assert writer.sources == one.sources
    assert verify(tmp_path / "store").ok


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_record_is_read(version: str) -> None:
    right = expected(version)["record"]
    (path,) = (HERE / version / "results").rglob("*.json")
    record = load_record(path)
    scores = record.scores
    found = {
        "key": record.key,
        "labels": record.labels,
        "truth": record.truth,
        "speakers": record.speakers,
        "expected": record.expected,
        "config": record.config,
        "predictions": [[s.fold, s.seed, s.test_ids, s.predictions] for s in scores],
        "dev_curves": [s.dev_curve for s in scores],
        "num_rejects": record.num_rejects,
        "notes": record.notes,
        "audit": record.audit,
    }
    assert json.loads(json.dumps(found)) == right
    assert missing(record) == [("b", 1)]
    assert load_records([path.parent]).problems == ()


def test_what_is_there_is_never_made_again() -> None:
    done = subprocess.run(
        [sys.executable, HERE / "make.py", "0.1.0.dev1"],
        cwd=HERE.parents[1], env={"PYTHONPATH": "."}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is never written again" in done.stderr


def test_what_is_written_now_is_what_the_newest_version_wrote(tmp_path: Path) -> None:
    """Where this fails the format has changed: make a sample of it."""
    old, new = HERE / VERSIONS[-1] / "store", tmp_path / "store"
    for kind in ("none", "float16", "float32"):
        runpy.run_path(str(HERE / "make.py"))["write_set"](new, kind)
    written = {path.relative_to(new): path for path in new.rglob("*") if path.is_file()}
    assert sorted(written) == sorted(p.relative_to(old) for p in old.rglob("*") if p.is_file())
    for name, path in written.items():
        assert path.read_bytes() == (old / name).read_bytes(), name
