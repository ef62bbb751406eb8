"""``serfeat extract``."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from ser_features.errors import RejectsError
from ser_features.files import uncollected
from ser_features_cli import options as o
from ser_features_cli.console import counted, err, line
from ser_features_cli.progress import bars

if TYPE_CHECKING:
    from ser_features.extract.pipeline import Report


def extract(
    upstreams: o.UpstreamsOption,
    store: o.StoreOption = Path("features"),
    corpus: o.CorpusOption = None,
    manifest: o.ManifestOption = None,
    root: o.RootOption = None,
    allow_partial: o.PartialOption = False,
    frames: o.FramesOption = False,
    device: o.DeviceOption = "cpu",
    devices: o.DevicesOption = None,
    engine: o.EngineOption = None,
    ray_address: o.RayOption = None,
    precision: o.PrecisionOption = "float32",
    batch_seconds: o.BatchOption = None,
    workers: o.WorkersOption = 4,
    max_seconds: o.MaxSecondsOption = None,
    augment: o.AugmentOption = None,
    copies: o.CopiesOption = 1,
    augment_seed: o.AugmentSeedOption = 0,
    allow_rejects: o.RejectsOption = False,
    quiet: o.QuietOption = False,
) -> None:
    """Run upstreams over a corpus once and store every layer.

    Running it again extracts only what is missing. With --augment, the augmented feature sets are
    made instead of the clean one. 'serfeat bench' with the same options trains on what is stored.

    Example: serfeat extract --corpus emodb=/data/emodb --upstreams fbank,hubert-base

    All GPUs of this machine: serfeat extract --corpus emodb=/data/emodb \
    --upstreams hubert-base --devices all

    A Ray cluster: serfeat extract --corpus emodb=/data/emodb --upstreams hubert-base \
    --engine ray --ray-address head:6379
    """
    requests = o.read_requests(upstreams)
    sources = o.read_sources(corpus, manifest, root=root, allow_partial=allow_partial)
    manifests = o.read_manifests(sources)
    with uncollected():  # torch is a seventh slower to load where cycles are looked for
        from ser_features.extract.pipeline import Options, extract_sets

    settings = Options(
        frames, device, precision, batch_seconds, workers, max_seconds,
        o.read_augment(augment, copies), copies, augment_seed, engine, devices, ray_address,
    )  # fmt: skip
    num_rejects = 0
    for one in manifests:
        rejected: set[str] = set()
        for request in requests:
            with bars(quiet) as progress:
                reports = extract_sets(one, request, store, settings, progress)
            for report in reports:
                if not quiet:
                    _say(report)
                rejected |= {reject.id for reject in report.rejects}
        num_rejects += len(rejected)
    if num_rejects and not allow_rejects:
        total = sum(len(one) for one in manifests)
        others = " (the others are stored)" if num_rejects < total else ""
        raise RejectsError(
            f"{num_rejects} of {total} utterances were rejected{others}; mend the files that the "
            f"reports in {store / 'rejects'} name, or pass --allow-rejects"
        )


def _say(report: "Report") -> None:
    from ser_features.extract.pipeline import title
    from ser_features.extract.remarks import remarks

    name = title(report.spec)
    if report.num_new:
        rate = report.audio_seconds / max(report.seconds, 1e-9)
        done = (
            f"{counted(report.num_new, 'utterance')} extracted, {report.audio_seconds:.0f} s of "
            f"audio in {report.seconds:.1f} s ({rate:.1f}x real time)"
        )
    else:
        done = "nothing new to extract"
    present = f", {report.num_present} already stored" if report.num_present else ""
    err.print(f"[green]{escape(name)}[/]: {done}{present}", highlight=False, soft_wrap=True)
    for sentence in remarks(report):
        line(f"  {sentence}")
