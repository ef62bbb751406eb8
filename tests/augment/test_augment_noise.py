"""Noise at a signal-to-noise ratio: measured again by other means than it was made."""

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from ser_features.augment.augmented import augmented_sets, read_stored
from ser_features.augment.level import active_power, mix
from ser_features.augment.noise import stretch_of
from ser_features.augment.partners import Partners
from ser_features.errors import AudioError, UsageError
from ser_features.records import Utterance

RATE = 16000


def decibels(ratio: float) -> float:
    return 10 * np.log10(ratio)


def speech(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Bursts of noise and pauses, like syllables."""
    rng = np.random.RandomState(seed)
    count = int(seconds * RATE)
    gate = np.repeat(rng.random_sample(count // 3200 + 1) > 0.3, 3200)[:count]
    gate[:3200] = True
    return (0.1 * rng.standard_normal(count) * gate).astype(np.float32)


@given(
    st.floats(-20, 40), st.integers(0, 99), st.floats(0.2, 2.0), st.floats(1e-3, 1.0),
    st.sampled_from([8000, 16000, 44100]),
)  # fmt: skip
def test_the_realised_snr_is_within_a_tenth_of_a_decibel(snr, seed, seconds, gain, rate):
    clean = speech(seconds, seed) * np.float32(gain)
    noise = np.random.RandomState(seed + 1).standard_normal(len(clean))
    mixed = mix(clean, noise, snr, rate)
    added = mixed.astype(np.float64) - clean
    found = decibels(active_power(clean, rate) / np.mean(added**2))
    assert abs(found - snr) < 0.1


@given(st.integers(0, 99), st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.floats(0.01, 10))
def test_silence_around_speech_does_not_change_its_level(seed, before, after, gain):
    clean = speech(1.0, seed)
    pads = [np.zeros(round(x * 50) * 320, np.float32) for x in (before, after)]
    padded = np.concatenate([pads[0], clean, pads[1]])
    assert active_power(padded, RATE) == pytest.approx(active_power(clean, RATE), rel=1e-9)
    scaled = active_power(padded * np.float32(gain), RATE)
    assert scaled == pytest.approx(gain**2 * active_power(clean, RATE), rel=1e-4)


def test_the_active_level_of_a_gated_tone_is_the_tones():
    tone = np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)
    gated = np.concatenate([tone, np.zeros(3 * RATE)])
    assert decibels(active_power(gated, RATE) / 0.5) == pytest.approx(0, abs=0.01)
    assert decibels(np.mean(gated**2) / 0.5) == pytest.approx(-6.02, abs=0.01)


@given(st.integers(1, 400), st.integers(0, 399), st.integers(1, 900))
def test_a_stretch_goes_round_and_is_as_long_as_asked(size, start, count):
    noise = np.linspace(1, 2, size, dtype=np.float32)  # nothing in it is a pause
    found = stretch_of(noise, start % size, count)
    assert len(found) == count
    np.testing.assert_array_equal(found, np.resize(np.roll(noise, -(start % size)), count))


def test_a_pause_in_the_noise_is_passed_over():
    noise = np.zeros(1000, np.float32)
    noise[700:800] = 1
    found = stretch_of(noise, 100, 200)  # 300, 500 are silent too, then 700
    np.testing.assert_array_equal(found[:100], 1)
    with pytest.raises(AudioError, match="the noise is silent"):
        stretch_of(np.zeros(10, np.float32), 0, 5)


@pytest.fixture
def noises(tmp_path):
    for i, rate in enumerate((16000, 22050, 8000)):
        samples = np.random.RandomState(i).standard_normal((rate // (i + 1), i + 1)) * 0.1
        soundfile.write(tmp_path / f"n{i}.wav", samples.clip(-1, 1), rate)
    (tmp_path / "LICENSE").write_text("not audio")
    return tmp_path


def make(text, **how):
    (one,) = augmented_sets([text], **how)
    return one


def test_noise_from_a_folder_is_mixed_as_drawn(noises):
    one = make(f"noise:snr=10,folder={noises}")
    utterance, clean = Utterance("u", noises / "u.wav"), speech(3.0)
    draw, length = one.draw(utterance, len(clean), RATE, Partners([]))
    mixed = one.apply(clean, draw, RATE)
    assert length == len(mixed) == len(clean)
    added = mixed.astype(np.float64) - clean
    assert decibels(active_power(clean, RATE) / np.mean(added**2)) == pytest.approx(10, abs=0.1)
    np.testing.assert_array_equal(one.apply(clean, draw, RATE), mixed)


def test_the_key_is_of_contents_not_of_names(noises, tmp_path):
    text = f"noise:snr=10,folder={noises}"
    one = make(text)
    (noises / "n0.wav").rename(noises / "renamed.wav")
    (noises / "copy.wav").write_bytes((noises / "n1.wav").read_bytes())
    assert make(text).identity == one.identity
    assert make(text, seed=1).identity != one.identity
    (noises / "n2.wav").write_bytes((noises / "n1.wav").read_bytes())
    assert make(text).identity != one.identity


def test_a_folder_that_cannot_serve_says_so(tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        make(f"noise:folder={tmp_path}/none")
    with pytest.raises(UsageError, match="holds no recordings"):
        make(f"noise:folder={tmp_path}")
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    with pytest.raises(UsageError, match=r"bad\.wav is no folder; give the folder"):
        make(f"noise:folder={tmp_path}/bad.wav")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        make(f"noise:folder={tmp_path}")


@pytest.mark.parametrize("kind", ["noise", "rir"])
def test_a_recording_that_cannot_be_used_is_named_and_is_not_the_utterances_fault(tmp_path, kind):
    soundfile.write(tmp_path / "still.wav", np.zeros(900), 8000)
    one = make(f"{kind}:folder={tmp_path}")
    draw, _ = one.draw(Utterance("u", tmp_path / "u.wav"), 4000, RATE, Partners([]))
    found = "(digital silence|channel 0 is silent)"
    with pytest.raises(AudioError, match=rf"of the folder: .*still\.wav: {found}") as caught:
        one.apply(speech(0.25), draw, RATE)
    assert caught.value.reason == "augmentation"
    (tmp_path / "still.wav").unlink()
    with pytest.raises(UsageError, match=r"still\.wav cannot be read any more; .*put that back"):
        one.apply(speech(0.25), draw, RATE)
    soundfile.write(tmp_path / "still.wav", np.zeros(901), 8000)
    with pytest.raises(UsageError, match=r"still\.wav is another recording now \(sha256"):
        one.apply(speech(0.25), draw, RATE)


def test_a_recording_that_changed_is_hashed_again(noises):
    text = f"noise:folder={noises}"
    before = make(text).identity
    soundfile.write(noises / "n1.wav", np.ones(777) * 0.1, 22050)
    assert make(text).identity != before


def test_names_of_copies_and_seeds(noises):
    text = f"noise:snr=10,folder={noises}"
    assert [one.name for one in augmented_sets([text, "clean"], 3, 7) if one] == [
        "noise-10db-seed7", "noise-10db-seed7+1", "noise-10db-seed7+2",
    ]  # fmt: skip
    assert augmented_sets(["clean"], 3) == (None,)
    (noises / "x").mkdir()
    soundfile.write(noises / "x" / "n.wav", np.ones(100) * 0.1, 8000)
    with pytest.raises(UsageError, match="two augmentations would be called 'noise-10db'"):
        augmented_sets([text, f"noise:snr=10,folder={noises}/x"])


def test_what_could_not_be_read_back_is_not_made(noises):
    one = make("+".join(["gain"] * 16), seed=2**53)
    assert read_stored(one.provenance) == (one.augmentation, 2**53, 0)
    with pytest.raises(UsageError, match="at most 16 steps"):
        make("+".join(["gain"] * 17))
    with pytest.raises(UsageError, match="8192 characters"):
        make("gain:level=" + "/".join(["1"] * 5000))
    for how in ({"seed": 2**53 + 1}, {"seed": -1}, {"copies": 0}):
        with pytest.raises(UsageError, match="expected 1 or more, and 0 to"):
            make("gain", **how)


def test_draws_depend_on_the_id_the_copy_and_the_seed_only(noises):
    text = f"noise:folder={noises}"

    def drawn(name, **how):
        sets = augmented_sets([text], 2, how.pop("seed", 0))
        utterance = Utterance(name, noises / "u.wav", **how)
        return [one.draw(utterance, 5000, RATE, Partners([]))[0] for one in sets]

    assert drawn("a") == drawn("a", label="angry")
    assert len({*drawn("a"), *drawn("b"), *drawn("a", seed=1)}) == 6
