"""The deterministic plan: utterances sorted by length, packed whole into shards, then batches."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from ser_features.records import Shard


@dataclass(frozen=True, slots=True)
class PlanItem:
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
    for group in _groups(items, rows, capacity):
        frames = tuple(item.num_frames for item in group)
        ids = tuple(item.id for item in group)
        shards.append(Shard(first_index + len(shards), ids, frames, frame))
        frame += span(sum(frames), capacity)
    return tuple(shards)


def span(num_frames: int, capacity: int) -> int:
    """Frames of address space that a shard takes: whole objects, at least one."""
    return max(1, -(-num_frames // capacity)) * capacity


def _groups(items: Iterable[PlanItem], rows: int, capacity: int) -> Iterator[list[PlanItem]]:
    group: list[PlanItem] = []
    total = 0
    # Sorting is stable: two plain keys are quicker than a pair for each item.
    by_id = sorted(items, key=attrgetter("id"))
    for item in sorted(by_id, key=attrgetter("num_samples"), reverse=True):
        if group and (len(group) == rows or total + item.num_frames > capacity):
            yield group
            group, total = [], 0
        group.append(item)
        total += item.num_frames
    if group:
        yield group


def batches(num_samples: Sequence[int], budget: int) -> Iterator[slice]:
    """Cut a longest-first list into runs whose padded size (count x longest) fits the budget.

    A single utterance over the budget is a batch of its own.

    >>> list(batches([10, 9, 4, 4, 4], budget=20))
    [slice(0, 2, None), slice(2, 5, None)]
    """
    start = 0
    for i in range(1, len(num_samples) + 1):
        if i == len(num_samples) or (i + 1 - start) * num_samples[start] > budget:
            yield slice(start, i)
            start = i
