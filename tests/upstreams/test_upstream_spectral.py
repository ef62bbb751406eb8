"""Spectral upstreams against plain numpy in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ser_features.errors import UpstreamError
from ser_features.upstreams import kaldi
from ser_features.upstreams.load import load_upstream


def plain_log_mel(wave, num_mels, fft_size):
    """Kaldi's filter bank, frame by frame and filter by filter."""
    mel = lambda hz: 1127 * math.log(1 + hz / 700)  # noqa: E731
    low, high = mel(20), mel(8000)
    step = (high - low) / (num_mels + 1)
    rows = []
    for start in range(0, len(wave) - 399, 160):
        frame = wave[start : start + 400].astype(np.float64)
        frame = frame - frame.mean()
        frame = np.array([frame[i] - 0.97 * frame[max(i - 1, 0)] for i in range(400)])
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
        power = np.abs(np.fft.rfft(frame * hann**0.85, fft_size)) ** 2
        row = []
        for m in range(num_mels):
            left, centre, right = (low + (m + i) * step for i in range(3))
            energy = 0.0
            for k in range(fft_size // 2):
                at = mel(k * 16000 / fft_size)
                if left < at < right:
                    rise = at <= centre
                    energy += power[k] * ((at - left) if rise else (right - at)) / step
            row.append(math.log(max(energy, 1.1920928955078125e-07)))
        rows.append(row)
    return np.array(rows)


def plain_deltas(x):
    padded = np.pad(x, ((2, 2), (0, 0)), mode="edge")
    return sum(n * padded[2 + n : 2 + n + len(x)] for n in (-2, -1, 1, 2)) / 10


def plain_fbank(wave):
    static = plain_log_mel(wave, 80, 512)
    first = plain_deltas(static)
    x = np.concatenate([static, first, plain_deltas(first)], axis=1)
    return (x - x.mean(0)) / (1e-10 + x.std(0, ddof=1))


def plain_mfcc(wave):
    logs = plain_log_mel(wave, 23, 512)
    i, k = np.arange(23)[:, None], np.arange(23)
    basis = np.sqrt(2 / 23) * np.cos(np.pi / 23 * (k + 0.5) * i)
    basis[0] = np.sqrt(1 / 23)
    return logs @ (basis * (1 + 11 * np.sin(np.pi * i / 22))).T


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("fbank", plain_fbank),
        ("logmel", lambda wave: plain_log_mel(wave, 128, 1024)),
        ("mfcc", plain_mfcc),
    ],
)
def test_equals_plain_numpy(name, plain, noise):
    (wave,) = noise(3000)
    out = load_upstream(name).encode([wave])
    want = plain(wave)
    assert out.num_frames == (17,)
    np.testing.assert_allclose(out.hidden[0, 0], want, atol=3e-4 * np.abs(want).std() + 1e-4)


@pytest.mark.parametrize(("name", "dim"), [("fbank", 240), ("logmel", 128), ("mfcc", 23)])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(400, 6400), min_size=1, max_size=4))
@example(lengths=[400, 560, 720, 6400])
def test_a_batch_changes_nothing(name, dim, lengths, gpu_layout, distance):
    rng = np.random.default_rng(lengths)
    waves = [rng.standard_normal(n).astype(np.float32) for n in lengths]
    upstream = load_upstream(name)
    out = upstream.encode(waves)
    with gpu_layout():
        padded = upstream.encode(waves)
    assert padded.num_frames == out.num_frames
    assert out.hidden.shape == padded.hidden.shape == (1, len(waves), max(out.num_frames), dim)
    for b, (wave, end) in enumerate(zip(waves, out.num_frames, strict=True)):
        assert end == upstream.num_frames(len(wave)) == 1 + (len(wave) - 400) // 160
        alone = upstream.encode([wave]).hidden[:, 0]
        assert torch.equal(out.hidden[:, b, :end], alone)
        if alone.any():  # fbank of one frame is 0
            assert distance(padded.hidden[:, b, :end], alone) <= 1e-5
        else:
            assert not padded.hidden[:, b, :end].any()
    assert torch.isfinite(out.hidden).all()
    assert torch.isfinite(padded.hidden).all()


@pytest.mark.parametrize("name", ["fbank", "logmel", "mfcc"])
@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("length", [400, 16000])
def test_silence_and_single_frames_are_finite(name, value, length, gpu_layout, noise):
    upstream, wave = load_upstream(name), np.full(length, value, np.float32)
    out = upstream.encode([wave]).hidden[:, 0]
    with gpu_layout():
        padded = upstream.encode([wave, *noise(20000)]).hidden[:, 0, : out.shape[1]]
    assert torch.isfinite(out).all()
    torch.testing.assert_close(padded, out, rtol=1e-6, atol=1e-4)  # of cepstra up to 80
    if name == "fbank":
        assert not out.any()
        assert not padded.any()


@pytest.mark.parametrize(("mels", "size"), [(80, 512), (128, 1024), (23, 512)])
def test_no_filter_is_empty(mels, size):
    assert (kaldi.mel_filters(mels, size).sum(1) > 0).all()


def test_identity_has_no_precision_and_no_versions():
    infos = [load_upstream("fbank", precision=p).info for p in ("float32", "bfloat16")]
    assert infos[0].identity == infos[1].identity
    assert "torch" not in str(infos[0].identity)
    assert infos[0].num_layers == 1


@pytest.mark.parametrize("text", ["fbank@random:0", "mfcc=/tmp"])
def test_spectral_has_no_weights(text):
    with pytest.raises(UpstreamError, match="has no weights"):
        load_upstream(text)
