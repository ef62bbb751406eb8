"""What each augmentation does to a signal, measured; and that a table entry is whole."""

import importlib
import json
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

import ser_features.augment as package
from augment_scene import RATE, augment, decibels, drawn, make, pitch_of, tone, white
from ser_features.augment import codec, extra
from ser_features.augment.kind import Kind
from ser_features.augment.level import active_power
from ser_features.augment.pink import pink
from ser_features.augment.rir import in_room
from ser_features.augment.table import AUGMENTATIONS
from ser_features.errors import AudioError, UsageError

PLAIN = sorted(
    name
    for name, kind in AUGMENTATIONS.items()
    if not kind.partner and not any(one.folder for one in kind.parameters)
)


def test_every_kind_of_the_package_is_in_the_table():
    found = {
        value.name: value
        for module in pkgutil.iter_modules(package.__path__)
        for value in vars(importlib.import_module(f"ser_features.augment.{module.name}")).values()
        if isinstance(value, Kind)
    }
    assert found == dict(AUGMENTATIONS)
    for kind in found.values():
        assert kind.what
        assert kind.source
        assert all(one.what and one.source for one in kind.parameters)
        assert kind.defaults.keys() == {one.name for one in kind.parameters if one.default}


def test_nothing_heavy_is_imported_before_it_is_used():
    code = "import sys, ser_features.augment.augmented as _; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for module in ("pedalboard", "pyroomacoustics", "matplotlib", "torch"):
        assert f"'{module}'" not in done.stdout


@pytest.mark.parametrize("name", ["reverb", "room", "stretch", "mismatch-7"])
def test_a_library_that_is_not_there_is_named(monkeypatch, name):
    monkeypatch.setattr(extra, "find_spec", lambda module: None)
    with pytest.raises(UsageError, match=r"needs \w+; install it with: pip install 'serfeat\[aug"):
        make(name)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("count", [400, 401, 7777])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_any_recording_comes_out_as_drawn(name, count, rate):
    samples = white(count / rate, rate=rate)
    for utterance in ("a", "b", "c"):
        draw = drawn(make(name), count, utterance, rate)
        after = augment(name, samples, utterance, rate)
        assert len(after) == draw["output"]
        assert np.isfinite(after).all()
        assert after.any()


@settings(max_examples=20)
@given(st.floats(0.5, 2.0), st.floats(80, 1000))
def test_stretch_keeps_the_pitch_and_changes_the_length(rate, hertz):
    before = tone(hertz)
    after = augment(f"stretch:rate={rate:.3f}", before)
    assert len(after) == pytest.approx(len(before) / round(rate, 3), abs=1)
    assert pitch_of(after) == pytest.approx(hertz, rel=0.005)


@settings(max_examples=10)
@given(st.floats(-6, 6), st.floats(150, 800))
def test_pitch_shift_changes_the_pitch_and_keeps_the_length(semitones, hertz):
    before = tone(hertz)
    after = augment(f"pitch:semitones={semitones:.2f}", before)
    assert len(after) == len(before)
    wanted = hertz * 2 ** (round(semitones, 2) / 12)
    assert pitch_of(after) == pytest.approx(wanted, rel=0.01)


@settings(max_examples=20)
@given(st.floats(0.5, 2.0), st.integers(400, 9000))
def test_speed_changes_both(factor, count):
    before = tone(300, count / RATE)
    after = augment(f"speed:factor={factor:.3f}", before)
    assert len(after) == pytest.approx(count / factor, abs=1 + count / 1000)
    long = augment(f"speed:factor={factor:.3f}", tone(300))
    assert pitch_of(long) == pytest.approx(300 * round(factor, 3), rel=0.002)


@pytest.mark.parametrize(
    ("text", "inside", "edge", "outside"),
    [("highpass:low=400", 1600, 400, 200), ("lowpass:high=2000", 500, 2000, 4000)],
)
def test_filters_are_of_the_ninth_order(text, inside, edge, outside):
    def gain(hertz):
        before = tone(hertz)
        after = augment(text, before)
        return decibels(np.mean(after[8000:] ** 2) / np.mean(before[8000:] ** 2))

    assert gain(inside) == pytest.approx(0, abs=0.01)
    assert gain(edge) == pytest.approx(-3.01, abs=0.05)
    # Butterworth's formula for order 9, at the frequencies that the bilinear transform bends
    bent = [np.tan(np.pi * hertz / RATE) for hertz in (edge, outside)]
    assert gain(outside) == pytest.approx(-decibels(1 + (max(bent) / min(bent)) ** 18), abs=0.2)


