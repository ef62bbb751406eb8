"""Collect what enters every transformer layer, straight into one tensor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

import torch
from torch import Tensor, nn

Keep = Callable[[Tensor, Tensor], object]


class _Room(local):
    """Where a thread's batch goes while it runs: ``hidden`` [L, B, T, D], and how to copy there."""

    hidden: Tensor | None = None
    copy: Keep = staticmethod(Tensor.copy_)


class LayerTap:
    """Hooks that copy the input of each of a model's layers while room is made for them."""

    def __init__(self, layers: nn.ModuleList) -> None:
        self._room = _Room()
        for index, layer in enumerate(layers):
            layer.register_forward_pre_hook(self._keep(index))

    @contextmanager
    def room(self, hidden: Tensor, keep: Keep) -> Iterator[None]:
        """Fill ``hidden`` [L, B, T, D] but for the last layer, which has no layer behind it.

        ``keep`` copies what enters a layer to its place [B, T, D]. Forgotten at the end, also
        after an error, so that a batch too large frees its memory.
        """
        self._room.hidden, self._room.copy = hidden, keep
        try:
            yield
        finally:
            self._room.hidden = None

    def _keep(self, index: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            if self._room.hidden is not None:
                self._room.copy(self._room.hidden[index], args[0])

        return hook


@contextmanager
def full_float32() -> Iterator[None]:
    """Real float32 on CUDA: without this cuDNN runs convolutions in TF32 (errors of 1e-3).

    Nothing is done where CUDA is not in use: the switches are the process's, not a thread's.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        yield
        return
    convolution, matrix = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolution.allow_tf32, matrix.allow_tf32
    convolution.allow_tf32 = matrix.allow_tf32 = False
    try:
        yield
    finally:
        convolution.allow_tf32, matrix.allow_tf32 = before
