"""The figure of a ratio sweep, and the columns that tell mixed rows apart."""

import re
from dataclasses import replace
from xml.etree import ElementTree

from record_factory import make_record
from ser_features.leaderboard import build_rows
from ser_features.report import FORMATS
from ser_features.report.ratios import figures, ratio_of, sweeps
from ser_features.results import run_key


def swept(ratio: float, accuracy: float, name: str = "curriculum:stages=10"):
    record = make_record("enc", accuracy, strategy=f"{name} <tts> {ratio:g}")
    strategy = {"name": name.partition(":")[0], "ratio": ratio, "stages": 10}
    config = {**record.config, "training": {"strategy": strategy}}
    return replace(record, config=config, key=run_key(config))


RECORDS = [
    make_record("enc", 0.6),
    *(swept(ratio, 0.6 + ratio / 5) for ratio in (1.0, 0.25, 0.5)),
    swept(0.5, 0.4, "transfer:factor=0.1,share=0.5"),  # one ratio is no sweep
]


def test_a_sweep_is_drawn_from_the_plain_row_on() -> None:
    rows = build_rows(RECORDS, num_resamples=50)
    ((name, points),) = sweeps(rows).items()
    assert name == "enc + curriculum:stages=10 <tts> (superb)"
    assert [ratio for ratio, _ in points] == [0, 0.25, 0.5, 1]
    assert points[0][1].strategy == ""
    (figure,) = figures(rows)
    tree = ElementTree.fromstring(figure)  # well formed, and no name breaks out
    space = "{http://www.w3.org/2000/svg}"
    bars = [each for each in tree.iter(f"{space}line") if each.get("stroke") == "#1f77b4"]
    assert len(bars) == len(points)
    assert [ratio_of(row) for row in rows if not row.strategy] == [None]


def test_strategies_have_a_column_and_the_page_has_the_figure() -> None:
    rows = build_rows(RECORDS, num_resamples=50)
    header = FORMATS["markdown"](rows, ()).splitlines()[2]
    assert header.startswith("| upstream | strategy | head | UAR |")
    page = FORMATS["html"](rows, ())
    assert len(re.findall("added : real utterances", page)) == 1
    assert "<tts>" not in page


def test_conditions_are_sections_of_their_own() -> None:
    clean = [make_record("a", 0.9), make_record("b", 0.5, draw=1)]
    noisy = [
        replace(r, condition="noise-0db", key=run_key({**r.config, "condition": "noise-0db"}))
        for r in (make_record("a", 0.4, draw=2), make_record("b", 0.8, draw=3))
    ]
    rows = build_rows([*clean, *noisy], num_resamples=50)
    best = {row.condition: row.upstream for row in rows if row.marks == ("best",)}
    assert best == {"clean": "a", "noise-0db": "b"}
    text = FORMATS["markdown"](rows, ())
    assert text.count("### ") == 2
    assert "tested under noise-0db" in text
