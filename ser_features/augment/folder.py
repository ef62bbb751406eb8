"""Folders of noises, music and room responses: known by the content of their files, not names."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from ser_features.audio import AudioHeader, load, num_samples_at, probe
from ser_features.audio_file import blocks, open_audio
from ser_features.augment.recent import Recent
from ser_features.corpora.tree import AUDIO_SUFFIXES
from ser_features.errors import AudioError, UsageError
from ser_features.fingerprint import file_sha256, fingerprint
from ser_features.records import Utterance

KEPT, HASHED = 2**28, 1 << 17
"""Bytes of decoded recordings, and files whose hash is known, in a process."""
MOST_ENTRIES, MOST_BYTES = 2**20, 2**32
"""Files and folders of a folder, and bytes of a recording: a store may name any folder, even ``/``.
"""


@dataclass(frozen=True, slots=True)
class Recording:
    """One file: the sha256 of its bytes and what its header says."""

    sha256: str
    path: str
    sample_rate: int
    num_samples: int
    channels: int

    def length_at(self, rate: int) -> int:
        """Samples at ``rate`` Hz."""
        return num_samples_at(AudioHeader(self.sample_rate, self.num_samples, self.channels), rate)


def read_recordings(folder: str) -> tuple[Recording, ...]:
    """Every audio file under ``folder``, links followed, in the order of their sha256.

    Files without an audio suffix (texts, tables) are no recordings; of equal files one counts, and
    a folder that links lead to twice is read once. Raises UsageError where the folder is not there,
    holds none or too much, AudioError naming the first file that cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        what = f"{root} is no folder" if root.exists() else f"no folder {root}"
        raise UsageError(f"{what}; give the folder of recordings as folder=FOLDER")
    paths = sorted(_audio_files(root))
    if not paths:
        raise UsageError(f"{root} holds no recordings (files such as .wav, .flac, .ogg, .mp3)")
    with ThreadPoolExecutor() as pool:
        found = {one.sha256: one for one in pool.map(_current, paths)}
    return tuple(found[key] for key in sorted(found))


def folder_sha256(recordings: tuple[Recording, ...]) -> str:
    """The identity of a folder: the set of its contents."""
    return fingerprint(sorted(one.sha256 for one in recordings))


def _audio_files(root: Path) -> Iterator[Path]:
    seen, entries = set[tuple[int, int]](), 0
    for folder, folders, names in os.walk(root, onerror=_unreadable, followlinks=True):
        folders.sort()  # which of two links to one folder is followed must not hang on the disk
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link to it, or in a circle
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        entries += len(folders) + len(names)
        if entries > MOST_ENTRIES:
            found = f"holds more than {MOST_ENTRIES} files and folders"
            raise UsageError(f"{root} {found}; name the folder of the recordings themselves")
        for name in names:
            if Path(name).suffix.lower() in AUDIO_SUFFIXES:
                yield Path(folder) / name


def _unreadable(error: OSError) -> None:
    raise UsageError(f"cannot read the folder {error.filename}: {error.strerror}") from error


def _current(path: Path) -> Recording:
    try:
        stat = path.stat()
    except OSError as error:
        raise AudioError(
            "missing", f"{path}: {error.strerror}; take it out of the folder"
        ) from error
    if stat.st_size > MOST_BYTES:
        found = f"{stat.st_size} bytes, more than {MOST_BYTES} for one recording"
        raise AudioError("too-long", f"{path}: {found}; cut it into parts")
    return _recording(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(HASHED)
def _recording(path: Path, size: int, mtime_ns: int) -> Recording:
    """A large folder is hashed once in a process, though every upstream asks for it."""
    del size, mtime_ns  # what the cache goes by
    header = probe(Utterance(path.name, str(path)))
    return Recording(
        file_sha256(path), str(path), header.sample_rate, header.num_samples, header.channels
    )


@partial(Recent, most=KEPT)
def mono(recording: Recording, rate: int) -> NDArray[np.float32]:
    """The recording [n] at ``rate`` Hz, channels averaged; read-only.

    Raises AudioError, and UsageError where its file is another one by now.
    """
    path = Path(recording.path)
    with _of_the_folder(recording):
        return load(Utterance(path.name, str(path)), rate).samples


@partial(Recent, most=KEPT)
def one_channel(recording: Recording, channel: int, rate: int) -> NDArray[np.float32]:
    """One channel of the recording [n] at ``rate`` Hz; read-only. Raises as ``mono`` does."""
    path = Path(recording.path)
    with _of_the_folder(recording), open_audio(path) as source:
        parts = list(blocks(source.stream, 0, source.num_samples, path))
        samples = np.concatenate(parts)[:, channel]
        if not np.isfinite(samples).all() or not samples.any():
            raise source.error("silent", f"channel {channel} is silent or not finite")
    found: NDArray[np.float32] = soxr.resample(samples, recording.sample_rate, rate, quality="HQ")
    return found


@contextmanager
def _of_the_folder(recording: Recording) -> Iterator[None]:
    """What is wrong with a noise or a room is no reason against the utterance."""
    try:
        yield
    except AudioError as error:
        _check_same(recording)
        raise AudioError("augmentation", f"a recording of the folder: {error}") from error
    _check_same(recording)  # after it was read: what has changed until now is found


def _check_same(recording: Recording) -> None:
    """UsageError where a file was replaced since the folder was read, or is another one here."""
    try:
        found = _current(Path(recording.path)).sha256
        what = f"is another recording now (sha256 {found})"
    except (AudioError, OSError):
        found, what = "", "cannot be read any more"
    if found != recording.sha256:
        raise UsageError(
            f"{recording.path} {what}; the feature set is made with the one of sha256 "
            f"{recording.sha256}: put that back, on every machine, or run again for a set with the "
            "folder as it is"
        )
