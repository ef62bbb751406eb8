"""Every recording and manifest that cannot be used, as ``serfeat extract`` and ``bench`` say it."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cli_runner import Corpus, Done, good_corpus, inside, noise, report_rows, serfeat
from ser_features.store.catalog import list_feature_sets
from ser_features.store.reader import open_feature_set

NOBODY = 65534
EXPORT = "export it again as WAV or FLAC, or leave it out"
REJECTED = {
    "missing": ("missing", "no such file; correct the path, or --root for relative paths"),
    "dangling": ("missing", "is a link, and its target gone.wav is gone; mend the link"),
    "folder": ("not-a-file", "is a directory, not a file; give the path of a recording"),
    "empty": ("empty-file", "has 0 bytes; copy or export it again"),
    "zero": ("no-samples", f"a valid file that holds 0 samples; {EXPORT}"),
    "cut": (
        "truncated",
        f"damaged or cut off, its header promises 9644 bytes, the file has 5000; {EXPORT}",
    ),
    "text": (
        "not-audio",
        "not audio that libsndfile reads (Format not recognised; it begins with b'hello he'); "
        "convert it to WAV or FLAC",
    ),
    "nan": (
        "not-finite",
        f"1 of 4800 samples are NaN or infinite, the first is 5; {EXPORT}",
    ),
    "inf": (
        "not-finite",
        f"2 of 4800 samples are NaN or infinite, the first is 7; {EXPORT}",
    ),
    "silent": (
        "silent",
        "digital silence, all 4800 samples are 0; record it again or leave it out",
    ),
    "short": (
        "too-short",
        "399 samples at 16000 Hz are shorter than one receptive field of the encoder "
        "(400 samples, 0.025 s); leave it out",
    ),
}
KEPT = {"clipped", "octo", "fast", "renamed", "again", "Ünï çödé"}
FILES = {"dangling": "dangling.wav", "folder": "folder.wav", "missing": "missing.wav"}


def make_bad_corpus(folder: Path) -> Corpus:
    """Sixteen sound recordings, and one of every kind that is not."""
    corpus = good_corpus(folder)
    corpus.add("missing", "missing.wav")
    corpus.path("dangling.wav").symlink_to("gone.wav")
    corpus.add("dangling", "dangling.wav")
    corpus.path("folder.wav").mkdir()
    corpus.add("folder", "folder.wav")
    corpus.path("empty.wav").touch()
    corpus.add("empty", "empty.wav")
    corpus.record("zero", noise(0))
    cut = corpus.record("cut", noise())
    cut.write_bytes(cut.read_bytes()[:5000])
    corpus.path("text.wav").write_text("hello hello\n" * 50)
    corpus.add("text", "text.wav")
    for name, where, value in (("nan", [5], np.nan), ("inf", [7, 9], np.inf)):
        samples = noise()
        samples[where] = value
        corpus.record(name, samples, subtype="FLOAT")
    corpus.record("silent", np.zeros(4800))
    corpus.record("short", noise(399))
    corpus.record("clipped", np.clip(20 * noise(), -1, 1))
    corpus.record("octo", np.stack([noise(seed=i) for i in range(8)], axis=1))
    corpus.record("fast", noise(28800, seed=3), 96000)
    soundfile.write(corpus.path("renamed.wav"), noise(seed=4), 16000, format="FLAC")
    corpus.add("renamed", "renamed.wav")
    shutil.copy(corpus.folder / "a-angry-0.wav", corpus.path("again.wav"))
    corpus.add("again", "again.wav")
    soundfile.write(corpus.path("ö ç/a b [red] 'x'.wav"), noise(seed=5), 16000)
    corpus.add("Ünï çödé", "ö ç/a b [red] 'x'.wav")
    return corpus


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Done]:
    """The corpus's manifest, the store, and how extracting it ended."""
    folder = tmp_path_factory.mktemp("bad")
    manifest = make_bad_corpus(folder / "corpus").write()
    done = serfeat("extract", "--manifest", manifest, "--upstreams", "fbank", "--store", folder)
    return manifest, folder, done


@pytest.mark.parametrize("name", REJECTED)
def test_each_is_a_row_of_the_report(bad: tuple[Path, Path, Done], name: str) -> None:
    manifest, store, _ = bad
    row = report_rows(store)[name]
    reason, text = REJECTED[name]
    path = str(manifest.parent / FILES.get(name, f"{name}.wav"))
    assert (row["path"], row["reason"], row["detail"]) == (path, reason, f"{path}: {text}")


def test_the_report_holds_nothing_else_and_the_others_are_stored(
    bad: tuple[Path, Path, Done],
) -> None:
    _, store, _ = bad
    assert set(report_rows(store)) == set(REJECTED)
    (info,) = list_feature_sets(store)
    found = open_feature_set(store, info.name)
    assert len(found.ids) == 16 + len(KEPT)
    assert set(found.ids) > KEPT
    assert np.isfinite(found.pooled("mean")).all()


