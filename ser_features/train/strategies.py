"""How other data enters training (paper 1, section 3.2). Data and schedules only, no torch.

The real rows of a training side are the corpus's own; the added ones are the other data: synthetic
speech, another corpus, augmented copies. Dev and test stay real.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from ser_features.errors import TrainError, UsageError
from ser_features.fingerprint import fingerprint
from ser_features.records import Json
from ser_features.registry import Table, unknown
from ser_features.train.stack import IndexedFold, Indices

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Kind:
    """A strategy as lists show it; ``parameters`` are the fields of ``Strategy`` that it reads."""

    description: str
    parameters: tuple[str, ...] = ()


_MIX = "added and real data, shuffled together"
_ADVERSARIAL = (
    "mix, and a domain classifier whose reversed gradient makes the hidden layer alike for both"
)
_TRANSFER = "first the added data, then, at a lower learning rate, the real"
_CURRICULUM = "real data, to which the added are joined stage by stage, short to long"

STRATEGIES = Table(
    "strategy",
    [
        ("mix", Kind(_MIX)),
        ("adversarial", Kind(_ADVERSARIAL, ("reversal",))),
        ("transfer", Kind(_TRANSFER, ("factor", "share"))),
        ("curriculum", Kind(_CURRICULUM, ("stages",))),
    ],
)
"""Every strategy, by name; all of them are from paper 1, which leaves their numbers open."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy and its numbers; the paper gives none of them but the ratio 0.5.

    ``ratio`` is added : real utterances of a fold's training side (0.5: one added for two real);
    None takes all added. ``transfer`` trains the first ``share`` of the updates or epochs on the
    added data, then multiplies the learning rate by ``factor``. ``curriculum`` divides training
    into ``stages`` of equal length: the first is real only, each later one has a further equal
    part of the added data, from short to long. ``adversarial`` takes its third step at
    ``reversal`` times the learning rate (0: never).
    """

    name: str = "mix"
    ratio: float | None = None
    factor: float = 0.1
    share: float = 0.5
    stages: int = 10
    reversal: float = 1.0

    def validate(self) -> "Strategy":
        """This strategy; UsageError where a number makes no sense."""
        rules = [
            (self.ratio is None or 0 < self.ratio < np.inf, "ratio", "above 0"),
            (0 < self.factor <= 1, "factor", "above 0, at most 1"),
            (0 < self.share < 1, "share", "between 0 and 1"),
            (isinstance(self.stages, int) and self.stages >= 2, "stages", "a whole number from 2"),
            (0 <= self.reversal < np.inf, "reversal", "0 or more"),
        ]
        known = STRATEGIES[self.name]
        for holds, name, expected in rules:
            if not holds:
                raise UsageError(f"{name} must be {expected}, found {getattr(self, name)}")
        assert set(known.parameters) <= {field.name for field in fields(self)}
        return self

    def check_length(self, total: int, what: str) -> None:
        """UsageError where ``total`` updates or epochs (``what``) would leave out a stage."""
        fits = {
            "transfer": 0 < round(self.share * total) < total,
            "curriculum": self.stages <= total,
        }
        if not fits.get(self.name, True):
            raise UsageError(
                f"{self.text} has a stage without training in {total} {what}: train longer, or "
                + ("move share" if self.name == "transfer" else f"use at most {total} stages")
            )

    @property
    def text(self) -> str:
        """As ``parse_strategy`` reads it, its own parameters written out; without the ratio."""
        own = [f"{name}={getattr(self, name):g}" for name in STRATEGIES[self.name].parameters]
        return self.name + (":" + ",".join(own) if own else "")

    def describe(self) -> dict[str, Json]:
        """What of it decides the result."""
        own = {name: getattr(self, name) for name in STRATEGIES[self.name].parameters}
        return {"name": self.name, "ratio": self.ratio, **own}


def parse_strategy(text: str, ratio: float | None = None) -> Strategy:
    """A strategy from its name and ``key=value`` pairs; UsageError where it is not one.

    >>> parse_strategy("transfer:factor=0.2").factor
    0.2
    """
    name, _, rest = text.partition(":")
    kind = STRATEGIES[name]
    values = read_values(rest, kind.parameters, f"strategy {name!r}")
    strategy = Strategy(name, ratio)
    numbers = {key: int(v) if key == "stages" and v % 1 == 0 else v for key, v in values.items()}
    return replace(strategy, **numbers).validate()  # type: ignore[arg-type]


def read_values(text: str, known: Sequence[str], what: str) -> dict[str, float]:
    """``key=value`` pairs by commas as numbers; UsageError naming ``what`` where they are not."""
    values: dict[str, float] = {}
    for pair in filter(None, text.split(",")):
        key, _, value = pair.partition("=")
        if key not in known:
            if not known:
                raise UsageError(f"{what} takes no parameters, found {pair!r}")
            raise UsageError(unknown(f"parameter of {what}", key, known))
        try:
            values[key] = float(value)
        except ValueError:
            raise UsageError(f"{what}: {pair!r} is not {key}=NUMBER") from None
    return values


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of training: from ``begin`` (0…1) on, these rows, at ``factor`` of the rate."""

    begin: float
    rows: Indices
    factor: float = 1.0

    def first(self, total: int) -> int:
        """Updates or epochs of ``total`` that are done before it."""
        return round(self.begin * total)


