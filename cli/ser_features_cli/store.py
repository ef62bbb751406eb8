"""``serfeat store``: look into a feature store, check it, mend it, export it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ser_features.errors import DamageError
from ser_features_cli import options as o
from ser_features_cli.console import bars, err, out

app = typer.Typer(help="Look into a feature store, check it, mend it, export it.", no_args_is_help=True)

StoreArgument = Annotated[Path, typer.Argument(help="The store's folder.", envvar="SERFEAT_STORE")]
NameArgument = Annotated[
    str, typer.Argument(help="A feature set as 'serfeat store ls' names it; a unique part is enough.")
]


@app.command("ls")
def ls(store: StoreArgument = Path("features")) -> None:
    """List the feature sets of a store.

    Example: serfeat store ls features
    """
    from ser_features.store.reader import list_feature_sets

    table = Table("feature set", "utterances", "layers", "dim", "frames", "shards", "size")
    for info in list_feature_sets(store):
        spec = info.spec
        table.add_row(
            escape(info.path),
            str(info.num_utterances),
            str(spec.num_layers),
            str(spec.dim),
            spec.frames,
            f"{info.num_committed}/{info.num_shards}",
            f"{info.num_bytes / 1e6:.1f} MB",
        )
    out.print(table)


@app.command("info")
def info(name: NameArgument, store: o.StoreOption = Path("features")) -> None:
    """Show a feature set's shape and whole provenance as JSON.

    Example: serfeat store info emodb/fbank --store features
    """
    import dataclasses
    import json

    from ser_features.store.reader import find_by_name, open_feature_set

    found = open_feature_set(store, find_by_name(store, name).spec)
    text = {
        **dataclasses.asdict(found.spec),
        "utterances": len(found.ids),
        "total_frames": int(found.num_frames.sum()),
    }
    out.print_json(json.dumps(text, ensure_ascii=False))


@app.command("verify")
def verify(
    store: StoreArgument = Path("features"),
    repair: Annotated[
        bool, typer.Option("--repair", help="Extract again exactly what is damaged.")
    ] = False,
    device: o.DeviceOption = "cpu",
    upstreams: Annotated[
        list[str] | None,
        typer.Option("--upstreams", help="For --repair, where an upstream's folder has moved: NAME=FOLDER."),
    ] = None,
) -> None:
    """Check every byte of a store against its checksum.

    Exit status 1 where something is damaged and was not mended.

    Example: serfeat store verify features --repair
    """
    from ser_features.extract.repair import repair as mend
    from ser_features.store.verify import verify as check

    with bars() as progress:
        report = check(store)
        for damage in report.damages:
            progress.say(str(damage))
        if report.damages and repair:
            mend(store, report, device, o.split_commas(upstreams), progress)
            report = check(store)
    if report.damages:
        hint = "still damaged" if repair else "run it again with --repair"
        raise DamageError(f"{store}: {len(report.damages)} damaged objects; {hint}")
    err.print(f"{report.num_objects} objects, {report.num_bytes / 1e6:.1f} MB: all whole")


@app.command("export")
def export(
    name: NameArgument,
    hdf5: Annotated[Path, typer.Option("--hdf5", help="The HDF5 file to write.")],
    store: o.StoreOption = Path("features"),
) -> None:
    """Write a feature set as one HDF5 file.

    Example: serfeat store export emodb/fbank --hdf5 fbank.h5 --store features
    """
    from ser_features.store.export import export_hdf5
    from ser_features.store.reader import find_by_name, open_feature_set

    found = open_feature_set(store, find_by_name(store, name).spec)
    export_hdf5(found, hdf5)
    err.print(f"{escape(str(hdf5))}: {len(found.ids)} utterances, {hdf5.stat().st_size / 1e6:.1f} MB")
