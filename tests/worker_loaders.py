"""Encoders that fail in workers only; a process of its own imports them from here by name."""

import multiprocessing
from typing import Any

from fake_upstream import FakeUpstream, load_fake
from ser_features.errors import UpstreamError


def no_room(request: str, *, device: str, precision: str) -> FakeUpstream:
    if multiprocessing.parent_process() is not None:
        raise UpstreamError(f"no room on {device}")
    return load_fake(request, device=device, precision=precision)


def broken(request: str, *, device: str, precision: str) -> FakeUpstream:
    return _Broken(request)


class _Broken(FakeUpstream):
    def encode(self, waves: Any) -> Any:
        raise ZeroDivisionError(len(waves))
