"""Combinations of corpora: what studies 'domain-mismatch' and 'cross-corpus' share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from ser_features.errors import UsageError
from ser_features.studies.spec import (
    SCRAMBLED,
    Crossing,
    Entry,
    Lookup,
    Meaning,
    Request,
    Score,
    TableSpec,
)

SWAP = (("neutral", "sad"), ("happy", "angry"))
"""What paper 3 exchanges in one corpus (section 5.4)."""


ALPHA = 0.05
UNAFFECTED = 0.05
"""A loss below this is called none."""


def subsets(corpora: Sequence[str]) -> list[tuple[str, ...]]:
    """Each corpus, then each combination of more.

    >>> subsets(["a", "b"])
    [('a',), ('b',), ('a', 'b')]
    """
    sizes = range(1, len(corpora) + 1)
    return [found for size in sizes for found in combinations(corpora, size)]


def shown(train: Iterable[str]) -> str:
    """What a training set is called."""
    return " + ".join(train)


def need_corpora(request: Request, least: int = 2) -> None:
    """UsageError where there are too few corpora to cross."""
    if len(request.manifests) < least:
        raise UsageError(f"this study takes at least {least} corpora: --corpus, again and again")


def swap_of(request: Request, labels: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The asked pairs, else the paper's of which both labels are there."""
    names = [label.partition("+")[0] for label in labels]
    if request.swap:
        strange = [word for pair in request.swap for word in pair if word not in names]
        if strange:
            raise UsageError(f"--swap names {strange[0]!r}; the labels are {', '.join(names)}")
        return request.swap
    return tuple(pair for pair in SWAP if set(pair) <= set(names))


def matrix(
    name: str,
    title: str,
    crossings: Mapping[str, Crossing],
    tests: Sequence[str],
    metric: str,
    *,
    relative: bool,
) -> TableSpec:
    """Rows are training sets, columns tests; each is compared with training on its column alone."""
    entries = {
        (row, test): Entry(crossing, test, metric)
        for row, crossing in crossings.items()
        for test in tests
        if test in crossing.tests
    }
    return TableSpec(
        name, title, tuple(crossings), tuple(tests), entries,
        against={(row, test): (test, test) for row, test in entries if test in crossings},
        relative=relative,
        figure="heat",
        axes=("trained on", "tested on"),
    )  # fmt: skip


def scrambled(base: Crossing, corpus: str, corpora: Sequence[str]) -> dict[str, Crossing]:
    """Trainings of paper 3's Fig. 3 and what they are compared with; all tested on everything."""
    odd = corpus + SCRAMBLED
    joint = tuple(odd if name == corpus else name for name in corpora)
    trains = [*((name,) for name in corpora), tuple(corpora), (odd,), joint]
    return {shown(train): replace(base, train=train) for train in trains}


def what_swapping_means(table: str, corpus: str, corpora: Sequence[str], upstream: str) -> Meaning:
    """Says in words what the swap of one corpus's labels showed, beside training without it."""
    odd, whole = corpus + SCRAMBLED, shown(corpora)
    joint = shown(odd if name == corpus else name for name in corpora)

    def say(cell: Lookup) -> list[str]:
        swapped, plain = cell(table, joint, odd), cell(table, whole, corpus)
        if swapped is None or plain is None or swapped.difference is None:
            return []
        others = shown(name for name in corpora if name != corpus)
        control = 100 * (plain.difference or 0.0)
        said = (
            f"{upstream}: with {corpus}'s labels swapped, training together with {others}, whose "
            f"labels contradict it, changes the score on its swapped test by "
            f"{100 * swapped.difference:+.1f} points {_span(swapped)}against training on it alone; "
            f"without the swap, training together changes its score by {control:+.1f}. "
        )
        return [said + _reading(swapped)]

    return say


def _span(score: Score) -> str:
    low, high = score.difference_low, score.difference_high
    return "" if low is None or high is None else f"({100 * low:+.1f} to {100 * high:+.1f}) "


def _reading(score: Score) -> str:
    """What a difference between joint and lone training on swapped labels can mean."""
    if score.p is None or score.difference_low is None:
        return "The two cannot be compared."
    if score.p <= ALPHA and (score.difference or 0.0) < 0:
        return (
            f"The loss is significant (corrected p = {score.p:.2g}): the contradicting labels "
            "disturb each other, so the head rests, in part, on features that the corpora share."
        )
    if score.difference_low > -UNAFFECTED:
        return (
            f"A loss of more than {100 * UNAFFECTED:.0f} points is excluded: contradicting labels "
            "hardly matter. The head keeps the corpora apart and learns what each of them calls an "
            "emotion, as paper 3 found; a good joint score is no evidence of features that hold "
            "across corpora."
        )
    return (
        f"That is not significant (corrected p = {score.p:.2g}), but the interval is too wide to "
        "say that the swap does no harm: more speakers or corpora are needed to read it either way."
    )
