"""``serfeat conditions``."""

from pathlib import Path
from typing import Annotated

import typer

from ser_features_cli import options as o
from ser_features_cli.console import line, out
from ser_features_cli.progress import bars


def conditions(
    folder: Annotated[
        Path, typer.Option("--out", help="Where tables and figures go.", file_okay=False)
    ],
    corpus: o.CorpusOption = None,
    manifest: o.ManifestOption = None,
    root: o.RootOption = None,
    allow_partial: o.PartialOption = False,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help="Measure this many utterances a corpus.")
    ] = None,
    augment: o.AugmentOption = None,
    augment_seed: o.AugmentSeedOption = 0,
    workers: o.WorkersOption = 4,
    quiet: o.QuietOption = False,
) -> None:
    """Measure how corpora sound: SNR, reverberation, loudness, bandwidth, clipping, length.

    Blind estimates; the report names each method and its limits. With --augment, the same
    recordings are measured again as each augmentation makes them.

    Example: serfeat conditions --corpus emodb=/data/emodb --corpus urdu=/data/urdu \
    --augment mismatch-7 --out conditions
    """
    sources = o.read_sources(corpus, manifest, root=root, allow_partial=allow_partial)
    manifests = o.read_manifests(sources)
    from ser_features.acoustics.augmented import by_condition, listen_to
    from ser_features.files import write_atomic
    from ser_features.report.conditions import (
        conditions_csv,
        conditions_document,
        conditions_json,
    )
    from ser_features.report.document import as_terminal, files

    measured = []
    for one in manifests:
        with bars(quiet) as progress:
            measured += listen_to(
                one, augment or (), sample=sample, workers=workers, seed=augment_seed,
                start=progress.start, tick=progress.advance,
            )  # fmt: skip
    found = by_condition(measured)
    document = conditions_document(found)
    for name, text in files(document, "conditions"):
        write_atomic(folder / name, text)
    write_atomic(folder / "conditions.csv", conditions_csv(found))
    write_atomic(folder / "conditions.json", conditions_json(found))
    out.print(as_terminal(document))
    line(f"wrote {folder}/conditions.html, .md, .csv, .json and .svg")
