"""The crew of one machine: a process for each device, their outputs through anonymous memory."""

import contextlib
import mmap
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from threading import Lock
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ser_features.extract.crew import IN_FLIGHT, Died, Event, Ready
from ser_features.extract.shards import Outcome
from ser_features.extract.worker import Job, Result, Task, Worker, portable
from ser_features.records import Shard, Source
from ser_features.store.outputs import ShardOutputs

# What a worker gets to end by itself before it is killed: it holds nothing that could be lost.
PATIENCE = 2.0
_WHY = (
    "what it wrote to standard error says why; a script that calls extract() has to do so under "
    "'if __name__ == \"__main__\":'"
)


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A Result without its arrays, which follow as a file handle; dtype and shape of each."""

    shard: Shard
    outcome: Outcome
    sources: tuple[Source, ...]
    arrays: tuple[tuple[str, tuple[int, ...]], ...]


class ProcessCrew:
    """One spawned process for each device and its job."""

    def __init__(self, posts: Sequence[tuple[str, Job]]) -> None:
        self._posts = tuple(posts)
        self._seats: dict[int, tuple[SpawnProcess, Connection]] = {}

    @property
    def size(self) -> int:
        """The number of devices."""
        return len(self._posts)

    def name(self, seat: int) -> str:
        """The worker's number and device."""
        return f"worker {seat} on {self._posts[seat][0]}"

    def start(self, seat: int) -> None:
        """Start a process at a seat, in place of the one that was there."""
        context = multiprocessing.get_context("spawn")
        mine, its = context.Pipe()
        device, job = self._posts[seat]
        process = context.Process(target=_serve, args=(its, job, device), daemon=True)
        with _interrupts_held():
            process.start()
        its.close()
        self._seats[seat] = process, mine

    def give(self, seat: int, task: Task) -> None:
        """Send a task; a worker that is gone is heard as Died."""
        with contextlib.suppress(OSError):
            self._seats[seat][1].send(task)

    def hear(self) -> tuple[int, Event]:
        """Wait for a message, or for the end of a worker."""
        seats = {line: seat for seat, (_, line) in self._seats.items()}
        line = next(one for one in wait(list(seats)) if isinstance(one, Connection))
        try:
            message = line.recv()
            event = _unpack(message, line) if isinstance(message, _Parcel) else message
        except (EOFError, OSError):
            event = self._bury(seats[line])
        return seats[line], event

    def close(self) -> None:
        """End every process."""
        for _, line in self._seats.values():
            line.close()  # a worker that hears nothing more ends
        deadline = time.monotonic() + PATIENCE
        for process, _ in self._seats.values():
            _end(process, deadline - time.monotonic())
        self._seats.clear()

    def _bury(self, seat: int) -> Died:
        process, line = self._seats.pop(seat)
        line.close()
        code = _end(process, PATIENCE)
        if code >= 0:
            return Died(f"ended with exit status {code} ({_WHY})")
        return Died(f"was ended by signal {-code} ({signal.Signals(-code).name})")


def _end(process: SpawnProcess, patience: float) -> int:
    """Wait for a process to end, else kill it; its exit code."""
    process.join(max(0.0, patience))
    process.kill()
    process.join()
    code = process.exitcode
    process.close()
    return code or 0


@contextlib.contextmanager
def _interrupts_held() -> Any:
    """A child started here never sees Ctrl-C: the driver alone answers it, and ends the others."""
    resource_tracker.ensure_running()  # starting it later would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(line: Connection, job: Job, device: str) -> None:
    """The worker's process: answer tasks until the driver is gone."""
    worker, sending, pool = Worker(job, device), Lock(), ThreadPoolExecutor(IN_FLIGHT)
    with contextlib.suppress(EOFError, OSError):
        line.send(worker.load() or Ready())
        while True:
            pool.submit(_answer, line, sending, worker, line.recv())
    os._exit(0)  # at once: what is still being encoded is of no use to anybody


def _answer(line: Connection, sending: Lock, worker: Worker, task: Task) -> None:
    result = worker.work(task)
    with sending:
        try:
            _send(line, result)
        except Exception as error:  # unheard, the driver would wait for ever
            line.send(portable(error))


def _send(line: Connection, result: Result | Exception) -> None:
    if isinstance(result, Exception):
        line.send(result)
        return
    outputs = result.outputs
    arrays = [outputs.mean, outputs.std, outputs.mean_layernorm]
    arrays += [] if outputs.frames is None else [outputs.frames]
    with _anonymous() as file:
        for array in arrays:
            array.tofile(file)
        file.flush()
        shapes = tuple((array.dtype.str, array.shape) for array in arrays)
        line.send(_Parcel(result.shard, result.outcome, outputs.sources, shapes))
        with socket.fromfd(line.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as pipe:
            socket.send_fds(pipe, [b"."], [file.fileno()])


def _anonymous() -> BinaryIO:
    """A file without a name: whoever dies leaves nothing behind. In memory where there is such."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("serfeat"), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


def _unpack(parcel: _Parcel, line: Connection) -> Result:
    with socket.fromfd(line.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as pipe:
        mark, handles, _, _ = socket.recv_fds(pipe, 1, 1)
    if not mark:
        raise EOFError
    try:
        arrays = _map(handles[0], parcel.arrays)
    finally:
        os.close(handles[0])
    mean, std, normed, *frames = arrays
    outputs = ShardOutputs(parcel.sources, mean, std, normed, frames[0] if frames else None)
    return Result(parcel.shard, outputs, parcel.outcome)


def _map(handle: int, kinds: Sequence[tuple[str, tuple[int, ...]]]) -> list[NDArray[Any]]:
    """The arrays of a file that is mapped, not copied."""
    size = os.fstat(handle).st_size
    memory = mmap.mmap(handle, size, access=mmap.ACCESS_READ) if size else b""
    arrays, start = list[NDArray[Any]](), 0
    for dtype, shape in kinds:
        count = int(np.prod(shape))
        flat = np.frombuffer(memory, dtype, count, start) if count else np.zeros(0, dtype)
        arrays.append(flat.reshape(shape))
        start += flat.nbytes
    return arrays
