"""Which utterances CopyPaste may join to which: by label, in an order of names."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable

from ser_features.audio import Waveform, load, num_samples_at, probe
from ser_features.errors import AudioError
from ser_features.labels import canonical_label
from ser_features.records import Utterance

NEUTRAL = "neutral"


class Partners:
    """The utterances of a corpus by canonical label, sorted by id."""

    def __init__(self, utterances: Iterable[Utterance]) -> None:
        self._by_id = {utterance.id: utterance for utterance in utterances}
        groups: dict[str, list[str]] = defaultdict(list)
        for utterance in self._by_id.values():
            if utterance.label:
                groups[canonical_label(utterance.label)].append(utterance.id)
        self._groups = {label: sorted(ids) for label, ids in groups.items()}

    def count(self, label: str, own: str) -> int:
        """How many utterances of ``label`` there are beside the one with the id ``own``."""
        ids = self._groups.get(label, [])
        return len(ids) - (_place(ids, own) is not None)

    def pick(self, label: str, own: str, index: int) -> str:
        """The id of the ``index``-th utterance of ``label``, ``own`` left out."""
        ids = self._groups[label]
        place = _place(ids, own)
        return ids[index + (place is not None and index >= place)]

    def label(self, name: str) -> str | None:
        """The canonical label of an utterance; None where it, or its label, is not known."""
        label = self._by_id[name].label if name in self._by_id else None
        return canonical_label(label) if label else None

    def length(self, name: str, rate: int) -> int:
        """Samples of an utterance at ``rate`` Hz, from its header; AudioError ``partner``."""
        try:
            return num_samples_at(probe(self._by_id[name]), rate)
        except AudioError as error:
            raise partner_error(name, error) from error


def partner_error(name: str, error: AudioError) -> AudioError:
    """The rejection of an utterance whose partner cannot be used."""
    return AudioError("partner", f"its partner {name!r} cannot be used: {error}")


def load_partner(utterance: Utterance, rate: int) -> Waveform:
    """A partner at ``rate`` Hz; AudioError ``partner``."""
    try:
        return load(utterance, rate)
    except AudioError as error:
        raise partner_error(utterance.id, error) from error


def _place(ids: list[str], own: str) -> int | None:
    place = bisect_left(ids, own)
    return place if place < len(ids) and ids[place] == own else None
