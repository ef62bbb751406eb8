"""``serfeat rerun``: a record runs again from itself, and every prediction is compared."""

from dataclasses import replace
from pathlib import Path

import pytest

from cli_runner import good_corpus, serfeat
from ser_features.results import load_record, save_record


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rerun")
    manifest = good_corpus(folder / "corpus").write()
    done = serfeat(
        "bench", "--manifest", manifest, "--upstreams", "logmel", "--heads", "superb,layers",
        "--steps", 5, "--lr", "0.01,0.001", "--weight-decay", "0,0.1", "--seeds", 2,
        "--store", folder / "store", "--results", folder / "results",
    )  # fmt: skip
    assert done.status == 0, done.err
    return folder


def records(folder: Path, pattern: str) -> list[Path]:
    return sorted((folder / "results").rglob(pattern))


@pytest.mark.parametrize("head", ["superb", "layers", "best-layer"])
def test_the_same_numbers_come_out(made: Path, head: str) -> None:
    (path,) = records(made, f"logmel--{head}--*.json")
    done = serfeat("rerun", path)
    assert done.status == 0, done.err
    assert f"{path}: all 32 predictions are the same" in done.err


def test_an_option_of_another_head_does_not_stand_in_the_way(made: Path) -> None:
    done = serfeat(
        "bench", "--manifest", made / "corpus" / "made.csv", "--upstreams", "logmel",
        "--heads", "superb,mlp", "--recipe", "data2vec-ser", "--steps", 3, "--normalize",
        "--store", made / "store", "--results", made / "several",
    )  # fmt: skip
    assert done.status == 0, done.err
    paths = sorted((made / "several").rglob("logmel--*.json"))
    assert len(paths) == 2
    for path in paths:
        assert serfeat("rerun", path).status == 0


def test_other_predictions_are_counted(made: Path, tmp_path: Path) -> None:
    (path,) = records(made, "logmel--superb--*.json")
    record = load_record(path)
    first, *rest = record.scores
    turned = tuple(1 - p if p < 2 else p for p in first.predictions)
    changed = save_record(
        tmp_path, replace(record, scores=(replace(first, predictions=turned), *rest))
    )
    count = sum(a != b for a, b in zip(turned, first.predictions, strict=True))
    assert count > 0
    done = serfeat("rerun", changed)
    assert (done.status, done.error) == (1, f"{changed}: {count} of 32 predictions differ")


def test_another_corpus_is_nothing_to_compare(made: Path, tmp_path: Path) -> None:
    (path,) = records(made, "logmel--superb--*.json")
    record = load_record(path)
    other = good_corpus(tmp_path / "other")
    lines = other.write().read_text().splitlines()
    (tmp_path / "other" / "part.csv").write_text("\n".join(lines[:-1]) + "\n")
    source = {**record.provenance["inputs"]["source"], "path": str(tmp_path / "other" / "part.csv")}
    inputs = {**record.provenance["inputs"], "source": source}
    moved = save_record(
        tmp_path, replace(record, provenance={**record.provenance, "inputs": inputs})
    )
    done = serfeat("rerun", moved, "--store", tmp_path / "store")
    assert done.status == 1
    assert "there is nothing to compare" in done.error


def test_a_baseline_and_a_foreign_file_are_said(made: Path, tmp_path: Path) -> None:
    (baseline,) = records(made, "majority--*.json")
    done = serfeat("rerun", baseline)
    assert (done.status, "does not hold what is needed" in done.error) == (2, True)
    (tmp_path / "x.json").write_text("{}")
    assert "is not a run record" in serfeat("rerun", tmp_path / "x.json").error