def test_filters_in_series_and_at_half_the_rate():
    before = white()
    both = augment("equalize:low=300,high=3000", before)
    one_by_one = augment("highpass:low=300+lowpass:high=3000", before)
    np.testing.assert_allclose(both, one_by_one, atol=1e-6)
    np.testing.assert_array_equal(augment("lowpass:high=8000", before), before)
    with pytest.raises(AudioError, match="leaves nothing"):
        augment("highpass:low=8000", before)


def test_pink_noise_falls_by_three_decibels_an_octave():
    noise = pink(20 * RATE, 0, RATE)
    frequencies, density = signal.welch(noise, RATE, nperseg=4096)
    band = (frequencies > 50) & (frequencies < 7000)
    slope = np.polyfit(np.log2(frequencies[band]), 10 * np.log10(density[band]), 1)[0]
    assert slope == pytest.approx(-3.01, abs=0.15)


@given(st.floats(0, 30), st.integers(0, 20))
def test_pink_noise_has_its_snr(snr, seed):
    before = white(0.5, seed)
    added = augment(f"pink:snr={snr:.2f}", before, f"u{seed}").astype(np.float64) - before
    found = decibels(active_power(before, RATE) / np.mean(added**2))
    assert found == pytest.approx(round(snr, 2), abs=0.1)


@given(st.floats(-1, 1), st.integers(400, 2000))
def test_shift_rolls(share, count):
    before = white(count / RATE)
    after = augment(f"shift:share={share:.3f}", before)
    np.testing.assert_array_equal(np.roll(after, -round(round(share, 3) * count)), before)


@given(st.integers(400, 5000), st.integers(0, 50))
def test_fades_touch_a_tenth_at_most_and_begin_at_nothing(count, seed):
    before = np.ones(count, np.float32)
    after = augment("fade", before, f"u{seed}")
    draw = drawn(make("fade"), count, f"u{seed}")["steps"][0]
    assert draw["in"] + draw["out"] <= 0.1 * count
    middle = slice(draw["in"], count - draw["out"])
    np.testing.assert_array_equal(after[middle], 1)
    assert (np.diff(after[: draw["in"]]) > 0).all()
    assert (np.diff(after[count - draw["out"] :]) < 0).all()
    assert draw["in"] == 0 or after[0] == 0
    assert draw["out"] == 0 or after[-1] == 0


@given(st.floats(-60, 60))
def test_gain_is_in_decibels_and_nothing_clips(level):
    before = white(0.1)
    after = augment(f"gain:level={level:.2f}", before)
    ratio = decibels(np.mean(after.astype(float) ** 2) / np.mean(before.astype(float) ** 2))
    assert ratio == pytest.approx(round(level, 2), abs=0.001)


@pytest.mark.parametrize("form", codec.FORMATS)
@pytest.mark.parametrize("loud", [1, 20])
def test_codecs_change_the_signal_but_not_its_place_or_level(form, loud):
    before = augment("lowpass:high=2000", white(1.0)) * loud
    after = augment(f"codec:format={form},level=0.5", before)
    lags = signal.correlate(after, before)
    assert abs(int(np.abs(lags).argmax()) - (len(before) - 1)) <= 1
    assert np.corrcoef(after, before)[0, 1] > 0.8
    assert not np.array_equal(after, before)
    assert decibels(np.mean(after**2) / np.mean(before**2)) == pytest.approx(0, abs=1.5)


def test_a_rate_that_a_codec_does_not_know_is_named():
    with pytest.raises(AudioError, match="opus at 11025 Hz: "):
        augment("codec:format=opus", white(0.2, rate=11025), rate=11025)


def test_stronger_compression_is_further_from_the_recording():
    before = augment("lowpass:high=4000", white(1.0))
    far, near = (
        np.mean((augment(f"codec:format=mp3,level={level}", before) - before) ** 2)
        for level in (0.99, 0)
    )
    assert far > near


def test_a_room_response_keeps_place_and_level():
    before = white(0.5)
    echo = np.zeros(800)
    echo[[100, 500]] = 1.0, 0.4
    after = in_room(before, echo, RATE)
    expected = before.astype(float).copy()
    expected[400:] += 0.4 * before[:-400]
    scale = np.sqrt(active_power(before, RATE) / active_power(expected, RATE))
    np.testing.assert_allclose(after, expected * scale, atol=1e-6)
    assert active_power(after, RATE) == pytest.approx(active_power(before, RATE), rel=1e-5)


