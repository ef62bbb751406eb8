"""CNN14: the published model's blocks, whatever the batch, from the published form of file."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cli_runner import good_corpus, serfeat
from ser_features.errors import UpstreamError
from ser_features.store.catalog import list_feature_sets
from ser_features.upstreams.cnn14 import FRONTS, Cnn14Model, mel_weights
from ser_features.upstreams.load import load_upstream


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A random checkpoint in the published form, with the tagging head and the sampler's state."""
    torch.manual_seed(3)
    model = Cnn14Model(FRONTS["cnn14-16k"])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    model.bn0.running_mean.fill_(-30)
    model.bn0.running_var.fill_(200)
    state = model.state_dict() | {
        "spectrogram_extractor.stft.conv_real.weight": torch.zeros(257, 1, 512),
        "fc1.weight": torch.zeros(8, 8),
    }
    sampler = {"indexes": np.arange(5), "pointer": np.int64(3)}
    path = tmp_path_factory.mktemp("cnn14") / "Cnn14_16k_mAP=0.438.pth"
    torch.save({"iteration": 5, "model": state, "sampler": sampler}, path)
    return path, {key: value for key, value in state.items() if not key.startswith("fc1")}


def plain(state, wave):
    """The published forward pass, written out: every block's output [C, T, F] of one waveform."""
    spectrum = torch.stft(
        torch.from_numpy(wave), 512, 160, window=torch.hann_window(512), center=True,
        pad_mode="reflect", return_complex=True,
    )  # fmt: skip
    mel = torch.einsum("ft,fm->tm", spectrum.abs() ** 2, state["logmel_extractor.melW"])
    x = 10 * torch.log10(torch.clamp(mel, min=1e-10))[None, None]

    def norm(x, name):
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}.{key}"] for key in keys))

    x = norm(x.transpose(1, 3), "bn0").transpose(1, 3)
    blocks = []
    for k in range(1, 7):
        for part in (1, 2):
            x = F.conv2d(x, state[f"conv_block{k}.conv{part}.weight"], padding=1)
            x = F.relu(norm(x, f"conv_block{k}.bn{part}"))
        x = F.avg_pool2d(x, 2 if k < 6 else 1)
        blocks.append(x[0])
    return blocks


def test_layers_are_the_published_blocks(published, noise):
    path, state = published
    upstream = load_upstream(f"cnn14-16k={path}")
    (wave,) = noise(16000)  # 101 spectrogram frames, 3 of the last block
    hidden = upstream.encode([wave]).hidden[:, 0]  # [6, 3, 2048]
    assert hidden.shape == (6, 3, 2048)
    for k, block in enumerate(plain(state, wave)):
        channels, step = 64 * 2**k, 2 ** max(0, 4 - k)
        assert not hidden[k, :, channels:].any()
        for t in range(3):
            want = block.mean(dim=2)[:, t * step : (t + 1) * step].mean(dim=1)
            error = (hidden[k, t, :channels] - want).abs().max()
            assert error <= 1e-4 * want.abs().max()  # power spectra span many decades


@settings(
    max_examples=4, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(lengths=st.lists(st.integers(4960, 10300), min_size=2, max_size=2))
@example(lengths=[4960, 10239, 10080])
def test_a_batch_changes_nothing(lengths, published, noise, gpu_layout):
    upstream = load_upstream(f"cnn14-16k={published[0]}")
    waves = noise(*lengths)
    out = upstream.encode(waves)
    with gpu_layout():
        padded = upstream.encode(waves)
    assert out.num_frames == padded.num_frames == tuple((n // 160 + 1) // 32 for n in lengths)
    for b, (wave, end) in enumerate(zip(waves, out.num_frames, strict=True)):
        alone = upstream.encode([wave]).hidden[:, 0]
        for one in (out, padded):
            assert (one.hidden[:, b, :end] - alone).abs().max() <= 1e-5 * alone.abs().max()


def test_untrained_control_at_32_khz(noise):
    upstream = load_upstream("cnn14@random:0")
    info = upstream.info
    assert (info.sample_rate, info.hop, info.receptive_field) == (32000, 10240, 9920)
    assert (info.num_layers, info.dim) == (6, 2048)
    assert upstream.num_frames(9919) == 0
    assert upstream.num_frames(9920) == 1
    out = upstream.encode(noise(9920))
    assert out.hidden.shape == (6, 1, 1, 2048)
    assert torch.isfinite(out.hidden).all()


def test_half_precision_keeps_the_front_end(published, noise, gpu_layout):
    full = load_upstream(f"cnn14-16k={published[0]}")
    half = load_upstream(f"cnn14-16k={published[0]}", precision="bfloat16")
    assert half.info.identity != full.info.identity
    waves = noise(8000, 12000)
    want = full.encode(waves[:1]).hidden[:, 0]
    outs = [half.encode(waves[:1])]
    with gpu_layout():
        outs.append(half.encode(waves))
    for out in outs:
        error = out.hidden[:, 0, :1].float() - want
        assert error.square().mean().sqrt() <= 0.05 * want.square().mean().sqrt()


def test_the_wrong_rate_is_named(published):
    with pytest.raises(UpstreamError, match=r"logmel_extractor\.melW \(257, 64\) for \(513, 64\)"):
        load_upstream(f"cnn14={published[0]}")


def test_the_command_line_takes_the_published_file(published, tmp_path):
    manifest = good_corpus(tmp_path / "corpus", speakers="a").write()
    words = ("extract", "--manifest", manifest, "--store", tmp_path / "store")
    done = serfeat(*words, "--upstreams", f"cnn14-16k={published[0]}", "--allow-rejects")
    assert done.status == 0, done.err
    (info,) = list_feature_sets(tmp_path / "store")
    assert (info.spec.upstream, info.spec.num_layers, info.spec.dim) == ("cnn14-16k", 6, 2048)
    for request, said in (
        ("cnn14=/nowhere.pth", "there is no file /nowhere.pth"),
        (f"hubert-base={published[0]}", f"there is no folder {published[0]}"),
    ):
        assert serfeat(*words, "--upstreams", request).error == f"upstream {request!r}: {said}"


def test_without_a_file_it_says_which():
    with pytest.raises(UpstreamError, match=r"pass its checkpoint, cnn14=FILE\.pth"):
        load_upstream("cnn14")


def test_mel_filters_are_slaney():
    """Area normalised: each filter's weights sum to about one over 2 / bandwidth hertz."""
    weights = mel_weights(FRONTS["cnn14-16k"])  # [257, 64]
    hertz = 16000 / 512
    assert weights.shape == (257, 64)
    assert torch.allclose(weights[:, 20:].sum(0) * hertz, torch.ones(44), atol=0.1)
    assert not weights[0].any()
