"""A corpus as a folder of folders: ``label/file.wav``."""

from collections.abc import Sequence
from pathlib import Path

from ser_features.corpora.tree import is_audio_name, list_folder, some
from ser_features.errors import ManifestError
from ser_features.manifest import Manifest
from ser_features.records import Utterance


def read_folder(path: Path, *, corpus: str | None = None) -> Manifest:
    """A valid manifest of ``label/file.wav``; the id is ``label/file.wav`` too.

    Any file name ending that libsndfile knows; hidden names are ignored; anything else is named
    in a note. There are no speakers. Raises ManifestError where there is no audio.
    """
    top = list_folder(path)
    folders = [p for p in top if p.is_dir()]
    inside = {p.name: list_folder(p) for p in folders}
    utterances = tuple(
        Utterance(f"{label}/{file.name}", str(file), label)
        for label, files in inside.items()
        for file in files
        if is_audio_name(file)
    )
    if not utterances:
        raise ManifestError(f"{path} holds no audio laid out as label/file.wav{_hint(top)}")
    left_out = [p.name for p in top if not p.is_dir()]
    left_out += [f"{k}/{p.name}" for k in inside for p in inside[k] if not is_audio_name(p)]
    bare = [label for label, files in inside.items() if not any(map(is_audio_name, files))]
    notes = [f"{len(left_out)} name(s) are left out, not audio: {some(left_out)}"] * bool(left_out)
    notes += [f"folder(s) without audio: {some(bare)}"] * bool(bare)
    name = corpus or path.resolve().name
    return Manifest(name, utterances, notes=tuple(notes)).validate()


def _hint(top: Sequence[Path]) -> str:
    audio = sum(1 for p in top if is_audio_name(p))
    manifests = [p.name for p in top if p.suffix in {".csv", ".jsonl", ".parquet"}]
    if manifests:
        return f"; is {some(manifests)} the manifest?"
    return f"; {audio} audio file(s) lie in it without a label folder" if audio else ""
