"""Recordings opened: every way in which a path may not be one is an ``AudioError`` of its own."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from ser_features.audio_container import completeness
from ser_features.errors import AudioError

MIN_RATE, MAX_RATE = 1_000, 1_000_000
"""Sample rates in Hz that are taken for a recording's; others are a damaged header."""

_BLOCK = 1 << 20
"""Values (samples x channels) decoded at a time."""
_OPEN_LENGTH = 1 << 62
"""From here on libsndfile's number of samples means that the header does not say."""
_EXACT_SEEK = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""Encodings whose samples stand alone; the others give other values after a seek than before."""
_FORMATS = {
    **dict.fromkeys((".wav", ".wave", ".bwf"), ("WAV", "WAVEX", "RF64")),
    **dict.fromkeys((".ogg", ".oga", ".opus"), ("OGG",)),
    **dict.fromkeys((".aif", ".aiff", ".aifc"), ("AIFF",)),
    **dict.fromkeys((".au", ".snd"), ("AU",)),
    **{".flac": ("FLAC",), ".mp3": ("MP3",), ".caf": ("CAF",), ".w64": ("W64",)},
}
_CONVERT = "export it again as WAV or FLAC, or leave it out"


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A SoundFile that only reads ahead.

    ``SoundFile.read`` seeks after every read, which changes the samples of some lossy formats.
    """

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Source:
    """An open recording; ``notes`` holds ``(kind, detail)``."""

    path: Path
    stream: Any
    num_samples: int
    sample_rate: int
    channels: int
    notes: tuple[tuple[str, str], ...]

    def error(self, reason: str, found: str, advice: str = _CONVERT) -> AudioError:
        """An error that names the file, what was found, and what to do."""
        return AudioError(reason, f"{show_path(self.path)}: {found}; {advice}")


@contextmanager
def open_audio(path: Path) -> Iterator[Source]:
    """Open a complete recording of at least one sample; by content, whatever its name says.

    Raises AudioError (reasons ``missing`` to ``sample-rate`` of ``audio.REASONS``).
    """
    with _open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        whole = completeness(file, size)
        if whole.missing:
            raise AudioError(
                "truncated", f"{show_path(path)}: damaged or cut off, {whole.missing}; {_CONVERT}"
            )
        with _open_stream(file, path) as stream:
            notes = [("length-unknown", whole.doubt)] if whole.doubt else []
            notes += _extension(path, stream.format)
            count = _num_samples(stream, path)
            source = Source(path, stream, count, stream.samplerate, stream.channels, tuple(notes))
            _check_header(source)
            yield source


def _open_file(path: Path) -> BinaryIO:
    """Open a regular, non-empty file; by descriptor, so that libsndfile judges by content."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # before the open: a pipe would block it
            text = f"is {_kind(status.st_mode)}, not a file; give the path of a recording"
            raise AudioError("not-a-file", f"{show_path(path)}: {text}")
        if status.st_size == 0:
            raise AudioError(
                "empty-file", f"{show_path(path)}: has 0 bytes; copy or export it again"
            )
        return cast("BinaryIO", path.open("rb", buffering=0))
    except (OSError, ValueError) as error:
        raise _file_error(path, error) from error


def _file_error(path: Path, error: OSError | ValueError) -> AudioError:
    if isinstance(error, PermissionError):
        reason = "permission"
        text = "may not be read (permission denied); change its mode or that of its folders"
    elif isinstance(error, FileNotFoundError | NotADirectoryError) and path.is_symlink():
        reason = "missing"
        text = f"is a link, and its target {show_path(path.readlink())} is gone; mend the link"
    elif isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
        reason = "missing"
        text = "no such file; correct the path, or --root for relative paths"
    else:
        reason = "unreadable"
        text = f"cannot be read ({error.strerror or error}); check the disk and the path"
    return AudioError(reason, f"{show_path(path)}: {text}")


def _kind(mode: int) -> str:
    names = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return names.get(stat.S_IFMT(mode), "something else")


def _open_stream(file: BinaryIO, path: Path) -> _Stream:
    try:
        return _Stream(file.fileno(), closefd=False)
    except soundfile.LibsndfileError as error:
        file.seek(0)
        head = file.read(8)
        text = f"not audio that libsndfile reads ({_reason(error)}; it begins with {head!r})"
        advice = "convert it to WAV or FLAC"
        raise AudioError("not-audio", f"{show_path(path)}: {text}; {advice}") from error


def _num_samples(stream: Any, path: Path) -> int:
    """Samples per channel; counted where the header leaves it open (a FLAC from a pipe)."""
    if stream.frames < _OPEN_LENGTH:
        return int(stream.frames)
    with _open_file(path) as file, _open_stream(file, path) as counter:
        return sum(len(block) for block in blocks(counter, 0, counter.frames, path))


def _check_header(source: Source) -> None:
    if not MIN_RATE <= source.sample_rate <= MAX_RATE:
        expected = f"expected {MIN_RATE} to {MAX_RATE}; correct the header"
        raise source.error("sample-rate", f"the header says {source.sample_rate} Hz", expected)
    if source.num_samples <= 0:
        raise source.error("no-samples", "a valid file that holds 0 samples")


def _extension(path: Path, found: str) -> list[tuple[str, str]]:
    expected = _FORMATS.get(path.suffix.lower())
    if expected is None or found in expected:
        return []
    return [("wrong-extension", f"the name ends in {path.suffix}, the content is {found}")]


def blocks(stream: Any, first: int, last: int, path: Path) -> Iterator[NDArray[np.float32]]:
    """Samples ``first`` to ``last`` in blocks [frames, channels], fewer where the file has fewer.

    A lying header costs no memory. Raises AudioError ``truncated`` where the decoder stops.
    """
    size = max(1, _BLOCK // stream.channels)
    try:
        position = _seek(stream, first)
        while position < last:
            block = stream.read(min(size, last - position), dtype="float32", always_2d=True)
            if len(block) == 0:
                return
            skip = max(0, first - position)
            position += len(block)
            yield block[skip:]
    except soundfile.LibsndfileError as error:
        text = f"damaged or cut off, the decoder stopped ({_reason(error)})"
        raise AudioError("truncated", f"{show_path(path)}: {text}; {_CONVERT}") from error


def _seek(stream: Any, first: int) -> int:
    """Go to a sample where that is exact; elsewhere stay at the start, to decode up to it."""
    if first and stream.frames < _OPEN_LENGTH and stream.subtype.startswith(_EXACT_SEEK):
        return int(stream.seek(first))
    return 0


def _reason(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).strip().rstrip(".")


def show_path(path: Path) -> str:
    """A path that can be printed and stored, also where its name is not valid UTF-8."""
    return str(path).encode(errors="backslashreplace").decode()
