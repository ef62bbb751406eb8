from pathlib import Path

import pytest
import soundfile

from ser_features.corpora.files import read_manifest
from ser_features.corpora.folder import read_folder
from ser_features.corpora.tree import AUDIO_SUFFIXES
from ser_features.errors import ManifestError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_labels_are_folders_and_nothing_is_left_out_in_silence(tmp_path: Path) -> None:
    touch(tmp_path, "angry/1.wav", "angry/ü 2.FLAC", "sad/1.ogg", "sad/.hidden.wav", ".git/x.wav")
    touch(tmp_path, "README.md", "angry/notes.txt", "angry/deep/3.wav", "bare/x.txt")
    (tmp_path / "sad" / "gone.mp3").symlink_to("nowhere")
    (tmp_path / "sad" / "folder.wav").mkdir()
    manifest = read_folder(tmp_path, corpus="toy")
    assert [(u.id, u.label) for u in manifest.utterances] == [
        ("angry/1.wav", "angry"),
        ("angry/ü 2.FLAC", "angry"),
        ("sad/1.ogg", "sad"),
        ("sad/folder.wav", "sad"),
        ("sad/gone.mp3", "sad"),
    ]
    assert manifest.utterances[0].path == tmp_path / "angry" / "1.wav"
    assert manifest.notes == (
        "4 name(s) are left out, not audio: 'README.md', 'angry/deep', 'angry/notes.txt', "
        "'bare/x.txt'",
        "folder(s) without audio: 'bare'",
    )


def test_read_manifest_takes_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "mine/joy/1.wav")
    assert read_manifest(tmp_path / "mine").corpus == "mine"


def test_folders_without_audio(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="there is no folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(ManifestError, match=r"holds no audio laid out as label/file\.wav$"):
        read_folder(tmp_path)
    touch(tmp_path, "1.wav")
    with pytest.raises(ManifestError, match="1 audio file\\(s\\) lie in it without a label folder"):
        read_folder(tmp_path)
    touch(tmp_path, "list.csv")
    with pytest.raises(ManifestError, match=r"is 'list\.csv' the manifest\?"):
        read_folder(tmp_path)
    with pytest.raises(ManifestError, match="is a file; expected the corpus folder"):
        read_folder(tmp_path / "1.wav")


def test_every_format_of_libsndfile_is_known_by_an_ending() -> None:
    # By another ending, without a header of their own (RAW), or not audio files (MATLAB).
    others = {"WAVEX": ".wav", "RAW": "", "MAT4": "", "MAT5": "", "MPC2K": ""}
    for name in soundfile.available_formats():
        ending = others.get(name, f".{name.lower()}")
        assert not ending or ending in AUDIO_SUFFIXES, name
