"""Paper 2, Tables 2 to 6: CopyPaste and noise, on clean and noisy tests."""

from collections.abc import Sequence
from dataclasses import dataclass

from ser_features.augment.parse import parse_augmentation
from ser_features.errors import UsageError
from ser_features.manifest import Manifest
from ser_features.registry import unknown
from ser_features.studies.protocols import (
    FOUR,
    common_labels,
    corpus_folds,
    head_of,
    say_training,
    seeds_of,
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

PASTES = {"none": "", "SE-CP": "copypaste-se", "N-CP": "copypaste-n", "N+SE-CP": "copypaste-n+se"}
DATA = ("clean", "clean+noise")
SNRS = "10/5/0"
ALL_SNRS = ("10", "5", "0")
TEST_SNRS = (10, 0)
COPIES = 4
"""Copies of each utterance: with it, 4 of 5 training rows are pasted (the paper's 80 %)."""
PASTED_SNRS = {
    1: (SNRS,), 2: (SNRS, "0/5/10"), 3: ("10", "5", "0"), 4: (SNRS, "10", "5", "0")
}  # fmt: skip
"""SNRs of the noisy pasted sets, as many as copies: noise is pasted as often as clean speech."""
WAYS = ("cache", "waveform")
"""Where utterances are joined: frames anew in every minibatch, or copies before extraction."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all cells of one corpus and upstream share."""

    manifest: Manifest
    upstream: str
    head: str
    protocol: str
    labels: tuple[str, ...]
    seeds: int
    paste: str


def plan(request: Request) -> Plan:
    """For each corpus and upstream: clean and noisy tests, and F1 by class."""
    if request.noise is None:
        raise UsageError("this study adds noise: name a folder of recordings with --noise")
    deviations: list[str] = []
    head = head_of(request, "resnet34-copypaste", "ResNet-34 on 23 MFCCs", deviations)
    paste = _way(request, head)
    deviations = [*_deviations(request, head, paste), *deviations]
    seeds = seeds_of(request, 3, deviations)
    say_training(request, deviations)
    tables: list[TableSpec] = []
    for manifest in request.manifests:
        wanted = FOUR if manifest.corpus != "msp-podcast" else (*FOUR, "disgust")
        labels = common_labels(request, [manifest], deviations, wanted)
        protocol = corpus_folds(request, manifest, deviations)
        for upstream in need_upstreams(request, ("mfcc",)):
            setting = Setting(manifest, upstream, head, protocol, labels, seeds, paste)
            tables += _tables(request, setting)
    unread = read_paper("copypaste").unread
    return Plan(tuple(tables), tuple(dict.fromkeys(deviations)), unread)


def _way(request: Request, head: str) -> str:
    """Where to paste: on the cache for the paper's network, whose chunks are crops of 4 s."""
    way = request.paste or ("cache" if is_resnet(head) else "waveform")
    if way not in WAYS:
        raise UsageError(unknown("way to paste", way, WAYS))
    if way == "waveform" and (request.copies or COPIES) not in PASTED_SNRS:
        raise UsageError(f"--copies {request.copies}: this study takes 1 to {max(PASTED_SNRS)}")
    return way


def _deviations(request: Request, head: str, paste: str) -> list[str]:
    found = _of_copies(request.copies or COPIES) if paste == "waveform" else _of_cache(head)
    if request.music is None:
        found.append("no music folder (--music): noise alone")
    if request.init is None:
        found.append(
            "no checkpoint (--init): no Table 3, and Tables 4 to 6 are of the randomly initialised "
            "head, not of one pre-trained on speakers"
        )
    return found


def _of_copies(copies: int) -> list[str]:
    return [
        f"pasted copies are made before training, {copies} of each utterance, and added: "
        f"at most {copies / (copies + 1):.0%} of the training rows are pasted (less by the copies "
        "whose other utterance is not on the training side, which are counted below); the paper "
        "pastes anew in 80 % of the batches",
        "a pasted copy of Clean+Noise is noisy as a whole: noise is added after pasting",
        f"Clean+Noise adds {copies} noisy copies of each utterance, each at an SNR drawn "
        "from 10, 5 and 0 dB, instead of one at each SNR with noise and with music",
    ]


def _of_cache(head: str) -> list[str]:
    """Pasting as the paper does it: 80 % of the minibatches, drawn anew."""
    if is_resnet(head):
        return [
            "what is joined are the chunks of the recipe (4 s in recipe copypaste) of the frames "
            "that voice activity detection leaves; the paper does not say in which order",
            "copies of an utterance at 10, 5 and 0 dB hold the same stretch of the same recording",
        ]
    return ["features are pasted whole, without crops, not recordings before extraction"]


def noises(request: Request, snrs: Sequence[str]) -> list[str]:
    """Noise, and music where there is a folder of it, at these SNRs, as augmentations."""
    folders = {"noise": request.noise, "music": request.music}
    return [
        f'{kind}:snr={snr},folder="{folder}"'
        for kind, folder in folders.items()
        if folder is not None
        for snr in snrs
    ]


def _trials(
    request: Request, setting: Setting, init: str | None = None
) -> dict[tuple[str, str], Trial]:
    return {(d, n): _trial(request, setting, d, p, init) for d in DATA for n, p in PASTES.items()}


def _trial(request: Request, setting: Setting, data: str, paste: str, init: str | None) -> Trial:
    """One training: the copies of its cell, tested clean and at 10 and 0 dB."""
    resnet = ResNetOptions(init=init, init_train="all" if init else None)
    own: dict[str, object] = {"resnet": resnet} if is_resnet(setting.head) else {}
    if setting.paste == "cache":
        own["cache"] = (paste,) if paste else ()
        augment, copies = noises(request, ALL_SNRS), request.copies or 1
        augment = augment if data == "clean+noise" else []
    else:
        augment, copies = _copies(request, data, paste), request.copies or COPIES
    tests = [f'noise:snr={snr},folder="{request.noise}"' for snr in TEST_SNRS]
    return Trial(
        setting.manifest.corpus, setting.upstream, setting.head, training_of(request, **own),
        setting.protocol, setting.labels, setting.seeds,
        augment=tuple(augment),
        copies=copies,
        conditions=("clean", *tests),
    )  # fmt: skip


def _copies(request: Request, data: str, paste: str) -> list[str]:
    """What is added to the training side where pasting is done before extraction."""
    pastes = [paste] if paste else []
    noisy = noises(request, (SNRS,)) if data == "clean+noise" else []
    pasted = noises(request, PASTED_SNRS[request.copies or COPIES]) if paste and noisy else []
    return [*pastes, *noisy, *(f"{paste}+{noise}" for noise in pasted)]


def _tables(request: Request, setting: Setting) -> list[TableSpec]:
    """Table 2 of the network from scratch, the others of the pre-trained one where there is one."""
    trials = _trials(request, setting)
    clean, *noisy = next(iter(trials.values())).conditions
    tables = [_scores(setting, trials, "Table 2", clean)]
    if request.init:
        trials = _trials(request, setting, request.init)
        tables.append(_scores(setting, trials, "Table 3", clean))
    for number, condition in zip(("Table 5", "Table 6"), noisy, strict=True):
        tables.append(_scores(setting, trials, number, parse_augmentation(condition).name))
    return [*tables, _classes(setting, trials)]


def _scores(
    setting: Setting, trials: dict[tuple[str, str], Trial], number: str, test: str
) -> TableSpec:
    entries = {key: Entry(trial, test, "weighted_f1") for key, trial in trials.items()}
    corpus, upstream = setting.manifest.corpus, parse_request(setting.upstream).name
    return TableSpec(
        f"{number.replace(' ', '').lower()}-{corpus}-{upstream}",
        f"{number}: weighted F1 on {corpus}, {upstream}, test {test}",
        DATA, tuple(PASTES), entries,
        against={(d, n): (d, "none") for d in DATA for n in PASTES if n != "none"},
        published=read_paper("copypaste").table(number, corpus=corpus),
        figure="bars",
        axes=("training data", ""),
    )  # fmt: skip


def _classes(setting: Setting, trials: dict[tuple[str, str], Trial]) -> TableSpec:
    names = [label.partition("+")[0] for label in setting.labels]
    entries = {
        (label, paste): Entry(trials["clean", paste], "clean", f"class_f1:{label}")
        for label in names
        for paste in PASTES
    }
    corpus, upstream = setting.manifest.corpus, parse_request(setting.upstream).name
    return TableSpec(
        f"table4-{corpus}-{upstream}",
        f"Table 4: F1 by class on {corpus}, {upstream}, clean training and test",
        tuple(names), tuple(PASTES), entries,
        published=read_paper("copypaste").table("Table 4", corpus=corpus),
    )  # fmt: skip


COPYPASTE = Study(
    name="copypaste",
    title="CopyPaste and noise as augmentations",
    paper="copypaste",
    tables="Tables 2 to 6",
    protocol="IEMOCAP by sessions, MSP-Podcast and CREMA-D by their splits, ResNet-34 on MFCCs, "
    "Adam, best epoch on dev, weighted F1, 3 runs",
    needs="a corpus, --noise FOLDER; --music FOLDER and --init CHECKPOINT as in the paper",
    plan=plan,
    takes=("copies", "noise", "music", "init", "paste"),
)