def test_measured_rooms_come_from_a_folder(tmp_path):
    impulse = np.zeros((200, 2), np.float32)
    impulse[50] = 0.9, -0.5  # each channel is an impulse: the recording comes out as it was
    soundfile.write(tmp_path / "r.wav", impulse, RATE, "FLOAT")
    before = white(0.5)
    draws = {drawn(make(f"rir:folder={tmp_path}"), 8000, str(i))["steps"][0]["channel"]
             for i in range(20)}  # fmt: skip
    assert draws == {0, 1}
    after = augment(f"rir:folder={tmp_path}", before)
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-6)


@given(st.integers(0, 10**6), st.integers(400, 40000))
def test_masks_are_never_wider_than_their_share(seed, count):
    step = drawn(make("specmask"), count, f"u{seed}")["steps"][0]
    for start, width in step["times"]:
        assert 0 <= width <= min(0.2 * count, 0.64 * RATE)
        assert 0 <= start <= count - width
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    for low, high in step["bands"]:
        low_mel, high_mel = (2595 * np.log10(1 + one / 700) for one in (low, high))
        assert -1e-9 <= high_mel - low_mel <= top / 8 + 1e-6
        assert high <= RATE / 2 + 1e-6
    assert (len(step["times"]), len(step["bands"])) == (2, 2)


def test_masks_silence_what_they_say():
    before = white(2.0)
    after = augment("specmask", before)
    step = drawn(make("specmask"), len(before))["steps"][0]
    for start, width in step["times"]:
        assert not after[start : start + width].any()
    whole = augment("specmask:times=0", before)
    frequencies, density = signal.welch(whole, RATE, nperseg=1024)
    quiet = np.zeros(len(frequencies), bool)
    for low, high in drawn(make("specmask:times=0"), len(before))["steps"][0]["bands"]:
        quiet |= (frequencies > low + 150) & (frequencies < high - 150)
    loud = np.median(density[~quiet])
    assert (density[quiet] < loud / 100).all()


def test_seven_augmentations_with_the_papers_ranges_each_as_often():
    one, count = make("mismatch-7"), 16000
    steps = [drawn(one, count, f"u{i}")["steps"][0] for i in range(1400)]
    inner = AUGMENTATIONS["mismatch-7"].inner
    found = {name: [s for s in steps if s["one"] == name] for name in inner}
    assert len(found) == 7
    assert all(150 < len(group) < 250 for group in found.values())
    assert all(0.9 <= s["rate"] <= 1.2 for s in found["stretch"])
    assert all(s["in"] + s["out"] <= 0.1 * count for s in found["fade"])
    for s in found["reverb"]:
        assert (s["room"] <= 0.2, s["wet"] <= 0.5, s["dry"]) == (True, True, 0.4)
    lengths = {drawn(one, count, f"u{i}")["output"] for i in range(50)}
    assert len(lengths) > 1


def test_numbers_of_masks_are_whole_and_each_as_often():
    made = make("specmask:times=0/3,bands=1")
    steps = [drawn(made, 9000, f"u{i}")["steps"][0] for i in range(200)]
    assert {len(step["bands"]) for step in steps} == {1}
    assert 70 < sum(len(step["times"]) == 3 for step in steps) < 130
    assert {len(step["times"]) for step in steps} == {0, 3}


def test_a_chain_is_its_steps_one_after_another():
    before = white(1.0)
    draw = drawn(make("stretch:rate=1.1+speed:factor=0.9+gain"), len(before))
    assert [step["kind"] for step in draw["steps"]] == ["stretch", "speed", "gain"]
    assert draw["steps"][0]["num_samples"] == round(16000 / 1.1)
    assert draw["output"] == draw["steps"][1]["num_samples"]
    one = make("stretch:rate=1.1+speed:factor=0.9+gain")
    assert len(one.apply(before, json.dumps(draw), RATE)) == draw["output"]


def test_a_recording_that_changed_is_not_augmented():
    one = make("gain")
    draw = json.dumps(drawn(one, 1000))
    with pytest.raises(AudioError, match="999 samples were decoded where the draw expects 1000"):
        one.apply(white(1.0)[:999], draw, RATE)
