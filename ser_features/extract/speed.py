"""How fast an upstream is here, measured as extraction runs it: full batches, in all lanes."""

import time

import numpy as np
import torch

from ser_features.extract.encode import start_shard
from ser_features.extract.engine import Placement
from ser_features.extract.shards import batch_seconds, lanes_of
from ser_features.upstreams.protocol import Upstream


def probe_device(place: Placement) -> str:
    """Where to measure; with Ray this process, as where its workers run is not known here."""
    return place.devices[0] if place.engine == "processes" else place.driver_device


def measured_speed(
    upstream: Upstream,
    place: Placement,
    length: float,
    asked: float | None = None,
    *,
    frames: bool = False,
) -> float:
    """Seconds of audio a second, of all devices, after a first time that warms up.

    Of noise in utterances of ``length`` seconds; ``asked`` is ``Options.batch_seconds``. Decoding
    and writing are not in it: extraction does them beside. Several GPUs count as often as one;
    processes on a CPU share its cores.
    """
    device, rate = probe_device(place), upstream.info.sample_rate
    lanes, seconds = lanes_of(device, torch.get_num_threads()), batch_seconds(device, asked)
    count = lanes * max(1, int(seconds // length))
    noise = 0.1 * np.random.default_rng(0).standard_normal(int(length * rate))
    waves, ids = [noise.astype(np.float32)] * count, [f"noise {i}" for i in range(count)]

    def once() -> float:
        started, budget = time.perf_counter(), int(seconds * rate)
        start_shard(upstream, ids, waves, budget, frames, halve=frames, lanes=lanes).collect()
        return time.perf_counter() - started

    once()
    gpus = sum("cuda" in one for one in place.devices) if place.engine == "processes" else 1
    return max(1, gpus) * count * length / max(once(), 1e-6)
