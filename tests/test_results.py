import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from record_factory import make_record
from ser_features.errors import ResultsError
from ser_features.files import write_sealed
from ser_features.results import (
    load_record,
    load_records,
    missing,
    record_path,
    run_key,
    save_record,
)


def test_round_trip(tmp_path):
    record = make_record(seeds=(0, 1), layer=3, notes=("a note",), audit={"leaks": []})
    path = save_record(tmp_path, record)
    assert load_record(path) == record
    assert path == tmp_path / "emodb" / f"whisper-base--superb--loso--{record.key[:12]}.json"
    body = json.loads(path.read_text())["body"]
    assert body["schema"] == 1


def test_saving_twice_gives_the_same_bytes(tmp_path):
    record = make_record()
    first = save_record(tmp_path, record).read_bytes()
    assert save_record(tmp_path, load_record(record_path(tmp_path, record))).read_bytes() == first


def test_run_key_is_the_configuration_alone():
    assert run_key({"a": 1, "b": 2}) == run_key({"b": 2, "a": 1})
    assert run_key({"a": 1}) != run_key({"a": 2})


def test_missing_in_expected_order():
    record = make_record(num_speakers=3, seeds=(0, 1))
    part = replace(record, scores=record.scores[1:4])
    assert missing(record) == []
    assert missing(part) == [("fold00", 0), ("fold02", 0), ("fold02", 1)]


@pytest.mark.parametrize("name", ["../../evil", "a/b", "..", "", "C:\\x", "naïve ⚡", "x" * 300])
def test_names_never_leave_the_folder(tmp_path, name):
    path = save_record(tmp_path, make_record(name, corpus=name, head=name, protocol=name))
    assert path.parent.parent == tmp_path
    assert path.resolve().is_relative_to(tmp_path.resolve())
    assert len(load_records([tmp_path]).records) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: {"labels": ("a", "a")}, "a label is there twice"),
        (lambda r: {"truth": dict.fromkeys(r.truth, 9)}, "a truth is not the index of a label"),
        (lambda r: {"truth": {}}, "an utterance without truth"),
        (lambda r: {"expected": r.expected[1:]}, "is not among the expected"),
        (lambda r: {"scores": r.scores[:1] * 2}, "is scored twice"),
        (lambda r: {"scores": (replace(r.scores[0], predictions=(0,)),)}, "not one prediction"),
        (lambda r: {"expected": (*r.expected, ("fold00", 5))}, "not every fold with every seed"),
        (lambda r: {"cost": {"seconds": float("nan")}}, "not plain JSON"),
        (lambda r: {"config": {"path": Path("x")}}, "not plain JSON"),
    ],
)
def test_a_record_that_contradicts_itself_is_not_written(tmp_path, change, message):
    record = make_record()
    with pytest.raises(ResultsError, match=message):
        save_record(tmp_path, replace(record, **change(record)))
    assert not list(tmp_path.rglob("*.json"))


def test_bad_files_are_problems_with_a_name(tmp_path):
    good = make_record()
    save_record(tmp_path, good)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text('{"rows": []}')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "dangling.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.json").mkdir()
    write_sealed(tmp_path / "newer.json", {"schema": 2, "kind": "run", "record": {}})
    write_sealed(tmp_path / "short.json", {"schema": 1, "kind": "run", "record": {"key": 1}})
    edited = tmp_path / "edited.json"
    edited.write_text(record_path(tmp_path, good).read_text().replace("whisper", "wisper", 1))

    loaded = load_records([tmp_path, tmp_path / "absent"])

    assert loaded.records == (good,)
    problems = {name: text for text in loaded.problems for name in NAMES if f"/{name}" in text}
    assert problems.keys() == set(NAMES)
    assert len(loaded.problems) == len(NAMES)
    assert "it is not JSON" in problems["broken.json"]
    assert "not a run record of serfeat" in problems["other.json"]
    assert "schema 2, this serfeat reads up to 1: update serfeat" in problems["newer.json"]
    assert "unknown or missing fields" in problems["short.json"]
    assert "its checksum does not hold" in problems["edited.json"]
    assert "is not a folder" in problems["absent"]


NAMES = [
    *(f"{n}.json" for n in ("broken", "other", "list", "deep", "dangling", "folder", "newer")),
    *("short.json", "edited.json", "absent"),
]


def test_every_truncation_and_flip_is_noticed(tmp_path):
    path = save_record(tmp_path, make_record(num_speakers=2, per_label=1))
    raw = path.read_bytes()
    for at in range(0, len(raw) - 1, 97):
        path.write_bytes(raw[:at])
        assert not load_records([tmp_path]).records
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        loaded = load_records([tmp_path])
        assert not loaded.records
        assert len(loaded.problems) == 1


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from places(item, (*path, name))


PLAIN = make_record(num_speakers=2, per_label=1, seeds=(0, 1))


@given(data=st.data(), value=VALUES)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_in_any_place_is_a_record_or_a_problem(tmp_path, data, value):
    """A sealed file with a valid checksum, written by a stranger."""
    body = json.loads(save_record(tmp_path, PLAIN).read_text())["body"]
    place = data.draw(st.sampled_from(list(places(body))))
    target = body
    for name in place[:-1]:
        target = target[name]
    if place:
        target[place[-1]] = value
    else:
        body = value
    path = tmp_path / "fuzz.json"
    try:
        write_sealed(path, body)
    except UnicodeEncodeError:  # a lone surrogate cannot be written at all
        return
    loaded = load_records([tmp_path])
    assert PLAIN in loaded.records
    assert len(loaded.records) + len(loaded.problems) in (1, 2)
    path.unlink()


@given(raw=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_problem(tmp_path, raw):
    (tmp_path / "x.json").write_bytes(raw)
    assert len(load_records([tmp_path]).problems) == 1


def test_two_machines_share_a_run(tmp_path):
    whole = make_record(seeds=(0, 1))
    for machine, scores in (("a", whole.scores[:8]), ("b", whole.scores[6:])):
        part = replace(whole, scores=scores, provenance={"host": machine})
        save_record(tmp_path / machine, part)
    loaded = load_records([tmp_path / "a", tmp_path / "b"])
    (record,) = loaded.records
    assert missing(record) == []
    assert record.scores == whole.scores
    assert [path.parent.parent.name for path in loaded.paths[0]] == ["a", "b"]


def test_contradicting_records_are_both_kept(tmp_path):
    ours, theirs = make_record(draw=1), make_record(draw=2)
    assert ours.key == theirs.key
    save_record(tmp_path / "a", ours)
    save_record(tmp_path / "b", theirs)
    save_record(tmp_path / "c", theirs)
    loaded = load_records([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert loaded.records == (ours, theirs)
    assert [len(paths) for paths in loaded.paths] == [1, 2]


def test_a_folder_given_twice_counts_once(tmp_path):
    save_record(tmp_path, make_record())
    loaded = load_records([tmp_path, tmp_path / "emodb"])
    assert [len(paths) for paths in loaded.paths] == [1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path):
    save_record(tmp_path, make_record()).chmod(0)
    assert "cannot read" in load_records([tmp_path]).problems[0]


def test_results_do_not_import_torch():
    code = (
        "import sys, ser_features.results, ser_features.leaderboard; print('torch' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "False"
