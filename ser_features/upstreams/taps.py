"""Collect what enters every transformer layer, straight into one tensor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Keep = Callable[[Tensor, Tensor], object]


class LayerTap:
    """Hooks that copy the input of each of a model's layers while room is made for them."""

    def __init__(self, layers: nn.ModuleList) -> None:
        self._hidden: Tensor | None = None  # [L, B, T, D] while a batch runs
        self._copy: Keep = Tensor.copy_  # from a layer's input to its place
        self._num_layers = len(layers) + 1
        for index, layer in enumerate(layers):
            layer.register_forward_pre_hook(self._keep(index))

    @contextmanager
    def room(self, like: Tensor, shape: tuple[int, int], keep: Keep) -> Iterator[Tensor]:
        """[L, B, T, D] for ``shape`` (B, T) and the D of ``like``, filled but for the last layer.

        ``keep`` copies what enters a layer to its place [B, T, D]. Forgotten at the end, also
        after an error, so that a batch too large frees its memory.
        """
        self._hidden = like.new_empty((self._num_layers, *shape, like.shape[-1]))
        self._copy = keep
        try:
            yield self._hidden
        finally:
            self._hidden = None

    def _keep(self, index: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            if self._hidden is not None:
                self._copy(self._hidden[index], args[0])

        return hook


@contextmanager
def full_float32() -> Iterator[None]:
    """Real float32 on CUDA: without this cuDNN runs convolutions in TF32 (errors of 1e-3)."""
    convolution, matrix = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolution.allow_tf32, matrix.allow_tf32
    convolution.allow_tf32 = matrix.allow_tf32 = False
    try:
        yield
    finally:
        convolution.allow_tf32, matrix.allow_tf32 = before
