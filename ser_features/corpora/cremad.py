"""CREMA-D, the crowd-sourced emotional multimodal actors dataset: English, acted, 91 actors.

A file is called ``AAAA_TTT_EEE_LL.wav``: actor, sentence, emotion, level. The labels are the
intended emotions, not the crowd's votes.
"""

from pathlib import Path

from ser_features.corpora.spec import CorpusSpec, Published
from ser_features.corpora.tree import first_folder, named_audio
from ser_features.manifest import Manifest
from ser_features.records import Utterance

_NAME = r"(?P<actor>\d{4})_[A-Z]{3}_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{1,2}"
_EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}


def read_cremad(path: Path) -> Manifest:
    """CREMA-D from its folder (with ``AudioWAV/``) or from the ``AudioWAV`` folder itself."""
    found, notes = named_audio([first_folder(path, "AudioWAV")], _NAME, "AAAA_TTT_EEE_LL.wav")
    utterances = tuple(
        Utterance(file.stem, str(file), _EMOTIONS[name["emotion"]], name["actor"])
        for file, name in found
    )
    return Manifest("cremad", utterances, notes=notes)


CREMAD = CorpusSpec(
    name="cremad",
    description="CREMA-D: 91 actors, 12 sentences, 6 emotions",
    languages=("English",),
    layout="AudioWAV/AAAA_TTT_EEE_LL.wav",
    # The papers give no counts per emotion, so only the totals are asserted.
    published=Published(7442, 91),
    source="Cao et al. 2014: 7 442 clips of 91 actors",
    read=read_cremad,
)
