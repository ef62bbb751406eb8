"""``serfeat augment``: look at and listen to augmentations."""

from pathlib import Path
from typing import Annotated

import typer

from ser_features.errors import UsageError
from ser_features_cli import options as o
from ser_features_cli.console import line

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Look at and listen to augmentations.

    Example: serfeat augment preview --help
    """


@app.command("preview")
def preview(
    file: Annotated[Path, typer.Argument(help="A recording.", metavar="FILE")],
    augment: o.AugmentOption = None,
    copies: o.CopiesOption = 1,
    augment_seed: o.AugmentSeedOption = 0,
    rate: Annotated[int, typer.Option("--rate", min=1000, help="Hz of the upstream.")] = 16000,
    partner: Annotated[
        Path | None, typer.Option("--partner", help="What CopyPaste joins.", metavar="FILE")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Where to write.", file_okay=False)] = Path(),
) -> None:
    """Write the augmented recording and a picture of it before and after.

    Example: serfeat augment preview speech.wav --augment reverb --augment pink:snr=5 --out preview
    """
    from ser_features.augment.augmented import augmented_sets
    from ser_features.augment.preview import preview as run

    sets = [one for one in augmented_sets(augment or (), copies, augment_seed) if one is not None]
    if not sets:
        raise UsageError("name one with --augment ('serfeat augmentations' lists them)")
    if partner is not None and not any(one.augmentation.joining for one in sets):
        raise UsageError(f"--partner {partner}: only CopyPaste joins another recording")
    for one in sets:
        made = run(file, one, out, rate, partner)
        typer.echo(made.wav)
        typer.echo(made.picture)
        line(f"  {made.draw}")
