"""Manifests of any bytes: a valid one, or a ManifestError that names the file and its lines."""

import json
import os
import shutil
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile import VALUES, bounded, told
from ser_features.corpora.files import read_manifest
from ser_features.errors import ManifestError

EXAMPLES = 3000 if "SERFEAT_TORTURE" in os.environ else 60
ROWS = [
    {"id": f"u{i}", "path": f"a/u{i}.wav", "label": "happy", "speaker": "s", "start": 0.5, "end": 2}
    for i in range(3)
]
CSV = "id,path,label,start\n" + "".join(f"u{i},a/u{i}.wav,sad,0.5\n" for i in range(3))


def outcome(path: Path) -> bool:
    """Whether it is read; what is read is valid."""
    before = sorted(path.parent.rglob("*"))
    try:
        with bounded():
            manifest = read_manifest(path)
    except ManifestError as error:
        told(error, str(path), path.name)
        return False
    finally:
        assert sorted(path.parent.rglob("*")) == before
    assert manifest.problems() == ()
    return True


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_mutated_bytes(tmp_path: Path, suffix: str, counted) -> None:
    path = tmp_path / f"m.{suffix}"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    texts = {"csv": CSV.encode(), "jsonl": b"".join(json.dumps(r).encode() + b"\n" for r in ROWS)}
    whole, outcomes = texts.get(suffix, path.read_bytes()), [0, 0]
    words = st.one_of(
        st.binary(max_size=6), st.sampled_from([b'"', b"\0", b"\n", b",", b"\xff" * 8, b'"' * 999])
    )

    @settings(max_examples=EXAMPLES, database=None)
    @given(changes=st.lists(st.tuples(st.integers(0, len(whole) - 1), words), max_size=3))
    def attempt(changes: list[tuple[int, bytes]]) -> None:
        raw = whole
        for at, word in changes:
            raw = raw[:at] + word + raw[at + len(word) :]
        path.write_bytes(raw)
        outcomes[outcome(path)] += 1

    attempt()
    assert all(outcomes)
    counted(kind=suffix, read=outcomes[1], refused=outcomes[0])


def test_cells_of_any_value(tmp_path: Path, counted) -> None:
    path, outcomes = tmp_path / "m.jsonl", [0, 0]
    cells = st.one_of(st.sampled_from(VALUES), st.text(max_size=8), st.floats(), st.integers())

    @settings(max_examples=EXAMPLES, database=None)
    @given(name=st.sampled_from([*ROWS[0], "split", "session", "other"]), value=cells)
    def attempt(name: str, value: object) -> None:
        path.write_text("\n".join(json.dumps(row) for row in [*ROWS[:2], {**ROWS[2], name: value}]))
        outcomes[outcome(path)] += 1

    attempt()
    assert all(outcomes)
    counted(kind="jsonl cells", read=outcomes[1], refused=outcomes[0])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_of_any_type(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"m.{kind}"
    for column in (
        [1, 2],
        [True, False],
        [[1], []],
        [{"a": 1}, None],
        [b"\xff", b""],
        [None, None],
    ):
        for name in ("id", "path", "label", "start"):
            if kind == "parquet":
                whole = {"id": ["a", "b"], "path": ["a", "b"], "label": ["x", "y"], name: column}
                pyarrow.parquet.write_table(pyarrow.table(whole), path)
            else:
                path.write_text(f"id,path,label,{name}\n1,2,3,{column[0]}\n")
            outcome(path)


def test_a_small_parquet_file_of_endless_rows_is_refused(tmp_path: Path) -> None:
    """Repeated cells take no room on the disk, and all the room in memory."""
    path, count = tmp_path / "m.parquet", 3_000_000
    places = pyarrow.nulls(count, "int32").fill_null(0)
    long = pyarrow.DictionaryArray.from_arrays(places, ["x" * 200])
    pyarrow.parquet.write_table(pyarrow.table(dict.fromkeys(("id", "path", "label"), long)), path)
    assert path.stat().st_size < 2**20
    assert not outcome(path)


NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode(errors="surrogatepass")) < 200
)


def test_folders_of_any_names(tmp_path: Path, counted) -> None:
    outcomes, number = [0, 0], iter(range(10**6))

    @settings(max_examples=EXAMPLES, database=None)
    @given(label=NAMES, name=NAMES, suffix=st.sampled_from([".wav", ".WAV", ".txt", ""]))
    def attempt(label: str, name: str, suffix: str) -> None:
        top = tmp_path / str(next(number))
        try:
            (top / label).mkdir(parents=True)
            (top / label / f"{name}{suffix}").write_bytes(b"")
            outcomes[outcome(top)] += 1
        except (UnicodeEncodeError, OSError):
            return
        finally:  # each attempt looks at all that lies beside it
            shutil.rmtree(top, ignore_errors=True)

    attempt()
    assert all(outcomes)
    counted(kind="folder", read=outcomes[1], refused=outcomes[0])


def test_pipes_and_devices_are_no_manifest(tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        os.mkfifo(tmp_path / f"p.{suffix}")
        (tmp_path / f"z.{suffix}").symlink_to("/dev/zero")
        assert not outcome(tmp_path / f"p.{suffix}")
        assert not outcome(tmp_path / f"z.{suffix}")
