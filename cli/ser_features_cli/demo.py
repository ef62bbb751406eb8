"""``serfeat demo``: the main job on a corpus made on the spot."""

from pathlib import Path
from typing import Annotated

import typer

from ser_features_cli.bench import run_bench
from ser_features_cli.console import line
from ser_features_cli.leaderboard import show

UPSTREAMS = ["fbank", "logmel", "hubert-base@random:0", "data2vec-base@random:0"]
SEEDS = 2


def demo(
    folder: Annotated[
        Path, typer.Argument(help="Where everything is written.", file_okay=False)
    ] = Path("demo"),
) -> None:
    """Make a synthetic emotional corpus, extract, train, and print a leaderboard.

    espeak-ng speaks 4 emotions by fixed prosody rules; the upstreams are two spectral ones and
    two untrained encoders, so nothing is downloaded. Scores say nothing about real speech.

    Example: serfeat demo demo
    """
    from ser_features.bench import BenchOptions
    from ser_features.corpora.demo import make_demo
    from ser_features.corpora.source import ManifestSource

    manifest = make_demo(folder / "corpus")
    line(f"demo corpus: {len(manifest)} utterances in {folder / 'corpus'}")
    settings = BenchOptions(
        protocol="loso", labels=("angry", "happy", "neutral", "sad"), seeds=SEEDS
    )
    results = folder / "results"
    source = ManifestSource("corpus", "demo", str((folder / "corpus").absolute()))
    run_bench([source], UPSTREAMS, folder / "features", results, settings, quiet=False)
    for name, kind in (("leaderboard.md", "markdown"), ("leaderboard.html", "html")):
        show([results], kind, folder / name)
    show([results])
