import numpy as np
import pytest
import torch

from ser_features.errors import TrainError
from ser_features.train.vad import CONTEXT, log_energy, voiced
from ser_features.upstreams.kaldi import LENGTH, cepstra_to_log_mel, log_mel, mfcc
from ser_features.upstreams.spectral import SPECTRAL


def _bursts() -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Three seconds of faint hiss with two loud stretches; their samples."""
    rng = np.random.default_rng(0)
    wave = 1e-4 * rng.standard_normal(48_000)
    stretches = [(8_000, 20_000), (30_000, 36_000)]
    for start, end in stretches:
        wave[start:end] += 0.1 * rng.standard_normal(end - start)
    return torch.from_numpy(wave.astype(np.float32)), stretches


@pytest.mark.parametrize("upstream", ["logmel", "mfcc"])
def test_loud_stretches_are_voiced_and_the_rest_is_not(upstream: str) -> None:
    wave, stretches = _bursts()
    found = voiced(log_energy(SPECTRAL[upstream].features(wave), upstream))
    centres = np.arange(len(found)) * 160 + LENGTH // 2
    edge = LENGTH + CONTEXT * 160
    inside = np.zeros(len(found), bool)
    near = np.zeros(len(found), bool)
    for start, end in stretches:
        inside |= (centres >= start) & (centres < end)
        near |= (centres >= start - edge) & (centres < end + edge)
    assert found.numpy()[inside].all()
    assert not found.numpy()[~near].any()


@pytest.mark.parametrize("upstream", ["logmel", "mfcc"])
def test_the_energy_is_that_of_16_bit_samples(upstream: str) -> None:
    """White noise: pre-emphasis and window change all frames alike, by less than one."""
    rng = np.random.default_rng(1)
    wave = torch.from_numpy(0.1 * rng.standard_normal(16_000).astype(np.float32))
    frames = (wave.double() * 32768).unfold(0, LENGTH, 160)
    expected = frames.square().sum(1).log()
    found = log_energy(SPECTRAL[upstream].features(wave), upstream)
    assert (found - expected).abs().max() < 1.0


def test_ten_times_louder_is_as_much_more_energy() -> None:
    wave, _ = _bursts()
    for upstream in ("logmel", "mfcc"):
        features = SPECTRAL[upstream].features
        more = log_energy(features(10 * wave), upstream) - log_energy(features(wave), upstream)
        torch.testing.assert_close(more, torch.full_like(more, 2 * np.log(10)), atol=0.02, rtol=0)


def test_cepstra_give_the_mel_energies_back() -> None:
    wave, _ = _bursts()
    back = cepstra_to_log_mel(mfcc(wave, 23, 23).double())
    torch.testing.assert_close(back.float(), log_mel(wave, 23), atol=1e-4, rtol=0)


def test_digital_silence_has_no_voice() -> None:
    energy = log_energy(SPECTRAL["logmel"].features(torch.zeros(8_000)), "logmel")
    assert not voiced(energy).any()


def test_the_rule_counts_neighbours_as_kaldi_does() -> None:
    energy = torch.tensor([20.0] + [1.0] * 9)
    # above 5.5 + 0.5 * 2.9: the first frame alone; one of three, four, then five neighbours
    assert voiced(energy).tolist() == [True] * 3 + [False] * 7


def test_an_upstream_without_energy_is_refused() -> None:
    with pytest.raises(TrainError, match="'fbank' does not keep; use logmel or mfcc"):
        log_energy(torch.zeros(3, 240), "fbank")
