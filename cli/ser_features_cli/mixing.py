"""Options of what joins a bench's training and testing: copies, rates, conditions, other data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser_features.errors import UsageError
from ser_features_cli import options as o

if TYPE_CHECKING:
    from ser_features.corpora.source import ManifestSource
    from ser_features.train.strategies import Strategy

PANEL = "Augmentation and other data"

RateOption = Annotated[
    float,
    typer.Option(
        "--rate",
        min=0.0,
        max=1.0,
        help="With --augment: the share of training samples that a copy stands in for, drawn anew "
        "every epoch. 0 adds the copies to the training side instead.",
        rich_help_panel=PANEL,
    ),
]
ConditionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--test-condition",
        help="What test is predicted under: clean, or an augmentation as --augment takes it (but "
        "CopyPaste, which would join test recordings with training ones). "
        "Repeatable; all conditions are predicted by one training and are tables of their own.",
        metavar="clean|AUGMENTATION",
        rich_help_panel=PANEL,
    ),
]
AddedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--added",
        help="Another corpus for the training side of every fold, as CORPUS=PATH or "
        "NAME=MANIFEST: synthetic speech, another language. Labels are mapped to the bench's. "
        "Repeatable.",
        metavar="NAME=PATH",
        rich_help_panel=PANEL,
    ),
]
StrategyOption = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="How the --added data (or else the --augment copies) enter training: mix, "
        "adversarial[:reversal=1], transfer[:factor=0.1,share=0.5] or curriculum[:stages=10].",
        rich_help_panel=PANEL,
    ),
]
RatioOption = Annotated[
    str | None,
    typer.Option(
        "--ratio",
        help="Added to real utterances of a fold's training side: 0.5 adds one for every two. "
        "Several by commas are a row each. If unset, all are added.",
        metavar="NUMBER,…",
        rich_help_panel=PANEL,
    ),
]
SelectOption = Annotated[
    str | None,
    typer.Option(
        "--select",
        help="Test the best checkpoint on 'dev' or the 'last' one; if unset, the recipe's, and "
        "the last one with a strategy.",
        metavar="dev|last",
        callback=o.one_of("--select", "dev", "last"),
        rich_help_panel=PANEL,
    ),
]
CacheOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cache-augment",
        help="Augmentation on the cache, drawn anew for every minibatch, free of extraction: "
        "mixup[:alpha=0.2], feature-mask[:p=0.2,masks=1], layer-mask, copypaste-se[:share=0.8], "
        "copypaste-n, copypaste-n+se; for heads on frames also time-mask (resnet34 heads: on their "
        "chunks, and SpecAugment's policies by --spec-augment). Repeatable.",
        metavar="NAME[:KEY=VALUE,…]",
        rich_help_panel=PANEL,
    ),
]
LateOption = Annotated[
    bool,
    typer.Option(
        "--late",
        help="Also record test scores over the last 20 % of training: mean and deviation, beside "
        "the selected score, never instead of it.",
        rich_help_panel=PANEL,
    ),
]


def read_strategy(text: str | None) -> "Strategy | None":
    """The strategy that ``--strategy`` names; its ratio comes from ``--ratio``."""
    from ser_features.train.strategies import parse_strategy

    return None if text is None else parse_strategy(text)


def read_added(texts: list[str] | None) -> "list[ManifestSource]":
    """What ``--added`` names: a corpus of the table by its name, a manifest where it is none.

    A file is always a manifest, whatever it is called.
    """
    from ser_features.corpora.table import CORPORA

    found: list[ManifestSource] = []
    for text in texts or []:
        name, equals, path = text.partition("=")
        if not (equals and name and path):
            raise UsageError(
                f"--added {text!r}: expected NAME=PATH, as in --added urdu=/data/urdu or "
                "--added tts=tts.csv"
            )
        known = name in CORPORA and not Path(path).expanduser().is_file()
        found += o.read_sources([text] if known else None, None if known else [text])
    return found
