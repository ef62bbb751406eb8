"""Walking a corpus folder: sorted listings, files by name pattern, nothing left out in silence."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ser_features.errors import ManifestError

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".aif", ".aifc", ".aiff", ".au", ".avr", ".caf", ".flac", ".htk", ".ircam", ".mp3",
    ".nist", ".oga", ".ogg", ".opus", ".paf", ".pvf", ".rf64", ".sd2", ".sds", ".sf",
    ".snd", ".sph", ".svx", ".voc", ".w64", ".wav", ".wave", ".wve", ".xi",
})
# fmt: on
"""File name endings of the formats that libsndfile reads and that carry their own header."""


def list_folder(folder: Path) -> list[Path]:
    """Everything in a folder but hidden names, sorted by name.

    Raises ManifestError where there is no such folder or it cannot be read.
    """
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except FileNotFoundError:
        raise ManifestError(f"there is no folder {folder}") from None
    except NotADirectoryError:
        raise ManifestError(
            f"{folder} is a file; expected the corpus folder (a manifest goes by --manifest)"
        ) from None
    except OSError as error:
        raise ManifestError(f"cannot read the folder {folder}: {error.strerror}") from error


def is_audio_name(path: Path) -> bool:
    """Whether the file name ends like a format that libsndfile reads; the file is not touched."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def named_audio(
    folders: Iterable[Path], pattern: str, shape: str
) -> tuple[list[tuple[Path, re.Match[str]]], tuple[str, ...]]:
    """The audio files in some folders whose stem matches ``pattern``, and notes on the others.

    ``shape`` describes the pattern for people.
    """
    files = [p for folder in folders for p in list_folder(folder) if is_audio_name(p)]
    pairs = [(path, re.fullmatch(pattern, path.stem)) for path in files]
    other = [path.name for path, match in pairs if match is None]
    notes = (f"{len(other)} audio file(s) not named {shape} are left out: {some(other)}",)
    return [(path, match) for path, match in pairs if match], notes if other else ()


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, for a message."""
    more = f" … and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


def first_folder(path: Path, *below: str) -> Path:
    """The first of ``path/below`` that is a folder; ``path`` itself where none is."""
    return next((path / name for name in below if (path / name).is_dir()), path)
