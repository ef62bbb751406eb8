"""Estimators on signals whose truth is known, with the accuracy that is promised."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal

from ser_features.acoustics import level, reverberation
from ser_features.acoustics.measures import MEASURES, measure
from ser_features.acoustics.snr import wada_snr

RATE = 16000


def speech_like(seconds: float, seed: int) -> np.ndarray:
    """Amplitudes as WADA-SNR assumes them of speech: gamma, unit power."""
    rng = np.random.default_rng(seed)
    size = int(seconds * RATE)
    samples = rng.gamma(0.4, 1.0, size) * rng.choice([-1, 1], size)
    return samples / np.sqrt((samples**2).mean())


@pytest.mark.parametrize("snr", [0, 5, 10, 20, 30])
def test_snr_is_exact_where_its_assumptions_hold(snr: int) -> None:
    noise = np.random.default_rng(1).standard_normal(5 * RATE) * 10 ** (-snr / 20)
    found = wada_snr((speech_like(5, 0) + noise).astype(np.float32), RATE)
    assert found == pytest.approx(snr, abs=0.3)


def test_snr_does_not_depend_on_level_and_has_ends() -> None:
    rng = np.random.default_rng(2)
    noisy = speech_like(2, 3) + 0.3 * rng.standard_normal(2 * RATE)
    assert wada_snr((0.01 * noisy).astype("f4")) == pytest.approx(wada_snr(noisy.astype("f4")))
    assert wada_snr(rng.standard_normal(RATE).astype("f4")) < -5
    assert np.isnan(wada_snr(np.zeros(100, np.float32)))


@pytest.mark.parametrize("snr", [0, 10, 20])
def test_digital_silence_is_neither_speech_nor_noise(snr: int) -> None:
    noise = np.random.default_rng(1).standard_normal(5 * RATE) * 10 ** (-snr / 20)
    masked = speech_like(5, 0) + noise + 0.01  # with an offset, as recordings have
    masked[2 * RATE : 3 * RATE] = 0
    assert wada_snr(masked.astype(np.float32), RATE) == pytest.approx(snr, abs=0.3)


@pytest.mark.parametrize(("snr", "error"), [(0, 2.5), (5, 2.5), (10, 3.0)])
def test_snr_of_real_speech_in_white_noise(shared: Path, snr: int, error: float) -> None:
    files = sorted((shared / "data" / "emodb").rglob("*.wav"))[::40]
    rng = np.random.default_rng(0)
    errors = []
    for file in files:
        dry, _ = soundfile.read(file)
        noise = rng.standard_normal(len(dry)) * np.sqrt((dry**2).mean()) * 10 ** (-snr / 20)
        errors.append(abs(wada_snr((dry + noise).astype(np.float32)) - snr))
    assert np.mean(errors) < error


def test_loudness_is_bs1770s() -> None:
    # the printed coefficients at 48 kHz, and the printed reading of a 997 Hz sine at full scale
    printed = [[1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241,
                0.73248077421585], [1, -2, 1, 1, -1.99004745483398, 0.99007225036621]]  # fmt: skip
    assert np.allclose(level._k_weighting(48000), printed, atol=1e-8)
    time = np.arange(48000 * 2) / 48000
    sine = np.sin(2 * np.pi * 997 * time).astype(np.float32)
    assert level.loudness(sine, 48000) == pytest.approx(-3.01, abs=0.02)
    assert level.loudness(0.1 * sine, 48000) == pytest.approx(-23.01, abs=0.02)


def test_loudness_at_other_rates_pauses_and_ends() -> None:
    time = np.arange(RATE * 4) / RATE
    sine = (0.1 * np.sin(2 * np.pi * 997 * time)).astype(np.float32)
    assert level.loudness(sine, RATE) == pytest.approx(-23.01, abs=0.1)
    gated = np.concatenate([sine, np.zeros(8 * RATE, np.float32)])
    # pauses are gated out but for the blocks across the edge
    assert level.loudness(gated, RATE) == pytest.approx(-23.01, abs=0.5)
    assert level.loudness(sine[:800], RATE) == pytest.approx(-23, abs=2)
    assert np.isnan(level.loudness(np.zeros(RATE, np.float32), RATE))
    assert level.loudness(sine, 4000) == pytest.approx(-20, abs=6)
    assert np.isnan(level.loudness(sine, 3999)), "its filter would not be stable"


@pytest.mark.parametrize("rate", [1000, 4000, 8000, 192000])
@pytest.mark.parametrize("count", [2, 3, 100, 5000])
def test_any_recording_has_measures_or_none(rate: int, count: int) -> None:
    found = measure(np.random.default_rng(0).standard_normal(count).astype("f4") / 9, rate)
    none = {"t60", "c50"} if count < rate / 2 else set()
    none |= {"loudness"} if rate < 4000 else set()
    assert {name for name, value in found.items() if np.isnan(value)} == none


@pytest.mark.parametrize("cut", [2000, 3400, 5500])
def test_bandwidth_is_the_cut_of_a_filter(cut: int) -> None:
    noise = np.random.default_rng(0).standard_normal(3 * RATE)
    sos = signal.cheby2(12, 80, cut * 1.02, output="sos", fs=RATE)
    cut_off = signal.sosfilt(sos, noise).astype(np.float32)
    assert level.bandwidth(cut_off, RATE) == pytest.approx(cut, rel=0.06)
    assert level.bandwidth(noise.astype(np.float32), RATE) == pytest.approx(RATE / 2, rel=0.02)
    assert np.isnan(level.bandwidth(np.zeros(RATE, np.float32), RATE))


def test_clipping_counts_flat_tops_at_any_level() -> None:
    sine = np.sin(np.arange(RATE) / 20).astype(np.float32)
    assert level.clipping(sine * 0.9, RATE) == 0
    flat = np.clip(sine, -0.5, 0.5)
    share = 100 * np.mean(np.abs(sine) >= 0.5)
    assert level.clipping(flat, RATE) == pytest.approx(share, abs=0.5)
    assert level.clipping(flat * 0.1, RATE) == pytest.approx(share, abs=0.5)
    assert level.clipping(np.zeros(10, np.float32)) == 0


def rooms() -> list[tuple[np.ndarray, float, float]]:
    """Simulated rooms with T60 (seconds) and C50 (dB) measured on the response."""
    import pyroomacoustics

    found = []
    for wanted, size in ((0.2, (4, 3, 2.5)), (0.4, (6, 5, 3)), (0.8, (8, 7, 3.5))):
        absorption, order = pyroomacoustics.inverse_sabine(wanted, size)
        material = pyroomacoustics.Material(absorption)
        room = pyroomacoustics.ShoeBox(size, fs=RATE, materials=material, max_order=order)
        room.add_source([1.0, 1.2, 1.4])
        room.add_microphone([2.6, 2.1, 1.3])
        room.compute_rir()
        response = np.asarray(room.rir[0][0])
        start = int(np.argmax(np.abs(response)))
        early, late = response[start : start + 800], response[start + 800 :]
        c50 = 10 * np.log10((early**2).sum() / (late**2).sum())
        found.append((response, pyroomacoustics.experimental.measure_rt60(response, RATE, 30), c50))
    return found


def test_reverberation_of_speech_in_simulated_rooms(shared: Path) -> None:
    pytest.importorskip("pyroomacoustics", reason="needs the extra 'augment'")
    files = sorted((shared / "data" / "emodb").rglob("*.wav"))
    files = [file for file in files if file.name[:2] in ("14", "15", "16")][::12]  # not in the fit
    for response, t60, c50 in rooms():
        wet = [signal.fftconvolve(soundfile.read(file)[0], response) for file in files]
        t60s = [reverberation.t60(each.astype(np.float32), RATE) for each in wet]
        c50s = [reverberation.c50(each.astype(np.float32), RATE) for each in wet]
        assert np.mean(np.abs(np.array(t60s) - t60)) < 0.15 + 0.1 * t60, t60
        assert abs(np.median(t60s) - t60) < 0.1 + 0.1 * t60, t60
        assert np.mean(np.abs(np.array(c50s) - c50)) < 4, c50


def test_reverberation_rises_with_the_decay_of_noise_bursts() -> None:
    rng = np.random.default_rng(0)
    bursts = np.zeros(4 * RATE)
    for start in range(0, 4 * RATE, RATE // 2):
        bursts[start : start + 1600] = rng.standard_normal(1600)
    found = []
    for t60 in (0.15, 0.4, 0.9):
        time = np.arange(int(1.2 * t60 * RATE)) / RATE
        tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / t60)
        found.append(reverberation.t60(signal.fftconvolve(bursts, tail).astype("f4"), RATE))
    assert found == sorted(found)
    assert found[2] > 2 * found[0]


def test_no_value_where_there_is_nothing_to_hear() -> None:
    short = np.random.default_rng(0).standard_normal(RATE // 4).astype(np.float32)
    assert np.isnan(reverberation.t60(short, RATE))
    assert np.isnan(reverberation.c50(np.zeros(RATE, np.float32), RATE))
    assert measure(short, RATE).keys() == MEASURES.keys()


def test_every_measure_names_its_method_and_limits() -> None:
    for name, each in MEASURES.items():
        assert all((each.title, each.unit, each.method, each.limits)), name
