"""Batches that are encoded side by side in threads are what they are one after another."""

import numpy as np
import pytest
import torch

from ser_features.extract.encode import start_shard
from ser_features.upstreams.load import load_upstream

KINDS = (
    "wav2vec2", "hubert", "hubert-layer-norm", "hubert-batch-norm", "wavlm", "wavlm-layer-norm",
    "data2vec", "unispeech-sat", "whisper",
)  # fmt: skip


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_lanes_give_the_same(kind, precision, checkpoint, noise):
    upstream = load_upstream(str(checkpoint(kind)[0]), precision=precision)
    waves = noise(*range(9600, 2400, -240))
    ids = [str(i) for i in range(len(waves))]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a lane, so that sums are made in the same order
    try:
        plain, side = (
            start_shard(upstream, ids, waves, 20_000, True, lanes=lanes).collect()
            for lanes in (1, 4)
        )
    finally:
        torch.set_num_threads(threads)
    assert side.num_frames == plain.num_frames
    assert np.array_equal(side.frames, plain.frames)
    for name in ("mean", "std", "mean_layernorm"):
        assert np.array_equal(getattr(side.pooled, name), getattr(plain.pooled, name))


@pytest.mark.parametrize("name", ["fbank", "logmel", "mfcc"])
def test_spectral_lanes_give_the_same(name, noise):
    upstream = load_upstream(name)
    waves = noise(*range(9600, 2400, -240))
    ids = [str(i) for i in range(len(waves))]
    plain, side = (
        start_shard(upstream, ids, waves, 20_000, True, lanes=lanes).collect() for lanes in (1, 4)
    )
    assert np.allclose(side.frames, plain.frames, rtol=1e-5, atol=1e-5)
