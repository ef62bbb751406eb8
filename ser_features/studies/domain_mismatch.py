"""Paper 3, Table 1 and Figs. 2 to 4: rates of augmentation, within and across corpora."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ser_features.studies.crossings import (
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
from ser_features.studies.published import PublishedTable, printed_name, read_paper
from ser_features.studies.spec import (
    SAMPLE,
    SCRAMBLED,
    Crossing,
    Entry,
    Meaning,
    Plan,
    Request,
    Study,
    TableSpec,
    need_upstreams,
    training_of,
)
from ser_features.upstreams.request import parse_request

RATES = (0.0, 0.2, 0.5, 0.7, 1.0)
SEVEN = "mismatch-7"
COPIES = 3
METRIC = "late:weighted_f1"


def plan(request: Request) -> Plan:
    """Table 1, Fig. 2, Fig. 3 (IEMOCAP scrambled, else the last corpus) and Fig. 4."""
    need_corpora(request)
    deviations = _deviations(request.copies or COPIES)
    labels = common_labels(request, request.manifests, deviations, FOUR)
    protocol = request.protocol or "kfold:5"
    check_folds(request, labels, protocol)
    deviations.append(f"{protocol} for every corpus instead of the paper's three ways to split")
    head = head_of(request, "mlp", "a linear layer with ReLU", deviations)
    seeds = seeds_of(request, 1, deviations)
    say_training(request, deviations)
    paper = {"lrs": (1e-4,), "steps": 30, "late": True}
    if head == "superb":
        paper = {"late": True}
        deviations.append("that head's own recipe instead of 30 epochs at 1e-4, batches of 128")
    swap = swap_of(request, labels)
    tables: list[TableSpec] = []
    meanings: list[Meaning] = []
    for name in need_upstreams(request, ("cnn14",)):
        odd = (odd_one(request.corpora) + SCRAMBLED,) if swap else ()
        base = Crossing(
            request.corpora[:1], (*request.corpora, *odd), name, head,
            training_of(request, **paper), protocol, labels, seeds,
            augment=(SEVEN,), copies=request.copies or COPIES, swap=swap,
        )  # fmt: skip
        made, meaning = _tables(base, request.corpora)
        tables += made
        meanings += meaning
    notes = ("± of the last fifth of training: mean and standard deviation over its evaluations",)
    unread = read_paper("domain-mismatch").unread
    return Plan(
        tuple(tables), tuple(deviations), (*notes, *unread), conditions=(SEVEN,),
        meanings=tuple(meanings),
    )  # fmt: skip


def _deviations(copies: int) -> list[str]:
    return [
        "upstreams stay frozen; the paper fine-tunes CNN14",
        "cross-entropy instead of binary cross-entropy",
        f"augmented copies are made before training, {copies} of each utterance, "
        "and one of them stands in; the paper draws anew for every batch",
        "Table 1's row of tuned learning rate and batch size is not run",
        f"Fig. 4: SNR in the place of MOS, blind estimators of this project, {SAMPLE} utterances "
        "of each corpus instead of 10 000",
    ]


def odd_one(corpora: Sequence[str]) -> str:
    """The corpus whose labels are exchanged: IEMOCAP as in the paper, else the last.

    >>> odd_one(["cremad", "iemocap-exp1", "msp-podcast"]), odd_one(["emodb", "urdu"])
    ('iemocap-exp1', 'urdu')
    """
    return next((name for name in corpora if printed_name(name) == "iemocap"), corpora[-1])


def _tables(base: Crossing, corpora: tuple[str, ...]) -> tuple[list[TableSpec], list[Meaning]]:
    short = parse_request(base.upstream).name
    trains = {shown(train): replace(base, train=train) for train in subsets(corpora)}
    tables = [_baselines(base, corpora, short)]
    tables += [_rates("figure2", "Fig. 2", base, one, corpora) for one in trains.values()]
    meanings = []
    if base.swap:
        corpus = odd_one(corpora)
        tests = tuple(name + SCRAMBLED if name == corpus else name for name in corpora)
        tables += [
            _rates("figure3", "Fig. 3", base, replace(base, train=train), tests)
            for train in subsets(tests)
        ]
        odd = scrambled(base, corpus, corpora)
        whole = _swapped(f"figure3-{short}-matrix", odd, corpora, corpus)
        tables.append(whole)
        meanings.append(what_swapping_means(whole.name, corpus, corpora, short))
    return tables, meanings


def _at(crossing: Crossing, rate: float) -> Crossing:
    """The same training with this share of its samples replaced."""
    return replace(crossing, training=replace(crossing.training, rate=rate))


def _baselines(base: Crossing, corpora: tuple[str, ...], short: str) -> TableSpec:
    """Table 1: each corpus by itself, three metrics without and weighted F1 with augmentation."""
    entries: dict[tuple[str, str], Entry] = {}
    for name in corpora:
        own = replace(base, train=(name,))
        plain = {m: Entry(own, name, f"late:{m}") for m in ("uar", "wa", "weighted_f1")}
        rated = {
            f"weighted_f1 {rate:.0%}": Entry(_at(own, rate), name, METRIC) for rate in RATES[1:]
        }
        entries |= {(name, column): entry for column, entry in {**plain, **rated}.items()}
    columns = tuple(dict.fromkeys(column for _, column in entries))
    published = read_paper("domain-mismatch").table("Table 1")
    known = published is not None and set(map(printed_name, corpora)) & set(published.rows)
    return TableSpec(
        f"table1-{short}", f"Table 1: training and testing on one corpus, {short}",
        corpora, columns, entries,
        against={(r, c): (r, "weighted_f1") for r, c in entries if c in columns[3:]},
        published=published if known else None,
    )  # fmt: skip


def _rates(
    name: str, number: str, base: Crossing, crossing: Crossing, tests: tuple[str, ...]
) -> TableSpec:
    """One group of columns of Fig. 2 or 3: rows are rates, values relative to the baselines."""
    reference = "in-corpus baseline"
    entries = {
        (f"{rate:.0%}", test): Entry(_at(crossing, rate), test, METRIC)
        for rate in RATES
        for test in tests
    }
    for test in tests:
        plain = test.removesuffix(SCRAMBLED)
        entries[reference, test] = Entry(replace(base, train=(plain,)), plain, METRIC)
    trained, short = shown(crossing.train), parse_request(base.upstream).name
    return TableSpec(
        f"{name}-{short}-{trained}",
        f"{number}: trained on {trained}, {short}, weighted F1 against the baseline",
        (reference, *(f"{rate:.0%}" for rate in RATES)), tests, entries,
        against={(row, test): (reference, test) for row, test in entries if row != reference},
        published=_published(number, crossing.train),
        relative=True,
        figure="heat",
        axes=("samples augmented", "tested on"),
    )  # fmt: skip


def _published(number: str, train: tuple[str, ...]) -> PublishedTable | None:
    return read_paper("domain-mismatch").table(
        number.replace("Fig.", "Figure"), train=tuple(sorted(map(printed_name, train)))
    )


def _swapped(
    name: str, odd: Mapping[str, Crossing], corpora: tuple[str, ...], corpus: str
) -> TableSpec:
    tests = (*corpora, corpus + SCRAMBLED)
    short = parse_request(odd[corpus].upstream).name
    entries = {(row, t): Entry(one, t, "uar") for row, one in odd.items() for t in tests}
    return TableSpec(
        name, f"UAR with {corpus}'s labels swapped, without augmentation, {short}",
        tuple(odd), tests, entries,
        against={(row, t): (t, t) for row, t in entries if t in odd},
        figure="heat",
        axes=("trained on", "tested on"),
    )  # fmt: skip


DOMAIN_MISMATCH = Study(
    name="domain-mismatch",
    title="Rates of augmentation, within and across corpora",
    paper="domain-mismatch",
    tables="Table 1, Figs. 2 to 4",
    protocol="4 classes, seven augmentations at 0, 20, 50, 70 and 100 %, batch 128, lr 1e-4, 30 "
    "epochs, mean over the last 20 % of training, weighted F1, 1 run",
    needs="two corpora or more; pedalboard (extra 'augment')",
    plan=plan,
    takes=("copies", "swap"),
)
