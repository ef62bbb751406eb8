"""Options that several commands share, and what they are turned into."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser_features.errors import UsageError

if TYPE_CHECKING:
    from ser_features.manifest import Manifest

CorpusOption = Annotated[
    list[str] | None,
    typer.Option(
        "--corpus",
        help="A corpus in its official layout as NAME=PATH ('serfeat corpora' lists names). "
        "Repeatable.",
        metavar="NAME=PATH",
    ),
]
ManifestOption = Annotated[
    list[str] | None,
    typer.Option(
        "--manifest",
        help="A CSV, JSONL or Parquet file with the columns id, path, label (and speaker, session, "
        "split, start, end), or a folder laid out as label/file.wav; [NAME=]PATH. Repeatable.",
        metavar="[NAME=]PATH",
    ),
]
RootOption = Annotated[
    Path | None,
    typer.Option(
        "--root", help="What a manifest's relative paths start from; its folder if unset."
    ),
]
EmoboxOption = Annotated[
    Path | None,
    typer.Option(
        "--emobox",
        help="Your clone of EmoBox's metadata (the folder that holds <corpus>/fold_1 …): adds its "
        "official folds for '--protocol emobox'.",
    ),
]
PartialOption = Annotated[
    bool,
    typer.Option(
        "--allow-partial", help="Accept a corpus whose counts differ from the published ones."
    ),
]
StoreOption = Annotated[
    Path, typer.Option("--store", help="The feature store's folder.", envvar="SERFEAT_STORE")
]
UpstreamsOption = Annotated[
    list[str],
    typer.Option(
        "--upstreams",
        help="Upstreams, by commas or repeated: NAME, NAME=FOLDER, NAME@random:SEED (untrained "
        "control), a hub id, or a folder.",
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="Labels to keep, by commas, in canonical words; merge with '+', as in "
        "angry,happy+excited,neutral,sad.",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 …")]
PrecisionOption = Annotated[
    str,
    typer.Option("--precision", help="float32 (reference), bfloat16 or float16: part of the key."),
]
BatchOption = Annotated[
    float | None,
    typer.Option(
        "--batch-seconds",
        help="Padded audio per forward pass; 30 on a CPU, 1200 on a GPU if unset.",
    ),
]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Threads that decode audio.")]
MaxSecondsOption = Annotated[
    float | None,
    typer.Option("--max-seconds", help="Reject longer utterances; if unset, the upstream's limit."),
]
FramesOption = Annotated[
    bool, typer.Option("--frames", help="Store every frame of every layer, for heads that need it.")
]
RejectsOption = Annotated[
    bool, typer.Option("--allow-rejects", help="Go on although some utterances cannot be used.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, results only.")]


def split_commas(values: list[str] | None) -> list[str]:
    """The items of repeatable comma lists, in order, without empties."""
    return [item.strip() for value in values or [] for item in value.split(",") if item.strip()]


def read_manifests(
    corpora: list[str] | None,
    manifests: list[str] | None,
    *,
    root: Path | None = None,
    emobox: Path | None = None,
    allow_partial: bool = False,
) -> "list[Manifest]":
    """The manifests that ``--corpus`` and ``--manifest`` name; UsageError where there are none."""
    from ser_features.corpora.emobox import emobox_folds
    from ser_features.corpora.files import read_manifest
    from ser_features.corpora.table import read_corpus

    read = []
    for text in corpora or []:
        name, path = _pair(text, "--corpus")
        read.append(read_corpus(name, path, allow_partial=allow_partial))
    for text in manifests or []:
        named, path = _pair(text, "--manifest") if "=" in text else (None, Path(text))
        read.append(read_manifest(path, root=root, corpus=named))
    if not read:
        raise UsageError("name what to read: --corpus NAME=PATH or --manifest FILE")
    if emobox is None:
        return read
    folds = [emobox_folds(_metadata(emobox, one.corpus), one) for one in read]
    return [one.with_folds("emobox", own) for one, own in zip(read, folds, strict=True)]


def _metadata(emobox: Path, corpus: str) -> Path:
    """The corpus's folder in a clone of EmoBox, or that folder itself."""
    for folder in (emobox / corpus, emobox / "data" / corpus):
        if folder.is_dir():
            return folder
    return emobox


def _pair(text: str, option: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (equals and name and path):
        raise UsageError(f"{option} {text!r}: expected NAME=PATH, as in {option} emodb=/data/emodb")
    return name, Path(path).expanduser()
