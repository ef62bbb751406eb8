"""Paper 4, Table 3, its confusion matrices (Fig. 3) and its ablation (Fig. 4)."""

from itertools import product

from ser_features.manifest import Manifest
from ser_features.studies.protocols import (
    FOUR,
    head_of,
    merges_excited,
    say_training,
    seeds_of,
    session_folds,
)
from ser_features.studies.published import read_paper
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
from ser_features.train.resnet_recipes import ResNetOptions, is_resnet
from ser_features.upstreams.request import parse_request

EXPERIMENTS = {
    "Exp 1": ("angry", "happy", "neutral", "sad"),
    "Exp 2": ("angry", "excited", "neutral", "sad"),
    "Exp 3": ("angry", "happy+excited", "neutral", "sad"),
}
PUBLISHED = {
    "Exp 1": "Exp 1: angry, happy, neutral, sad",
    "Exp 2": "Exp 2: angry, excited, neutral, sad",
    "Exp 3": "Exp 3: angry, happy and excited, neutral, sad",
}
POLICIES = ("none", "conservative", "aggressive")
METRICS = ("uar", "wa")


def plan(request: Request) -> Plan:
    """For each corpus: the experiments whose labels it has, and the ablation."""
    deviations: list[str] = []
    if request.init is None:
        deviations.append("no checkpoint (--init): nothing is transferred from speaker recognition")
    head = head_of(request, "resnet34-transfer", "ResNet-34, statistics pooling", deviations)
    seeds = seeds_of(request, 1, deviations)
    say_training(request, deviations)
    deviations.append(
        "a part of each fold's training side is held out as its dev side; the paper has none"
    )
    tables: list[TableSpec] = []
    confusions: dict[str, Entry] = {}
    for manifest in request.manifests:
        protocol = session_folds(request, manifest, deviations)
        for upstream in need_upstreams(request, ("logmel",)):
            for name, labels in _experiments(request, manifest, deviations).items():
                base = (manifest.corpus, upstream, head, protocol, labels, seeds)
                table = _policies(request, name, base)
                tables += [table, _ablation(request, name, base)]
                best = table.entries["proposed", "uar"]
                confusions[f"{name}, {manifest.corpus}, {parse_request(upstream).name}"] = best
    deviations.append(
        "the ablation uses the same folds as the table; the paper takes random fifths, five times"
    )
    unread = read_paper("spectrogram").unread
    return Plan(tuple(tables), tuple(dict.fromkeys(deviations)), unread, confusions=confusions)


Base = tuple[str, str, str, str, tuple[str, ...], int]
"""Corpus, upstream, head, protocol, labels, seeds."""


def _experiments(
    request: Request, manifest: Manifest, deviations: list[str]
) -> dict[str, tuple[str, ...]]:
    """The label sets that the corpus has."""
    if request.labels is not None:
        deviations.append(f"labels {', '.join(request.labels)} as asked")
        return {"asked labels": request.labels}
    if merges_excited(request, manifest):
        name = manifest.corpus
        deviations.append(f"{name} counts excited as happy: Exp 3 only; iemocap-all has all three")
        return {"Exp 3": FOUR}
    there = manifest.select_labels().label_counts
    found: dict[str, tuple[str, ...]] = {
        name: labels
        for name, labels in EXPERIMENTS.items()
        if all(word in there for item in labels for word in item.split("+"))
    }
    lacking = [name for name in EXPERIMENTS if name not in found]
    if lacking:
        said = f"{manifest.corpus} lacks labels of {', '.join(lacking)}"
        deviations.append(said)
    return found or {"four classes": tuple(word for word in FOUR if word in there)}


def _trial(request: Request, base: Base, policy: str, pooling: str, init: bool) -> Trial:
    corpus, upstream, head, protocol, labels, seeds = base
    if not is_resnet(head):  # the options are those of the paper's network
        return Trial(corpus, upstream, head, training_of(request), protocol, labels, seeds)
    options = ResNetOptions(
        pooling=pooling, spec_augment=policy, init=request.init if init else None,
        init_train="new" if init else None,
    )  # fmt: skip
    training = training_of(request, resnet=options)
    return Trial(corpus, upstream, head, training, protocol, labels, seeds)


def _policies(request: Request, name: str, base: Base) -> TableSpec:
    """Table 3: the proposed system is the aggressive policy with all that is there."""
    transfer = request.init is not None
    trials = {policy: _trial(request, base, policy, "statistics", transfer) for policy in POLICIES}
    rows = {f"SpecAugment {policy}": trial for policy, trial in trials.items()}
    rows = {**rows, "proposed": trials["aggressive"]}
    entries = {(row, m): Entry(trial, "clean", m) for row, trial in rows.items() for m in METRICS}
    published = read_paper("spectrogram").table(
        "Table 3", corpus=base[0], about=PUBLISHED.get(name, "")
    )
    return TableSpec(
        f"table3-{base[0]}-{_slug(name)}-{parse_request(base[1]).name}",
        f"Table 3: {name} on {base[0]}, {parse_request(base[1]).name}",
        tuple(rows), METRICS, entries,
        against={(row, m): ("SpecAugment none", m) for row, m in entries if "none" not in row},
        published=published,
    )  # fmt: skip


def _ablation(request: Request, name: str, base: Base) -> TableSpec:
    """Fig. 4: with and without transfer (TL), augmentation (Aug) and statistics pooling (SP)."""
    entries: dict[tuple[str, str], Entry] = {}
    transfers = (False, True) if request.init is not None else (False,)
    for init, augmented, pooled in product(transfers, (False, True), (False, True)):
        parts = [n for n, on in (("TL", init), ("Aug", augmented), ("SP", pooled)) if on]
        trial = _trial(
            request, base, "aggressive" if augmented else "none",
            "statistics" if pooled else "mean", init,
        )  # fmt: skip
        for metric in ("wa", "uar"):
            entries["+".join(parts) or "none", metric] = Entry(trial, "clean", metric)
    rows = tuple(dict.fromkeys(row for row, _ in entries))
    return TableSpec(
        f"figure4-{base[0]}-{_slug(name)}-{parse_request(base[1]).name}",
        f"Fig. 4: parts of the system, {name} on {base[0]}",
        rows, ("wa", "uar"), entries,
        against={(row, m): ("none", m) for row, m in entries if row != "none"},
        figure="bars",
    )  # fmt: skip


def _slug(name: str) -> str:
    return name.lower().replace(" ", "")


SPECTROGRAM = Study(
    name="spectrogram",
    title="ResNet on log-mel: transfer, SpecAugment, statistics pooling",
    paper="spectrogram",
    tables="Table 3, Fig. 3 (confusion matrices), Fig. 4",
    protocol="5 sessions of IEMOCAP, three label sets, ResNet-34 on 128 log-mel bands, SGD 1e-2, "
    "batch 32, UA and WA, 1 run",
    needs="a corpus; --init CHECKPOINT of 'serfeat pretrain' for the transfer",
    plan=plan,
    takes=("init",),
)
