"""URDU: utterances of Urdu talk shows, 4 emotions, 100 each.

A file is called ``SGX_FXX_EYY.wav``: speaker (``SM1``: G is the gender), its number for the
speaker, emotion and its number for the emotion. The corpus's own README speaks of 38 speakers;
the distributed file names hold 29. **26 of the 29 have one emotion only**: a split that shares
speakers between train and test measures who speaks, and no speaker-disjoint split is balanced.
"""

from pathlib import Path

from ser_features.corpora.spec import CorpusSpec, Published
from ser_features.corpora.tree import named_audio
from ser_features.manifest import Manifest
from ser_features.records import Utterance

_NAME = r"(?P<speaker>S[FM]\d+)_F\d+_(?P<emotion>[AHNS])\d+"
_EMOTIONS = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
_FOLDERS = ("Angry", "Happy", "Neutral", "Sad")


def read_urdu(path: Path) -> Manifest:
    """URDU from its folder (with ``Angry/``, ``Happy/``, …) or from all files in one folder."""
    folders = [path / name for name in _FOLDERS if (path / name).is_dir()] or [path]
    found, notes = named_audio(folders, _NAME, "SGX_FXX_EYY.wav")
    utterances = tuple(
        Utterance(file.stem, str(file), _EMOTIONS[name["emotion"]], name["speaker"])
        for file, name in found
    )
    return Manifest("urdu", utterances, notes=notes)


URDU = CorpusSpec(
    name="urdu",
    description="URDU: talk shows, 4 emotions; most speakers have one emotion only",
    languages=("Urdu",),
    layout="{Angry,Happy,Neutral,Sad}/SGX_FXX_EYY.wav",
    published=Published(400, 29, {"angry": 100, "happy": 100, "neutral": 100, "sad": 100}),
    source="the distribution's file names, and EmoBox's metadata of it",
    read=read_urdu,
)
