"""The table of augmentations; a new one is one file and one line here."""

from ser_features.augment.kind import Kind
from ser_features.augment.noise import MUSIC, NOISE
from ser_features.augment.reverb import REVERB
from ser_features.registry import Table, by_name

AUGMENTATIONS: Table[Kind] = by_name(
    "augmentation",
    [
        NOISE,
        MUSIC,
        REVERB,
    ],
    lambda kind: kind.name,
)
