"""Stores, results and outputs that cannot be used, as the command line says it."""

import json
import os
import re
from pathlib import Path

import pytest

from cli_runner import Done, good_corpus, serfeat
from ser_features.files import write_sealed
from ser_features.fingerprint import fingerprint
from ser_features.store.catalog import list_feature_sets
from ser_features.store.lock import writer_lock
from ser_features.store.schema import locate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, a store and results."""
    folder = tmp_path_factory.mktemp("made")
    manifest = good_corpus(folder / "corpus").write()
    done = bench(folder, "--manifest", manifest)
    assert done.status == 0, done.err
    return folder


def bench(folder: Path, *more: object, results: str = "results") -> Done:
    return serfeat(
        "bench", "--store", folder / "store", "--results", folder / results, "--steps", 2,
        "--lr", 0.01, "--upstreams", "fbank", *more,
    )  # fmt: skip


def extract(folder: Path, *more: object) -> Done:
    return serfeat("extract", "--manifest", folder / "corpus" / "made.csv", *more)


def in_box(done: Done) -> str:
    """The text of click's own usage errors."""
    return " ".join(re.sub("[│─╭╮╰╯]", " ", done.err).split())


def test_files_in_place_of_folders_and_the_other_way_round(made: Path) -> None:
    manifest = made / "corpus" / "made.csv"
    results, what = (
        ("--results", made / "results"),
        ("--manifest", manifest, "--upstreams", "fbank"),
    )
    cases = {
        "--store": ("extract", *what, "--store", manifest),
        "--results": ("bench", *what, "--results", manifest),
        "store": ("store", "ls", manifest),
        "--hdf5": ("store", "export", "fbank", "--store", made / "store", "--hdf5", made),
        "--output": ("leaderboard", *results, "--output", made),
    }  # fmt: skip
    for name, args in cases.items():
        done = serfeat(*args)
        assert done.status == 2
        kind = "is a file" if name in ("--store", "--results", "store") else "is a directory"
        text = in_box(done)
        assert "Invalid value for " in text
        assert name in text.partition("Invalid value for ")[2].lower()
        assert kind in text


def test_an_output_that_cannot_be_written(made: Path) -> None:
    for format in ("table", "markdown"):
        output = made / "corpus" / "made.csv" / "x.txt"
        done = serfeat(
            "leaderboard", "--results", made / "results", "--format", format, "--output", output
        )
        assert done.status == 1
        assert done.error.startswith(f"cannot write {output}: ")


def test_no_store_and_no_results(made: Path) -> None:
    done = serfeat("store", "ls", made / "no")
    text = f"no feature store at {made / 'no'}; 'serfeat extract --store {made / 'no'}' makes one"
    assert (done.status, done.error) == (1, text)
    assert serfeat("store", "verify", made / "no").error == text
    done = serfeat("leaderboard", "--results", made / "no")
    assert done.status == 1
    assert done.error.startswith(
        f"no run records in {made / 'no'}; 'serfeat bench' writes them; {made / 'no'} is not a "
        "folder; "
    )


def test_a_store_of_a_newer_schema(made: Path, tmp_path: Path) -> None:
    write_sealed(tmp_path / "serfeat.json", {"schema": 2})
    text = (
        f"{tmp_path} has store schema 2, this version of serfeat reads up to 1: upgrade serfeat "
        "(pip install -U serfeat)"
    )
    for args in (
        ("store", "ls", tmp_path),
        ("store", "info", "x", "--store", tmp_path),
        ("extract", "--manifest", made / "corpus" / "made.csv", "--upstreams", "fbank", "--store",
         tmp_path),
    ):  # fmt: skip
        done = serfeat(*args)
        assert (done.status, done.error) == (1, text)
    assert serfeat("store", "verify", tmp_path).error.startswith(f"{tmp_path / 'serfeat.json'} has")
    assert [path.name for path in tmp_path.iterdir()] == ["serfeat.json"]


def test_a_locked_feature_set(made: Path) -> None:
    corpus = good_corpus(made / "locked", "a")
    manifest = corpus.write("locked.csv")
    args = ("extract", "--manifest", manifest, "--upstreams", "fbank", "--store", made / "store")
    assert serfeat(*args).status == 0
    (name,) = (i.name for i in list_feature_sets(made / "store") if i.name.startswith("locked"))
    corpus.add("more", made / "corpus" / "b-sad-0.wav")
    corpus.write("locked.csv")
    with writer_lock(locate(made / "store", name).lock, "x"):
        done = serfeat(*args)
        assert done.status == 1
        assert done.error.startswith(
            f"feature set {name} is being written by process {os.getpid()}"
        )
        assert done.error.endswith("; wait until it is done, or stop it")
    assert "1 utterance extracted" in serfeat(*args).err


def record_of(results: Path, upstream: str) -> Path:
    (path,) = results.rglob(f"{upstream}--*.json")
    return path


def test_a_damaged_record(made: Path) -> None:
    manifest = made / "corpus" / "made.csv"
    assert bench(made, "--manifest", manifest, results="damaged").status == 0
    path = record_of(made / "damaged", "fbank")
    sound = path.read_text()
    path.write_text(sound.replace('"fbank"', '"fbonk"', 1))
    text = (
        f"{path} was changed after it was written: its checksum does not hold; restore the file, "
        "or delete it and run that bench again"
    )
    done = bench(made, "--manifest", manifest, results="damaged")
    assert (done.status, done.error.split("; to train")[0]) == (1, text)
    done = serfeat("leaderboard", "--results", made / "damaged", "--format", "json")
    assert done.status == 0  # the others are shown
    assert f"not used: {text}" in done.lines
    assert {row["upstream"] for row in json.loads(done.out)["rows"]}.isdisjoint({"fbank", "fbonk"})
    done = serfeat("leaderboard", "--results", made / "damaged")
    assert "not used: " in done.out
    path.write_text("{")
    done = serfeat("leaderboard", "--results", made / "damaged", "--format", "csv")
    assert f"not used: {path} is damaged or not a run record: it is not JSON" in done.lines
    path.unlink()
    assert bench(made, "--manifest", manifest, results="damaged").status == 0
    assert path.exists()


def test_a_record_of_a_newer_schema(made: Path, tmp_path: Path) -> None:
    sealed = json.loads(record_of(made / "results", "fbank").read_text())
    sealed["body"]["schema"] = 2
    sealed["sha256"] = fingerprint(sealed["body"])
    (tmp_path / "new.json").write_text(json.dumps(sealed))
    done = serfeat("leaderboard", "--results", tmp_path)
    assert done.status == 1
    assert "has schema 2, this serfeat reads up to 1: update serfeat to read it" in done.error
