"""EMO-DB, the Berlin database of emotional speech: German, acted, 10 speakers.

A file is called ``SSttteV.wav``: speaker (two digits), text (a letter and two digits), emotion
(the first letter of the German word) and version.
"""

from pathlib import Path

from ser_features.corpora.spec import CorpusSpec, Published
from ser_features.corpora.tree import first_folder, named_audio
from ser_features.manifest import Manifest
from ser_features.records import Utterance

_NAME = r"(?P<speaker>\d{2})[a-z]\d{2}(?P<emotion>[WLEAFTN])[a-z]?"
_EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}


def read_emodb(path: Path) -> Manifest:
    """EMO-DB from its folder (with ``wav/``) or from the ``wav`` folder itself."""
    found, notes = named_audio([first_folder(path, "wav")], _NAME, "SSttteV.wav")
    utterances = tuple(
        Utterance(file.stem, str(file), _EMOTIONS[name["emotion"]], name["speaker"])
        for file, name in found
    )
    return Manifest("emodb", utterances, notes=notes)


EMODB = CorpusSpec(
    name="emodb",
    description="EMO-DB: 10 actors, 10 sentences, 7 emotions",
    languages=("German",),
    layout="wav/SSttteV.wav",
    published=Published(
        535,
        10,
        {
            "angry": 127,
            "boredom": 81,
            "disgust": 46,
            "fear": 69,
            "happy": 71,
            "neutral": 79,
            "sad": 62,
        },
    ),
    source="the distribution, and EmoBox's metadata of it",
    read=read_emodb,
)
