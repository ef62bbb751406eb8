"""Every format of the leaderboard as a program or a person reads it back."""

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cli_runner import Done, good_corpus, serfeat
from ser_features_cli.leaderboard import choose_format

SCORES = ("uar", "wa", "macro_f1", "weighted_f1")
PROMISED = {
    "corpus", "upstream", "augmentation", "head", "protocol", "labels", "num_utterances",
    "num_folds", "num_seeds", "complete", "uar_std", *SCORES,
}  # fmt: skip


def bench(folder: Path, *args: object) -> Done:
    done = serfeat(
        "bench", "--manifest", folder / "corpus" / "ä&_1.csv", "--store", folder / "features",
        "--results", folder / "results", "--steps", 20, "--lr", 0.01, "--seeds", 2, *args,
    )  # fmt: skip
    assert done.status == 0, done.err
    return done


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    good_corpus(folder / "corpus").write("ä&_1.csv")
    done = bench(folder, "--upstreams", "fbank,logmel")
    assert "other record" not in done.err
    return folder / "results"


def leaderboard(results: Path, format: str) -> str:
    done = serfeat("leaderboard", "--results", results, "--format", format)
    assert (done.status, done.err) == (0, "")
    return done.out


def rows(results: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(leaderboard(results, "json"))["rows"]
    return found


def test_json(results: Path) -> None:
    board = json.loads(leaderboard(results, "json"), parse_constant=pytest.fail)
    assert list(board) == ["schema", "rows"]
    assert board["schema"] == 1
    assert len(board["rows"]) == 5
    for row in board["rows"]:
        assert row.keys() >= PROMISED
        assert all(0 <= row[name] <= 1 for name in SCORES)
        assert (row["corpus"], row["protocol"], row["labels"]) == ("ä&_1", "loso", ["angry", "sad"])
        assert (row["num_utterances"], row["num_folds"], row["complete"]) == (16, 4, True)
    (logmel,) = (row for row in board["rows"] if row["upstream"] == "logmel")
    assert (logmel["head"], logmel["num_seeds"], logmel["uar"]) == ("superb", 2, 1.0)
    scores = [row["uar"] for row in board["rows"]]
    assert scores == sorted(scores, reverse=True)


def test_csv(results: Path) -> None:
    table = list(csv.DictReader(io.StringIO(leaderboard(results, "csv"))))
    expected = rows(results)
    assert [row["upstream"] for row in table] == [row["upstream"] for row in expected]
    for line, row in zip(table, expected, strict=True):
        assert all(float(line[name]) == row[name] for name in SCORES)
        assert (line["corpus"], line["labels"]) == ("ä&_1", "angry;sad")


def test_markdown(results: Path) -> None:
    text = leaderboard(results, "markdown")
    table = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]
    assert cells[0][:3] == ["upstream", "head", "UAR"]
    assert len({len(row) for row in cells}) == 1
    assert set(cells[1]) <= {"---", "---:"}
    expected = [f"{100 * row['uar']:.1f}" for row in rows(results)]
    assert [row[2].strip("*") for row in cells[2:]] == expected
    assert r"### ä\&\_1 · loso · angry, sad · 16 utterances" in text


def test_latex(results: Path) -> None:
    lines = [x for x in leaderboard(results, "latex").splitlines() if not x.startswith("%")]
    assert re.fullmatch(r"\\begin\{tabular\}\{[lr]+\}", lines[0])
    assert (lines[1], lines[3], lines[-2:]) == (
        r"\toprule", r"\midrule", [r"\bottomrule", r"\end{tabular}"],
    )  # fmt: skip
    body = [lines[2], *lines[4:-2]]
    columns = len(lines[0].rpartition("{")[2].rstrip("}"))
    assert all(row.endswith(r" \\") for row in body)
    assert {len(re.split(r"(?<!\\)&", row)) for row in body} == {columns}
    assert not any(re.search(r"(?<!\\)[%#_]", row) for row in body)


class Page(HTMLParser):
    """Checks that tags close in order, and collects the cells of tables and the addresses."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input", "wbr", "col"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.cells.append(data.strip())


def test_html(results: Path) -> None:
    page = Page()
    page.feed(leaderboard(results, "html"))
    page.close()
    assert page.open == []
    text = " ".join(page.cells)
    assert all(row["upstream"] in text for row in rows(results))
    assert not [address for address in page.addresses if address.startswith(("http", "//"))]


def test_table(results: Path) -> None:
    out = leaderboard(results, "table")
    assert out.startswith("ä&_1 · loso · angry, sad · 16 utterances, 4 speakers\n")
    for row in rows(results):
        assert re.search(rf"^{row['upstream']}.* {row['head']} .*{100 * row['uar']:.1f}", out, re.M)


def test_bench_shows_what_it_was_asked_for_and_counts_the_rest(
    results: Path, tmp_path: Path
) -> None:
    done = bench(results.parent, "--upstreams", "fbank")
    assert "fbank" in done.out
    assert "logmel" not in done.out
    assert f"{results} holds 1 other record: 'serfeat leaderboard --results {results}' shows" in (
        done.err
    )
    board = tmp_path / "board.json"
    done = bench(
        results.parent, "--upstreams", "logmel", "--format", "json", "--output", board, "--quiet"
    )
    found = json.loads(board.read_text())["rows"]
    assert {row["upstream"] for row in found} == {r["upstream"] for r in rows(results)} - {"fbank"}
    assert (done.out, done.err) == ("", f"wrote {board}\n")


@pytest.mark.parametrize("format", ["table", "markdown", "csv", "json", "latex", "html"])
def test_output_holds_what_would_be_printed(results: Path, tmp_path: Path, format: str) -> None:
    output = tmp_path / "new folder" / "board.txt"
    done = serfeat("leaderboard", "--results", results, "--format", format, "--output", output)
    assert (done.status, done.out) == (0, "")
    assert done.err == f"wrote {output}\n"
    assert output.read_text(encoding="utf-8") == leaderboard(results, format)
    assert [path.name for path in output.parent.iterdir()] == ["board.txt"]


def test_results_of_several_machines_are_merged(results: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(results, tmp_path / name)
    for path in (tmp_path / "one").rglob("fbank--*.json"):
        path.unlink()
    for path in (tmp_path / "two").rglob("logmel--*.json"):
        path.unlink()
    args = ("--results", tmp_path / "one", "--results", tmp_path / "two", "--format", "json")
    found = json.loads(serfeat("leaderboard", *args).out)["rows"]
    assert [row["upstream"] for row in found] == [row["upstream"] for row in rows(results)]
    assert [row["uar"] for row in found] == [row["uar"] for row in rows(results)]
    assert not any("conflict" in row["marks"] for row in found)


@pytest.mark.parametrize(
    ("name", "format", "form"),
    [
        ("a.html", None, "html"),
        ("a.MD", None, "markdown"),
        ("a.tex", None, "latex"),
        ("a.csv", "json", "json"),
        ("a.txt", None, "table"),
        (None, None, "table"),
    ],
)
def test_the_format_is_that_of_the_name(name, format, form) -> None:
    assert choose_format(format, name and Path(name)) == form
