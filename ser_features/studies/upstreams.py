"""Paper 1, Table 1: upstreams under SUPERB's setting."""

from collections.abc import Sequence

from ser_features.report.document import Block, Grid
from ser_features.runs import CLEAN
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
    Evidence,
    Plan,
    Request,
    Study,
    TableSpec,
    Trial,
    need_upstreams,
    training_of,
)
from ser_features.upstreams.request import parse_request

NAMES = (
    "wav2vec", "vq-wav2vec", "wav2vec2-base", "hubert-base", "wavlm-base", "wavlm-base-plus",
    "data2vec-base",
)  # fmt: skip
METRICS = ("wa", "uar")


def plan(request: Request) -> Plan:
    """A table for each corpus: a row an upstream, its WA (the paper's metric) and UAR."""
    deviations: list[str] = []
    upstreams = need_upstreams(request, NAMES)
    head = head_of(request, "superb", "SUPERB's", deviations)
    seeds = seeds_of(request, 1, deviations)
    say_training(request, deviations)
    training = training_of(request, **({"recipe": "superb"} if head == "superb" else {}))
    tables = []
    for manifest in request.manifests:
        labels = common_labels(
            request, [manifest], deviations, ("angry", "happy+excited", *FOUR[2:])
        )
        superb = request.protocol is None and "superb" in manifest.folds
        protocol = "superb" if superb else session_folds(request, manifest, deviations)
        entries = {
            (parse_request(name).name, metric): Entry(
                Trial(manifest.corpus, name, head, training, protocol, labels, seeds),
                "clean", metric,
            )
            for name in upstreams
            for metric in METRICS
        }  # fmt: skip
        rows = tuple(dict.fromkeys(row for row, _ in entries))
        published = read_paper("ptm-llm-tts").table("Table 1", corpus=manifest.corpus)
        tables.append(
            TableSpec(
                f"table1-{manifest.corpus}",
                f"Table 1: upstreams on {manifest.corpus}",
                rows, METRICS, entries,
                against={(row, m): (rows[0], m) for row in rows[1:] for m in METRICS},
                published=published,
                figure="bars",
            )
        )  # fmt: skip
    return Plan(tuple(tables), tuple(dict.fromkeys(deviations)), more=sizes)


def sizes(evidence: Evidence) -> Sequence[Block]:
    """Table 1's other columns: parameters of what was run, beside what the paper prints."""
    trials = {t.upstream: t for t, _ in evidence.records if isinstance(t, Trial)}
    facts, rows = read_paper("ptm-llm-tts").facts, []
    for upstream, trial in trials.items():
        name = parse_request(upstream).name
        number = evidence.sets(trial)[CLEAN].provenance.get("num_parameters")
        ours = f"{number / 1e6:.2f}" if isinstance(number, int) else ""
        corpus, printed = facts.get(name, ("", ""))
        rows.append((name, corpus, ours, printed))
    columns = ("upstream", "pre-training corpus, paper", "parameters, M", "parameters, M, paper")
    return [Grid("Table 1: size of the upstreams", columns, tuple(rows), names=2)]


UPSTREAMS = Study(
    name="upstreams",
    title="Frozen upstreams under SUPERB's setting",
    paper="ptm-llm-tts",
    tables="Table 1",
    protocol="5 sessions of IEMOCAP, SUPERB's head and recipe (30 000 updates), WA, 1 run",
    needs="a corpus",
    plan=plan,
)
