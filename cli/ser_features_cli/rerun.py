"""``serfeat rerun``: run a record again and compare."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from ser_features.errors import ResultsError, UsageError
from ser_features.records import Json
from ser_features.store.place import Place, open_root
from ser_features.store.schema import ROOT_FILE
from ser_features_cli import options as o
from ser_features_cli.console import line
from ser_features_cli.progress import bars


def rerun(
    record: Annotated[
        Path, typer.Argument(help="A run record, as 'serfeat bench --results' writes it.")
    ],
    store: Annotated[
        Place | None,
        typer.Option(
            "--store",
            help="The feature store; if unset, the record's.",
            parser=o.open_store,
            metavar=o.STORE_METAVAR,
        ),
    ] = None,
) -> None:
    """Run a record again from its corpus and settings, and compare every prediction.

    Features that the store has are not extracted again. Exit status 1 where a prediction differs.

    Example: serfeat rerun results/emodb/fbank--superb--loso--0123456789ab.json
    """
    from ser_features.bench import bench, options_of
    from ser_features.corpora.source import source_from_json
    from ser_features.results import differences, load_record

    old = load_record(record)
    options = options_of(old)
    inputs = old.provenance["inputs"]
    place = store or _known_store(record, inputs)
    manifest = source_from_json(options.inputs.get("source")).read()
    added = [source_from_json(each).read() for each in options.inputs.get("added", ())]
    with TemporaryDirectory() as scratch, bars() as progress:
        upstream, scratch_results = [inputs["upstream"]], Path(scratch)
        new = bench(manifest, upstream, place, scratch_results, options, progress, added)
    same = [each for each in new if each.key == old.key]
    if not same:
        raise ResultsError(
            f"{record}: the corpus, the features or the settings are not those of the record, so "
            "there is nothing to compare; was the audio, the checkpoint or serfeat changed?"
        )
    different, total = differences(old, same[0])
    if different:
        raise ResultsError(f"{record}: {different} of {total} predictions differ")
    line(f"{record}: all {total} predictions are the same")


def _known_store(record: Path, inputs: Mapping[str, Json]) -> Place:
    """The record's store, where there is one: a record may not say where to make a new one."""
    place = open_root(str(inputs.get("store", "features")))
    try:
        found = (place / ROOT_FILE).exists()
    except (OSError, ValueError):
        found = False
    if not found:
        raise UsageError(f"{record}: there is no store {place} any more; name one with --store")
    return place
