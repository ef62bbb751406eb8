"""Linear layers on a CPU through oneDNN, weights packed once and GELU inside the product.

torch sends float32 products to MKL, which on an AMD CPU leaves half the vector unit idle
(208 against 480 GFLOP/s on two Zen 5 cores, benchmarks/README.md). oneDNN's kernels are in the same
torch; they are reached through operators that torch.compile uses. Where those are missing or do not
give what torch gives, layers stay as they are.
"""

import platform
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PRECISIONS = (torch.float32, torch.bfloat16)


@cache
def usable(dtype: torch.dtype) -> bool:
    """Whether this torch has the operators on this CPU, shown by a small product with GELU."""
    if platform.machine().lower() not in ("x86_64", "amd64") or dtype not in _PRECISIONS:
        return False
    if not torch._C._has_mkldnn:
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(16, 16, generator=generator).to(dtype) for _ in range(2))
    try:
        got = product(x, weight, weight[0], gelu=True)
    except (RuntimeError, AttributeError, TypeError):
        return False  # a torch without them, or with other signatures
    want = F.gelu(F.linear(x.float(), weight.float(), weight[0].float()))
    return torch.allclose(got.float(), want, atol=1e-5 if dtype == torch.float32 else 0.1)


def product(x: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    """x @ weight.T + bias for x [..., in] and weight [out, in] (packed or not), GELU if asked."""
    kind, algorithm = ("gelu", "none") if gelu else ("none", "")  # "none": erf, not tanh
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, kind, [], algorithm)
    return out


def pack(weight: Tensor) -> Tensor:
    """A weight [out, in] in the order that oneDNN's kernels read."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    return packed


class PackedLinear(nn.Module):
    """nn.Linear with packed weights; ``gelu`` adds the exact GELU."""

    def __init__(self, linear: Any, *, gelu: bool = False) -> None:
        super().__init__()
        self.packed, self.bias, self.gelu = pack(linear.weight), linear.bias, gelu

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        return product(x, self.packed, self.bias, gelu=self.gelu)


# An encoder layer's first feed-forward product and the activation behind it, by family.
_FEED_FORWARD = (("intermediate_dense", "intermediate_act_fn"), ("fc1", "activation_fn"))


def is_gelu(activation: Any) -> bool:
    """Whether an activation of transformers is the exact GELU."""
    return type(activation).__name__ == "GELUActivation"


def pack_linears(model: nn.Module) -> None:
    """Replace every linear layer of a frozen model on a CPU; exact GELUs go into the product."""
    for module in list(model.modules()):
        for linear, act in _FEED_FORWARD:
            if hasattr(module, linear) and is_gelu(getattr(module, act)):
                setattr(module, linear, PackedLinear(getattr(module, linear), gelu=True))
                setattr(module, act, nn.Identity())
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child))
