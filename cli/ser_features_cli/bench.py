"""``serfeat bench``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ser_features.errors import SerfeatError, UsageError
from ser_features.store.place import Place, address
from ser_features_cli import mixing as m
from ser_features_cli import options as o
from ser_features_cli import resnet as r
from ser_features_cli.console import counted, line
from ser_features_cli.leaderboard import FormatOption, choose_format, show_files
from ser_features_cli.progress import bars

if TYPE_CHECKING:
    from ser_features.bench import BenchOptions
    from ser_features.corpora.source import ManifestSource

ProtocolOption = Annotated[
    str, typer.Option("--protocol", help="How folds are made; 'serfeat protocols' lists them.")
]
HeadsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--heads",
        "--head",
        help="Heads, by commas or repeated; 'serfeat heads' lists them.",
        metavar="NAME,…",
    ),
]
ResultsOption = Annotated[
    Path, typer.Option("--results", help="The folder of run records.", file_okay=False)
]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, help="Training seeds 0 … N-1.")]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="quick or superb (s3prl's whole recipe, 30 000 updates) for the superb head; "
        "data2vec-ser or emobox for heads on frames; copypaste or transfer for resnet34 heads. "
        "Others keep their default.",
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        "--steps",
        "--epochs",
        min=1,
        help="Instead of the recipe's: updates (superb head) or epochs (heads on frames).",
    ),
]
LrOption = Annotated[
    str | None,
    typer.Option(
        "--lr", help="Learning rates by commas, chosen on dev; auto is SUPERB's grid 1e-1 … 1e-7."
    ),
]
DecayOption = Annotated[
    str | None,
    typer.Option("--weight-decay", help="L2 penalties by commas; the superb head's dev chooses."),
]
NormalizeOption = Annotated[
    bool, typer.Option("--normalize", help="Layer-norm every frame first, as s3prl can.")
]
LayersOption = Annotated[
    str | None, typer.Option("--layers", help="last, all, or one number; if unset, the head's own.")
]
FoldSeedOption = Annotated[
    int, typer.Option("--fold-seed", min=0, help="Draws what a protocol leaves to chance.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Also write the leaderboard to this file.", dir_okay=False),
]


def bench(
    upstreams: o.UpstreamsOption,
    corpus: o.CorpusOption = None,
    manifest: o.ManifestOption = None,
    root: o.RootOption = None,
    emobox: o.EmoboxOption = None,
    superb_metadata: o.SuperbOption = None,
    allow_partial: o.PartialOption = False,
    labels: o.LabelsOption = None,
    protocol: ProtocolOption = "loso",
    heads: HeadsOption = None,
    recipe: RecipeOption = None,
    steps: StepsOption = None,
    lr: LrOption = None,
    weight_decay: DecayOption = None,
    layers: LayersOption = None,
    normalize: NormalizeOption = False,
    pooling: r.PoolingOption = None,
    vad: r.VadOption = None,
    frame_norm: r.FrameNormOption = None,
    spec_augment: r.SpecAugmentOption = None,
    init: r.InitOption = None,
    init_train: r.InitTrainOption = None,
    train_precision: r.TrainPrecisionOption = None,
    seeds: SeedsOption = 1,
    fold_seed: FoldSeedOption = 0,
    store: o.StoreOption = Path("features"),
    results: ResultsOption = Path("results"),
    device: o.DeviceOption = "cpu",
    devices: o.DevicesOption = None,
    engine: o.EngineOption = None,
    ray_address: o.RayOption = None,
    precision: o.PrecisionOption = "float32",
    frames: o.FramesOption = False,
    batch_seconds: o.BatchOption = None,
    workers: o.WorkersOption = 4,
    max_seconds: o.MaxSecondsOption = None,
    allow_rejects: o.RejectsOption = False,
    augment: o.AugmentOption = None,
    copies: o.CopiesOption = 1,
    augment_seed: o.AugmentSeedOption = 0,
    rate: m.RateOption = 0.0,
    test_condition: m.ConditionOption = None,
    added: m.AddedOption = None,
    strategy: m.StrategyOption = None,
    ratio: m.RatioOption = None,
    select: m.SelectOption = None,
    late: m.LateOption = False,
    cache_augment: m.CacheOption = None,
    format: FormatOption = None,
    output: OutputOption = None,
    quiet: o.QuietOption = False,
) -> None:
    """Compare upstreams: extract what is missing, train on the cache, print the leaderboard.

    Everything is resumed: what is stored or on record is not done again. The leaderboard has the
    rows that this command asked for; 'serfeat leaderboard' shows all of a folder.

    Example: serfeat bench --corpus emodb=/data/emodb --labels angry,happy,neutral,sad \
    --upstreams fbank,hubert-base,hubert-base@random:0 --store features --results results

    Example: serfeat bench --corpus emodb=/data/emodb --upstreams hubert-base \
    --augment noise:snr=10/5/0,folder=/data/noise --copies 6 --test-condition clean \
    --test-condition noise:snr=0,folder=/data/noise

    Example: serfeat bench --corpus emodb=/data/emodb --upstreams data2vec-base --heads mlp \
    --labels angry,happy,neutral,sad --added tts=tts.csv --strategy curriculum --ratio 0.25,0.5,1
    """
    form = choose_format(format, output)
    requests = o.read_requests(upstreams)
    sources = o.read_sources(
        corpus, manifest, root=root, emobox=emobox, superb_metadata=superb_metadata,
        allow_partial=allow_partial,
    )  # fmt: skip
    from ser_features.bench import BenchOptions
    from ser_features.extract.pipeline import Options
    from ser_features.train.run import Training, parse_lrs, parse_numbers

    training = Training(
        recipe, steps, parse_lrs(lr), parse_numbers(weight_decay, "--weight-decay"), layers,
        normalize, device,
        resnet=r.resnet_options(
            pooling, vad, frame_norm, spec_augment, train_precision, init, init_train
        ),
        strategy=m.read_strategy(strategy), rate=rate, select=select, late=late,
        cache=tuple(cache_augment or ()),
    )  # fmt: skip
    extraction = Options(
        frames, device, precision, batch_seconds, workers, max_seconds,
        seed=augment_seed, engine=engine, devices=devices, ray_address=ray_address,
    )  # fmt: skip
    settings = BenchOptions(
        protocol, read_heads(heads), o.read_labels(labels), seeds, fold_seed,
        allow_rejects=allow_rejects, training=training, extraction=extraction,
        augment=o.read_augment(augment, copies), copies=copies,
        conditions=tuple(test_condition or ("clean",)),
        ratios=parse_numbers(ratio, "--ratio") or (),
    )  # fmt: skip
    paths = run_bench(sources, requests, store, results, settings, quiet, m.read_added(added))
    show_files(paths, form, output)
    if output is not None and not quiet:
        show_files(paths)
    if not quiet:
        say_others(results, len(paths))


def read_heads(heads: list[str] | None) -> tuple[str, ...]:
    """What ``--heads`` names, SUPERB's where it is left out; UsageError where it names nothing."""
    names = tuple(dict.fromkeys(o.split_commas(heads)))
    if heads and not names:
        raise UsageError("--heads names no head; 'serfeat heads' lists them")
    return names or ("superb",)


