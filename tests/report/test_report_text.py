import csv
import io
import json
import re
from dataclasses import replace

import pytest

from record_factory import make_record
from ser_features.leaderboard import build_rows
from ser_features.report import FORMATS, cells
from ser_features.rows import MARKS

NASTY = "a|b_c\n<script>&%$#{}~^\\*`\x1b[31m[red]"


@pytest.fixture(scope="module")
def rows():
    part = make_record("part", 0.7, seeds=(0, 1))
    records = [
        make_record("best", 0.9, seeds=(0, 1)),
        make_record("fbank", 0.4, num_layers=0, draw=2),
        make_record(NASTY, 0.5, corpus=NASTY, labels=(NASTY, "b"), augmentation=NASTY),
        replace(part, scores=part.scores[:5]),
        *(make_record("best", 0.5 + i / 10, head="layers", layer=i, draw=i) for i in range(4)),
    ]
    return build_rows(records, num_resamples=100)


def test_json_is_the_contract(rows):
    found = json.loads(FORMATS["json"](rows, ()))
    assert found["schema"] == 1
    assert [row["upstream"] for row in found["rows"]] == [row.upstream for row in rows]
    assert next(row for row in found["rows"] if row["upstream"] == "part")["uar"] is None


def test_csv_reads_back(rows):
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](rows, ()))))
    assert [line["upstream"] for line in lines] == [row.upstream for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert None not in line
        assert line["uar"] == ("" if row.uar is None else str(row.uar))
        low = "" if row.uar_ci is None else str(row.uar_ci[0])
        assert line["uar_ci_low"] == low
        assert line["marks"] == ";".join(row.marks)


def test_csv_of_nothing_is_its_header():
    assert FORMATS["csv"]((), ()).startswith(
        "key,corpus,upstream,augmentation,head,protocol,labels"
    )


def test_markdown_cells_stay_cells(rows):
    text = FORMATS["markdown"](rows, ["bad | file"])
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 2
    for table in tables:
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(bars) == 1
    assert not re.search(r"(?<!\\)<", text)
    assert "\x1b" not in text
    assert "not used: bad \\| file" in text


def test_markdown_shows_best_incomplete_and_curve(rows):
    text = FORMATS["markdown"](rows, ())
    best = next(row for row in rows if row.upstream == "best" and row.head == "superb")
    assert f"| best | superb | **{100 * best.uar:.1f}** |" in text
    assert "| part | superb | 15 of 20 missing |  |  |" in text
    assert re.search(r"best \(layers\): layers 0–3 [▁-█]{4}  highest: layer 3, UAR", text)
    for name in ("best", "incomplete"):
        assert f"{MARKS[name].symbol} {MARKS[name].title}: " in text
    assert "resamples 10 speakers" in text
    assert "mean over test folds and seeds" in text


def test_few_speakers_are_told_in_the_legend():
    for count, told in ((4, True), (6, False)):
        rows = build_rows([make_record("x", num_speakers=count)], num_resamples=100)
        assert ("only 4 speakers: tests tell" in " ".join(cells.legend(rows))) == told


def test_unused_marks_are_not_explained(rows):
    assert MARKS["conflict"].title not in " ".join(cells.legend(rows))


def test_latex_is_balanced_and_escaped(rows):
    text = FORMATS["latex"](rows, ())
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 2
    for table in re.findall(r"\\midrule\n(.*?)\\bottomrule", text, re.DOTALL):
        for line in table.strip().splitlines():
            assert line.endswith(" \\\\")
            augmented = "script" in line  # the row that has an augmentation has its column
            assert len(re.findall(r"(?<!\\)&", line)) == len(COLUMNS) - 1 + augmented
            plain = re.sub(r"\\[a-zA-Z]+\{[^{}]*\}|\$\\\w+\$|\\.", "", line)
            assert not re.search(r"[#%_{}~^$]", plain)
    assert "\\textbf{" in text


COLUMNS = [
    "upstream", "head", "UAR", "CI", "spread", "WA", "macro-F1", "weighted F1", "marks"
]  # fmt: skip


def test_remarks_of_all_rows_are_said_once():
    audit = {"leaks": ["speakers"], "sentences": ["18 of 19 test speakers are in train (fold 1)"]}
    rows = build_rows([make_record(n, audit=audit, draw=i) for i, n in enumerate("abc")])
    assert cells.remark_lines(rows) == ["18 of 19 test speakers are in train (fold 1)"]


@pytest.mark.parametrize(
    ("values", "bars"), [((), ""), ((0, 0), "▁▁"), ((1, 1), "██"), ((0.0, 0.5, 1.0), "▁▄█")]
)
def test_strip(values, bars):
    assert cells.strip(values) == bars


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_takes_nothing(name):
    assert FORMATS[name]((), ())
