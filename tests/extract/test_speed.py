"""The speed that a dry run counts with is measured in batches and lanes as extraction has them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from fake_upstream import FakeUpstream
from ser_features.extract import speed
from ser_features.extract.engine import Placement, placement
from ser_features.extract.speed import measured_speed, probe_device
from ser_features.upstreams.protocol import LayerOutputs

LANES = 3


@dataclass
class SideBySide(FakeUpstream):
    """Encodes nothing until ``LANES`` batches are there at once."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(LANES, timeout=60))
    seen: list[list[int]] = field(default_factory=list)

    def encode(self, waves: Sequence[np.ndarray]) -> LayerOutputs:
        self.barrier.wait()
        self.seen.append([len(wave) for wave in waves])
        return super().encode([wave[:800] for wave in waves])


@pytest.mark.parametrize(
    ("length", "asked", "batch"),
    [(10.0, None, [80_000]), (2.5, None, [20_000] * 6), (10.0, 35.0, [80_000] * 3)],
)
def test_on_a_cpu_every_lane_has_a_batch(monkeypatch, length, asked, batch) -> None:
    monkeypatch.setattr(speed, "lanes_of", lambda device, threads: LANES)
    upstream, threads = SideBySide(), torch.get_num_threads()
    assert measured_speed(upstream, placement(None, "cpu", None, None), length, asked) > 0
    assert upstream.seen == [batch] * (2 * LANES)
    assert torch.get_num_threads() == threads


def test_on_gpus_it_is_one_full_batch_times_the_gpus(monkeypatch) -> None:
    clock = iter([0.0, 9.0, 10.0, 12.0] * 2)  # the first time is not counted, the second takes 2 s
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    for engine, devices in (("local", ("cuda:0",)), ("processes", ("cuda:0", "cuda:1"))):
        upstream = FakeUpstream()
        found = measured_speed(upstream, Placement(engine, devices), 10.0, 40.0)
        assert upstream.batches == [4, 4]
        assert found == 20.0 * len(devices)


@pytest.mark.parametrize(
    ("place", "device"),
    [
        (Placement("local", ("cuda:1",)), "cuda:1"),
        (Placement("processes", ("cuda:0", "cuda:1")), "cuda:0"),
        (Placement("processes", ("cpu", "cpu")), "cpu"),
        (Placement("ray", ()), "cpu"),
    ],
)
def test_where_it_is_measured(place: Placement, device: str) -> None:
    assert probe_device(place) == device
