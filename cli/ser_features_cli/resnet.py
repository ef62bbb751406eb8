"""``serfeat pretrain``, and the options of the ResNet heads that ``bench`` shares with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser_features_cli import options as o
from ser_features_cli.console import line
from ser_features_cli.progress import bars

if TYPE_CHECKING:
    from ser_features.pretrain import Pretrained
    from ser_features.train.resnet_recipes import ResNetOptions

PoolingOption = Annotated[
    str | None,
    typer.Option("--pooling", help="resnet34 heads: attention, statistics or mean over frames."),
]
VadOption = Annotated[
    bool | None,
    typer.Option(
        "--vad/--no-vad",
        help="resnet34 heads: drop frames without voice, by their energy (logmel and mfcc).",
    ),
]
FrameNormOption = Annotated[
    str | None,
    typer.Option(
        "--frame-norm", help="resnet34 heads: none, mean or mean-variance of each utterance."
    ),
]
SpecAugmentOption = Annotated[
    str | None,
    typer.Option(
        "--spec-augment",
        help="resnet34 heads: none, conservative or aggressive; two masked copies of each "
        "training utterance, drawn anew every epoch.",
    ),
]
InitOption = Annotated[
    Path | None,
    typer.Option(
        "--init",
        help="resnet34 heads: start from a checkpoint of 'serfeat pretrain'.",
        exists=True,
        dir_okay=False,
    ),
]
InitTrainOption = Annotated[
    str | None,
    typer.Option(
        "--init-train",
        help="With --init: new (both linear layers are replaced, only they train) or all (the "
        "last one is replaced, everything trains). If unset, as the head's paper does.",
    ),
]
TrainPrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--train-precision", help="resnet34 heads: float32 or bfloat16 convolutions. On record."
    ),
]


def resnet_options(
    pooling: str | None,
    vad: bool | None,
    frame_norm: str | None,
    spec_augment: str | None,
    precision: str | None,
    init: Path | None = None,
    init_train: str | None = None,
) -> "ResNetOptions":
    """The options as the library takes them."""
    from ser_features.train.resnet_recipes import ResNetOptions

    checkpoint = None if init is None else str(init.absolute())
    return ResNetOptions(pooling, vad, frame_norm, spec_augment, checkpoint, init_train, precision)


def pretrain(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The checkpoint (safetensors).", dir_okay=False)
    ],
    task: Annotated[
        str, typer.Option("--task", help="What to tell apart: speaker, or emotion.")
    ] = "speaker",
    head: Annotated[
        str, typer.Option("--head", help="resnet34-transfer or resnet34-copypaste.")
    ] = "resnet34-transfer",
    upstream: Annotated[
        str | None,
        typer.Option(
            "--upstream",
            help="The spectral upstream to learn from; if unset, that of the head's paper.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="copypaste or transfer; if unset, the head's own."),
    ] = None,
    corpus: o.CorpusOption = None,
    manifest: o.ManifestOption = None,
    root: o.RootOption = None,
    allow_partial: o.PartialOption = False,
    store: o.StoreOption = Path("features"),
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Instead of the recipe's.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", min=0.0, help="Instead of the recipe's.")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Draws weights, chunks and the held-out share.")
    ] = 0,
    dev_share: Annotated[
        float,
        typer.Option("--dev-share", help="Share of each class held out to choose the epoch."),
    ] = 0.1,
    pooling: PoolingOption = None,
    vad: VadOption = None,
    frame_norm: FrameNormOption = None,
    spec_augment: SpecAugmentOption = None,
    train_precision: TrainPrecisionOption = None,
    augment: o.AugmentOption = None,
    copies: o.CopiesOption = 1,
    augment_seed: o.AugmentSeedOption = 0,
    device: o.DeviceOption = "cpu",
    workers: o.WorkersOption = 4,
    allow_rejects: o.RejectsOption = False,
    quiet: o.QuietOption = False,
) -> None:
    """Train a resnet34 head to tell speakers apart, and keep it for --init.

    Any corpus or manifest with speakers will do; several train together. With --augment,
    augmented copies join the training side. The upstream, frames and pooling are those of the
    head's paper: resnet34-transfer is for 'serfeat study spectrogram --init', resnet34-copypaste
    for 'serfeat study copypaste --init', each for 'serfeat bench --init' with that head.

    Example: serfeat pretrain --manifest voxceleb.csv --head resnet34-transfer \
    --spec-augment conservative --store features --out vox.safetensors
    """
    (request,) = o.read_requests([upstream]) if upstream is not None else [None]
    sources = o.read_sources(corpus, manifest, root=root, allow_partial=allow_partial)
    manifests = o.read_manifests(sources)
    from ser_features.extract.pipeline import Options
    from ser_features.pretrain import PretrainOptions
    from ser_features.pretrain import pretrain as run
    from ser_features.train.resnet_recipes import PAPER_UPSTREAM
    from ser_features.train.run import Training

    resnet = resnet_options(pooling, vad, frame_norm, spec_augment, train_precision)
    settings = PretrainOptions(
        task=task,
        head=head,
        seed=seed,
        dev_share=dev_share,
        allow_rejects=allow_rejects,
        training=Training(
            recipe, epochs, lrs=None if lr is None else (lr,), device=device, resnet=resnet
        ),
        extraction=Options(
            workers=workers,
            augment=o.read_augment(augment, copies),
            copies=copies,
            seed=augment_seed,
        ),
    )
    with bars(quiet) as progress:
        done = run(manifests, request, store, out, settings, progress)
    if not quiet:
        say(done, head, request or PAPER_UPSTREAM[head])


def say(done: "Pretrained", head: str, upstream: str) -> None:
    """Print what was trained and how well it tells held-out utterances apart."""
    line(
        f"{done.path}: {len(done.classes)} classes from {done.num_train} utterances; epoch "
        f"{done.best_epoch} tells {100 * done.accuracy:.1f} % of {done.num_dev} held-out "
        f"utterances right; sha256 {done.sha256}"
    )
    line(f"train from it: serfeat bench --head {head} --upstreams {upstream} --init {done.path}")
