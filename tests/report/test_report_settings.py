"""Rows of one name are told apart by what differs in their settings, in every format."""

import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console

from record_factory import make_record
from ser_features.leaderboard import build_rows
from ser_features.report import FORMATS
from ser_features.report.settings import settings
from ser_features.report.terminal import leaderboard

BASE = {"head": "superb", "steps": 1000, "eval_every": 100, "lrs": [1e-4, 1e-3], "normalize": False}


def record(upstream, precision="float32", features="abc", **changes):
    made = make_record(upstream, draw=len(str(changes)))
    config = {**made.config, "features": features, "training": {**BASE, **changes}}
    inputs = {"extraction": {"precision": precision}}
    provenance = {**made.provenance, "inputs": inputs}
    return replace(made, key=str(hash(str((config, inputs)))), config=config, provenance=provenance)


@pytest.fixture(scope="module")
def rows():
    records = [
        record("logmel"),
        record("logmel", steps=50, eval_every=5, lrs=[1e-3], normalize=True),
        record("whisper-base", features="abc"),
        record("whisper-base", precision="bfloat16", features="def"),
        record("mfcc"),
        record("hubert", features="a" * 64),
        record("hubert", features="b" * 64),
    ]
    return build_rows(records, num_resamples=20)


def test_only_what_differs_is_told(rows):
    found = settings(rows)
    told = {
        (row.upstream, row.config["training"]["steps"], row.config["features"][:3]): found[id(row)]
        for row in rows
        if id(row) in found
    }
    assert told == {
        ("logmel", 1000, "abc"): "lr 0.0001/0.001, steps 1000",
        ("logmel", 50, "abc"): "lr 0.001, normalize, steps 50",
        ("whisper-base", 1000, "abc"): "precision float32",
        ("whisper-base", 1000, "def"): "precision bfloat16",
        ("hubert", 1000, "aaa"): "features aaaaaaaaaaaa",
        ("hubert", 1000, "bbb"): "features bbbbbbbbbbbb",
    }
    assert settings([row for row in rows if row.upstream == "mfcc"]) == {}


@pytest.mark.parametrize("format", ["markdown", "latex", "html"])
def test_every_format_has_them(rows, format):
    text = FORMATS[format](rows)
    assert "settings" in text
    assert "lr 0.001, normalize, steps 50" in text
    alone = FORMATS[format]([row for row in rows if row.upstream == "mfcc"])
    assert "settings</th>" not in alone
    assert "| settings |" not in alone


def test_csv_has_them_as_its_last_column(rows):
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](rows))))
    assert list(lines[0])[-1] == "settings"
    assert {line["settings"] for line in lines if line["upstream"] == "logmel"} == {
        "lr 0.0001/0.001, steps 1000",
        "lr 0.001, normalize, steps 50",
    }


def test_a_terminal_folds_them_and_says_what_it_leaves_out(rows):
    def shown(width):
        file = io.StringIO()
        Console(file=file, width=width, color_system=None).print(leaderboard(rows))
        return file.getvalue()

    narrow, wide = shown(80), shown(200)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "95 % CI" in narrow.splitlines()[1]
    assert "not shown at this width: " in narrow
    assert "macro-F1" in narrow.partition("not shown at this width: ")[2]
    assert "not shown at this width" not in wide
    assert "steps 50" in narrow


def test_layer_curves_of_other_settings_stay_apart():
    points = []
    for rate in (0.1, 0.01):
        for i in range(3):
            made = make_record("x", head="layers", layer=i)
            config = {**made.config, "training": {**BASE, "lrs": [rate]}}
            points.append(replace(made, key=f"{rate}-{i}", config=config))
    text = FORMATS["markdown"](build_rows(points, num_resamples=50))
    assert text.count("layers 0–2") == 2
    assert "x (layers; lr 0.1): " in text
    assert "x (layers; lr 0.01): " in text


def test_foreign_configs_are_only_text():
    made = make_record("x")
    odd = [
        replace(made, key=str(i), config={"training": value}, provenance={"inputs": [1]})
        for i, value in enumerate(({"lrs": "\x1b[2J" * 9}, {"lrs": {"a": [None]}}, 7))
    ]
    rows = build_rows(odd, num_resamples=20)
    assert "\x1b" not in FORMATS["markdown"](rows)
