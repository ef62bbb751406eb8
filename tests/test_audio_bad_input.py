"""Every recording that cannot be used: one reason, and a text that names the file and says why."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_factory import NOISE, rejected, wav
from ser_features.audio import (
    AudioHeader,
    check_length,
    load,
    num_samples_at,
    probe,
)
from ser_features.errors import AudioError
from ser_features.records import Utterance

NOBODY = 65534


def test_missing_file(tmp_path: Path) -> None:
    reason, text = rejected(tmp_path / "no.wav")
    assert reason == "missing"
    assert text == "no such file; correct the path, or --root for relative paths"


def test_missing_below_a_file_and_impossible_names(tmp_path: Path) -> None:
    assert rejected(wav(tmp_path / "a.wav") / "b.wav")[0] == "missing"
    assert rejected(tmp_path / "a\0b.wav")[0] == "missing"
    assert rejected(tmp_path / ("x" * 300))[0] == "unreadable"


def test_dangling_link(tmp_path: Path) -> None:
    link = tmp_path / "a.wav"
    link.symlink_to(tmp_path / "gone.wav")
    reason, text = rejected(link)
    assert reason == "missing"
    assert text == f"is a link, and its target {tmp_path / 'gone.wav'} is gone; mend the link"


def test_link_to_itself(tmp_path: Path) -> None:
    link = tmp_path / "a.wav"
    link.symlink_to(link)
    reason, text = rejected(link)
    assert reason == "unreadable"
    assert "Too many levels of symbolic links" in text


def test_a_link_to_a_recording_is_fine(tmp_path: Path) -> None:
    link = tmp_path / "link.wav"
    link.symlink_to(wav(tmp_path / "a.wav"))
    assert probe(Utterance(id="x", file=link)).num_samples == 16000


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"), [(Path.mkdir, "a directory"), (os.mkfifo, "a pipe"), (_socket, "a socket")]
)
def test_not_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    make(Path("a.wav"))
    reason, text = rejected(Path("a.wav"))
    assert reason == "not-a-file"
    assert text == f"is {kind}, not a file; give the path of a recording"


def test_device() -> None:
    assert rejected(Path("/dev/zero"))[0] == "not-a-file"


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything: work as nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_permission_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wav(tmp_path / "a.wav")
    path.chmod(0)
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    with unprivileged():
        reason, text = rejected(Path("a.wav"))
    assert reason == "permission"
    assert text == "may not be read (permission denied); change its mode or that of its folders"


def test_permission_of_the_folder(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav")
    tmp_path.chmod(0)
    try:
        with unprivileged():
            assert rejected(path)[0] == "permission"
    finally:
        tmp_path.chmod(0o700)


def test_read_errors_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wav(tmp_path / "a.wav")

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", broken)
    reason, text = rejected(path)
    assert reason == "unreadable"
    assert text == "cannot be read (Input/output error); check the disk and the path"


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert rejected(tmp_path / "a.wav") == ("empty-file", "has 0 bytes; copy or export it again")


@pytest.mark.parametrize(("kind", "sub"), [("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16")])
def test_zero_samples(tmp_path: Path, kind: str, sub: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, NOISE[:0], 16000, format=kind, subtype=sub)
    reason, text = rejected(path)
    assert reason == "no-samples"
    assert text.startswith("a valid file that holds 0 samples; ")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.wav", b"id,path,label\n" * 50),
        ("a.wav", b"\x00" * 4096),
        ("a.mp3", b"not an mp3 at all, but long enough to be looked at"),
        ("a.au", b"u-law by its name only" * 100),
        ("a.raw", b"\x01\x02" * 1000),
        ("a.m4a", b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00" + b"\x00" * 500),
        ("a.wav", b"x"),
    ],
)
def test_not_audio(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    reason, text = rejected(tmp_path / name)
    assert reason == "not-audio"
    assert text.startswith("not audio that libsndfile reads (")
    assert f"it begins with {content[:8]!r}); convert it to WAV or FLAC" in text


@pytest.mark.parametrize("rate", [1, 999, 1_000_001])
def test_sample_rate_of_no_recording(tmp_path: Path, rate: int) -> None:
    reason, text = rejected(wav(tmp_path / "a.wav", rate=rate))
    assert reason == "sample-rate"
    assert text == f"the header says {rate} Hz; expected 1000 to 1000000; correct the header"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_not_finite(tmp_path: Path, value: float, channels: int) -> None:
    samples = np.stack([NOISE] * channels, axis=1)
    samples[[70, 90], 0] = value
    reason, text = rejected(wav(tmp_path / "a.wav", samples, sub="FLOAT"))
    assert reason == "not-finite"
    assert text.startswith("2 of 16000 samples are NaN or infinite, the first is 70; ")


def test_infinities_that_cancel_and_doubles_too_large(tmp_path: Path) -> None:
    samples = np.stack([NOISE, NOISE], axis=1)
    samples[5] = np.inf, -np.inf
    assert rejected(wav(tmp_path / "a.wav", samples, sub="FLOAT"))[0] == "not-finite"
    large = NOISE.astype(np.float64) * 1e300
    assert rejected(wav(tmp_path / "b.wav", large, sub="DOUBLE"))[0] == "not-finite"


def test_overflow_in_resampling(tmp_path: Path) -> None:
    samples = np.sign(NOISE) * np.float32(3.4e38)
    reason, text = rejected(wav(tmp_path / "a.wav", samples, rate=44100, sub="FLOAT"))
    assert reason == "not-finite"
    assert text.startswith("samples up to 3.4e+38 overflow in resampling; ")


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_digital_silence(tmp_path: Path, value: float) -> None:
    path = wav(tmp_path / "a.wav", np.full(800, value, np.float32))
    reason, text = rejected(path)
    assert reason == "silent"
    assert text.startswith("digital silence, all 800 samples are 0")


def test_silence_is_judged_in_the_segment(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", np.concatenate([NOISE, np.zeros(16000, np.float32)]))
    assert rejected(path, 1.0, 2.0)[0] == "silent"
    assert len(load(Utterance(id="x", file=path), 16000).samples) == 32000


def test_channels_that_cancel_are_silent(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", np.stack([NOISE, -NOISE], axis=1), sub="FLOAT")
    assert rejected(path)[0] == "silent"


def test_too_short_to_leave_a_sample(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", np.array([0.5, -0.5], np.float32), rate=96000)
    reason, text = rejected(path)
    assert (reason, num_samples_at(AudioHeader(96000, 2, 1), 16000)) == ("too-short", 0)
    assert text.startswith("2 samples at 96000 Hz leave none at 16000 Hz; ")


@pytest.mark.parametrize(
    ("start", "end"),
    [(-0.1, 0.5), (0.5, 0.5), (0.7, 0.2), (float("nan"), 0.5), (0.0, float("nan")),
     (1.0, None), (5.0, 6.0), (0.2, 1.06), (1e300, None), (0.0, 1e300), (0.5, 0.50001)],
)  # fmt: skip
def test_bad_segments(tmp_path: Path, start: float, end: float | None) -> None:
    reason, text = rejected(wav(tmp_path / "a.wav"), start, end)
    assert reason == "bad-segment"
    assert text.startswith(f"start {start} and end {end}, but it has 1 s; ")


def test_check_length_takes_what_fits() -> None:
    check_length(400, 400, 0.025, sample_rate=16000, path=Path("a.wav"))
    check_length(10**9, 400, None, sample_rate=16000, path=Path("a.wav"))


def test_check_length_too_short_and_too_long() -> None:
    with pytest.raises(AudioError) as caught:
        check_length(399, 400, 30.0, sample_rate=16000, path=Path("a.wav"))
    assert caught.value.reason == "too-short"
    assert str(caught.value) == (
        "a.wav: 399 samples at 16000 Hz are shorter than one receptive field of the encoder "
        "(400 samples, 0.025 s); leave it out"
    )
    with pytest.raises(AudioError) as caught:
        check_length(480_001, 400, 30.0, sample_rate=16000, path=Path("a.wav"))
    assert caught.value.reason == "too-long"
    assert "longer than the limit of 30 s" in str(caught.value)


def test_a_name_that_is_not_utf8_can_be_printed(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfcber.wav"))
    with pytest.raises(AudioError) as caught:
        load(Utterance(id="x", file=path), 16000)
    assert "\\udcfcber.wav: no such file" in str(caught.value).encode().decode()
    wav(tmp_path / "a.wav").rename(path)
    assert len(load(Utterance(id="x", file=path), 16000).samples) == 16000