def plan_stages(
    strategy: Strategy | None, fold: IndexedFold, added: Mask, num_frames: Indices
) -> tuple[Stage, ...]:
    """The stages of one fold; ``added`` and ``num_frames`` are by row.

    Raises TrainError where a strategy has no added or no real data in the fold.
    """
    if strategy is None:
        return (Stage(0.0, fold.train),)
    other, real = fold.train[added[fold.train]], fold.train[~added[fold.train]]
    for rows, what in ((other, "added"), (real, "real")):
        if not len(rows):
            raise TrainError(
                f"fold {fold.name!r} has no {what} data to train on with {strategy.name}"
            )
    if strategy.name == "transfer":
        return Stage(0.0, other), Stage(strategy.share, real, strategy.factor)
    if strategy.name == "curriculum":
        return tuple(_curriculum(strategy.stages, fold.train, other, num_frames))
    return (Stage(0.0, fold.train),)


def _curriculum(stages: int, train: Indices, added: Indices, num_frames: Indices) -> list[Stage]:
    in_order = added[np.lexsort((added, num_frames[added]))]
    ends = np.round(np.linspace(0, len(in_order), stages)).astype(int)
    found = []
    for number, end in enumerate(ends):
        waiting = in_order[end:]
        found.append(Stage(number / stages, train[~np.isin(train, waiting)]))
    return found


def schedule_of(stages: Sequence[Stage], added: Mask, total: int) -> tuple[Mapping[str, Json], ...]:
    """The stages as a record shows them; ``total`` updates or epochs.

    ``after`` is how many of them were done when the stage began.
    """
    return tuple(
        {
            "after": stage.first(total),
            "num_real": int((~added[stage.rows]).sum()),
            "num_added": int(added[stage.rows].sum()),
            "lr_factor": stage.factor,
        }
        for stage in stages
    )


def take_ratio(
    strategy: Strategy | None, added: Sequence[str], num_real: int, fold: str
) -> tuple[str, ...]:
    """The added ids that a fold trains on: ``ratio`` times ``num_real`` of them.

    Drawn by the hash of fold and id, so that a smaller ratio takes a part of what a larger one
    takes. Raises UsageError where there are not enough.
    """
    if strategy is None or strategy.ratio is None:
        return tuple(added)
    wanted = round(strategy.ratio * num_real)
    if not 0 < wanted <= len(added):
        raise UsageError(
            f"fold {fold!r}: ratio {strategy.ratio:g} asks for {wanted} added utterances beside "
            f"{num_real} real ones, there are {len(added)}: use a ratio from "
            f"{1 / num_real:.2g} to {len(added) / num_real:.2f}"
        )
    ranked = sorted(added, key=lambda name: fingerprint([fold, name]))
    chosen = set(ranked[:wanted])
    return tuple(name for name in added if name in chosen)
