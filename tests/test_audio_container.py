"""Files that are cut, damaged or lie about their length, in every container that can tell."""

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from audio_factory import encoded, patched, rejected, wav
from ser_features.audio import MAX_SECONDS, AudioHeader, load, probe
from ser_features.audio_container import completeness
from ser_features.records import Utterance

CUT = [
    ("WAV", "PCM_16"), ("WAV", "IMA_ADPCM"), ("WAV", "GSM610"), ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"),
    ("CAF", "ALAC_16"), ("W64", "PCM_16"), ("NIST", "PCM_16"), ("SVX", "PCM_16"),
    ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


@pytest.mark.parametrize("left", [0.9, 0.5, 0.2])
@pytest.mark.parametrize(("kind", "sub"), CUT)
def test_truncated(tmp_path: Path, kind: str, sub: str, left: float) -> None:
    path = tmp_path / "a"
    raw = encoded(path, kind, sub)
    path.write_bytes(raw[: int(len(raw) * left)])
    reason, text = rejected(path)
    assert reason == "truncated"
    assert "cut off" in text
    assert text.endswith("; export it again as WAV or FLAC, or leave it out")


@pytest.mark.parametrize("kind", ["WAV", "RF64", "AIFF", "AU", "CAF", "W64", "NIST", "FLAC"])
def test_one_missing_byte_is_truncated(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(encoded(path, kind, "PCM_16")[:-1])
    assert rejected(path)[0] == "truncated"


def test_truncated_wav_says_how_many_bytes_there_should_be(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes()[:10_000])
    assert rejected(path)[1].startswith(
        "damaged or cut off, its header promises 32044 bytes, the file has 10000;"
    )


@pytest.mark.parametrize("length", [2, 5, 11, 20, 40])
def test_wav_cut_in_its_header(tmp_path: Path, length: int) -> None:
    path = wav(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes()[:length])
    assert rejected(path)[0] == ("truncated" if length > 4 else "not-audio")


@pytest.mark.parametrize("place", [0.5, 0.7, 0.99])
@pytest.mark.parametrize(("kind", "sub"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_damage_inside_is_found(tmp_path: Path, kind: str, sub: str, place: float) -> None:
    path = tmp_path / "a"
    raw = bytearray(encoded(path, kind, sub))
    raw[int(len(raw) * place)] ^= 0xFF
    path.write_bytes(raw)
    reason, text = rejected(path)
    assert reason == "truncated"
    assert text.startswith("damaged or cut off")


def test_bytes_behind_an_ogg_stream_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    path.write_bytes(encoded(path, "OGG", "VORBIS") + b"TAG" + b" " * 125)
    assert len(load(Utterance(id="x", file=path), 16000).samples) == 16000


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_wav_from_a_pipe_is_kept_and_noted(tmp_path: Path, size: int) -> None:
    path = patched(wav(tmp_path / "a.wav"), 40, struct.pack("<I", size))
    waveform = load(Utterance(id="x", file=path), 16000)
    assert len(waveform.samples) == 16000
    assert [note.kind for note in waveform.notes] == ["length-unknown"]


def flac_claiming(path: Path, count: int) -> Path:
    """The 36-bit sample count of STREAMINFO ends at byte 26 (RFC 9639, section 8.2)."""
    raw = encoded(path, "FLAC", "PCM_16")
    packed = int.from_bytes(raw[18:26], "big") >> 36 << 36 | count
    return patched(path, 18, packed.to_bytes(8, "big"))


def test_flac_without_a_length_is_counted(tmp_path: Path) -> None:
    path = flac_claiming(tmp_path / "a.flac", 0)
    for start, end, count in [(None, None, 16000), (0.25, 0.5, 4000), (0.5, None, 8000)]:
        utterance = Utterance(id="x", file=path, start=start, end=end)
        assert probe(utterance) == AudioHeader(16000, count, 1)
        first = round((start or 0) * 16000)
        whole = load(Utterance(id="x", file=path), 16000).samples
        assert np.array_equal(load(utterance, 16000).samples, whole[first : first + count])


@pytest.mark.parametrize("claim", [16_001, 16000 * MAX_SECONDS, (1 << 36) - 1])
def test_lying_headers_cost_no_memory(tmp_path: Path, claim: int) -> None:
    path = flac_claiming(tmp_path / "a.flac", claim)
    tracemalloc.start()
    reason = rejected(path)[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason == ("too-long" if claim > 16000 * MAX_SECONDS else "truncated")
    assert peak < 30e6


def test_wav_claiming_four_gigabytes(tmp_path: Path) -> None:
    path = patched(wav(tmp_path / "a.wav"), 40, struct.pack("<I", 0xFFFFFFF0))
    assert rejected(path)[0] == "truncated"


def chunk(name: bytes, body: bytes, length: int | None = None, order: str = "<") -> bytes:
    """A RIFF or AIFF chunk, padded to an even length; ``length`` may lie."""
    size = len(body) if length is None else length
    return name + struct.pack(order + "I", size) + body + b"\0" * (len(body) % 2)


FMT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16))


def riff(*chunks: bytes, magic: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(body)) + body


def judged(raw: bytes) -> tuple[str, str]:
    file = io.BytesIO(raw)
    found = completeness(file, len(raw))
    assert file.tell() == 0
    return found.missing, found.doubt


def test_chunks_before_and_behind_the_data_are_no_matter() -> None:
    data = chunk(b"data", bytes(100))
    assert judged(riff(FMT, chunk(b"LIST", b"odd"), data, chunk(b"LIST", b"x"))) == ("", "")
    assert judged(riff(FMT, data) + b"trailing bytes") == ("", "")


def test_a_wav_without_data_is_cut_only_if_its_size_says_so() -> None:
    whole = riff(FMT, chunk(b"LIST", b"abcd"))
    assert judged(whole) == ("", "")
    assert judged(whole[:-6])[0] == "its header promises 48 bytes, the file has 42"


def test_rf64_takes_its_length_from_ds64() -> None:
    for length, missing in [(100, False), (101, True)]:
        ds64 = chunk(b"ds64", struct.pack("<QQQI", 200, length, 50, 0))
        raw = riff(ds64, FMT, chunk(b"data", bytes(100), 0xFFFFFFFF), magic=b"RF64")
        assert (judged(raw)[0] != "") == missing
        assert judged(raw)[1] == ""


OPEN = [
    b"FORM" + bytes(4) + b"AIFF" + chunk(b"SSND", bytes(10), 0xFFFFFFFF, ">"),
    b".snd" + struct.pack(">II", 24, 0xFFFFFFFF) + bytes(50),
    b"dns." + struct.pack("<II", 24, 0xFFFFFFFF) + bytes(50),
    b"caff" + bytes(4) + b"data" + struct.pack(">q", -1) + bytes(50),
]


@pytest.mark.parametrize("raw", OPEN)
def test_an_open_length_is_a_doubt(raw: bytes) -> None:
    missing, doubt = judged(raw)
    assert missing == ""
    assert doubt.startswith("the header leaves the length open")


def test_chunks_that_lead_nowhere_end() -> None:
    assert judged(riff(*[chunk(b"LIST", b"")] * 5000)) == ("", "")
    loop = b"caff" + bytes(4) + (b"free" + struct.pack(">q", -12)) * 5000
    assert judged(loop)[0] == "it ends before its 'data' chunk"


def test_mp3_without_a_length_header_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    raw = encoded(path, "MP3", "MPEG_LAYER_III")
    assert b"Info" in raw or b"Xing" in raw
    tag = b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(128)
    for lead in (b"", tag):
        path.write_bytes(lead + raw)
        assert load(Utterance(id="x", file=path), 16000).notes == ()
        path.write_bytes(lead + raw.replace(b"Info", b"Data").replace(b"Xing", b"Data"))
        waveform = load(Utterance(id="x", file=path), 16000)
        assert [note.kind for note in waveform.notes] == ["length-unknown"]
