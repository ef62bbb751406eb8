"""Training on each corpus and each combination, testing on each; swapped labels (paper 3)."""

from dataclasses import replace
from functools import partial

from ser_features.studies.crossings import (
    matrix,
    need_corpora,
    scrambled,
    shown,
    subsets,
    swap_of,
    what_swapping_means,
)
from ser_features.studies.protocols import (
    FOUR,
    check_folds,
    common_labels,
    head_of,
    say_training,
    seeds_of,
)
from ser_features.studies.spec import (
    SCRAMBLED,
    Crossing,
    Meaning,
    Plan,
    Request,
    Study,
    TableSpec,
    need_upstreams,
    training_of,
)
from ser_features.studies.unseen import unseen_blocks
from ser_features.upstreams.request import parse_request

UNSEEN = (
    "the mean over the corpora not trained on counts each of them once; its interval resamples the "
    "speakers of every corpus. It is a summary of our own and not EmoBox's cross-corpus accuracy, "
    "whose definition is in a paper that was not at hand; no text that was seen gives its formula"
)


def plan(request: Request) -> Plan:
    """A matrix of UAR for each upstream, and one with each corpus's labels swapped in turn."""
    need_corpora(request)
    deviations: list[str] = []
    labels = common_labels(request, request.manifests, deviations, FOUR)
    protocol = request.protocol or "kfold:5"
    check_folds(request, labels, protocol)
    if request.protocol is not None:
        deviations.append(f"protocol {protocol} as asked")
    head = head_of(request, "superb", "SUPERB's", deviations)
    seeds = seeds_of(request, 1, deviations)
    say_training(request, deviations)
    swap = swap_of(request, labels)
    odd = tuple(corpus + SCRAMBLED for corpus in request.corpora) if swap else ()
    first, tests = request.corpora[:1], (*request.corpora, *odd)
    how = (head, training_of(request), protocol, labels, seeds)
    bases = [Crossing(first, tests, name, *how, swap=swap) for name in need_upstreams(request)]
    crossings = [replace(base, train=t) for base in bases for t in subsets(request.corpora)]
    tables: list[TableSpec] = []
    meanings: list[Meaning] = []
    for base in bases:
        own = {shown(each.train): each for each in crossings if each.upstream == base.upstream}
        tables += _matrices(own, request.corpora)
        for corpus in request.corpora if swap else ():
            table, meaning = _swapped(base, corpus, request.corpora)
            tables.append(table)
            meanings.append(meaning)
    notes = (f"every corpus by {protocol}; fold i of each is trained on and tested together",)
    return Plan(
        tuple(tables), tuple(deviations), (*notes, UNSEEN), meanings=tuple(meanings),
        more=partial(unseen_blocks, tuple(crossings), request.corpora),
    )  # fmt: skip


def _matrices(crossings: dict[str, Crossing], tests: tuple[str, ...]) -> list[TableSpec]:
    """The same trainings as scores and as differences to training on the tested corpus alone."""
    one = next(iter(crossings.values()))
    short = parse_request(one.upstream).name
    name, about = f"cross-{short}", f"{short}, {one.head}"
    return [
        matrix(f"{name}-uar", f"UAR, {about}", crossings, tests, "uar", relative=False),
        matrix(
            f"{name}-relative", f"UAR relative to the in-corpus baseline, {about}",
            crossings, tests, "uar", relative=True,
        ),
        matrix(f"{name}-wf1", f"Weighted F1, {about}", crossings, tests, "weighted_f1",
               relative=False),
    ]  # fmt: skip


def _swapped(base: Crossing, corpus: str, corpora: tuple[str, ...]) -> tuple[TableSpec, Meaning]:
    short = parse_request(base.upstream).name
    pairs = ", ".join(f"{a} and {b}" for a, b in base.swap)
    name = f"swapped-{corpus}-{short}"
    table = matrix(
        name, f"UAR with {corpus}'s labels swapped ({pairs}), {short}",
        scrambled(base, corpus, corpora), (*corpora, corpus + SCRAMBLED), "uar", relative=False,
    )  # fmt: skip
    return table, what_swapping_means(name, corpus, corpora, short)


CROSS_CORPUS = Study(
    name="cross-corpus",
    title="Training on each corpus and each combination, testing on each",
    paper="domain-mismatch",
    tables="after Figs. 2 and 3, without augmentation",
    protocol="5 folds that share no speaker for every corpus, superb head on the cache, UAR, 1 run",
    needs="two corpora or more",
    plan=plan,
    takes=("swap",),
)
