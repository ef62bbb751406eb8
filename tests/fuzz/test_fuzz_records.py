"""A run record from a stranger, its seal right: a row of the leaderboard, or a named problem."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cli_runner import serfeat
from hostile import bounded, changed, everything, hows, sealed, told, values
from record_factory import make_record
from ser_features.errors import ResultsError
from ser_features.leaderboard import build_rows
from ser_features.results import load_record, load_records, save_record
from ser_features.rows import to_json

EXAMPLES = 2000 if "SERFEAT_TORTURE" in os.environ else 25


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_record(tmp_path / "results", make_record(num_speakers=2, per_label=1))


def test_a_record_that_says_anything(path: Path, tmp_path: Path, counted) -> None:
    body, outcomes = json.loads(path.read_bytes())["body"], [0, 0]
    other = save_record(tmp_path / "results", make_record("b", num_speakers=2, per_label=1))

    @settings(max_examples=EXAMPLES, database=None)
    @given(pick=st.integers(0, 10**6), how=hows, new=values)
    @example(pick=10, how="replace", new="\ud800")  # half a character
    def attempt(pick: int, how: str, new: object) -> None:
        path.write_bytes(sealed(changed(body, pick, how, new)))
        before = everything(tmp_path)
        with bounded():
            loaded = load_records([tmp_path / "results"])
            rows = build_rows(loaded.records, num_resamples=20)
            text = json.dumps(to_json(rows), allow_nan=False)
        assert len(loaded.records) + len(loaded.problems) == 2
        assert all(str(path) in problem for problem in loaded.problems)
        assert len(rows) == len(loaded.records)
        assert other.stem.partition("--")[0] in text
        outcomes[len(loaded.records) - 1] += 1
        assert everything(tmp_path) == before

    attempt()
    assert all(outcomes)
    counted(loaded=outcomes[1], refused=outcomes[0])


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 10**5, sealed([]), sealed(None)])
def test_files_that_are_no_record(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with bounded(), pytest.raises(ResultsError) as caught:
        load_record(path)
    told(caught.value, str(path))


def test_a_pipe_among_the_results_does_not_block(path: Path) -> None:
    os.mkfifo(path.parent / "pipe.json")
    (path.parent / "zero.json").symlink_to("/dev/zero")
    with bounded():
        loaded = load_records([path.parent])
    assert len(loaded.records) == 1
    assert len(loaded.problems) == 2


def test_labels_without_end_are_refused_before_they_are_squared(path: Path) -> None:
    body = json.loads(path.read_bytes())["body"]
    body["record"]["labels"] = [str(i) for i in range(50_000)]
    path.write_bytes(sealed(body))
    with bounded(), pytest.raises(ResultsError, match="more than 1000 labels"):
        load_record(path)


INPUTS = {
    "labels": None, "allow_rejects": True, "training": {"lrs": None, "weight_decays": None},
    "extraction": {}, "upstream": "fbank", "store": "STORE", "source": {
        "kind": "manifest", "name": None, "path": "m.csv"}, "augment": [], "conditions": ["clean"],
}  # fmt: skip


def test_a_record_names_no_place_to_write_to(path: Path, tmp_path: Path, counted) -> None:
    """``rerun`` goes by what the record says, and makes no store where none is."""
    body, outside = json.loads(path.read_bytes())["body"], tmp_path / "outside"
    outside.mkdir()
    inputs = {**INPUTS, "store": str(outside / "new")}
    body["record"]["config"]["fold_seed"] = 0
    tried = 0

    @settings(max_examples=EXAMPLES // 3, database=None)
    @given(pick=st.integers(0, 10**6), how=hows, new=values)
    @example(pick=1372, how="replace", new="/etc/passwd")  # a store that is a file
    def attempt(pick: int, how: str, new: object) -> None:
        nonlocal tried
        tried += 1
        body["record"]["provenance"]["inputs"] = changed(inputs, pick, how, new)
        path.write_bytes(sealed(body))
        done = serfeat("rerun", path)
        assert done.status in (1, 2), done.err
        assert done.error
        assert list(outside.iterdir()) == []

    attempt()
    counted(tried=tried)
