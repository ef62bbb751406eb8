"""Cheap forms on the cache in the place of waveform forms: scores, gains, agreement, distance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ser_features.errors import UsageError
from ser_features.manifest import Manifest
from ser_features.runs import CLEAN
from ser_features.studies.protocols import FOUR, common_labels, say_training
from ser_features.studies.spec import (
    Entry,
    Plan,
    Request,
    Study,
    TableSpec,
    Trial,
    need_upstreams,
    training_of,
)
from ser_features.studies.stand_in_blocks import Compared, compared_blocks
from ser_features.train.run import needs_frames
from ser_features.upstreams.request import parse_request

COPIES = 3
SEEDS = 3
SHARE = 0.8
"""Of the training samples that are pasted (paper 2, section 3.2.2), in both forms."""
TIME, BAND = "time-mask:p=0.2,masks=2", "feature-mask:p=0.125,masks=2"
"""As many and as wide as the default masks of ``specmask``."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A waveform form, the share of samples it stands in for, and its form on the cache."""

    waveform: str
    rate: float
    cache: tuple[str, ...]
    needs_frames: bool = False

    @property
    def name(self) -> str:
        """Both forms where their names differ."""
        steps = "+".join(step.partition(":")[0] for step in self.cache)
        return self.waveform if steps == self.waveform else f"{self.waveform} ~ {steps}"


PAIRS = (
    *(
        Pair(name, SHARE, (f"{name}:share={SHARE:g}",))
        for name in ("copypaste-se", "copypaste-n", "copypaste-n+se")
    ),
    Pair("specmask", 1.0, (BAND,)),
    Pair("specmask", 1.0, (TIME,), needs_frames=True),
    Pair("specmask", 1.0, (TIME, BAND), needs_frames=True),
)
FORMS = ("none", "waveform", "cache")


def plan(request: Request) -> Plan:
    """Three tables for each corpus, then agreement, rank correlation and distance."""
    seeds = request.seeds or SEEDS
    if seeds < 2:
        raise UsageError("this study compares runs of one form: --seeds 2 or more")
    deviations = [f"{seeds} runs instead of {SEEDS}"] if seeds != SEEDS else []
    if request.copies not in (None, COPIES):
        deviations.append(f"{request.copies} stored copies of each utterance instead of {COPIES}")
    if request.protocol is not None:
        deviations.append(f"protocol {request.protocol} as asked")
    say_training(request, deviations)
    tables, sides = [], []
    for manifest in request.manifests:
        labels = common_labels(request, [manifest], deviations, FOUR)
        for upstream in need_upstreams(request, ("logmel",)):
            base = _base(request, manifest, upstream, labels, seeds)
            sides += [_compared(base, pair) for pair in _pairs(base.head, labels)]
        own = [side for side in sides if side.none.corpus == manifest.corpus]
        tables += _tables(manifest.corpus, own)
    return Plan(
        tuple(tables), tuple(dict.fromkeys(deviations)), NOTES,
        more=partial(compared_blocks, tuple(sides)),
    )  # fmt: skip


NOTES = (
    "waveform CopyPaste joins random crops of up to 4 s of stored copies, drawn once; the cache "
    "joins whole utterances and pairs anew in every minibatch",
    f"CopyPaste: {SHARE:.0%} of the samples in both forms; masks: all samples, 2 stretches of up "
    "to 20 % of the recording, 2 bands of up to 12.5 % of the mel axis, or of the features",
)


def _base(
    request: Request, manifest: Manifest, upstream: str, labels: tuple[str, ...], seeds: int
) -> Trial:
    """The training without augmentation."""
    return Trial(
        manifest.corpus, upstream, request.head or "superb", training_of(request),
        request.protocol or "loso", labels, seeds, copies=request.copies or COPIES,
    )  # fmt: skip


def _pairs(head: str, labels: Sequence[str]) -> list[Pair]:
    """Masks of time need a head on frames, and N-CP a neutral class."""
    frames, neutral = needs_frames([head]), "neutral" in labels
    found = [pair for pair in PAIRS if frames or not pair.needs_frames]
    return [pair for pair in found if neutral or "-n" not in pair.waveform]


def _compared(none: Trial, pair: Pair) -> Compared:
    def changed(augment: tuple[str, ...] = (), **training: Any) -> Trial:
        return replace(none, augment=augment, training=replace(none.training, **training))

    waveform = changed((pair.waveform,), rate=pair.rate)
    cache = changed(cache=pair.cache)
    name = f"{parse_request(none.upstream).name} · {pair.name}"
    return Compared(name, pair.name, none, waveform, cache)


def _tables(corpus: str, sides: Sequence[Compared]) -> list[TableSpec]:
    """Scores, gains over none, and the cache form against the waveform form."""
    head = sides[0].none.head
    entries = {
        (side.name, form): Entry(trial, CLEAN, "uar")
        for side in sides
        for form, trial in zip(FORMS, (side.none, side.waveform, side.cache), strict=True)
    }
    rows = tuple(side.name for side in sides)
    gains = {(row, form): (row, "none") for row, form in entries if form != "none"}
    both = {key: entry for key, entry in entries.items() if key[1] != "none"}
    against = {(row, "cache"): (row, "waveform") for row in rows}
    where = f"{corpus}, head {head}"
    return [
        TableSpec(f"uar-{corpus}", f"UAR, {where}", rows, FORMS, entries, gains),
        TableSpec(
            f"gain-{corpus}", f"UAR gained over none, {where}", rows, FORMS, entries, gains,
            relative=True, figure="heat", axes=("", "form"),
        ),
        TableSpec(
            f"difference-{corpus}", f"UAR of the cache form against the waveform form, {where}",
            rows, FORMS[1:], both, against, relative=True,
        ),
    ]  # fmt: skip


STAND_IN = Study(
    name="stand-in",
    title="Augmentation on the cache in the place of augmentation of the waveform",
    paper="copypaste",
    tables="none of the paper's: CopyPaste and masks, each as a waveform form and on the cache",
    protocol="leave one speaker out, superb head (--head mlp: on frames), UAR, 3 runs; "
    f"{COPIES} copies of each utterance for the waveform forms",
    needs="a corpus",
    plan=plan,
    takes=("copies",),
)
