"""What there is to do, and what cannot be used: the report of rejects, and what mends it."""

import csv
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from msgspec import structs

from fake_upstream import (
    RATE,
    FakeUpstream,
    Listener,
    files_of,
    make_corpus,
    recording,
    run,
    tiny_shards,
    use_fake,
)
from ser_features.audio import load
from ser_features.extract.plan import PlanItem
from ser_features.extract.survey import Stored, planned_sources, source_of, survey
from ser_features.manifest import Manifest
from ser_features.records import Rejection
from ser_features.store.reader import open_feature_set
from ser_features.store.verify import verify
from ser_features.store.writer import StoreWriter

LENGTHS = (900, 160, 2400, 2400, 5000, 333, 8000)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_corpus(tmp_path / "corpus", LENGTHS)


def look(manifest, stored=None, known=None, max_seconds=None, progress=None):
    with ThreadPoolExecutor(2) as pool:
        return survey(
            manifest.utterances,
            Stored(stored or {}),
            known or {},
            FakeUpstream(),
            max_seconds,
            pool,
            progress or Listener(),
        )


def test_every_utterance_is_in_exactly_one_of_the_three(manifest):
    table = manifest.by_id
    hashes = {u.id: load(u, RATE).sha256 for u in manifest.utterances}
    stored = {key: source_of(table[key], hashes[key]) for key in ("u0", "u1", "u2")}
    os.utime(table["u1"].path, ns=(1, 1))  # touched
    recording(table["u2"].path, 2000, seed=9)  # changed
    table["u3"].path.unlink()
    known = {"u4": Rejection("u4", "p", "silent", "…")}
    listener = Listener()
    found = look(manifest, stored, known, progress=listener)
    assert [source.id for source in found.present] == ["u0", "u1"]
    assert found.wanted == {
        "u2": PlanItem("u2", 2000, 24),
        "u5": PlanItem("u5", 333, 3),
        "u6": PlanItem("u6", 8000, 99),
    }
    assert {key: row.reason for key, row in found.rejects.items()} == {
        "u3": "missing",
        "u4": "silent",
    }
    assert listener.stages == [("reading headers", 6, "files")]
    assert listener.done == 6


