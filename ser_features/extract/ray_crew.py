"""The crew of a Ray cluster: actors that hold the encoder, replaced where they die."""

import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ser_features.errors import UsageError, WorkerError
from ser_features.extract.crew import IN_FLIGHT, Died, Event, Ready
from ser_features.extract.worker import Job, Task, Worker

# Ray calls home, and writes of a dead actor to standard output, where results go.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_ALLOW_REGEX": "(?!)",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}


@dataclass(frozen=True, slots=True)
class Seat:
    """What one actor asks the cluster for; ``device`` is ``cuda`` or ``cpu``."""

    device: str
    gpus: int
    cpus: int


class RayCluster:
    """A connection to Ray; ``close`` ends it where ``owned``, that is where this process made it.

    Raises UsageError where Ray is not installed, WorkerError where it cannot be reached.
    """

    def __init__(self, address: str | None) -> None:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError:
            raise UsageError("--engine ray needs Ray: pip install 'serfeat[ray]'") from None
        self.ray: Any = ray
        self._owned = not ray.is_initialized()
        if self._owned:
            _connect(ray, address)

    def close(self) -> None:
        """Leave the cluster, and end it where it was started for this alone."""
        if self._owned:
            self.ray.shutdown()

    def seats(self, devices: Sequence[str]) -> list[Seat]:
        """One actor for each device named; without names one a GPU, else one a machine.

        Raises UsageError where the cluster does not have what was named.
        """
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        cpus = [count for node in nodes if (count := int(node.get("CPU", 0)))]
        if list(devices) == ["all"] and not gpus:
            raise UsageError(
                "--devices all: the Ray cluster has no GPU; leave it out for one CPU worker a "
                "machine, or name workers: --devices cpu,cpu"
            )
        if list(devices) in ([], ["all"]):
            devices = ["cuda"] * gpus or ["cpu"] * len(cpus)
        _check(devices, gpus, sum(cpus))
        share = max(1, min(cpus) * len(cpus) // max(len(devices), len(cpus)))
        return [Seat(one, int(one == "cuda"), 1 if one == "cuda" else share) for one in devices]


def _connect(ray: Any, address: str | None) -> None:
    try:
        _knock(address or os.environ.get("RAY_ADDRESS", ""))
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WorkerError(
            f"cannot reach Ray at {address or 'its default address'}: {reason}; start it with "
            "'ray start --head' and name it with --ray-address, or leave that out for this machine"
        ) from error


def _knock(address: str) -> None:
    """OSError at once where nobody answers at ``HOST:PORT``: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _check(devices: Sequence[str], gpus: int, cpus: int) -> None:
    wanted = devices.count("cuda")
    if wanted > gpus or len(devices) > cpus or not devices:
        raise UsageError(
            f"--devices asks Ray for {len(devices)} workers, {wanted} of them on a GPU; the "
            f"cluster has {cpus} CPUs (each worker takes one) and {gpus} GPUs"
        )


class RayCrew:
    """One actor for each seat, with its job."""

    def __init__(self, cluster: RayCluster, posts: Sequence[tuple[Seat, Job]]) -> None:
        self._cluster, self._ray, self._posts = cluster, cluster.ray, tuple(posts)
        self._actors: dict[int, Any] = {}
        self._asked: dict[Any, tuple[int, bool]] = {}  # reference → seat, and whether it loads

    @property
    def size(self) -> int:
        """The number of actors."""
        return len(self._posts)

    def name(self, seat: int) -> str:
        """The worker's number and device."""
        return f"Ray worker {seat} on {self._posts[seat][0].device}"

    def start(self, seat: int) -> None:
        """Ask the cluster for an actor; it is Ready once there was room and it has loaded."""
        ask, job = self._posts[seat]
        made = self._ray.remote(Worker).options(
            num_gpus=ask.gpus, num_cpus=ask.cpus, max_concurrency=IN_FLIGHT
        )
        self._actors[seat] = made.remote(job, ask.device)
        self._asked[self._actors[seat].load.remote()] = seat, True

    def give(self, seat: int, task: Task) -> None:
        """Send a task; an actor that is gone is heard as Died."""
        self._asked[self._actors[seat].work.remote(task)] = seat, False

    def hear(self) -> tuple[int, Event]:
        """Wait for a result, or for the end of an actor."""
        errors = self._ray.exceptions
        (reference, *_), _ = self._ray.wait(list(self._asked), num_returns=1)
        seat, loading = self._asked.pop(reference)
        try:
            said = self._ray.get(reference)
        except errors.RayTaskError as error:
            return seat, RuntimeError(str(error))
        except errors.RayError as error:  # its process, its machine, or what it had made
            self._dismiss(seat)
            return seat, Died(f"died ({_line(error)})")
        return seat, (said or Ready()) if loading else said

    def close(self) -> None:
        """End every actor."""
        for seat in list(self._actors):
            self._dismiss(seat)
        self._cluster.close()

    def _dismiss(self, seat: int) -> None:
        self._ray.kill(self._actors.pop(seat))
        self._asked = {ref: who for ref, who in self._asked.items() if who[0] != seat}


def _line(error: Exception) -> str:
    """What an error of Ray says first, or of an actor that could not be made last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1 if "creation task" in lines[0] else 0].rstrip(".")
