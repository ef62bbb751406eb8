"""``serfeat study`` and ``serfeat studies``: the comparisons of papers 1 to 4."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser_features.store.place import Place
from ser_features_cli import options as o
from ser_features_cli import resnet as r
from ser_features_cli.bench import DecayOption, LrOption, RecipeOption, StepsOption
from ser_features_cli.console import line, out
from ser_features_cli.mixing import SelectOption
from ser_features_cli.progress import bars

if TYPE_CHECKING:
    from ser_features.studies.run import Outcome
    from ser_features.studies.spec import Request, Study


def studies() -> None:
    """List the studies.

    Example: serfeat studies
    """
    from ser_features.studies.published import read_paper
    from ser_features.studies.table import STUDIES
    from ser_features_cli.lists import show

    rows = []
    for one in STUDIES.values():
        first = read_paper(one.paper).authors.partition(",")[0]
        rows.append((one.name, one.title, f"{first} et al.: {one.tables}", one.protocol, one.needs))
    show(("name", "what", "of the paper", "protocol by default", "needs"), rows)


def study(
    name: Annotated[str, typer.Argument(help="The study; 'serfeat studies' lists them.")],
    corpus: o.CorpusOption = None,
    manifest: o.ManifestOption = None,
    root: o.RootOption = None,
    emobox: o.EmoboxOption = None,
    superb_metadata: o.SuperbOption = None,
    allow_partial: o.PartialOption = False,
    upstreams: Annotated[
        list[str] | None,
        typer.Option("--upstreams", help="Upstreams as in bench; if unset, the paper's."),
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="Another head than the paper's.")
    ] = None,
    labels: o.LabelsOption = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Other folds than the paper's.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Runs; if unset, as many as the paper.")
    ] = None,
    recipe: RecipeOption = None,
    steps: StepsOption = None,
    lr: LrOption = None,
    weight_decay: DecayOption = None,
    select: SelectOption = None,
    pooling: r.PoolingOption = None,
    vad: r.VadOption = None,
    frame_norm: r.FrameNormOption = None,
    spec_augment: r.SpecAugmentOption = None,
    init: r.InitOption = None,
    init_train: r.InitTrainOption = None,
    train_precision: r.TrainPrecisionOption = None,
    copies: Annotated[
        int | None, typer.Option("--copies", min=1, help="Augmented copies of each utterance.")
    ] = None,
    noise: Annotated[
        Path | None,
        typer.Option("--noise", help="A folder of noise recordings.", exists=True, file_okay=False),
    ] = None,
    music: Annotated[
        Path | None,
        typer.Option("--music", help="A folder of music recordings.", exists=True, file_okay=False),
    ] = None,
    paste: Annotated[
        str | None,
        typer.Option(
            "--paste",
            help="Study copypaste: join frames in every minibatch (cache; if unset, for resnet34 "
            "heads) or recordings before extraction (waveform; for other heads).",
        ),
    ] = None,
    swap: Annotated[
        list[str] | None,
        typer.Option(
            "--swap", help="Labels to exchange, as neutral:sad. Repeatable.", metavar="LABEL:LABEL"
        ),
    ] = None,
    ratio: Annotated[
        str | None, typer.Option("--ratio", help="Added to real data, by commas, for the sweep.")
    ] = None,
    store: o.StoreOption = Path("features"),
    results: Annotated[
        Path, typer.Option("--results", help="The folder of run records.", file_okay=False)
    ] = Path("results"),
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where the report goes; RESULTS/study-NAME if unset.", file_okay=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be extracted and trained; do nothing.")
    ] = False,
    device: o.DeviceOption = "cpu",
    devices: o.DevicesOption = None,
    engine: o.EngineOption = None,
    ray_address: o.RayOption = None,
    precision: o.PrecisionOption = "float32",
    batch_seconds: o.BatchOption = None,
    workers: o.WorkersOption = 4,
    max_seconds: o.MaxSecondsOption = None,
    allow_rejects: o.RejectsOption = False,
    quiet: o.QuietOption = False,
) -> None:
    """Run a paper's comparison on your corpora and print its tables beside the published numbers.

    Everything is resumed: what is stored or on record is not done again.

    Example: serfeat study cross-corpus --corpus emodb=/data/emodb --corpus urdu=/data/urdu \
    --upstreams logmel,whisper-base --store features --results results
    """
    from ser_features.studies.table import STUDIES

    chosen = STUDIES[name]
    sources = o.read_sources(
        corpus, manifest, root=root, emobox=emobox, superb_metadata=superb_metadata,
        allow_partial=allow_partial,
    )  # fmt: skip
    manifests = o.read_manifests(sources)
    from ser_features.extract.pipeline import Options
    from ser_features.studies.spec import Request
    from ser_features.train.run import parse_lrs, parse_numbers

    pairs = zip(manifests, sources, strict=True)
    request = Request(
        tuple(manifests), tuple(o.read_requests(upstreams)) if upstreams else (), head,
        o.read_labels(labels), protocol, seeds, steps, recipe,
        parse_lrs(lr), copies, noise and noise.absolute(), music and music.absolute(),
        None if init is None else str(init.absolute()), read_swaps(swap),
        parse_numbers(ratio, "--ratio") or (), allow_rejects, device,
        Options(
            False, device, precision, batch_seconds, workers, max_seconds,
            engine=engine, devices=devices, ray_address=ray_address,
        ),
        {"sources": {one.corpus: source.to_json() for one, source in pairs}},
        parse_numbers(weight_decay, "--weight-decay"), select,
        r.resnet_options(
            pooling, vad, frame_norm, spec_augment, train_precision, init_train=init_train
        ),
        paste,
    )  # fmt: skip
    if dry_run:
        preview(chosen, request, store, results)
    else:
        run(chosen, request, store, results, folder or results / f"study-{name}", quiet)


def preview(chosen: "Study", request: "Request", store: Place, results: Path) -> None:
    """Print what a study would do."""
    from ser_features.report.document import as_terminal
    from ser_features.studies.cost import dry_run

    out.print(as_terminal(dry_run(chosen, request, store, results)))


def run(
    chosen: "Study", request: "Request", store: Place, results: Path, folder: Path, quiet: bool
) -> None:
    """Run a study with progress bars, then print and write its report."""
    from ser_features.studies.run import run_study

    with bars(quiet) as progress:
        outcome = run_study(chosen, request, store, results, progress)
    write(outcome, folder)


def write(outcome: "Outcome", folder: Path) -> None:
    """Print the report and write its files."""
    from ser_features.files import write_atomic
    from ser_features.report.document import as_terminal, files
    from ser_features.studies.outputs import study_csv, study_document, study_json

    document = study_document(outcome)
    name = outcome.study.name
    for file, text in files(document, name):
        write_atomic(folder / file, text)
    write_atomic(folder / f"{name}.csv", study_csv(outcome))
    write_atomic(folder / f"{name}.json", study_json(outcome))
    out.print(as_terminal(document))
    line(f"wrote {folder}/{name}.html, .md, .csv, .json and figures")


def read_swaps(texts: list[str] | None) -> tuple[tuple[str, str], ...]:
    """Pairs of labels from ``neutral:sad``."""
    from ser_features.errors import UsageError

    found = []
    for text in texts or []:
        first, colon, second = text.partition(":")
        if not (first and colon and second) or first == second:
            raise UsageError(f"--swap {text!r}: expected two labels, as in --swap neutral:sad")
        found.append((first, second))
    return tuple(found)
