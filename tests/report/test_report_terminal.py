import io
from dataclasses import replace

import pytest
from rich.console import Console

from record_factory import make_record
from ser_features.leaderboard import build_rows
from ser_features.report.terminal import leaderboard


def shown(rows, width, problems=()):
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(leaderboard(rows, problems))
    return file.getvalue()


@pytest.fixture(scope="module")
def rows():
    part = make_record("wavlm-base", 0.7)
    records = [
        make_record("whisper-base", 0.9, seeds=(0, 1)),
        make_record("fbank", 0.4, num_layers=0, draw=2),
        replace(part, scores=part.scores[:3]),
    ]
    return build_rows(records, num_resamples=100)


def test_wide_table_has_every_column(rows):
    text = shown(rows, 160)
    header = next(line for line in text.splitlines() if "upstream" in line)
    titles = (
        "head",
        "UAR",
        "95 % CI",
        "± folds / seeds",
        "WA",
        "macro-F1",
        "layer weights",
        "marks",
    )
    assert all(title in header for title in titles)
    line = next(line for line in text.splitlines() if line.startswith("whisper-base"))
    assert "★" in line
    assert any(bar in line for bar in "▁▂▃▄▅▆▇█")
    assert "7 of 10 missing" in text


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_it_fits_and_keeps_what_matters(rows, width):
    lines = shown(rows, width).splitlines()
    assert max(map(len, lines)) <= width
    header = next(line for line in lines if "upstream" in line)
    assert "UAR" in header
    assert all(any(line.startswith(row.upstream) for line in lines) for row in rows)


def test_columns_go_by_importance(rows):
    def has(width, title):
        return title in next(x for x in shown(rows, width).splitlines() if "upstream" in x)

    assert not has(70, "macro-F1")
    assert has(70, "marks")
    assert has(70, "95 % CI")


def test_names_are_neither_markup_nor_control_codes():
    nasty = "[red]x[/red]\x1b[2J\x07\n[link=http://e.x]y"
    text = shown(build_rows([make_record(nasty, corpus=nasty, head=nasty)]), 400, [nasty])
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[red]x[/red]") >= 2


def test_nothing_yet():
    assert "no results yet: run 'serfeat bench' first" in shown([], 80)
