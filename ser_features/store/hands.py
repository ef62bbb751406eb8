"""Helping hands: one read of many chunks by several threads.

The kernel copies for one while another compares a checksum, which google-crc32c does under the GIL.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")
# A helper pays where it takes over a millisecond or so of copying and checking.
WORTH = 2 * 2**20
MOST_HANDS = 4  # memory, not the number of cores, is the limit then


def drain(work: Callable[[Iterator[T]], None], items: Iterable[T], num_bytes: int) -> None:
    """Have ``work`` go through ``items``, each of which is given out once, from several threads.

    ``work`` may run here alone: there are helpers for every ``WORTH`` of ``num_bytes`` after the
    first, at most one a core, and nobody waits for one that has not begun. What one of them raises
    is raised here once all have ended.
    """
    queue = deque(items)
    extra = min(num_bytes // WORTH, len(queue) - 1, _num_hands() - 1)
    helpers = [_pool(os.getpid()).submit(work, _given_out(queue)) for _ in range(extra)]
    try:
        work(_given_out(queue))
    except BaseException:
        queue.clear()
        raise
    finally:
        begun = [each for each in helpers if not each.cancel()]
        problems = [each.exception() for each in begun]  # waits: they use our file and buffers
    for problem in problems:
        if problem is not None:
            raise problem


def _given_out(queue: deque[T]) -> Iterator[T]:
    while True:
        try:
            yield queue.popleft()
        except IndexError:
            return


@cache
def _num_hands() -> int:
    return min(len(os.sched_getaffinity(0)), MOST_HANDS)


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of this very process: those of a parent did not come along with a fork."""
    del process
    return ThreadPoolExecutor(MOST_HANDS, thread_name_prefix="serfeat-read")
