"""The command line as a user meets it: in this process for speed, in its own where that matters."""

import contextlib
import csv
import io
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile

from ser_features_cli import console, main

CLI = Path(__file__).resolve().parents[1] / "cli"
COLUMNS = ("id", "path", "label", "speaker")
RATE = 16000


@dataclass(frozen=True)
class Done:
    """How one command ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The text of its one error line."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("error: ")

    @property
    def lines(self) -> list[str]:
        """The lines of standard error, without their indent."""
        return [line.strip() for line in self.err.splitlines()]


def serfeat(*args: object) -> Done:
    """Run the command line here; never a traceback."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    console.out.width = console.PIPED_WIDTH
    with (
        mock.patch.object(sys, "argv", ["serfeat", *map(str, args)]),
        mock.patch.object(os, "fsync"),  # nothing survives a power cut here
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main.run()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    done = Done(status, out.getvalue(), err.getvalue())
    assert "Traceback" not in done.err
    return done


def command(*args: object) -> list[str]:
    """The arguments of a process of its own."""
    code = "from ser_features_cli.main import run; run()"
    return [sys.executable, "-c", code, *map(str, args)]


def environment(**changes: str) -> dict[str, str]:
    """The environment of such a process: this checkout first, one thread."""
    path = os.pathsep.join(map(str, (CLI, CLI.parent)))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **changes}


def process(*args: object, cwd: Path | None = None) -> Done:
    """Run the command line in a process of its own."""
    done = subprocess.run(
        command(*args), capture_output=True, text=True, cwd=cwd, env=environment(), check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass
class Corpus:
    """A folder of recordings and a manifest that names them."""

    folder: Path
    rows: list[dict[str, str]] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Where a recording lies; its folder is made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add(self, name: str, path: str | Path, label: str = "angry", speaker: str = "a") -> None:
        """One row of the manifest, whatever lies at ``path``."""
        cells = (name, str(path), label, speaker)
        self.rows.append(dict(zip(COLUMNS, cells, strict=True)))

    def record(
        self, name: str, samples: np.ndarray, rate: int = RATE, label: str = "angry",
        speaker: str = "a", **how: str,
    ) -> Path:  # fmt: skip
        """A recording ``NAME.wav`` and its row."""
        path = self.path(f"{name}.wav")
        soundfile.write(path, samples, rate, format=how.pop("format", "WAV"), **how)
        self.add(name, f"{name}.wav", label, speaker)
        return path

    def write(self, name: str = "made.csv", columns: Iterable[str] = COLUMNS) -> Path:
        """The manifest as a file in the folder."""
        path = self.path(name)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(columns), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows)
        return path


def noise(num_samples: int = 4800, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    """Noise below full scale."""
    rng = np.random.default_rng(seed)
    return (scale * rng.standard_normal(num_samples).clip(-4, 4)).astype(np.float32)


def good_corpus(folder: Path, speakers: str = "abcd", takes: int = 2) -> Corpus:
    """A few speakers who say ``angry`` as white noise and ``sad`` as smooth noise."""
    corpus = Corpus(folder)
    for i, speaker in enumerate(speakers):
        for label in ("angry", "sad"):
            for take in range(takes):
                samples = noise(4800 + 160 * take, seed=100 * i + take)
                if label == "sad":
                    samples = np.convolve(samples, np.ones(20) / 20, "same").astype(np.float32)
                corpus.record(f"{speaker}-{label}-{take}", samples, label=label, speaker=speaker)
    return corpus


def report_rows(store: Path) -> dict[str, Mapping[str, str]]:
    """The rows of the one report of rejects in a store, by id."""
    (report,) = (store / "rejects").rglob("*.csv")
    with report.open(encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder for a moment."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
