"""Bars on a terminal, lines in a log; rates and the time left are those of the whole stage."""

import io
import subprocess
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress, Task

from cli_runner import command, environment, good_corpus, serfeat
from ser_features_cli.progress import Bars, drawing_on, left, rate


def task(completed: float, total: float | None, unit: str, seconds: float) -> Task:
    made = Task(1, "extracting x", total, completed, _get_time=lambda: seconds)  # type: ignore[arg-type]
    made.fields["unit"] = unit
    made.start_time = 0.0
    return made


@pytest.mark.parametrize(
    ("completed", "total", "unit", "seconds", "texts"),
    [
        (0, 100, "s of audio", 9, ("", "-:--:--")),
        (50, 100, "s of audio", 25, ("2.0x real time", "0:00:25")),
        (1, 7300, "files", 2, ("0.5 files/s", "4:03:18")),
        (25, 100, "%", 10, ("", "0:00:30")),
        (5, None, "files", 1, ("5.0 files/s", "-:--:--")),
        (120, 100, "MB", 10, ("12.0 MB/s", "0:00:00")),
    ],
)
def test_rate_and_time_left(completed, total, unit, seconds, texts) -> None:
    found = task(completed, total, unit, seconds)
    assert (rate(found), left(found)) == texts


def lines_of(every: float) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=80)
    with Progress(console=console, disable=True) as drawing:
        bars = Bars(drawing, lines=True, every=every)
        bars.advance(1)  # before any stage
        for what in ("reading [headers]", "extracting x"):
            bars.start(what, 4, "files")
            for _ in range(4):
                time.sleep(0.001)
                bars.advance(1)
    return file.getvalue().splitlines()


def test_a_log_gets_a_line_now_and_then() -> None:
    lines = lines_of(every=0.0)
    assert len(lines) == 8
    assert lines[1].startswith("reading [headers]: 50 %, ")
    assert lines[-1].startswith("extracting x: 100 %, ")
    assert lines[-1].endswith(" files/s, 0:00:00 left")
    assert lines_of(every=3600.0) == []


@pytest.mark.parametrize("width", [60, 80, 109, 110, 200])
def test_rate_and_times_stay_whole_at_any_width(width) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    drawing = drawing_on(console)
    shown = drawing.add_task("extracting " + 9 * "long-name ", total=9_000, unit="s of audio")
    drawing.tasks[0].start_time = drawing.get_time() - 100
    drawing.update(shown, completed=4_500)
    with console.capture() as found:
        console.print(drawing.get_renderable())
    line = found.get().rstrip("\n")
    assert "\n" not in line
    for text in ("extract", "45.0x real time", "0:01:40 left 0:01:40"):
        assert text in line
    assert ("4500/9000 s of audio" in line) == (width >= 110)


def test_trainings_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Bars, "start", lambda self, what, total, unit: said.append(what))
    done = serfeat(
        "bench", "--manifest", good_corpus(tmp_path).write(), "--upstreams", "fbank,mfcc",
        "--store", tmp_path / "features", "--results", tmp_path / "results",
        "--heads", "linear",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert [what for what in said if what.startswith("training")] == [
        "training linear on fbank (1 of 2)",
        "training linear on mfcc (2 of 2)",
    ]


def test_closed_streams_are_no_error() -> None:
    line = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command("heads")]
    assert subprocess.run(line, env=environment(), check=False).returncode == 0
