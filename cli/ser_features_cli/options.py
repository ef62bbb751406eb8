"""Options that several commands share, and what they are turned into."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser_features.errors import UsageError
from ser_features.store.place import Place, open_root

if TYPE_CHECKING:
    from ser_features.corpora.source import ManifestSource
    from ser_features.manifest import Manifest


def _device(name: str) -> str:
    """What serfeat has code for; whether it is there is told where it is opened."""
    if re.fullmatch(r"cpu|cuda(:\d+)?", name) is None:
        raise UsageError(f"--device {name!r}: expected cpu, cuda, or one of several as cuda:1")
    return name


def one_of(option: str, *words: str) -> Callable[[str | None], str | None]:
    """A check that an option's value is one of some words; None is left to the library."""

    from ser_features.registry import unknown

    def check(value: str | None) -> str | None:
        if value is not None and value not in words:
            raise UsageError(unknown(option.removeprefix("--"), value, words))
        return value

    return check


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
        "split, start, end), a folder laid out as label/file.wav, or EmoBox's metadata folder of "
        "one corpus (its recordings under --root). Repeatable.",
        metavar="[NAME=]PATH",
    ),
]
RootOption = Annotated[
    Path | None,
    typer.Option(
        "--root",
        help="What a manifest's relative paths start from; its folder if unset.",
        exists=True,
        file_okay=False,
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
SuperbOption = Annotated[
    Path | None,
    typer.Option(
        "--superb-metadata",
        help="The folder s3prl/downstream/emotion/meta_data of your clone of s3prl (its pip "
        "package has none): with it the dev sides of IEMOCAP's '--protocol superb' are SUPERB's, "
        "turn by turn.",
        metavar="FOLDER",
    ),
]
PartialOption = Annotated[
    bool,
    typer.Option(
        "--allow-partial", help="Accept a corpus whose counts differ from the published ones."
    ),
]


def open_store(text: str | Path) -> Place:
    """What ``--store`` names; an error of usage where that cannot be a store."""
    if not str(text):
        raise typer.BadParameter("it is empty; is a shell variable not set? Expected a folder.")
    store = open_root(text)
    if isinstance(store, Path) and store.is_file():
        raise typer.BadParameter(f"{store} is a file; expected a folder.")
    return store


STORE_METAVAR = "FOLDER|s3://BUCKET/FOLDER"
STORE_HELP = "The feature store: a folder, or one on object storage (extra: s3)."
StoreOption = Annotated[
    Place,
    typer.Option(
        "--store",
        help=STORE_HELP,
        envvar="SERFEAT_STORE",
        parser=open_store,
        metavar=STORE_METAVAR,
    ),
]
UpstreamsOption = Annotated[
    list[str],
    typer.Option(
        "--upstreams",
        help="Upstreams, by commas or repeated: NAME, NAME=FOLDER (cnn14, wav2vec and vq-wav2vec: "
        "NAME=FILE), NAME@random:SEED (untrained control), a hub id, or a folder.",
        metavar="NAME,…",
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
DeviceOption = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:1 …", callback=_device)
]
DevicesOption = Annotated[
    str | None,
    typer.Option(
        "--devices",
        help="Extract in one process for each device, instead of on --device: all (GPUs of this "
        "machine), or names by commas: cuda:0,cuda:1 or cpu,cpu. With --engine ray: all (GPUs of "
        "the cluster), or cuda or cpu once for each worker.",
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="Who extracts: local (this process), processes (one for each of --devices), or ray "
        "(actors of a Ray cluster: one a GPU, else one a machine). Unset, --devices decides.",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        help="The Ray cluster, as in HOST:6379; if unset, the one that runs "
        "here, else one is started on this machine.",
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        help="float32 (reference), bfloat16 or float16: part of the key. Spectral upstreams are "
        "always float32.",
        callback=one_of("--precision", "float32", "bfloat16", "float16"),
    ),
]
BatchOption = Annotated[
    float | None,
    typer.Option(
        "--batch-seconds",
        min=0.1,
        help="Padded audio per forward pass; if unset 15 on a CPU, where several run side by side, "
        "and 1200 on a GPU.",
    ),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=1, help="Threads that decode audio, of each process.")
]
MaxSecondsOption = Annotated[
    float | None,
    typer.Option(
        "--max-seconds",
        min=0.0,
        help="Reject longer utterances; if unset, the upstream's limit.",
    ),
]
FramesOption = Annotated[
    bool, typer.Option("--frames", help="Store every frame of every layer, for heads that need it.")
]
RejectsOption = Annotated[
    bool, typer.Option("--allow-rejects", help="Go on although some utterances cannot be used.")
]
AugmentOption = Annotated[
    list[str] | None,
    typer.Option(
        "--augment",
        help="An augmentation as NAME or NAME:PARAMETER=VALUE,…, chained with '+' ('serfeat "
        "augmentations' lists them), or clean. Repeatable.",
        metavar="AUGMENTATION",
    ),
]
CopiesOption = Annotated[
    int, typer.Option("--copies", min=1, help="Copies of each augmentation, drawn anew.")
]
AugmentSeedOption = Annotated[
    int, typer.Option("--augment-seed", min=0, help="What the draws of augmentations start from.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, results only.")]


def read_augment(augment: list[str] | None, copies: int) -> tuple[str, ...]:
    """What ``--augment`` names; UsageError where ``--copies`` has nothing to copy."""
    names = tuple(augment or ())
    if copies > 1 and {name.strip() for name in names} <= {"clean"}:
        raise UsageError(f"--copies {copies} needs an augmentation to draw anew: --augment")
    return names


def split_commas(values: list[str] | None) -> list[str]:
    """The items of repeatable comma lists, in order, without empties."""
    return [item.strip() for value in values or [] for item in value.split(",") if item.strip()]


def read_labels(text: str | None) -> tuple[str, ...] | None:
    """What ``--labels`` asks for, None for all; UsageError where it asks for nothing."""
    if text is not None and not text.strip(" ,"):
        raise UsageError(f"--labels {text!r}: name labels by commas, or leave it out for all")
    return tuple(text.split(",")) if text else None


def read_requests(values: list[str] | None) -> list[str]:
    """The upstreams asked for, each once; what is wrong with a name shows before any work."""
    from ser_features.upstreams.request import parse_request

    requests = list(dict.fromkeys(split_commas(values)))
    if not requests:
        raise UsageError("name at least one upstream, as in --upstreams fbank")
    names: dict[str, str] = {}
    for text in requests:
        _check_target(text)
        other = names.setdefault(parse_request(text).name, text)
        if other != text:
            raise UsageError(
                f"{other!r} and {text!r} would have one name; give each its own: NAME=FOLDER"
            )
    return requests


def _check_target(text: str) -> None:
    from ser_features.registry import unknown
    from ser_features.upstreams.catalog import CATALOG, NATIVE
    from ser_features.upstreams.request import parse_request

    request = parse_request(text)
    folder = request.path or Path(request.target)
    known = request.target in CATALOG
    of_file = known and CATALOG[request.target].family in NATIVE  # published as one file
    if request.path is not None and not (folder.is_dir() or (of_file and folder.is_file())):
        kind = "file" if of_file else "folder"
        raise UsageError(f"upstream {text!r}: there is no {kind} {folder}")
    if not (known or "/" in request.target or folder.is_dir()):
        hint = "; or a hub id ORG/NAME, or a folder: NAME=FOLDER"
        raise UsageError(unknown("upstream", request.target, CATALOG) + hint)


def read_sources(
    corpora: list[str] | None,
    manifests: list[str] | None,
    *,
    root: Path | None = None,
    emobox: Path | None = None,
    superb_metadata: Path | None = None,
    allow_partial: bool = False,
) -> "list[ManifestSource]":
    """What ``--corpus`` and ``--manifest`` name; UsageError where there is nothing."""
    from ser_features.corpora.source import ManifestSource

    named = [("corpus", *_pair(text, "--corpus")) for text in corpora or []]
    named += [("manifest", *_manifest(text)) for text in manifests or []]
    if not named:
        raise UsageError("name what to read: --corpus NAME=PATH or --manifest FILE")
    return [
        ManifestSource(
            kind=kind,
            name=name,
            path=str(path.absolute()),
            root=_absolute(root),
            emobox=_absolute(emobox),
            superb_metadata=_absolute(superb_metadata),
            allow_partial=allow_partial,
        )
        for kind, name, path in named
    ]


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def read_manifests(sources: "list[ManifestSource]") -> "list[Manifest]":
    """The manifests; UsageError where two corpora would share their features and results."""
    read = [source.read() for source in sources]
    corpora = [one.corpus for one in read]
    twice = [name for name in corpora if corpora.count(name) > 1]
    if twice:
        raise UsageError(f"two corpora are called {twice[0]!r}; name them: --manifest NAME=FILE")
    return read


def _manifest(text: str) -> tuple[str | None, Path]:
    whole = "=" not in text or Path(text).exists()
    return (None, Path(text)) if whole else _pair(text, "--manifest")


def _pair(text: str, option: str) -> tuple[str | None, Path]:
    name, equals, path = text.partition("=")
    if not (equals and name and path):
        raise UsageError(f"{option} {text!r}: expected NAME=PATH, as in {option} emodb=/data/emodb")
    return name, Path(path).expanduser()
