"""Paper 1, Tables 3 and 4 and Fig. 1: ways and amounts of adding another corpus."""

from dataclasses import replace

from ser_features.errors import UsageError
from ser_features.studies.protocols import (
    FOUR,
    common_labels,
    head_of,
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
from ser_features.train.strategies import Strategy
from ser_features.upstreams.request import parse_request

WAYS = {
    "random mixing": "mix",
    "adversarial training": "adversarial",
    "transfer learning": "transfer",
    "curriculum learning": "curriculum",
}
RATIOS = (0.25, 0.5, 0.75, 1.0)
BEST_RATIO = 0.5
METRICS = ("wa", "uar")
LAYERS = {"last layer": "last", "multiple layers": "all"}


def plan(request: Request) -> Plan:
    """The first corpus is the real one, the second the added one (synthetic in the paper)."""
    if len(request.manifests) != 2:
        raise UsageError(
            "this study takes two corpora, the real one first, then the one to add: "
            "--corpus iemocap=… --manifest tts=tts.csv"
        )
    real, added = request.manifests
    deviations = [f"{added.corpus} in the place of the paper's synthetic speech"]
    labels = common_labels(request, [real], deviations, ("angry", "happy+excited", *FOUR[2:]))
    protocol = session_folds(request, real, deviations)
    deviations.append("dev sides share no speaker with train; the paper's are a random fifth")
    if request.select is None:
        deviations.append(
            "trainings with added data are tested at their last epoch, those without at dev's best"
        )
    head = head_of(request, "mlp", "Linear(128), ReLU, mean, Linear", deviations)
    seeds = seeds_of(request, 1, deviations)
    say_training(request, deviations)
    tables = []
    for name in need_upstreams(request, ("data2vec-base",)):
        base = Trial(
            real.corpus, name, head, training_of(request, layers="last"), protocol, labels, seeds
        )
        tables += _tables(base, added.corpus, request.ratios or RATIOS)
    return Plan(tuple(tables), tuple(dict.fromkeys(deviations)), read_paper("ptm-llm-tts").unread)


def _tables(base: Trial, added: str, ratios: tuple[float, ...]) -> list[TableSpec]:
    return [_ways(base, added), _layers(base, added), _amounts(base, added, ratios)]


def _short(trial: Trial) -> str:
    return parse_request(trial.upstream).name


def _with(trial: Trial, added: str, way: str, ratio: float | None) -> Trial:
    strategy = Strategy(way, ratio).validate()
    return replace(trial, training=replace(trial.training, strategy=strategy), added=added)


def _entries(trials: dict[str, Trial]) -> dict[tuple[str, str], Entry]:
    return {(n, m): Entry(t, "clean", m) for n, t in trials.items() for m in METRICS}


def _ways(base: Trial, added: str) -> TableSpec:
    trials = {"baseline": base}
    trials |= {name: _with(base, added, way, None) for name, way in WAYS.items()}
    rows = tuple(trials)
    return TableSpec(
        f"table3-{_short(base)}",
        f"Table 3: ways to add {added} to {base.corpus}, {_short(base)}, last layer",
        rows, METRICS, _entries(trials),
        against={(row, m): ("baseline", m) for row in rows[1:] for m in METRICS},
        published=read_paper("ptm-llm-tts").table("Table 3", corpus=base.corpus),
        figure="bars",
    )  # fmt: skip


def _layers(base: Trial, added: str) -> TableSpec:
    trials = {}
    for shown, layers in LAYERS.items():
        own = replace(base, training=replace(base.training, layers=layers))
        trials[f"{shown} | real"] = own
        trials[f"{shown} | real + added"] = _with(own, added, "curriculum", BEST_RATIO)
    against = {(f"{s} | real + added", m): (f"{s} | real", m) for s in LAYERS for m in METRICS}
    return TableSpec(
        f"table4-{_short(base)}",
        f"Table 4: {base.corpus} with and without {added} (curriculum, 1:2), {_short(base)}",
        tuple(trials), METRICS, _entries(trials),
        against=against,
        published=read_paper("ptm-llm-tts").table("Table 4", corpus=base.corpus),
        figure="bars",
    )  # fmt: skip


def _amounts(base: Trial, added: str, ratios: tuple[float, ...]) -> TableSpec:
    trials = {"0": base}
    trials |= {f"{ratio:g}": _with(base, added, "curriculum", ratio) for ratio in ratios}
    return TableSpec(
        f"figure1-{_short(base)}",
        f"Fig. 1: amount of {added} added to {base.corpus} (curriculum), {_short(base)}",
        tuple(trials), METRICS, _entries(trials),
        against={(row, m): ("0", m) for row in list(trials)[1:] for m in METRICS},
        figure="lines",
        axes=(f"{added} : {base.corpus}", "score, %"),
    )  # fmt: skip


SYNTHETIC = Study(
    name="synthetic",
    title="Adding another corpus: four ways, two inputs, how much",
    paper="ptm-llm-tts",
    tables="Tables 3 and 4, Fig. 1",
    protocol="5 sessions of IEMOCAP, mlp head, AdamW 1e-3, batch 128, 50 epochs, last epoch where "
    "data is added, WA and UA, 1 run",
    needs="two corpora: the real one, then the one to add",
    plan=plan,
    takes=("ratio",),
)
