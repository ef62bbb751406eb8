"""The protocol of a paper on the user's corpus, and where it has to be another one."""

from collections.abc import Sequence

from ser_features.errors import UsageError
from ser_features.folds import make_folds
from ser_features.manifest import Manifest
from ser_features.studies.spec import Request

FOUR = ("angry", "happy", "neutral", "sad")
"""The four classes of papers 1, 3 and 4 (and of paper 2 but on MSP-Podcast)."""


SESSIONS = "leaving one session out"


def session_folds(
    request: Request, manifest: Manifest, deviations: list[str], paper: str = SESSIONS
) -> str:
    """Leave one session out; five folds without a common speaker where there are no sessions.

    ``paper`` says what the paper did on this corpus.
    """
    if request.protocol is not None:
        deviations.append(f"protocol {request.protocol} instead of {paper}")
        return request.protocol
    sessions = {utterance.session for utterance in manifest.utterances}
    if None not in sessions and len(sessions) >= 3:
        return "session"
    speakers = len(manifest.speakers)
    protocol = f"kfold:{min(5, speakers)}" if speakers >= 2 else "official"
    deviations.append(
        f"{manifest.corpus} has no sessions: {protocol} (folds that share no speaker) instead of "
        f"{paper}"
    )
    return protocol


SPLITS = {"cremad": "51, 8 and 32 actors", "msp-podcast": "the standard split"}
"""Where paper 2 does not leave sessions out (section 4)."""


def corpus_folds(request: Request, manifest: Manifest, deviations: list[str]) -> str:
    """The corpus's own split where it has one (as MSP-Podcast), else IEMOCAP's sessions."""
    if request.protocol is None and all(u.split for u in manifest.utterances):
        return "official"
    paper = SPLITS.get(manifest.corpus, SESSIONS)
    return session_folds(request, manifest, deviations, paper)


def common_labels(
    request: Request, manifests: Sequence[Manifest], deviations: list[str], wanted: Sequence[str]
) -> tuple[str, ...]:
    """The asked labels, else those of the paper that every corpus has.

    ``wanted`` are label requests such as ``happy+excited``: of a merged class, the words that a
    corpus has are enough.
    """
    if request.labels is not None:
        deviations.append(f"labels {', '.join(request.labels)} as asked")
        return request.labels
    found = []
    for item in wanted:
        words = [w for w in item.split("+") if all(_has(m, w) for m in manifests)]
        if words:
            found.append("+".join(words))
        lacking = sorted(set(item.split("+")) - set(words))
        short = [m.corpus for m in manifests if not all(_has(m, w) for w in lacking)]
        merged = [m.corpus for m in manifests if merges_excited(request, m)]
        if lacking and (lacking != ["excited"] or not set(short) <= set(merged)):
            deviations.append(f"no label {', '.join(lacking)}: not in {', '.join(short)}")
        if item == "happy" and words:
            deviations += [f"{name} counts excited as happy, {UNMERGED}" for name in merged]
    return tuple(found)


UNMERGED = "the paper does not: '--corpus iemocap-exp1=PATH' reads its classes"


def merges_excited(request: Request, manifest: Manifest) -> bool:
    """Whether this is an IEMOCAP of the table of corpora whose *happy* holds *excited*."""
    source = request.inputs.get("sources", {}).get(manifest.corpus, {})
    return source.get("kind") == "corpus" and manifest.corpus in ("iemocap", "iemocap-exp3")


def _has(manifest: Manifest, label: str) -> bool:
    return label in manifest.select_labels().label_counts


def seeds_of(request: Request, paper: int, deviations: list[str]) -> int:
    """The paper's number of runs, or the asked one."""
    if request.seeds is not None and request.seeds != paper:
        deviations.append(f"{request.seeds} run(s) instead of {paper}")
    return paper if request.seeds is None else request.seeds


def head_of(request: Request, paper: str, why: str, deviations: list[str]) -> str:
    """The paper's head, or the asked one."""
    if request.head is not None and request.head != paper:
        deviations.append(f"head {request.head} instead of {paper} ({why})")
    return paper if request.head is None else request.head


def say_training(request: Request, deviations: list[str]) -> None:
    """What the user changed of the training."""
    if request.recipe is not None:
        deviations.append(f"recipe {request.recipe} as asked")
    if request.steps is not None:
        deviations.append(f"{request.steps} updates or epochs as asked")
    if request.lrs is not None:
        deviations.append(f"learning rate {', '.join(f'{lr:g}' for lr in request.lrs)} as asked")
    if request.weight_decays is not None:
        listed = ", ".join(f"{each:g}" for each in request.weight_decays)
        deviations.append(f"weight decay {listed} as asked")
    if request.select is not None:
        deviations.append(f"checkpoint to test: {request.select}, as asked")
    deviations.extend(f"{each} as asked" for each in request.resnet.words)


def check_folds(request: Request, labels: tuple[str, ...], protocol: str) -> int:
    """The number of folds that every corpus has under one protocol; UsageError else."""
    counts = {
        m.corpus: len(make_folds(m.select_labels(labels), protocol).folds)
        for m in request.manifests
    }
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UsageError(
            f"corpora that train together need as many folds each, {protocol} gives {listed}; use "
            "kfold:K"
        )
    return next(iter(counts.values()))
