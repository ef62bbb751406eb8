"""Drawing again what a store says was drawn: a record from elsewhere is believed only then."""

import json
import math

from ser_features.augment.augmented import Augmented, Drawing
from ser_features.augment.partners import Partners
from ser_features.errors import AudioError
from ser_features.records import Json, Utterance


class _Recorded(Partners):
    """The partner that a record names: which one it is hangs on labels, which no store holds."""

    def __init__(self, name: str | None, utterance: Utterance | None) -> None:
        super().__init__(() if utterance is None else (utterance,))
        self._name, self._known = name, utterance is not None

    def count(self, label: str, own: str) -> int:
        """One, so that the dice are thrown as often as they were."""
        del label, own
        return 1

    def pick(self, label: str, own: str, index: int) -> str:
        """The recorded one; AudioError where there is none, or where it is not known."""
        del label, own, index
        if self._name is None or not self._known:
            found = "names no partner" if self._name is None else "names an unknown partner"
            raise AudioError("partner", f"its recorded draw {found} ({self._name!r})")
        return self._name


def redrawing(augmented: Augmented, name: str | None, partner: Utterance | None) -> Drawing:
    """What draws for one utterance once more, joined to the recorded partner ``name``."""
    return Drawing(augmented, _Recorded(name, partner))


def same_draw(drawn: str, recorded: str) -> bool:
    """Whether two draws say the same; numbers to the last digits, which machines round apart."""
    if drawn == recorded:
        return True
    try:
        return _alike(json.loads(drawn), json.loads(recorded))
    except (ValueError, RecursionError):
        return False


def _alike(one: Json, other: Json) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)
