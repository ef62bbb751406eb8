"""The table of corpora that are read by name: one line for each."""

from pathlib import Path

from ser_features.corpora.cremad import CREMAD
from ser_features.corpora.demo import DEMO
from ser_features.corpora.emodb import EMODB
from ser_features.corpora.iemocap import IEMOCAP
from ser_features.corpora.ravdess import RAVDESS
from ser_features.corpora.spec import CorpusSpec, check_counts
from ser_features.corpora.urdu import URDU
from ser_features.errors import ManifestError
from ser_features.manifest import Manifest
from ser_features.registry import Table, by_name

CORPORA: Table[CorpusSpec] = by_name(
    "corpus", (EMODB, URDU, RAVDESS, CREMAD, *IEMOCAP, DEMO), lambda spec: spec.name
)


def read_corpus(name: str, path: Path, *, allow_partial: bool = False) -> Manifest:
    """The valid manifest of a known corpus, from the layout in which it is distributed.

    Labels are the corpus's own words; ``select_labels`` makes them canonical. Raises UsageError
    for an unknown name, ManifestError where nothing of the corpus is there, or, unless
    ``allow_partial``, where its counts are not the published ones.
    """
    spec = CORPORA[name]
    manifest = spec.read(path)
    if not manifest.utterances:
        notes = f" ({'; '.join(manifest.notes)})" if manifest.notes else ""
        raise ManifestError(f"found no {name} recordings in {path}; expected {spec.layout}{notes}")
    return check_counts(spec, manifest.validate(), allow_partial=allow_partial)