def test_planned_sources_are_what_source_of_says_of_each(manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = manifest.utterances[:2]
    here = structs.replace(one, id="here", file=one.path.relative_to(tmp_path), start=0.5)
    gone = structs.replace(two, id="gone", file=two.path.with_name("gone.wav"))
    cuts = structs.replace(one, id="cut", end=0.1), structs.replace(one, id="later", start=0.2)
    known = {u.id: u for u in (one, here, two, gone, *cuts)}
    draws = {"cut": "", "gone": "e", one.id: "", "here": "d", "later": "f"}
    items = [PlanItem(key, 1, 1, draw) for key, draw in draws.items()]
    found = planned_sources(known, items)
    assert found == [source_of(known[key], draw=draws[key]) for key in sorted(draws)]
    assert {source.path for source in found} == {str(one.path), str(gone.path)}
    assert found[1].id == "gone"
    assert found[1].size == -1


def test_only_headers_are_read_where_nothing_changed(manifest, monkeypatch):
    stored = {u.id: source_of(u, load(u, RATE).sha256) for u in manifest.utterances[:3]}
    monkeypatch.setattr("ser_features.extract.survey.load", None)
    found = look(manifest, stored)
    assert len(found.present) == 3
    assert list(found.wanted) == ["u3", "u4", "u5", "u6"]


def test_a_planned_source_has_no_hash_and_an_absolute_path(manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = manifest.by_id["u0"].path
    (utterance,) = make_corpus(Path("corpus"), LENGTHS[:1]).utterances
    source = source_of(utterance)
    stat = path.stat()
    assert (source.id, source.path, source.audio_sha256) == ("u0", str(path), "")
    assert (source.size, source.mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def rows_of(report) -> list[dict[str, str]]:
    with report.reject_report.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rejects_of_headers_and_of_decoding_are_rows_and_the_rest_goes_on(tmp_path, monkeypatch):
    loader, store = use_fake(monkeypatch), tmp_path / "store"
    tiny_shards(monkeypatch)
    manifest = make_corpus(tmp_path, (900, 1000, 1100, 100, 1200, 1300, 1400))
    path = {u.id: u.path for u in manifest.utterances}
    path["u0"].unlink()
    soundfile.write(path["u1"], np.zeros(1000), RATE)
    bad = np.ones(1100, np.float32)
    bad[7] = np.nan
    soundfile.write(path["u2"], bad, RATE, "FLOAT")
    path["u4"].write_bytes(b"this is no audio")
    report = run(manifest, store, frames=True)
    reasons = {row.id: row.reason for row in report.rejects}
    assert reasons == {"u0": "missing", "u1": "silent", "u2": "not-finite", "u3": "too-short",
                       "u4": "not-audio"}  # fmt: skip
    assert report.num_new == 2
    rows = rows_of(report)
    assert [(row["id"], row["path"], row["reason"]) for row in rows] == [
        (key, str(path[key]), reason) for key, reason in reasons.items()
    ]
    assert "digital silence" in rows[1]["detail"]
    assert report.reject_report.is_relative_to(store / "rejects")
    found = open_feature_set(store, report.spec)
    assert set(found.ids) == {"u5", "u6"}
    assert found.complete
    assert verify(store).ok

    before = files_of(store / "features.zarr")
    again = run(manifest, store, frames=True)
    assert again.rejects == report.rejects
    assert (again.num_new, again.num_present) == (0, 2)
    assert files_of(store / "features.zarr") == before

    for key in reasons:
        recording(path[key], 1500, seed=7)
    last = run(manifest, store, frames=True)
    assert (last.num_new, last.num_present, last.rejects) == (5, 2, ())
    assert sum(loader.made[-1].batches) == 5
    assert not last.reject_report.exists()
    assert set(open_feature_set(store, last.spec).ids) == set(path)


@pytest.mark.parametrize("frames", [False, True])
def test_a_shard_of_rejects_only(tmp_path, monkeypatch, frames):
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=2)
    manifest = make_corpus(tmp_path, (2000, 2000, 900, 900))
    for key in ("u0", "u1"):
        soundfile.write(manifest.by_id[key].path, np.zeros(2000), RATE)
    for expected in ((2, 0), (0, 2)):
        report = run(manifest, tmp_path / "store", frames=frames)
        assert (report.num_new, report.num_present) == expected
        assert [row.id for row in report.rejects] == ["u0", "u1"]
    found = open_feature_set(tmp_path / "store", report.spec)
    assert (found.ids, found.planned_shards, found.complete) == (("u2", "u3"), 2, True)
    assert verify(tmp_path / "store").ok


def test_a_stored_utterance_that_goes_bad_is_a_reject(tmp_path, monkeypatch, manifest):
    use_fake(monkeypatch)
    run(manifest, tmp_path / "store")
    manifest.by_id["u2"].path.unlink()
    report = run(manifest, tmp_path / "store")
    assert [(row.id, row.reason) for row in report.rejects] == [("u2", "missing")]
    assert (report.num_new, report.num_present) == (0, len(LENGTHS) - 1)


def test_a_file_that_changes_under_our_hands_is_a_reject(tmp_path, monkeypatch, manifest):
    use_fake(monkeypatch)
    plan = StoreWriter.add_plan

    def shorten(self, shards, sources=()):
        plan(self, shards, sources)
        recording(manifest.by_id["u4"].path, 4000, seed=3)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "add_plan", shorten)
        report = run(manifest, tmp_path / "store")
    (row,) = report.rejects
    assert (row.id, row.reason) == ("u4", "changed")
    assert "4000 samples were decoded where the header promised 5000" in row.detail
    report = run(manifest, tmp_path / "store")
    assert (report.num_new, report.rejects) == (1, ())


def test_max_seconds_takes_effect_whatever_is_stored(tmp_path, monkeypatch, manifest):
    use_fake(monkeypatch)
    report = run(manifest, tmp_path, max_seconds=0.5)
    assert {(row.id, row.reason) for row in report.rejects} == {
        ("u4", "too-long"),
        ("u6", "too-long"),
    }
    assert "0.625 s are longer than the limit of 0.5 s" in report.rejects[0].detail
    report = run(manifest, tmp_path, max_seconds=0.7)
    assert ([row.id for row in report.rejects], report.num_new) == (["u6"], 1)
    report = run(manifest, tmp_path)
    assert (report.rejects, report.num_new) == ((), 1)
    report = run(manifest, tmp_path, max_seconds=0.5)
    assert [row.id for row in report.rejects] == ["u4", "u6"]
    assert (report.num_new, report.num_present) == (0, len(LENGTHS) - 2)
