"""Decoding, averaging, resampling, segments, hashes and notes of recordings that can be used."""

import hashlib
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ser_features import audio, audio_file
from ser_features.audio import AudioHeader, duplicates, load, num_samples_at, probe
from ser_features.records import Utterance

FORMATS = [
    ("WAV", "PCM_16", "wav"),
    ("WAV", "PCM_U8", "wav"),
    ("WAV", "FLOAT", "wav"),
    ("WAV", "ULAW", "wav"),
    ("WAV", "IMA_ADPCM", "wav"),
    ("WAV", "GSM610", "wav"),
    ("WAVEX", "PCM_24", "wav"),
    ("RF64", "PCM_16", "wav"),
    ("AIFF", "PCM_16", "aiff"),
    ("AU", "PCM_16", "au"),
    ("CAF", "PCM_16", "caf"),
    ("CAF", "ALAC_16", "caf"),
    ("W64", "PCM_16", "w64"),
    ("NIST", "PCM_16", "sph"),
    ("FLAC", "PCM_16", "flac"),
    ("OGG", "VORBIS", "ogg"),
    ("OGG", "OPUS", "opus"),
    ("MP3", "MPEG_LAYER_III", "mp3"),
]
LOSSLESS = [row for row in FORMATS if row[1] in ("PCM_16", "PCM_24", "FLOAT", "ALAC_16")]


def tone(seconds: float, rate: int, hertz: float = 440.0) -> NDArray[np.float32]:
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return wave.astype(np.float32)


