"""How a training does on the corpora that it has not heard: a summary of our own."""

from collections.abc import Sequence

import numpy as np

from ser_features import intervals, significance
from ser_features.leaderboard import outcomes_of
from ser_features.report.document import Block, Grid
from ser_features.significance import Outcomes
from ser_features.studies.crossings import shown
from ser_features.studies.spec import Crossing, Evidence
from ser_features.upstreams.request import parse_request

METRICS = {"uar": "UAR", "wa": "accuracy (WA)"}


def unseen_blocks(
    crossings: Sequence[Crossing], corpora: Sequence[str], evidence: Evidence
) -> list[Block]:
    """A row for each training that leaves a corpus out: means over the corpora left out."""
    rows = []
    for crossing in crossings:
        unseen = [name for name in corpora if name not in crossing.train]
        if unseen:
            tested = [outcomes_of(evidence.records[crossing, name]) for name in unseen]
            names = (parse_request(crossing.upstream).name, shown(crossing.train))
            scores = (_mean(tested, metric) for metric in METRICS)
            rows.append((*names, ", ".join(unseen), *scores))
    columns = ("upstream", "trained on", "mean over", *METRICS.values())
    title = "Mean over the corpora not trained on (a summary of our own)"
    return [Grid(title, columns, tuple(rows), names=3)]


def _mean(tested: Sequence[Outcomes], metric: str) -> str:
    points = [significance.point(o, metric, significance.estimator_of(o)) for o in tested]
    span = intervals.mean_interval(tested, metric)
    return f"{100 * np.mean(points):.1f} ({100 * span.low:.1f} to {100 * span.high:.1f})"