def run_bench(
    sources: "list[ManifestSource]",
    requests: list[str],
    store: Place,
    results: Path,
    settings: "BenchOptions",
    quiet: bool,
    added: "list[ManifestSource] | None" = None,
) -> list[Path]:
    """Bench every corpus, with progress bars; notes of a corpus are printed last.

    Returns the files of the records that were asked for, each once.
    """
    from ser_features.bench import bench as run
    from ser_features.bench import prepare
    from ser_features.results import record_path

    manifests = o.read_manifests(sources)
    found: dict[Path, None] = {}
    others = [source.read() for source in added or []]
    for one in manifests:  # what is wrong with the last must not show after hours on the first
        try:
            prepare(one, requests, settings, others)
        except SerfeatError:
            for note in one.notes:  # such as a column that is called otherwise than expected
                line(f"note: {note}")
            raise
    for source, one in zip(sources, manifests, strict=True):
        inputs: dict[str, Any] = {"source": source.to_json(), "store": address(store)}
        if added:
            inputs["added"] = [each.to_json() for each in added]
        own = replace(settings, inputs=inputs)
        with bars(quiet) as progress:
            records = run(one, requests, store, results, own, progress, others)
        notes = dict.fromkeys(note for record in records for note in record.notes)
        for note in [] if quiet else notes:
            line(f"note: {note}")
        found |= dict.fromkeys(record_path(results, record) for record in records)
    return list(found)


def say_others(results: Path, shown: int) -> None:
    """How many records a folder holds beside those that are shown."""
    from ser_features.results import count_records

    others = count_records(results) - shown
    if others > 0:
        told = counted(others, "other record")
        line(f"{results} holds {told}: 'serfeat leaderboard --results {results}' shows all")
