"""Every option of ``extract`` and ``bench`` reaches the library."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

from cli_runner import good_corpus, noise, serfeat
from ser_features.errors import StoreError
from ser_features.store.catalog import list_feature_sets


class Spy:
    """Stands for a library call: keeps what it was called with, then stops the command."""

    def __call__(self, *args: Any) -> None:
        self.args = args
        raise StoreError("stopped here")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return good_corpus(tmp_path / "corpus").write()


EXTRACTION = (
    "--frames", "--device", "cuda:1", "--precision", "float16", "--batch-seconds", 7,
    "--workers", 3, "--max-seconds", 9, "--engine", "ray", "--devices", "cuda,cuda",
    "--ray-address", "head:6379",
)  # fmt: skip


def extraction() -> Any:
    from ser_features.extract.pipeline import Options

    where = {"engine": "ray", "devices": "cuda,cuda", "ray_address": "head:6379"}
    return Options(True, "cuda:1", "float16", 7.0, 3, 9.0, **where)


def test_extract(monkeypatch: pytest.MonkeyPatch, manifest: Path) -> None:
    from ser_features.extract import pipeline

    spy = Spy()
    monkeypatch.setattr(pipeline, "extract_sets", spy)
    args = ("extract", "--manifest", f"mine={manifest}", "--upstreams", "fbank", "--store", "s")
    assert serfeat(*args).error == "stopped here"
    assert spy.args[3] == pipeline.Options()
    serfeat(*args, *EXTRACTION)
    corpus, request, store, options, _ = spy.args
    assert (corpus.corpus, len(corpus), request, store) == ("mine", 16, "fbank", Path("s"))
    assert options == extraction()


def test_bench(monkeypatch: pytest.MonkeyPatch, manifest: Path) -> None:
    from ser_features import bench
    from ser_features.extract.pipeline import Options
    from ser_features.train.run import Training

    spy = Spy()
    monkeypatch.setattr(bench, "bench", spy)
    args = ("bench", "--manifest", manifest, "--upstreams", "fbank", "--upstreams", "mfcc, logmel")
    assert serfeat(*args).error == "stopped here"
    options = spy.args[4]
    assert (options.training, options.extraction) == (Training(), Options())
    assert spy.args[1:4] == (["fbank", "mfcc", "logmel"], Path("features"), Path("results"))
    serfeat(
        *args, *EXTRACTION, "--store", "s", "--results", "r", "--labels", "sad, angry",
        "--weight-decay", "0,0.5",
        "--protocol", "kfold:2", "--heads", "superb,linear", "--heads", "layers", "--recipe",
        "superb", "--steps", 5, "--lr", "1e-3,0.1", "--normalize", "--seeds", 3, "--fold-seed", 4,
        "--allow-rejects", "--layers", "2",
    )  # fmt: skip
    options = spy.args[4]
    assert spy.args[2:4] == (Path("s"), Path("r"))
    assert (options.protocol, options.heads) == ("kfold:2", ("superb", "linear", "layers"))
    assert (options.seeds, options.fold_seed, options.allow_rejects) == (3, 4, True)
    assert [label.strip() for label in options.labels] == ["sad", "angry"]
    assert options.training == Training("superb", 5, (1e-3, 0.1), (0.0, 0.5), "2", True, "cuda:1")
    assert options.extraction == extraction()


def test_study(monkeypatch: pytest.MonkeyPatch, manifest: Path) -> None:
    from ser_features.extract.pipeline import Options
    from ser_features.studies import run
    from ser_features.train.resnet_recipes import ResNetOptions

    spy = Spy()
    monkeypatch.setattr(run, "run_study", spy)
    args = ("study", "copypaste", "--manifest", manifest)
    assert serfeat(*args).error == "stopped here"
    plain = spy.args[1]
    assert (plain.extraction, plain.resnet) == (Options(), ResNetOptions())
    assert (plain.select, plain.weight_decays, plain.init) == (None, None, None)
    serfeat(
        *args, *EXTRACTION[1:], "--weight-decay", "0,0.5", "--select", "last",
        "--pooling", "mean", "--no-vad", "--frame-norm", "none", "--spec-augment", "aggressive",
        "--init", manifest, "--init-train", "new", "--train-precision", "bfloat16",
    )  # fmt: skip
    request = spy.args[1]
    assert request.extraction == replace(extraction(), frames=False)
    assert (request.select, request.weight_decays) == ("last", (0.0, 0.5))
    assert request.init == str(manifest)
    assert request.resnet == ResNetOptions("mean", False, "none", "aggressive", None, "new",
                                           "bfloat16")  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "folder"])
def test_every_kind_of_manifest(tmp_path: Path, kind: str) -> None:
    corpus = good_corpus(tmp_path / "corpus", "ab")
    if kind == "jsonl":
        manifest = corpus.path("made.jsonl")
        manifest.write_text("\n".join(map(json.dumps, corpus.rows)))
    elif kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        manifest = corpus.path("made.parquet")
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(corpus.rows), manifest)
    elif kind == "folder":
        manifest = tmp_path / "made"
        for row in corpus.rows:
            (manifest / row["label"]).mkdir(parents=True, exist_ok=True)
            (corpus.folder / row["path"]).rename(manifest / row["label"] / row["path"])
    else:
        manifest = corpus.write()
    done = serfeat("extract", "--manifest", manifest, "--upstreams", "mfcc", "--store", tmp_path)
    assert done.status == 0, done.err
    assert "made · mfcc: 8 utterances extracted" in done.err


def test_a_part_of_a_named_corpus(tmp_path: Path) -> None:
    (tmp_path / "emodb" / "wav").mkdir(parents=True)
    for name in ("03a01Fa", "03a01Wa", "08a01Na"):
        soundfile.write(tmp_path / "emodb" / "wav" / f"{name}.wav", noise(), 16000)
    args = ("extract", "--corpus", f"emodb={tmp_path / 'emodb'}", "--upstreams", "mfcc")
    done = serfeat(*args, "--store", tmp_path / "store")
    assert done.status == 1
    assert "535" in done.err
    assert "--allow-partial" in done.err
    assert not (tmp_path / "store").exists()
    done = serfeat(*args, "--store", tmp_path / "store", "--allow-partial")
    assert done.status == 0, done.err
    (info,) = list_feature_sets(tmp_path / "store")
    assert info.name.startswith("emodb/mfcc/")


def test_official_folds_of_emobox(tmp_path: Path, manifest: Path) -> None:
    args = (
        "bench", "--manifest", manifest, "--upstreams", "mfcc", "--protocol", "emobox",
        "--store", tmp_path / "store", "--results", tmp_path / "results", "--steps", 2,
    )  # fmt: skip
    done = serfeat(*args)
    assert done.status == 1
    assert done.error == (
        "corpus 'made' carries no 'emobox' folds (its own folds: none); use one of: loso, session, "
        "kfold:K, official"
    )
    done = serfeat(*args, "--emobox", tmp_path / "corpus")
    assert done.status == 1
    assert str(tmp_path / "corpus") in done.error


def test_demo_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the voices and the encoders: their own tests have them."""
    from ser_features.corpora import demo as corpus
    from ser_features.corpora.files import read_manifest
    from ser_features.corpora.source import ManifestSource
    from ser_features.train.recipes import SUPERB_RECIPES, SuperbConfig
    from ser_features_cli import demo

    def make_demo(folder: Path) -> Any:
        made = good_corpus(folder, "abcd")
        for row in made.rows:
            label, take = row["label"], row["id"][-1]
            row["label"] = {"angry0": "angry", "angry1": "happy", "sad0": "sad"}.get(
                label + take, "neutral"
            )
        return read_manifest(made.write("demo.csv"))

    monkeypatch.setattr(corpus, "make_demo", make_demo)
    monkeypatch.setattr(ManifestSource, "read", lambda self: make_demo(Path(self.path)))
    monkeypatch.setattr(demo, "UPSTREAMS", ["fbank", "mfcc"])
    entries = {**SUPERB_RECIPES, "quick": SuperbConfig(steps=5, eval_every=5)}
    monkeypatch.setattr(SUPERB_RECIPES, "_entries", entries)
    folder = tmp_path / "my [demo]"
    done = serfeat("demo", folder)
    assert done.status == 0, done.err
    assert f"demo corpus: 16 utterances in {folder / 'corpus'}" in done.lines
    assert done.out.startswith("demo · loso · angry, happy, neutral, sad · 16 utterances, 4 spea")
    assert "mfcc" in (folder / "leaderboard.md").read_text()
    assert "</html>" in (folder / "leaderboard.html").read_text()
    again = serfeat("demo", folder)
    assert (again.status, again.out) == (0, done.out)
