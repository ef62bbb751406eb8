"""``serfeat upstreams``, ``corpora``, ``heads``, ``augmentations`` …: what there is."""

from collections.abc import Iterable

from rich.markup import escape
from rich.table import Table

from ser_features_cli.console import line, out


def show(columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table of names and what they are."""
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    out.print(table)


def upstreams() -> None:
    """List the upstreams that have a short name.

    Any other hub id or folder of these families works too; add @random:SEED for the untrained twin.

    Example: serfeat upstreams
    """
    from ser_features.upstreams.catalog import CATALOG

    rows = [(e.name, e.family, e.hub_id or "-", e.summary) for e in CATALOG.values()]
    show(("name", "family", "hub id", "what"), rows)
    line("NAME=FOLDER reads a local folder; NAME@random:SEED is the same encoder, untrained.")


def corpora() -> None:
    """List the corpora that are read from their official layout.

    Example: serfeat corpora
    """
    from ser_features.corpora.table import CORPORA

    rows = [
        (
            c.name,
            c.description,
            ", ".join(c.languages),
            c.layout,
            str(c.published.utterances or "-"),
        )
        for c in CORPORA.values()
    ]
    show(("name", "what", "language", "expected layout", "counts are those of"), rows)


def heads() -> None:
    """List the downstream heads.

    Example: serfeat heads
    """
    from ser_features.heads.table import HEADS

    rows = [(h.name, h.reads, h.description, h.source) for h in HEADS.values()]
    show(("name", "reads", "what", "source"), rows)


def augmentations() -> None:
    """List the augmentations of the waveform: what --augment takes.

    NAME:PARAMETER=VALUE,… with a range as 0.9-1.2 or a choice as 10/5/0; chain them with '+'.

    Example: serfeat augmentations
    """
    from ser_features.augment.table import AUGMENTATIONS

    rows: list[tuple[str, ...]] = []
    for kind in AUGMENTATIONS.values():
        rows.append((kind.name, kind.what, "", kind.source))
        for one in kind.parameters:
            default = f"{one.default} {one.unit}".strip() or "must be given"
            rows.append((f"  {one.name}", one.what, default, one.source))
    show(("name", "what", "default", "source"), rows)
    line("As in --augment reverb:wet=0.3+noise:snr=10,folder=/data/noise")


def protocols() -> None:
    """List the evaluation protocols.

    Example: serfeat protocols
    """
    from ser_features.folds import PROTOCOLS

    show(("name", "what", "dev side"), [(p.form, p.description, p.dev) for p in PROTOCOLS.values()])
