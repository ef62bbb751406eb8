"""Codecs: written in memory and read back (libsndfile)."""

import io
from collections.abc import Mapping

import numpy as np
import soundfile
import soxr

from ser_features.augment.fields import asked
from ser_features.augment.kind import (
    Context,
    Dice,
    Drawn,
    Kind,
    Parameter,
    Samples,
    Scene,
    as_samples,
    fit,
)
from ser_features.augment.sources import OWN
from ser_features.augment.values import Value
from ser_features.errors import AudioError
from ser_features.records import Json

TELEPHONE = 8000
FORMATS = {
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "ulaw": ("WAV", "ULAW"),
    "alaw": ("WAV", "ALAW"),
    "gsm": ("WAV", "GSM610"),
}
_OF_TELEPHONE = frozenset({"ulaw", "alaw", "gsm"})


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """The format, and how strongly it compresses where that can be chosen."""
    del context
    return {"format": dice.word(values["format"]), "level": dice.number(values["level"])}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """Coded and decoded, at 8 kHz for telephone codecs, with peaks over full scale brought in."""
    rate = TELEPHONE if drawn["format"] in _OF_TELEPHONE else scene.sample_rate
    peak = max(1.0, float(np.abs(samples).max()))
    coded = _round_trip(resample(samples / peak, scene.sample_rate, rate), rate, drawn)
    return fit(as_samples(resample(coded, rate, scene.sample_rate) * peak), len(samples))


def resample(samples: Samples, before: int, after: int) -> Samples:
    """At another rate (soxr HQ), if it is one."""
    return samples if before == after else soxr.resample(samples, before, after, quality="HQ")


def _round_trip(samples: Samples, rate: int, drawn: Drawn) -> Samples:
    form, subtype = FORMATS[drawn["format"]]
    how = {} if drawn["format"] in _OF_TELEPHONE else {"compression_level": drawn["level"]}
    file = io.BytesIO()
    try:
        soundfile.write(file, samples, rate, format=form, subtype=subtype, **how)
        file.seek(0)
        return as_samples(soundfile.read(file, dtype="float32")[0])
    except soundfile.LibsndfileError as error:
        text = f"{drawn['format']} at {rate} Hz: {error}"
        raise AudioError("augmentation", text) from error


CODEC = Kind(
    name="codec",
    what="coded and decoded (libsndfile); ulaw, alaw and gsm at 8 kHz as telephones do",
    source=OWN,
    parameters=(
        Parameter(
            "format", f"codec: {', '.join(FORMATS)}", "mp3/vorbis/ulaw/gsm", OWN,
            words=tuple(FORMATS),
        ),
        Parameter(
            "level", "compression of mp3, vorbis and opus, strongest at 0.99", "0.5-0.95", OWN,
            "share", high=0.99,
        ),
    ),
    fields=(asked("format"), asked("level")),
    draw=draw,
    apply=apply,
)  # fmt: skip
