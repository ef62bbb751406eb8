"""Acoustic conditions of a corpus: what is measured, what is refused, what is written."""

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from cli_runner import Corpus, good_corpus, noise, serfeat
from ser_features.acoustics.conditions import measure_corpus, overlap, overlaps
from ser_features.acoustics.measures import MEASURES
from ser_features.corpora.source import ManifestSource


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    made = good_corpus(tmp_path / "made", speakers="abc")
    made.record("loud", np.clip(noise(16000, 5, 1.0), -0.4, 0.4))
    return made


def read(corpus: Corpus) -> object:
    return ManifestSource("manifest", "made", str(corpus.write())).read()


def test_measures_and_rejections(corpus: Corpus) -> None:
    corpus.add("gone", "gone.wav")
    found = measure_corpus(read(corpus))
    assert len(found.ids) == 13
    assert found.values.shape == (13, len(MEASURES))
    assert [(r.id, r.reason) for r in found.rejects] == [("gone", "missing")]
    assert found.of("clipping").max() > 10
    assert found.of("length") == pytest.approx([0.3, 0.31] * 6 + [1.0])
    assert len(found.of("t60")) == 1, "the others are too short"
    assert found.summary()["length"]["count"] == 13


def test_a_sample_is_the_same_whatever_the_condition_and_order(corpus: Corpus) -> None:
    manifest = read(corpus)
    first = measure_corpus(manifest, sample=5)
    other = measure_corpus(manifest, "louder", lambda u: (np.ones(1600, "f4"), 16000), sample=5)
    assert first.ids == other.ids
    assert len(first.ids) == 5


def test_overlap() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, 4000))
    assert overlap(one, one) == pytest.approx(1)
    assert overlap(one, two) > 0.9
    assert overlap(one, two + 20) == 0
    assert overlap(one, two + 1) == pytest.approx(0.617, abs=0.05)  # 2 Φ(-1/2)
    assert np.isnan(overlap(one, two[:0]))
    assert overlaps([]) == []


@pytest.mark.parametrize(("count", "expected"), [(150, 0.8), (1000, 0.92)])
def test_samples_of_one_distribution_overlap_as_the_table_says(count: int, expected: float) -> None:
    rng = np.random.default_rng(0)
    for draw in (rng.standard_normal, lambda size: rng.lognormal(size=size)):
        found = [overlap(*draw((2, count))) for _ in range(50)]
        assert np.mean(found) == pytest.approx(expected, abs=0.06)


def test_the_command_writes_tables_and_figures(corpus: Corpus, tmp_path: Path) -> None:
    corpus.add("gone", "gone.wav")
    out = tmp_path / "out"
    other = good_corpus(tmp_path / "other", speakers="xy", takes=1).write()
    done = serfeat("conditions", "--manifest", f"one={corpus.write()}", "--manifest",
                   f"<two>={other}", "--out", out)  # fmt: skip
    assert done.status == 0, done.err
    assert "one, as recorded" in done.out
    with (out / "conditions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 13 + 4
    assert rows[0]["length (s)"] == "0.3"
    text = json.loads((out / "conditions.json").read_text())
    assert [(each["corpus"], each["rejected"]) for each in text["conditions"]] == [
        ("one", 1), ("<two>", 0)
    ]  # fmt: skip
    assert set(text["overlaps"][0]["overlap"]) == set(MEASURES)
    page, words = (out / "conditions.html").read_text(), (out / "conditions.md").read_text()
    assert "<two>" not in page
    assert "&lt;two&gt;" in page
    assert "1 utterances could not be measured: gone (missing)" in page
    for measure in MEASURES.values():
        assert measure.method in words
        assert measure.limits in words
    picture = ET.parse(out / "conditions.svg")
    assert len(picture.findall(".//{http://www.w3.org/2000/svg}path")) >= 8


def test_a_wrong_command(tmp_path: Path) -> None:
    assert serfeat("conditions", "--out", tmp_path).error.startswith("name what to read")
