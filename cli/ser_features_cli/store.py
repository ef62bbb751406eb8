"""``serfeat store``: look into a feature store, check it, mend it, export it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ser_features import files
from ser_features.errors import DamageError
from ser_features.store.place import Place
from ser_features_cli import options as o
from ser_features_cli.console import counted, line, out
from ser_features_cli.progress import bars

if TYPE_CHECKING:
    from ser_features.store.reader import FeatureSet
    from ser_features.store.verify import VerifyReport

app = typer.Typer(
    help="Look into a feature store, check it, mend it, export it.\n\n"
    "Example: serfeat store ls features",
    no_args_is_help=True,
)

_OTHERWISE = "another device (see --device), number of threads or version computes otherwise"
StoreArgument = Annotated[
    Place,
    typer.Argument(help=o.STORE_HELP, envvar="SERFEAT_STORE", parser=o.open_store, metavar="STORE"),
]
NameArgument = Annotated[
    str,
    typer.Argument(help="A feature set as 'serfeat store ls' names it, or a part of that."),
]


@app.command("ls")
def ls(store: StoreArgument = Path("features")) -> None:
    """List the feature sets of a store.

    Example: serfeat store ls features
    """
    from ser_features.store.catalog import list_feature_sets

    table = Table()
    for title in ("feature set", "planned", "layers", "dim", "frames", "shards"):
        table.add_column(title, overflow="fold")
    for info in list_feature_sets(store):
        spec = info.spec
        if spec is None:
            line(f"damaged: {info.problem or info.name}")
            continue
        table.add_row(
            escape(info.name),
            str(info.planned_utterances),
            str(spec.num_layers),
            str(spec.dim),
            spec.frames,
            f"{info.committed_shards}/{info.planned_shards}",
        )
    out.print(table)


@app.command("info")
def info(name: NameArgument, store: o.StoreOption = Path("features")) -> None:
    """Show a feature set's shape and whole provenance as JSON.

    Example: serfeat store info emodb/fbank --store features
    """
    import dataclasses
    import json

    from ser_features.store.summary import summarize

    found = summarize(store, _name(store, name))
    text = {
        "name": found.name,
        "utterances": found.utterances,
        "total_frames": found.total_frames,
        "bytes": found.num_bytes,
        "shards": f"{found.committed_shards}/{found.planned_shards}",
        **dataclasses.asdict(found.spec),
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
        typer.Option(
            "--upstreams", help="With --repair, where an upstream's folder has moved: NAME=FOLDER."
        ),
    ] = None,
) -> None:
    """Check every byte of a store against its checksum.

    Exit status 1 where something is damaged and was not mended.

    Example: serfeat store verify features --repair
    """
    report = _check(store)
    for damage in {damage.object: damage for damage in report.damage}.values():
        line(f"damaged: {damage.object}: {damage.kind}, {damage.detail}{_touched(damage.ids)}")
    for stray in report.strays:
        line(f"note: {stray.path} is {stray.kind}: it holds no features")
    if repair and (report.damage or any(stray.kind != "unknown" for stray in report.strays)):
        _mend(store, device, o.split_commas(upstreams))
        report = _check(store)
    for name, count in report.pending.items():
        told = f"{counted(count, 'planned shard')} not written yet"
        line(f"note: {name}: {told}; run the same 'serfeat extract' again")
    if report.damage:
        hint = "not all could be mended" if repair else "run it again with --repair"
        damaged = {damage.object for damage in report.damage}  # sets share the folders above them
        raise DamageError(f"{store}: {counted(len(damaged), 'damaged file')}; {hint}")
    size = f"{counted(report.objects, 'object')}, {files.size(report.num_bytes)}"
    line(f"{counted(report.feature_sets, 'feature set')}, {size}: every byte is whole")


def _check(store: Place) -> "VerifyReport":
    from ser_features.store.verify import verify as check

    before = 0
    with bars() as progress:

        def tick(done: int, total: int) -> None:
            nonlocal before
            if not before:
                progress.start("verifying", total / 1e6, "MB")
            progress.advance((done - before) / 1e6)
            before = done

        return check(store, tick=tick)


def _mend(store: Place, device: str, requests: list[str]) -> None:
    from ser_features.extract.repair import repair
    from ser_features.store.verify import remove_strays

    with bars() as progress:
        mended = repair(store, device=device, requests=requests, progress=progress)
    for name in mended.rewritten:
        line(f"rewritten: {name}")
    for failure in mended.failures:
        line(f"not mended: {failure}")
    for name in mended.inexact:
        line(f"note: {name}: extracted again, but not bit for bit what it was; {_OTHERWISE}")
    for name in remove_strays(store):
        line(f"removed: {name}")
    again = f"{counted(mended.num_shards, 'shard')} extracted again"
    written = f"{counted(len(mended.rewritten), 'file')} rewritten"
    line(", ".join([again, written] if mended.rewritten else [again]))


def _touched(ids: tuple[str, ...]) -> str:
    if not ids:
        return ""
    more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
    return f"; it holds {', '.join(ids[:5])}{more}"


@app.command("export")
def export(
    name: NameArgument,
    hdf5: Annotated[Path, typer.Option("--hdf5", help="The HDF5 file to write.", dir_okay=False)],
    store: o.StoreOption = Path("features"),
) -> None:
    """Write a feature set as one HDF5 file.

    Example: serfeat store export emodb/fbank --hdf5 fbank.h5 --store features
    """
    from ser_features.store.export import export_hdf5

    found = _open(store, name)
    export_hdf5(found, hdf5)
    line(f"{hdf5}: {counted(len(found.ids), 'utterance')}, {files.size(hdf5.stat().st_size)}")


def _open(store: Place, part: str) -> "FeatureSet":
    """The one feature set whose name holds ``part``."""
    from ser_features.store.reader import open_feature_set

    return open_feature_set(store, _name(store, part))


def _name(store: Place, part: str) -> str:
    """The one name that holds ``part``."""
    from ser_features.errors import UsageError
    from ser_features.registry import unknown
    from ser_features.store.catalog import list_feature_sets

    names = [info.name for info in list_feature_sets(store)]
    found = [name for name in names if name == part] or [name for name in names if part in name]
    if not found:
        raise UsageError(unknown("feature set", part, names))
    if len(found) > 1:
        raise UsageError(f"{part!r} is part of several names: {', '.join(found)}; give more of it")
    return found[0]
