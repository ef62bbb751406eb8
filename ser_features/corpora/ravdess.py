"""RAVDESS, the Ryerson audio-visual database: English, acted, 24 actors; the speech recordings.

A file is called ``MM-VV-EE-II-SS-RR-AA.wav``: modality (03 audio only), vocal channel (01 speech,
02 song), emotion, intensity, statement, repetition, actor.
"""

from pathlib import Path

from ser_features.corpora.spec import CorpusSpec, Published
from ser_features.corpora.tree import first_folder, list_folder, named_audio
from ser_features.manifest import Manifest
from ser_features.records import Utterance

_NAME = r"03-(?P<channel>0[12])-(?P<emotion>0[1-8])-\d\d-\d\d-\d\d-(?P<actor>\d\d)"
_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}


def read_ravdess(path: Path) -> Manifest:
    """RAVDESS speech from the folder with ``Actor_01/`` …, or the one above it; songs are noted."""
    root = first_folder(path, "Audio_Speech_Actors_01-24", "audio_speech_actors_01-24")
    root = path if any(path.glob("Actor_*")) else root
    folders = [p for p in list_folder(root) if p.name.startswith("Actor_")] or [root]
    found, notes = named_audio(folders, _NAME, "03-01-EE-II-SS-RR-AA.wav")
    speech = [(file, name) for file, name in found if name["channel"] == "01"]
    songs = len(found) - len(speech)
    utterances = tuple(
        Utterance(file.stem, str(file), _EMOTIONS[name["emotion"]], name["actor"])
        for file, name in speech
    )
    songs_note = (f"{songs} song(s) are left out: only speech is read",) if songs else ()
    return Manifest("ravdess", utterances, notes=(*notes, *songs_note))


RAVDESS = CorpusSpec(
    name="ravdess",
    description="RAVDESS speech: 24 actors, 2 sentences, 8 emotions",
    languages=("English",),
    layout="[Audio_Speech_Actors_01-24/]Actor_AA/03-01-EE-II-SS-RR-AA.wav",
    published=Published(
        1440,
        24,
        {
            "angry": 192,
            "calm": 192,
            "disgust": 192,
            "fear": 192,
            "happy": 192,
            "neutral": 96,
            "sad": 192,
            "surprise": 192,
        },
    ),
    source="EmoBox's metadata of it",
    read=read_ravdess,
)
