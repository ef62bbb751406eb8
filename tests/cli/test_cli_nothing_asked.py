"""Values that are empty, as an unset shell variable leaves them, and interrupts at any place."""

from pathlib import Path

import pytest

from cli_runner import good_corpus, serfeat
from ser_features_cli import leaderboard, options, study
from ser_features_cli.mixing import read_added


def test_empty_values_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = good_corpus(tmp_path).write()
    monkeypatch.chdir(tmp_path)
    base = ("bench", "--manifest", manifest, "--upstreams", "fbank")
    for args, text in {
        ("--heads", ","): "--heads names no head; 'serfeat heads' lists them",
        ("--labels", " "): "--labels ' ': name labels by commas, or leave it out for all",
    }.items():
        done = serfeat(*base, *args)
        assert (done.status, done.error) == (2, text)
    for done in (serfeat(*base, "--store", ""), serfeat("store", "ls", "")):
        assert done.status == 2
        assert "it is empty" in done.err
    assert not any(path.is_dir() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("owner", "name", "args"),
    [
        (leaderboard, "_load", ("leaderboard", "--results", "results")),
        (options, "read_manifests", ("bench", "--manifest", "x.csv", "--upstreams", "fbank")),
        (study.o, "read_sources", ("study", "upstreams", "--dry-run")),
    ],
)
def test_an_interrupt_where_no_bar_is_drawn(monkeypatch, owner, name, args) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, interrupt)
    done = serfeat(*args)
    assert done.status == 1
    assert done.lines == ["interrupted: what is written stays; run the same command again to go on"]


def test_a_manifest_may_be_called_as_a_corpus(tmp_path: Path) -> None:
    made = good_corpus(tmp_path).write()
    kinds = [read_added([f"urdu={path}"])[0].kind for path in (made, tmp_path)]
    assert kinds == ["manifest", "corpus"]
    done = serfeat("extract", "--corpus", f"urdu={made}", "--upstreams", "fbank")
    assert (
        done.error
        == f"{made} is a file; expected the corpus folder (a manifest goes by --manifest)"
    )


def test_words_that_an_option_does_not_know(tmp_path: Path) -> None:
    manifest = good_corpus(tmp_path).write()
    base = ("bench", "--manifest", manifest, "--upstreams", "fbank")
    for args, text in {
        ("--precision", "fp16"): "unknown precision 'fp16'; Known: bfloat16, float16, float32",
        ("--select", "best"): "unknown select 'best'; Known: dev, last",
        ("--lr", "nan"): "--lr 'nan': expected numbers from 0 by commas, or auto",
        ("--weight-decay", "-1"): "--weight-decay '-1': expected numbers from 0 by commas",
    }.items():
        done = serfeat(*base, *args)
        assert (done.status, done.error) == (2, text)


@pytest.mark.parametrize("sign", [";", "\t"])
def test_a_table_with_other_separators(tmp_path: Path, sign: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(f"id{sign}path{sign}label\na{sign}b{sign}c\n")
    done = serfeat("extract", "--manifest", path, "--upstreams", "fbank")
    assert done.status == 1
    assert f"- the columns are parted by {sign!r}; part them by commas" in done.lines


def test_examples_in_help_have_no_gaps() -> None:
    for name in ("extract", "bench", "study", "pretrain", "conditions"):
        lines = [
            line.strip() for line in serfeat(name, "--help").out.partition("╭")[0].splitlines()
        ]
        assert any("Example: " in line for line in lines)
        assert not any("  " in line for line in lines), name


def test_a_column_called_otherwise_is_told_with_the_error(tmp_path: Path) -> None:
    path = good_corpus(tmp_path).write()
    path.write_text(path.read_text().replace(",speaker", ",speakers", 1))
    done = serfeat("bench", "--manifest", path, "--upstreams", "fbank", "--store", tmp_path / "s")
    assert done.error.startswith("loso needs the speaker of every utterance")
    assert "note: made.csv: columns not used: speakers" in done.lines
