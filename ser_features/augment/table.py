"""The table of augmentations; a new one is one file and one line here."""

from ser_features.augment.butterworth import EQUALIZE, HIGHPASS, LOWPASS
from ser_features.augment.codec import CODEC
from ser_features.augment.copypaste import BOTH_COPYPASTE, NEUTRAL_COPYPASTE, SAME_COPYPASTE
from ser_features.augment.fade import FADE
from ser_features.augment.gain import GAIN
from ser_features.augment.kind import Kind
from ser_features.augment.mismatch import MISMATCH_7
from ser_features.augment.noise import MUSIC, NOISE
from ser_features.augment.pink import PINK
from ser_features.augment.pitch import PITCH
from ser_features.augment.reverb import REVERB
from ser_features.augment.rir import RIR
from ser_features.augment.room import ROOM
from ser_features.augment.shift import SHIFT
from ser_features.augment.specmask import SPECMASK
from ser_features.augment.speed import SPEED
from ser_features.augment.stretch import STRETCH
from ser_features.registry import Table, by_name

AUGMENTATIONS: Table[Kind] = by_name(
    "augmentation",
    [
        NOISE,
        MUSIC,
        RIR,
        ROOM,
        REVERB,
        HIGHPASS,
        LOWPASS,
        EQUALIZE,
        PINK,
        STRETCH,
        SHIFT,
        FADE,
        SPEED,
        PITCH,
        GAIN,
        CODEC,
        SPECMASK,
        NEUTRAL_COPYPASTE,
        SAME_COPYPASTE,
        BOTH_COPYPASTE,
        MISMATCH_7,
    ],
    lambda kind: kind.name,
)
