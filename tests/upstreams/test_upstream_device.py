"""The layout of a GPU on the device ``meta``: shapes without values.

Whatever reads a value back (which on a GPU waits for everything queued before it) or mixes tensors
of two devices raises there, so this is what can be shown of the GPU's path without a GPU.
"""

import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ser_features.extract.pooling import pool_on_device, ragged_on_device
from ser_features.upstreams.catalog import CATALOG
from ser_features.upstreams.load import load_upstream

REQUESTS = (
    "hubert", "hubert-layer-norm", "hubert-batch-norm", "wav2vec2", "mms-adapters", "wavlm",
    "wavlm-layer-norm", "data2vec", "unispeech-sat", "whisper",
)  # fmt: skip


def check(upstream, waves) -> None:
    out = upstream.encode(waves)
    pooled = pool_on_device(out.hidden, out.num_frames)
    frames = ragged_on_device(out.hidden, out.num_frames)
    layers, dim = upstream.info.num_layers, upstream.info.dim
    assert out.hidden.shape == (layers, len(waves), max(out.num_frames), dim)
    assert {tuple(part.shape) for part in pooled} == {(len(waves), layers, dim)}
    assert frames.shape == (sum(out.num_frames), layers, dim)
    assert {x.device.type for x in (out.hidden, *pooled, frames)} == {"meta"}


@pytest.mark.parametrize("kind", REQUESTS)
def test_encoding_and_pooling_wait_for_nothing(kind, checkpoint, noise):
    folder = checkpoint(kind).folder
    upstream = load_upstream(f"x@random:0={folder}", device="meta", precision="bfloat16")
    with Copies() as copies:
        check(upstream, noise(8000, 3010, 3000))
        check(upstream, noise(3000, 3000))
    assert not copies.found


class Copies(TorchDispatchMode):
    """Finds copies to the device that do not go through pinned memory, which a GPU waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        devices = {x.device.type for x in args if isinstance(x, torch.Tensor)}
        if isinstance(out, torch.Tensor) and out.is_meta and "cpu" in devices:
            stack = traceback.extract_stack()
            if not {"on_device", "pad_waves"} & {frame.name for frame in stack}:
                self.found.append(f"{func} in {stack[-3].filename}:{stack[-3].lineno}")
        return out


OWN = (
    "fbank", "logmel", "mfcc", "cnn14-16k@random:0", "wav2vec@random:0", "vq-wav2vec@random:0",
)  # fmt: skip


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("request_text", OWN)
def test_the_others_wait_for_nothing(request_text, precision, noise):
    upstream = load_upstream(request_text, device="meta", precision=precision)
    upstream.encode(noise(9000))  # the first batch of a process brings Kaldi's tables
    with Copies() as copies:
        check(upstream, noise(12000, 9000, 9000))
        check(upstream, noise(9000, 9000))
    assert not copies.found


class Kernels(TorchDispatchMode):
    """Counts what is computed: calls that give no view of what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [*REQUESTS, *OWN, "kmeans"])
def test_a_larger_batch_takes_as_many_kernels(kind, checkpoint, noise, monkeypatch):
    text = kind
    if kind == "kmeans":
        monkeypatch.setitem(CATALOG["vq-wav2vec"].config, "vq_type", kind)
        text = "vq-wav2vec@random:0"
    elif kind in REQUESTS:
        text = f"x@random:0={checkpoint(kind).folder}"
    upstream = load_upstream(text, device="meta")
    counts = []
    for waves in (noise(12000, 9000), noise(12000, *range(9000, 9700, 100))):
        upstream.encode(waves)
        with Kernels() as kernels:
            upstream.encode(waves)
        counts.append(kernels.count)
    assert counts[0] == counts[1] > 10


def test_what_waits_would_be_seen():
    with pytest.raises(RuntimeError):  # NotImplementedError is one
        bool(torch.zeros(3, device="meta").all())
    with Copies() as copies:
        torch.tensor([1, 2]).to("meta")
    assert len(copies.found) == 1
