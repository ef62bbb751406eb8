"""What was decoded last is kept, up to a number of bytes: noises are drawn again and again."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, ParamSpec

import numpy as np
from numpy.typing import NDArray

P = ParamSpec("P")
Samples = NDArray[np.float32]


class Recent(Generic[P]):
    """A function of hashable arguments whose last results are kept; for any number of threads.

    ``most`` bytes of results are kept; what was not asked for the longest goes first. Results are
    shared, so they are made read-only.
    """

    def __init__(self, make: Callable[P, Samples], most: int) -> None:
        self._make, self._most, self._bytes = make, most, 0
        self._kept: OrderedDict[Hashable, Samples] = OrderedDict()
        self._lock = Lock()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Samples:
        """The result, made where it is not kept."""
        key = (args, *sorted(kwargs.items()))
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
        made = self._make(*args, **kwargs)  # two threads may both make it: they make the same
        made.setflags(write=False)
        with self._lock:
            self._keep(key, made)
        return made

    def _keep(self, key: Hashable, made: Samples) -> None:
        if key not in self._kept:
            self._bytes += made.nbytes
            self._kept[key] = made
        while self._bytes > self._most:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