def test_the_command_says_what_it_did_and_ends_with_status_3(bad: tuple[Path, Path, Done]) -> None:
    manifest, store, done = bad
    assert done.status == 3
    assert done.out == ""
    assert done.error == (
        f"{len(REJECTED)} of {16 + len(KEPT) + len(REJECTED)} utterances were rejected (the others "
        f"are stored); mend the files that the reports in {store / 'rejects'} name, or pass "
        "--allow-rejects"
    )
    first, second, *remarks, last, _ = done.lines
    assert first.startswith("made · fbank: 25 utterances, ")  # by their headers
    assert first.endswith(" kB, 8 rejected")
    assert second.startswith("made · fbank: 22 utterances extracted, 7 s of audio in ")
    (report,) = (store / "rejects").rglob("*.csv")
    assert last == f"rejected: {len(REJECTED)} in all, listed in {report}"
    folder = manifest.parent
    clipped, renamed, same, *rejected = remarks
    assert clipped.startswith(f"note: 1 x clipped, e.g. {folder / 'clipped.wav'}: ")
    assert clipped.endswith(" at full scale, 3 or more in a row")
    assert renamed == (
        f"note: 1 x wrong-extension, e.g. {folder / 'renamed.wav'}: the name ends in .wav, the "
        "content is FLAC"
    )
    assert same == "note: the same audio under 2 ids: a-angry-0, again"
    counts = {text.split()[3].rstrip(","): int(text.split()[1]) for text in rejected}
    reasons = [reason for reason, _ in REJECTED.values()]
    assert counts == {reason: reasons.count(reason) for reason in reasons}


def test_allowed_rejects_end_with_status_0(bad: tuple[Path, Path, Done]) -> None:
    manifest, store, _ = bad
    done = serfeat(
        "extract", "--manifest", manifest, "--upstreams", "fbank", "--store", store,
        "--allow-rejects",
    )  # fmt: skip
    assert done.status == 0
    assert done.lines[0] == "made · fbank: nothing new to extract, 22 already stored"
    assert "error" not in done.err


def test_bench_refuses_and_then_counts(bad: tuple[Path, Path, Done]) -> None:
    manifest, store, _ = bad
    args = (
        "bench", "--manifest", manifest, "--upstreams", "fbank", "--store", store,
        "--results", store / "results", "--steps", 4, "--lr", "0.01",
    )  # fmt: skip
    done = serfeat(*args)
    (report,) = (store / "rejects").rglob("*.csv")
    assert done.status == 3
    assert done.error == (
        "made: 11 of 33 utterances were rejected; "
        f"see {report}, mend the files, or pass --allow-rejects"
    )
    assert done.out == ""
    done = serfeat(*args, "--allow-rejects")
    assert done.status == 0, done.err
    assert "11 utterances were rejected and are not scored" in done.out


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which ``tmp_path`` is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name).resolve()


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything: work as nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_unreadable_permissions(open_folder: Path) -> None:
    corpus = good_corpus(open_folder / "corpus", speakers="a")
    store = open_folder / "store"
    args = ("extract", "--upstreams", "fbank", "--store", store, "--manifest")
    assert serfeat(*args, corpus.write()).status == 0  # all is imported now
    shutil.rmtree(store)
    corpus.record("secret", noise()).chmod(0)
    manifest = corpus.write()
    store.mkdir()
    store.chmod(0o777)
    with unprivileged():
        if not os.access(manifest, os.R_OK, effective_ids=True):
            pytest.skip("the folder for temporary files is closed to others")
        done = serfeat(*args, manifest)
    assert done.status == 3
    row = report_rows(store)["secret"]
    path = corpus.folder / "secret.wav"
    assert (row["path"], row["reason"]) == (str(path), "permission")
    text = "may not be read (permission denied); change its mode or that of its folders"
    assert f"rejected: 1 x permission, e.g. {path}: {text}" in done.lines
    assert "made · fbank: 4 utterances extracted" in done.err


def test_thirty_minutes(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "corpus")
    samples = np.tile(noise(8000, seed=1), 1800)
    corpus.record("long", samples, 8000, subtype="ULAW")
    args = ("extract", "--manifest", corpus.write(), "--upstreams", "mfcc", "--store", tmp_path)
    done = serfeat(*args, "--max-seconds", 600)
    assert done.status == 3
    assert report_rows(tmp_path)["long"]["reason"] == "too-long"
    assert "1800 s are longer than the limit of 600 s" in done.err
    done = serfeat(*args)
    assert done.status == 0, done.err
    assert "made · mfcc: 1 utterance, 0.50 h of audio, 179998 frames, 0.3 kB" in done.lines
    (info,) = list_feature_sets(tmp_path)
    assert open_feature_set(tmp_path, info.name).num_frames.tolist() == [179998]


