"""Results on their way from a GPU to this process while the GPU goes on computing."""

from typing import Any

import torch
from torch import Tensor


class Outbox:
    """Copies into pinned memory on a stream of their own; on a CPU there is nothing to copy."""

    def __init__(self) -> None:
        self._stream: Any = None  # torch.cuda.Stream

    def send(self, x: Tensor) -> Tensor:
        """The tensor on the host, valid after ``wait``."""
        if not x.is_cuda:
            return x
        if self._stream is None:
            self._stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(self._stream):
            host.copy_(x, non_blocking=True)
        x.record_stream(self._stream)  # its memory is not used again before the copy is done
        return host

    @property
    def empty(self) -> bool:
        """Whether nothing had to be copied."""
        return self._stream is None

    def wait(self) -> None:
        """Return when everything that was sent has arrived."""
        if self._stream is not None:
            self._stream.synchronize()
