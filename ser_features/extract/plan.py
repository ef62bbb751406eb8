"""The deterministic plan: utterances sorted by length, packed whole into shards, then batches."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from operator import attrgetter

import msgspec
import numpy as np
from numpy.typing import NDArray

from ser_features.records import Shard

# Padding that a shard's batches may hold, of its samples: padding costs a GPU work, and each batch
# the same kernel launches whatever its size, so this much is given away for the fewest batches.
PADDING = 0.02


class PlanItem(msgspec.Struct, frozen=True, gc=False):
    """An utterance as the plan sees it; ``num_samples`` is at the upstream's rate.

    ``draw`` says how it is augmented, and the lengths are those after it.
    """

    id: str
    num_samples: int
    num_frames: int
    draw: str = ""


def plan_shards(
    items: Iterable[PlanItem],
    *,
    rows: int,
    capacity: int,
    first_index: int = 0,
    first_frame: int = 0,
) -> tuple[Shard, ...]:
    """Pack whole utterances, longest first: at most ``rows`` and ``capacity`` frames a shard.

    An utterance longer than ``capacity`` gets a shard of its own. Every shard starts at a multiple
    of ``capacity`` frames. The same items in any order give the same plan.

    >>> items = [PlanItem("a", 800, 2), PlanItem("b", 1600, 5), PlanItem("c", 1200, 3)]
    >>> [shard.ids for shard in plan_shards(items, rows=2, capacity=8)]
    [('b', 'c'), ('a',)]
    """
    shards: list[Shard] = []
    frame = first_frame
    for ids, frames in _groups(items, rows, capacity):
        shards.append(Shard(first_index + len(shards), ids, frames, frame))
        frame += span(sum(frames), capacity)
    return tuple(shards)


def span(num_frames: int, capacity: int) -> int:
    """Frames of address space that a shard takes: whole objects, at least one."""
    return max(1, -(-num_frames // capacity)) * capacity


def _groups(
    items: Iterable[PlanItem], rows: int, capacity: int
) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Ids and frames of each shard."""
    by_id = sorted(items, key=attrgetter("id"))
    # In columns: of a million items in the order of length, none is near the next in memory.
    lengths = np.array([item.num_samples for item in by_id], np.int64)
    order = np.argsort(-lengths, kind="stable")
    frames = np.array([item.num_frames for item in by_id], np.int64)[order]
    total, counts = [0, *frames.cumsum().tolist()], frames.tolist()
    keys = [item.id for item in by_id]
    ids = [keys[i] for i in order.tolist()]
    start = 0
    while start < len(ids):
        most = min(start + rows, len(ids))
        end = bisect_right(total, total[start] + capacity, start + 1, most + 1) - 1
        end = max(end, start + 1)
        yield tuple(ids[start:end]), tuple(counts[start:end])
        start = end


def batches(num_samples: Sequence[int], budget: int, padding: float = PADDING) -> list[slice]:
    """Cut a longest-first list into the fewest runs that fit the budget and hardly pad.

    The padded size of a run (count x longest) is at most ``budget``, a single utterance over it is
    a run of its own, and all padding together is at most ``padding`` of the samples. Of the cuts
    with as few runs, the one that pads least. Quadratic in the list: meant for one shard.

    >>> batches([10, 9, 4, 4, 4], budget=40, padding=0.1)
    [slice(0, 2, None), slice(2, 5, None)]
    """
    if not num_samples:
        return []
    extra = _run_padding(num_samples, budget)
    before, least = list[NDArray[np.int64]](), np.where(np.arange(len(extra) + 1) > 0, np.inf, 0.0)
    while least[-1] > padding * sum(num_samples):  # one run more each time
        totals = least[:-1, None] + extra
        before.append(totals.argmin(0))
        least = np.append(np.inf, totals.min(0))
    cuts = [len(extra)]
    for starts in reversed(before):
        cuts.append(int(starts[cuts[-1] - 1]))
    return [slice(start, end) for end, start in pairwise(cuts)][::-1]


def _run_padding(num_samples: Sequence[int], budget: int) -> NDArray[np.float64]:
    """[i, j - 1]: the padding of the run i to j, infinite where it is none or over the budget."""
    lengths = np.asarray(num_samples, np.float64)
    total = np.append(0.0, lengths.cumsum())
    count = np.arange(1, len(lengths) + 1) - np.arange(len(lengths))[:, None]
    padded = count * lengths[:, None]
    extra: NDArray[np.float64] = padded - (total[1:] - total[:-1, None])
    extra[(count < 1) | ((count > 1) & (padded > budget))] = np.inf
    return extra
