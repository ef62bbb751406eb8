"""Every published number is in the paper that it is said to be from, in one line of its table."""

import re
from pathlib import Path

import pytest

from ser_features.studies.published import read_paper
from ser_features.studies.upstreams import NAMES

PAPERS = ["ptm-llm-tts", "copypaste", "domain-mismatch", "spectrogram"]
NUMBER = re.compile(r"[-–]?\d*\.?\d+")


def forms(value: float) -> set[float]:
    return {round(value, 4), round(100 * value, 4)}  # "78" is printed for .78 once


@pytest.mark.parametrize("name", PAPERS)
def test_each_row_stands_in_one_line_of_the_text(shared: Path, name: str) -> None:
    paper = read_paper(name)
    text = (shared / "papers" / paper.text).read_text(encoding="utf-8")
    assert paper.title.split(":")[0].casefold() in text.casefold()
    lines = [{round(float(n.replace("–", "-")), 4) for n in NUMBER.findall(line)}
             for line in text.splitlines()]  # fmt: skip
    for table in paper.tables:
        assert table.id.replace("Figure", "Fig").rstrip("0123456789 ") in text
        for row, values in table.rows.items():
            printed = [value for value in values if value is not None]
            found = any(all(forms(v) & line for v in printed) for line in lines)
            assert found, (table.id, row, values)


def test_facts_of_upstreams_stand_in_one_line_of_the_text(shared: Path) -> None:
    paper = read_paper("ptm-llm-tts")
    lines = (shared / "papers" / paper.text).read_text(encoding="utf-8").splitlines()
    assert set(paper.facts) == set(NAMES)
    for name, (corpus, number) in paper.facts.items():
        (score,) = paper.tables[0].rows[name]
        printed = (f"{number}M", corpus, f"{score:.2f}")
        assert any(all(each in line for each in printed) for line in lines), name


@pytest.mark.parametrize("name", PAPERS)
def test_tables_are_whole(name: str) -> None:
    for table in read_paper(name).tables:
        assert table.unit in ("percent", "fraction")
        for row, values in table.rows.items():
            assert len(values) == len(table.columns), (table.id, row)
            for column in table.columns:
                value = table.value(row, column)
                assert value is None or -1 < value < 1, (table.id, row, column)


def test_a_number_is_found_by_table_row_and_column() -> None:
    paper = read_paper("copypaste")
    table = paper.table("Table 5", corpus="cremad")
    assert table is not None
    assert table.value("clean+noise", "N-CP") == pytest.approx(0.7910)
    assert table.value("clean+noise", "nothing") is None
    assert paper.table("Table 5", corpus="emodb") is None
