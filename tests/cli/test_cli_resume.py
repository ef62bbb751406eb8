"""Running a command again does what is missing, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cli_runner import Corpus, Done, good_corpus, noise, serfeat
from ser_features.results import load_record, missing, save_record
from ser_features.store.catalog import list_feature_sets
from ser_features.store.reader import open_feature_set


def extract(manifest: Path, store: Path, *more: object) -> Done:
    return serfeat("extract", "--manifest", manifest, "--store", store, *more)


def times(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and modification time of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


def without_lock(found: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {name: when for name, when in found.items() if not name.endswith("/lock")}


@pytest.mark.parametrize("more", [(), ("--frames",)])
def test_the_second_extraction_writes_nothing(tmp_path: Path, more: tuple[str, ...]) -> None:
    manifest, store = good_corpus(tmp_path / "corpus").write(), tmp_path / "store"
    args = (manifest, store, "--upstreams", "fbank,logmel", *more)
    assert "made · fbank: 16 utterances extracted" in extract(*args).err
    before = times(store)
    done = extract(*args)
    assert done.status == 0
    assert done.lines == [
        "made · fbank: nothing new to extract, 16 already stored",
        "made · logmel: nothing new to extract, 16 already stored",
    ]
    assert times(store) == before


def test_quiet_says_nothing(tmp_path: Path) -> None:
    manifest = good_corpus(tmp_path / "corpus", "a").write()
    done = extract(manifest, tmp_path, "--upstreams", "fbank", "--quiet")
    assert (done.status, done.out, done.err) == (0, "", "")


def test_added_files_alone_are_extracted(tmp_path: Path) -> None:
    corpus, store = good_corpus(tmp_path / "corpus", "abc"), tmp_path / "store"
    extract(corpus.write(), store, "--upstreams", "fbank")
    before = {k: v for k, v in times(store).items() if "/c." in k or "shard-" in k}
    corpus.record("new-1", noise(seed=7))
    corpus.record("new-2", noise(seed=8))
    done = extract(corpus.write(), store, "--upstreams", "fbank")
    assert done.lines[0].startswith("made · fbank: 12 already stored, 2 utterances, 0.6 s of ")
    assert done.lines[1].startswith("made · fbank: 2 utterances extracted, 1 s of audio in ")
    assert done.lines[1].endswith(", 12 already stored")
    assert before.items() <= times(store).items()
    (info,) = list_feature_sets(store)
    assert set(open_feature_set(store, info.name).ids) == {row["id"] for row in corpus.rows}


def test_a_manifest_of_fewer_files_leaves_the_others(tmp_path: Path) -> None:
    corpus = good_corpus(tmp_path / "corpus", "abc")
    extract(corpus.write(), tmp_path, "--upstreams", "fbank")
    corpus.rows = corpus.rows[:2]
    done = extract(corpus.write(), tmp_path, "--upstreams", "fbank")
    assert done.lines == ["made · fbank: nothing new to extract, 2 already stored"]
    (info,) = list_feature_sets(tmp_path)
    assert len(open_feature_set(tmp_path, info.name).ids) == 12


def test_pooled_features_are_served_by_a_set_with_frames(tmp_path: Path) -> None:
    manifest = good_corpus(tmp_path / "corpus", "a").write()
    extract(manifest, tmp_path, "--upstreams", "mfcc", "--frames")
    done = extract(manifest, tmp_path, "--upstreams", "mfcc")
    assert done.lines == ["made · mfcc: nothing new to extract, 4 already stored"]
    assert len(list_feature_sets(tmp_path)) == 1


def test_the_environment_names_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERFEAT_STORE", str(tmp_path / "mine"))
    manifest = good_corpus(tmp_path / "corpus", "a").write()
    assert serfeat("extract", "--manifest", manifest, "--upstreams", "mfcc").status == 0
    assert "made/mfcc/clean-" in serfeat("store", "ls").out


# Bench


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return good_corpus(tmp_path / "corpus")


def bench(corpus: Corpus, *more: object, upstreams: str = "fbank") -> Done:
    folder = corpus.folder.parent
    return serfeat(
        "bench", "--manifest", corpus.write(), "--upstreams", upstreams, "--store",
        folder / "store", "--results", folder / "results", "--steps", 4, "--lr", 0.01, *more,
    )  # fmt: skip


def record_path(corpus: Corpus, upstream: str = "fbank") -> Path:
    (path,) = (corpus.folder.parent / "results").rglob(f"{upstream}--*.json")
    return path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[int]]]:
    """Names of folds and seeds of every call of the trainer."""
    from ser_features import runs

    calls: list[tuple[list[str], list[int]]] = []
    real = runs.train_head

    def spy(head, features, ids, labels, folds, seeds, *more):  # type: ignore[no-untyped-def]
        calls.append(([fold.name for fold in folds], list(seeds)))
        return real(head, features, ids, labels, folds, seeds, *more)

    monkeypatch.setattr(runs, "train_head", spy)
    return calls


def test_bench_again_trains_nothing_and_prints_the_same(
    corpus: Corpus, trained: list[tuple[list[str], list[int]]]
) -> None:
    first = bench(corpus)
    assert first.status == 0, first.err
    assert trained == [(["a", "b", "c", "d"], [0])]
    before = record_path(corpus).read_bytes()
    again = bench(corpus)
    assert again.out == first.out
    assert len(trained) == 1
    assert record_path(corpus).read_bytes() == before


def test_only_a_missing_fold_is_trained(
    corpus: Corpus, trained: list[tuple[list[str], list[int]]]
) -> None:
    out = bench(corpus).out
    path = record_path(corpus)
    whole = load_record(path)
    rest = tuple(score for score in whole.scores if score.fold != "c")
    save_record(corpus.folder.parent / "results", replace(whole, scores=rest))
    assert missing(load_record(path)) == [("c", 0)]
    table = serfeat("leaderboard", "--results", corpus.folder.parent / "results").out
    assert "1 of 4 folds missing: c (seed 0)" in table
    assert bench(corpus).out == out
    assert trained[1:] == [(["c"], [0])]
    found = load_record(path)
    predicted = {score.fold: score.predictions for score in found.scores}
    assert predicted == {score.fold: score.predictions for score in whole.scores}


def test_more_seeds_train_the_new_ones_only(
    corpus: Corpus, trained: list[tuple[list[str], list[int]]]
) -> None:
    bench(corpus)
    assert bench(corpus, "--seeds", 3).status == 0
    assert trained[1:] == [(["a", "b", "c", "d"], [1, 2])]
    assert {score.seed for score in load_record(record_path(corpus)).scores} == {0, 1, 2}
    assert bench(corpus, "--seeds", 2).status == 0  # there already
    assert len(trained) == 2


def test_other_numbers_are_another_run(
    corpus: Corpus, trained: list[tuple[list[str], list[int]]]
) -> None:
    for more in ((), ("--normalize",), ("--lr", "0.1"), ("--steps", 5), ("--protocol", "kfold:3"),
                 ("--protocol", "kfold:3", "--fold-seed", 2), ("--labels", "sad,angry"),
                 ("--heads", "superb,linear")):  # fmt: skip
        done = bench(corpus, *more)
        assert done.status == 0, done.err
    assert len(trained) == 8
    assert len(list((corpus.folder.parent / "results").rglob("fbank--*.json"))) == 8


def test_bench_says_what_a_user_should_know(corpus: Corpus) -> None:
    corpus.record("clipped", (20 * noise(seed=9)).clip(-1, 1))
    corpus.rows[-1] |= {"label": "surprise"}
    corpus.record("loud", (20 * noise(seed=10)).clip(-1, 1))
    done = bench(corpus, "--labels", "angry,sad")
    assert done.status == 0, done.err
    assert any(line.startswith("note: 1 x clipped, e.g. ") for line in done.lines)
    text = "note: 1 of 18 utterances are left out by the selection of labels: surprise"
    assert any(line.startswith(text) for line in done.lines)
    quiet = bench(corpus, "--labels", "angry,sad", "--quiet")
    assert (quiet.err, quiet.out) == ("", done.out)


def test_bench_writes_the_leaderboard(corpus: Corpus) -> None:
    output = corpus.folder.parent / "board" / "table.json"
    done = bench(corpus, "--format", "json", "--output", output, upstreams="fbank,logmel")
    assert f"wrote {output}" in done.lines
    rows = json.loads(output.read_text())["rows"]
    assert {row["upstream"] for row in rows} >= {"fbank", "logmel", "majority"}
    assert "logmel" in done.out  # and a table
    done = bench(corpus, "--format", "json", upstreams="fbank,logmel")
    assert json.loads(done.out)["rows"] == rows
