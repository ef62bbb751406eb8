"""Copies, rates, test conditions and other data from the command line, records run again."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from cli_runner import good_corpus, serfeat
from ser_features.leaderboard import build_rows
from ser_features.results import load_record, load_records


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixing")
    good_corpus(folder / "corpus").write()
    good_corpus(folder / "other", "xyz").write()
    (folder / "noise").mkdir()
    samples = 0.1 * np.random.default_rng(0).standard_normal(8000)
    soundfile.write(folder / "noise" / "n.wav", samples.clip(-1, 1), 16000)
    return folder


def bench(folder: Path, results: str, *more: object, status: int = 0):
    noise = f"noise:snr=10,folder={folder / 'noise'}"
    done = serfeat(
        "bench", "--manifest", folder / "corpus" / "made.csv", "--upstreams", "logmel",
        "--steps", 10, "--lr", "0.01", "--store", folder / "store",
        "--results", folder / results, *(noise if one == "NOISE" else one for one in more),
    )  # fmt: skip
    assert done.status == status, done.err
    return done


def heard(folder: Path, results: str, pattern: str = "logmel--*.json") -> list[Path]:
    return sorted((folder / results).rglob(pattern))


def test_copies_and_conditions(folder: Path) -> None:
    done = bench(
        folder, "copies", "--augment", "NOISE", "--copies", 2,
        "--test-condition", "clean", "--test-condition", "NOISE", "--late",
    )  # fmt: skip
    records = {r.condition: r for r in map(load_record, heard(folder, "copies"))}
    assert set(records) == {"clean", "noise-10db"}
    clean, noisy = records.values()
    assert clean.key != noisy.key
    for one in records.values():
        assert one.augmentation == "noise-10db x2"
        assert {name for s in one.scores for name in s.test_ids} == set(clean.truth)
        assert {s.num_train for s in one.scores} == {3 * 8}
        assert all([step for step, _ in s.late] == [9, 10] for s in one.scores)
    assert "tested under noise-10db" in done.out
    assert "noise-10db x2" in done.out
    rows = build_rows(load_records([folder / "copies"]).records, num_resamples=50)
    assert {row.condition: row.num_utterances for row in rows} == {"clean": 16, "noise-10db": 16}
    assert {row.head for row in rows if row.condition == "noise-10db"} == {"baseline", "superb"}
    late = next(row.late for row in rows if row.head == "superb")
    assert (late["evaluations"], 0 <= late["uar"] <= 1) == (2, True)


def test_the_clean_record_is_the_same_whatever_else_is_tested(folder: Path) -> None:
    bench(folder, "alone")
    bench(folder, "beside", "--test-condition", "clean", "--test-condition", "NOISE")
    (alone,) = map(load_record, heard(folder, "alone"))
    beside = {r.condition: r for r in map(load_record, heard(folder, "beside"))}
    assert beside["clean"].key == alone.key
    assert [s.predictions for s in beside["clean"].scores] == [
        s.predictions for s in alone.scores
    ]  # fmt: skip


def test_another_noise_of_the_same_name_is_another_record(folder: Path) -> None:
    (folder / "hiss").mkdir()
    samples = 0.1 * np.random.default_rng(1).standard_normal(8000)
    soundfile.write(folder / "hiss" / "n.wav", samples.clip(-1, 1), 16000)
    for name in ("noise", "hiss"):
        bench(folder, "tested", "--test-condition", f"noise:snr=10,folder={folder / name}")
    first, second = map(load_record, heard(folder, "tested"))
    assert first.condition == second.condition == "noise-10db"
    assert first.key != second.key
    made = [one.provenance["augmented"]["@noise-10db"] for one in (first, second)]
    assert [list(one["folders"]) for one in made] == [
        [str(folder / ("hiss" if "hiss" in one["text"] else "noise"))] for one in made
    ]
    assert made[0]["identity"] != made[1]["identity"]
    rows = build_rows(load_records([folder / "tested"]).records, num_resamples=50)
    heard_by = [row for row in rows if row.condition == "noise-10db" and row.head == "superb"]
    assert sorted("data" in row.marks for row in heard_by) == [False, True]
    assert all(row.p_best is None for row in heard_by if "data" in row.marks)


def test_the_audit_looks_at_added_corpora(folder: Path) -> None:
    twin = f"twin={folder / 'corpus' / 'made.csv'}"
    bench(folder, "twin", "--added", twin, "--strategy", "mix")
    (path,) = heard(folder, "twin")
    record = load_record(path)
    assert record.audit["leaks"] == ["audio"]
    (row,) = build_rows([record], num_resamples=50)
    assert "leak" in row.marks


@pytest.mark.parametrize(
    "more",
    [
        ("--augment", "NOISE", "--rate", "0.5"),
        ("--augment", "NOISE", "--strategy", "mix"),
        ("--added", "OTHER", "--strategy", "transfer:share=0.3", "--ratio", "0.5,1", "--late"),
        ("--added", "OTHER", "--strategy", "adversarial", "--select", "dev"),
        ("--added", "OTHER", "--strategy", "curriculum:stages=3", "--heads", "mlp"),
        ("--cache-augment", "copypaste-se", "--cache-augment", "feature-mask:p=0.1"),
    ],
)
def test_records_run_again_from_themselves(folder: Path, more: tuple[str, ...]) -> None:
    name = "-".join(more).replace("/", "").replace(":", "")
    other = f"other={folder / 'other' / 'made.csv'}"
    bench(folder, name, *(other if one == "OTHER" else one for one in more))
    paths = heard(folder, name)
    assert len(paths) == (2 if "--ratio" in more else 1)
    for path in paths[:1]:
        done = serfeat("rerun", path)
        assert done.status == 0, done.err
        assert "all 16 predictions are the same" in done.err
    record = load_record(paths[0])
    if "--strategy" in more:
        assert record.scores[0].schedule
        select = record.config["training"].get("select", "dev")
        assert select == ("dev" if "--select" in more else "last")


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (("--strategy", "mix"), "a strategy needs other data: --added CORPUS=PATH, or --augment"),
        (("--rate", "0.5"), "a rate needs an augmentation: --augment"),
        (("--copies", "6"), "--copies 6 needs an augmentation"),
        (("--test-condition", "gain+copypaste-se"), "copypaste-se cannot be a test condition"),
        (("--ratio", "0.5"), "a ratio needs a strategy"),
        (("--strategy", "mix", "--augment", "NOISE", "--ratio", "0"), "ratio must be above 0"),
        (
            ("--strategy", "mix", "--augment", "NOISE", "--ratio", "9"),
            "there are 8: use a ratio from 0.12 to 1.00",
        ),
        (("--strategy", "mixt", "--augment", "NOISE"), "did you mean 'mix'"),
        (("--strategy", "mix:factor=1", "--augment", "NOISE"), "takes no parameters"),
        (("--strategy", "transfer:share=2", "--augment", "NOISE"), "share must be between 0 and 1"),
        (
            ("--strategy", "mix", "--augment", "NOISE", "--heads", "linear"),
            "does not know a strategy",
        ),
        (("--strategy", "mix", "--augment", "NOISE", "--rate", "0.5"), "exclude each other"),
        (("--added", "nowhere"), "expected NAME=PATH"),
        (("--cache-augment", "time-mask"), "needs a head on frames"),
        (("--select", "best"), "unknown select 'best'; Known: dev, last"),
        (("--cache-augment", "copypaste-n"), "joins neutral utterances, and no class is"),
        (("--heads", "mlp", "--normalize"), "--normalize: none of the heads takes it: mlp"),
    ],
)
def test_what_does_not_go_together_is_refused(
    folder: Path, more: tuple[str, ...], error: str
) -> None:
    done = serfeat(
        "bench", "--manifest", folder / "corpus" / "made.csv", "--upstreams", "logmel",
        "--store", folder / "store", "--results", folder / "none",
        *(f"noise:snr=10,folder={folder / 'noise'}" if one == "NOISE" else one for one in more),
    )  # fmt: skip
    assert done.status in (1, 2)
    assert error in done.error
    assert not (folder / "none").exists() or not list((folder / "none").rglob("logmel*"))
