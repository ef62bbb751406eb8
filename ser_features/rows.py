"""What a leaderboard row is, and the marks on it. Data only: reports read nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ser_features.records import Json

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign in the table and what it means."""

    symbol: str
    title: str
    meaning: str


MARKS: Mapping[str, Mark] = {
    "best": Mark(
        "★",
        "best or tied",
        "the highest UAR among the rows on the same corpus, labels, folds and utterances, or not "
        "distinguishable from it (paired test on these utterances, Holm-corrected, p > 0.05)",
    ),
    "baseline": Mark(
        "B",
        "does not beat a baseline",
        "not significantly above the strongest baseline or untrained encoder of its group "
        "(paired test on the same utterances, Holm-corrected, p > 0.05)",
    ),
    "leak": Mark("L", "leak", "speakers, sessions or identical audio lie on both sides of a split"),
    "names": Mark("N", "names alike", "near-identical file names lie on both sides of a split"),
    "dev": Mark("D", "dev shares speakers", "model selection used speakers of the training side"),
    "rejects": Mark("R", "rejects", "some utterances could not be used and are not scored"),
    "data": Mark(
        "U",
        "other utterances",
        "tested on other utterances or folds than most rows of its group, or under a condition of "
        "the same name with other recordings; not compared with them",
    ),
    "incomplete": Mark("I", "incomplete", "folds or seeds are missing, so there is no score"),
    "conflict": Mark(
        "C",
        "conflict",
        "records of the same run disagree; each is shown, none is averaged or compared",
    ),
}
"""Every mark, in the order in which a legend gives them."""

ESTIMATORS: Mapping[str, str] = {
    "folds": "mean over test folds and seeds of the fold's score, as SUPERB does",
    "pooled": "mean over seeds of the score of all folds' predictions together, as some test "
    "folds lack labels",
}
"""What a row's scores and intervals are, by ``Row.estimator``."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the leaderboard. Scores are 0…1; all of them are None in an incomplete row.

    ``uar``, ``wa``, ``macro_f1``, ``weighted_f1`` and the intervals all follow ``estimator`` (see
    ESTIMATORS); ``uar_pooled`` is the pooled one whatever the estimator. ``uar_std`` is over all
    folds and seeds; ``uar_std_folds`` over folds (means over seeds), ``uar_std_seeds`` over seeds
    (means over folds); sample standard deviations, None for a single value. ``confusion`` counts
    [truth][prediction] over folds and seeds; ``per_class_recall`` comes from it. ``layer`` is set
    in rows of head ``layers``: points of a curve, never ranked. ``data`` names what was tested.
    ``late`` holds each metric's mean and sample deviation (``uar``, ``uar_std`` …) over the
    evaluations in the last fifth of training, of the score as ``estimator`` has it (paper 3,
    section 2.2); it is never what a row is ranked by.
    """

    key: str
    corpus: str
    upstream: str
    augmentation: str
    head: str
    protocol: str
    labels: tuple[str, ...]
    data: str
    num_utterances: int
    num_speakers: int
    num_folds: int
    num_seeds: int
    complete: bool
    missing: tuple[tuple[str, int], ...]
    estimator: str | None = None
    uar: float | None = None
    uar_std: float | None = None
    uar_std_folds: float | None = None
    uar_std_seeds: float | None = None
    uar_ci: tuple[float, float] | None = None
    wa_ci: tuple[float, float] | None = None
    ci_unit: str | None = None
    ci_num_units: int | None = None
    uar_pooled: float | None = None
    wa: float | None = None
    macro_f1: float | None = None
    weighted_f1: float | None = None
    per_class_recall: tuple[float | None, ...] | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None
    p_best: float | None = None
    layer: int | None = None
    layer_weights: tuple[float, ...] = ()
    fold_scores: tuple[Mapping[str, Json], ...] = ()
    marks: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    num_rejects: int = 0
    notes: tuple[str, ...] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    audit: Mapping[str, Json] = field(default_factory=dict)
    config: Mapping[str, Json] = field(default_factory=dict)
    provenance: Mapping[str, Json] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    condition: str = "clean"
    strategy: str = ""
    late: Mapping[str, float] = field(default_factory=dict)

    @property
    def group(self) -> tuple[str, str, tuple[str, ...], str]:
        """What a table section shares: corpus, protocol, labels, test condition."""
        return self.corpus, self.protocol, self.labels, self.condition

    @property
    def is_baseline(self) -> bool:
        """Whether the row is there to be beaten: a baseline, or an untrained encoder."""
        return self.head == "baseline" or "@random" in self.upstream


def to_json(rows: Sequence[Row]) -> dict[str, Json]:
    """The leaderboard as JSON values: ``{"schema": 1, "rows": [...]}``, scores in 0…1."""
    return {"schema": SCHEMA, "rows": [row_json(row) for row in rows]}


def row_json(row: Row) -> dict[str, Json]:
    """A row as plain JSON values."""
    return {name: _plain(getattr(row, name)) for name in row.__dataclass_fields__}


def _plain(value: Any) -> Json:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