# Paths


@pytest.mark.parametrize("how", ["beside", "root", "absolute", "from elsewhere"])
def test_relative_and_absolute_paths(tmp_path: Path, how: str) -> None:
    corpus = Corpus(tmp_path / "ä b" / "corpus")
    corpus.record("sub/one", noise())
    more, cwd = (), tmp_path
    if how == "root":
        manifest = Corpus(tmp_path / "lists", corpus.rows).write()
        more = ("--root", corpus.folder)
    elif how == "absolute":
        corpus.rows[0]["path"] = str(corpus.folder / "sub/one.wav")
        manifest = Corpus(tmp_path / "lists", corpus.rows).write()
    else:
        manifest, cwd = corpus.write(), corpus.folder if how == "beside" else tmp_path
    with inside(cwd):
        done = serfeat(
            "extract", "--manifest", manifest if how != "beside" else "made.csv", *more,
            "--upstreams", "logmel", "--store", tmp_path / "store",
        )  # fmt: skip
    assert done.status == 0, done.err
    (info,) = list_feature_sets(tmp_path / "store")
    (source,) = open_feature_set(tmp_path / "store", info.name).sources.values()
    assert Path(source.path) == corpus.folder / "sub/one.wav"


def test_root_that_is_wrong(tmp_path: Path) -> None:
    manifest = good_corpus(tmp_path / "corpus", "a").write()
    args = ("extract", "--manifest", manifest, "--upstreams", "fbank", "--store", tmp_path)
    done = serfeat(*args, "--root", tmp_path)
    assert done.status == 3
    path = tmp_path / "a-angry-0.wav"
    assert report_rows(tmp_path)["a-angry-0"]["detail"].startswith(f"{path}: no such file; ")
    assert "made · fbank: nothing new to extract" in done.lines
    assert not list((tmp_path / "features.zarr").rglob("c.*"))
    assert serfeat(*args, "--root", tmp_path / "no").status == 2


# Manifests


def test_duplicate_ids_and_all_other_problems_at_once(tmp_path: Path) -> None:
    corpus = good_corpus(tmp_path / "corpus", "a", takes=1)
    corpus.rows += [corpus.rows[0], {**corpus.rows[1], "id": "x", "label": ""}]
    manifest = corpus.write()
    done = serfeat("extract", "--manifest", manifest, "--upstreams", "fbank", "--store", tmp_path)
    assert done.status == 1
    assert done.err.splitlines() == [
        f"error: {manifest} is not valid, 2 problem(s):",
        "  - line 5: 'x' has no label",
        "  - id 'a-angry-0' is there 2 times: line 2, line 4",
    ]


def bench(manifest: Path, store: Path, *more: object) -> Done:
    where = ("--store", store, "--results", store / "results")
    return serfeat("bench", "--manifest", manifest, "--upstreams", "fbank", *where, *more)


def test_unknown_label(tmp_path: Path) -> None:
    done = bench(good_corpus(tmp_path / "corpus").write(), tmp_path, "--labels", "angry,saad")
    assert done.status == 1
    assert done.err.splitlines() == [
        "error: 'made' has no utterance of 1 requested label(s); it has: angry (8), sad (8)",
        "  - no 'saad'; did you mean 'sad'?",
    ]
    assert not (tmp_path / "features.zarr").exists()


def test_one_class_is_told_before_anything_is_extracted(tmp_path: Path) -> None:
    done = bench(good_corpus(tmp_path / "corpus").write(), tmp_path, "--labels", "angry")
    assert done.status == 2
    assert done.error == "'made' has one class to tell, angry; expected two or more"
    assert not (tmp_path / "features.zarr").exists()


def test_missing_speaker(tmp_path: Path) -> None:
    corpus = good_corpus(tmp_path / "corpus")
    corpus.rows[3]["speaker"] = ""
    done = bench(corpus.write(), tmp_path)
    assert done.status == 1
    assert done.error == (
        "loso needs the speaker of every utterance, 1 of 16 have none (first: 'a-sad-1'); "
        "protocols that need none: session, official, emobox, superb"
    )
    done = bench(corpus.write(columns=("id", "path", "label")), tmp_path)
    assert "loso needs the speaker of every utterance, 16 of 16 have none" in done.error
    assert not (tmp_path / "features.zarr").exists()


def test_every_utterance_rejected(tmp_path: Path) -> None:
    corpus = good_corpus(tmp_path / "corpus")
    for row in corpus.rows:
        corpus.path(row["path"]).write_bytes(b"")
    done = bench(corpus.write(), tmp_path, "--allow-rejects")
    assert done.status == 3
    assert done.error == "made: all 16 utterances were rejected; nothing is left to train on"
