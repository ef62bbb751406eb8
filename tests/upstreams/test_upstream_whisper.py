"""Whisper encoders: windows, frames, real weights."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ser_features.errors import UpstreamError
from ser_features.upstreams.load import load_upstream
from ser_features.upstreams.whisper import LogMel, WhisperUpstream

WINDOW = 480_000


def reference(encoder, wave, mels=80):
    """Plain transformers on one window, cut to the frames of its audio."""
    extractor = WhisperFeatureExtractor(feature_size=mels)
    features = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        out = encoder(features, output_hidden_states=True)
    layers = torch.stack([*out.hidden_states[:-1], out.last_hidden_state])[:, 0]
    return layers[:, : -(-len(wave) // 320)]


@pytest.mark.parametrize("mels", [80, 128])
def test_log_mel_is_that_of_the_feature_extractor(mels, noise):
    waves = noise(WINDOW, 32000, 1)
    padded = torch.zeros(3, WINDOW)
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    got = LogMel(mels, torch.device("cpu"))(padded)
    extractor = WhisperFeatureExtractor(feature_size=mels)
    for row, wave in zip(got, waves, strict=True):
        (want,) = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features
        torch.testing.assert_close(row, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["whisper-tiny.en-encoder", "whisper-base-encoder"])
def test_real_weights_equal_transformers(name, shared, noise, distance):
    folder = shared / "weights" / name
    plain = WhisperEncoder(WhisperConfig.from_pretrained(folder)).eval()
    state = load_file(folder / "model.safetensors")
    start = "model.encoder."
    plain.load_state_dict({k.removeprefix(start): v.float() for k, v in state.items()})
    upstream = load_upstream(str(folder))
    waves = noise(33_333, 1)
    out = upstream.encode(waves)
    assert out.num_frames == (105, 1)
    for b, (wave, end) in enumerate(zip(waves, out.num_frames, strict=True)):
        assert distance(out.hidden[:, b, :end], reference(plain, wave)) <= 1e-5
    assert upstream.info.num_layers == plain.config.encoder_layers + 1
    assert upstream.info.max_seconds is None


def test_long_audio_is_its_windows_joined(checkpoint, noise, distance):
    folder, model = checkpoint("whisper")
    long, short = noise(2 * WINDOW + 5000, 700)
    upstream = load_upstream(str(folder))
    out = upstream.encode([short, long])
    assert out.num_frames == (3, 3016)
    parts = [reference(model, long[at : at + WINDOW]) for at in range(0, len(long), WINDOW)]
    assert distance(out.hidden[:, 1], torch.cat(parts, dim=1)) <= 1e-5
    assert distance(out.hidden[:, 0, :3], reference(model, short)) <= 1e-5


def test_many_windows_in_one_batch(checkpoint, noise, distance):
    folder, model = checkpoint("whisper")
    waves = noise(*range(320, 320 * 11, 320))  # more than one group of windows
    out = load_upstream(str(folder)).encode(waves)
    assert out.num_frames == tuple(range(1, 11))
    assert distance(out.hidden[:, 9, :10], reference(model, waves[9])) <= 1e-5


@given(st.integers(0, 40 * WINDOW))
def test_windows_do_not_change_the_frame_count(num_samples):
    starts = range(0, num_samples, WINDOW)
    joined = sum(-(-min(WINDOW, num_samples - at) // 320) for at in starts)
    assert WhisperUpstream.num_frames(None, num_samples) == joined


def test_other_features_are_refused(checkpoint, tmp_path):
    config = (checkpoint("whisper").folder / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"hop_length": 128}))
    with pytest.raises(UpstreamError, match=r"hop_length = 128; only 160 is supported"):
        load_upstream(f"x@random:0={tmp_path}")


def test_empty_waveform_is_an_error(checkpoint):
    upstream = load_upstream(str(checkpoint("whisper").folder))
    with pytest.raises(UpstreamError, match="at least 1 samples"):
        upstream.encode([np.zeros(0, np.float32)])
