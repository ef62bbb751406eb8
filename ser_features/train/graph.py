"""One training step captured as a CUDA graph, so that a step costs one launch."""

from collections.abc import Callable

import torch
from torch import Tensor

WARMUP = 3


class CapturedStep:
    """Call a step through a CUDA graph: plain for the first calls, then captured, then replayed.

    The step must do the same work on tensors of the same shapes every time, and keep its state in
    place. Inputs are copied into the tensors that the graph reads.
    """

    def __init__(self, step: Callable[..., None], device: torch.device) -> None:
        self._step, self._device = step, device
        self._calls = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, *inputs: Tensor) -> None:
        """Do one step on ``inputs``."""
        with torch.cuda.device(self._device):  # whose stream is the current one
            self._run(inputs)

    def _run(self, inputs: tuple[Tensor, ...]) -> None:
        if self._graph is None and self._calls < WARMUP:
            self._warm(inputs)
            return
        if self._graph is None:
            self._graph = self._capture(inputs)  # records the step, does not run it
        for fixed, given in zip(self._inputs, inputs, strict=True):
            fixed.copy_(given)
        self._graph.replay()

    def _warm(self, inputs: tuple[Tensor, ...]) -> None:
        # capture wants earlier steps on a side stream
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._step(*inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        self._calls += 1

    def _capture(self, inputs: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph:
        self._inputs = tuple(given.clone() for given in inputs)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            self._step(*self._inputs)
        return graph