def integers(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return (samples * 32768).astype(np.int16)


def written(
    path: Path,
    samples: NDArray[np.floating | np.integer],
    rate: int = 16000,
    kind: str = "WAV",
    sub: str = "PCM_16",
) -> Utterance:
    soundfile.write(path, samples, rate, format=kind, subtype=sub)
    return Utterance(id=path.stem, file=path)


def kinds(waveform: audio.Waveform) -> list[str]:
    return [note.kind for note in waveform.notes]


@pytest.mark.parametrize(("kind", "sub", "suffix"), FORMATS)
def test_every_format_loads_whole(tmp_path: Path, kind: str, sub: str, suffix: str) -> None:
    utterance = written(tmp_path / f"a.{suffix}", tone(1.0, 16000), kind=kind, sub=sub)
    waveform = load(utterance, 16000)
    assert waveform.samples.dtype == np.float32
    assert waveform.samples.ndim == 1
    assert len(waveform.samples) == probe(utterance).num_samples >= 16000
    assert kinds(waveform) == []
    assert 0.3 < np.sqrt(np.mean(waveform.samples.astype(float) ** 2)) < 0.4


@pytest.mark.parametrize(("kind", "sub", "suffix"), FORMATS)
def test_segment_equals_that_part_of_the_whole(
    tmp_path: Path, kind: str, sub: str, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    whole = load(written(path, noise, kind=kind, sub=sub), 16000).samples
    for start, end in [(0.3125, 0.5), (1.0001, 1.7), (None, 0.25), (1.5, None)]:
        utterance = Utterance(id="s", file=path, start=start, end=end)
        first = round((start or 0) * 16000)
        last = len(whole) if end is None else round(end * 16000)
        assert np.array_equal(load(utterance, 16000).samples, whole[first:last])
        assert probe(utterance) == AudioHeader(16000, last - first, 1)


def test_end_may_be_rounded_a_little_beyond_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", tone(1.0, 16000)).path
    header = probe(Utterance(id="a", file=path, start=0.5, end=1.0 + audio.END_TOLERANCE))
    assert header.num_samples == 8000


def test_hash_is_samples_then_rate(tmp_path: Path) -> None:
    samples = np.array([0.0, 0.5, -0.25, 0.125], np.float32)
    expected = hashlib.sha256(struct.pack("<4fq", *samples, 8000)).hexdigest()
    utterance = written(tmp_path / "a.wav", samples, 8000)
    assert load(utterance, 8000).sha256 == load(utterance, 16000).sha256 == expected


@pytest.mark.parametrize(("kind", "sub", "suffix"), LOSSLESS)
def test_lossless_copies_hash_alike(tmp_path: Path, kind: str, sub: str, suffix: str) -> None:
    whole = integers(tone(0.5, 16000))
    samples = (whole / 32768).astype(np.float32)
    copy = written(tmp_path / f"a.{suffix}", samples if sub == "FLOAT" else whole, 16000, kind, sub)
    assert load(copy, 16000).sha256 == audio.audio_sha256(samples, 16000)


def test_negative_zero_hashes_like_zero(tmp_path: Path) -> None:
    plus = written(tmp_path / "plus.wav", np.array([0.0, 0.5], np.float32), sub="FLOAT")
    minus = written(tmp_path / "minus.wav", np.array([-0.0, 0.5], np.float32), sub="FLOAT")
    assert load(plus, 16000).sha256 == load(minus, 16000).sha256


def test_repeated_channels_hash_like_the_one_and_rates_differ(tmp_path: Path) -> None:
    samples = integers(tone(0.5, 16000))
    one = load(written(tmp_path / "one.wav", samples), 16000)
    three = load(written(tmp_path / "three.wav", np.stack([samples] * 3, axis=1)), 16000)
    slow = load(written(tmp_path / "slow.wav", samples, 8000), 16000)
    assert one.sha256 == three.sha256 != slow.sha256


def test_eight_channels_at_96_khz_are_averaged(tmp_path: Path) -> None:
    channels = np.random.default_rng(0).uniform(-0.9, 0.9, (9600, 8)).astype(np.float32)
    utterance = written(tmp_path / "a.wav", channels, 96000, sub="FLOAT")
    assert probe(utterance) == AudioHeader(96000, 9600, 8)
    np.testing.assert_allclose(load(utterance, 96000).samples, channels.mean(axis=1), atol=1e-7)
    assert len(load(utterance, 16000).samples) == 1600


def test_names_with_spaces_and_unicode(tmp_path: Path) -> None:
    path = tmp_path / "kein Ärger" / "غصہ 怒り 😠.flac"
    path.parent.mkdir()
    assert kinds(load(written(path, tone(0.1, 16000), kind="FLAC"), 16000)) == []


def test_resampling_keeps_a_tone_and_removes_what_would_alias(tmp_path: Path) -> None:
    inside = slice(2000, -2000)
    low = load(written(tmp_path / "low.wav", tone(1.0, 44100, 1000.0), 44100), 16000).samples
    ideal = 0.5 * np.sin(2 * np.pi * 1000.0 * np.arange(16000) / 16000)
    assert np.abs(low - ideal)[inside].max() < 5e-5  # the 16-bit grid is 3e-5
    high = load(written(tmp_path / "high.wav", tone(1.0, 44100, 9000.0), 44100), 16000).samples
    assert np.abs(high)[inside].max() < 5e-5


RATES = st.one_of(
    st.integers(8000, 96000),
    st.sampled_from([8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000]),
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(count=st.integers(1, 4000), source=RATES, target=RATES)
def test_length_after_resampling_is_known(count: int, source: int, target: int) -> None:
    expected = num_samples_at(AudioHeader(source, count, 1), target)
    opened = audio_file.Source(Path("x"), None, count, source, 1, ())
    if expected:
        assert len(audio._resample(np.zeros(count, np.float32), opened, target)) == expected
    else:
        with pytest.raises(audio.AudioError, match="leave none"):
            audio._resample(np.zeros(count, np.float32), opened, target)


@pytest.mark.parametrize(
    ("count", "source", "target"),
    [(240, 12000, 11025), (120, 12000, 22050), (1, 32000, 16000), (2_000_003, 44100, 16000)],
)
def test_length_after_resampling_where_rounding_is_close(
    tmp_path: Path, count: int, source: int, target: int
) -> None:
    samples = np.full(count, 0.25, np.float32)
    samples[0] = 0.5
    header = AudioHeader(source, count, 1)
    opened = audio_file.Source(tmp_path, None, count, source, 1, ())
    assert len(audio._resample(samples, opened, target)) == num_samples_at(header, target)


def test_clipping_is_noted_and_kept(tmp_path: Path) -> None:
    samples = tone(1.0, 16000)
    samples[100:105], samples[200:203], samples[300:302], samples[400] = 1.0, -1.0, 1.0, 1.0
    note = load(written(tmp_path / "a.wav", samples), 16000).notes[0]
    assert (note.id, note.path, note.kind) == ("a", str(tmp_path / "a.wav"), "clipped")
    assert note.detail == "8 of 16000 samples (0.05 %) at full scale, 3 or more in a row"


@pytest.mark.parametrize("sub", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW"])
def test_full_scale_of_every_encoding(tmp_path: Path, sub: str) -> None:
    samples = tone(0.5, 16000)
    samples[100:110] = 1.0
    assert kinds(load(written(tmp_path / "a.wav", samples, sub=sub), 16000)) == ["clipped"]


def test_single_full_scale_samples_are_no_clipping(tmp_path: Path) -> None:
    samples = tone(0.5, 16000)
    samples[100:8000:50] = 1.0
    assert kinds(load(written(tmp_path / "a.wav", samples), 16000)) == []


def test_one_clipped_channel_is_noted(tmp_path: Path) -> None:
    stereo = np.stack([tone(0.5, 16000), tone(0.5, 16000)], axis=1)
    stereo[50:60, 1] = 1.0
    assert kinds(load(written(tmp_path / "a.wav", stereo), 16000)) == ["clipped"]


@pytest.mark.parametrize(("kind", "sub", "suffix"), FORMATS)
def test_block_size_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, sub: str, suffix: str
) -> None:
    samples = tone(0.5, 16000)
    samples[98:103] = 1.0  # a clipped run over the border of a block
    utterance = written(tmp_path / f"a.{suffix}", samples, kind=kind, sub=sub)
    whole = load(utterance, 16000)
    monkeypatch.setattr(audio_file, "_BLOCK", 100)
    pieces = load(utterance, 16000)
    assert (pieces.sha256, pieces.notes) == (whole.sha256, whole.notes)


@pytest.mark.parametrize(
    ("name", "kind", "sub"),
    [("a.wav", "FLAC", "PCM_16"), ("a.wav", "MP3", "MPEG_LAYER_III"), ("a.mp3", "WAV", "PCM_16")],
)
def test_wrong_extension_is_noted_and_kept(tmp_path: Path, name: str, kind: str, sub: str) -> None:
    waveform = load(written(tmp_path / name, tone(0.5, 16000), kind=kind, sub=sub), 16000)
    assert kinds(waveform) == ["wrong-extension"]
    assert waveform.notes[0].detail == f"the name ends in {name[1:]}, the content is {kind}"


def test_unusual_names_are_judged_by_content(tmp_path: Path) -> None:
    for name in ("noext", "a.raw", "a.dat", "a.gsm", "a.vox", "A.WAV"):
        assert kinds(load(written(tmp_path / name, tone(0.1, 16000)), 16000)) == []


def test_thirty_minutes_in_bounded_memory(tmp_path: Path) -> None:
    second = np.random.default_rng(0).integers(-8000, 8000, 8000, np.int16)
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(second, 1800), 8000)
    utterance = Utterance(id="long", file=path)
    tracemalloc.start()
    waveform = load(utterance, 16000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(waveform.samples) == 1800 * 16000
    assert peak < 3 * waveform.samples.nbytes


def test_many_threads_get_what_one_gets(tmp_path: Path) -> None:
    utterances = []
    for index, (kind, sub, suffix) in enumerate(FORMATS * 3):
        path = tmp_path / f"{index}.{suffix}"
        samples = tone(0.4, 44100 if kind == "WAV" else 48000, 200.0 + 10 * index)
        utterances.append(written(path, samples, 48000, kind, sub))
    utterances.append(Utterance(id="none", file=tmp_path / "none.wav"))

    def outcome(utterance: Utterance) -> tuple[str, bytes]:
        try:
            waveform = load(utterance, 16000)
        except audio.AudioError as error:
            return error.reason, b""
        return waveform.sha256, waveform.samples.tobytes()

    serial = [outcome(utterance) for utterance in utterances]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, utterances * 4)) == serial * 4


def test_duplicates_are_grouped_in_order() -> None:
    pairs = [("a", "x"), ("b", "y"), ("c", "x"), ("d", "z"), ("e", "y"), ("f", "x")]
    assert duplicates(pairs) == (("a", "c", "f"), ("b", "e"))
    assert duplicates([]) == ()


@pytest.mark.parametrize(
    ("pattern", "count", "rate"),
    [("emodb/wav/*.wav", 535, 16000), ("urdu/*/*.wav", 400, 44100), ("noise/**/*.ogg", 60, 44100)],
)
def test_real_recordings(shared: Path, pattern: str, count: int, rate: int) -> None:
    paths = sorted((shared / "data").glob(pattern))
    assert len(paths) == count
    for path in paths[:: max(1, count // 12)]:
        utterance = Utterance(id=path.name, file=path)
        header, waveform = probe(utterance), load(utterance, 16000)
        assert header.sample_rate == rate
        assert len(waveform.samples) == num_samples_at(header, 16000)
        assert waveform.sha256 == load(utterance, 8000).sha256


def test_hash_of_a_real_recording_is_that_of_its_samples(
    shared: Path,
) -> None:
    path = sorted((shared / "data/emodb/wav").glob("*.wav"))[0]
    samples, rate = soundfile.read(path, dtype="float32")
    expected = hashlib.sha256(samples.tobytes() + struct.pack("<q", rate)).hexdigest()
    assert load(Utterance(id="a", file=path), 16000).sha256 == expected
