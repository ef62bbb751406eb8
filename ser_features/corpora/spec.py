"""What a corpus reader declares about itself, and the check against the published counts."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ser_features.errors import ManifestError
from ser_features.labels import canonical_label
from ser_features.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Published:
    """Counts of the complete corpus; None, or a label (canonical) left out: not published."""

    utterances: int | None
    speakers: int
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CorpusSpec:
    """One corpus of the table: what it is, how it lies on disk, and how it is read.

    ``read`` takes the folder and gives a manifest of whatever part of the corpus is there;
    ``source`` says where the published counts are from.
    """

    name: str
    description: str
    languages: tuple[str, ...]
    layout: str
    published: Published
    source: str
    read: Callable[[Path], Manifest]


def check_counts(spec: CorpusSpec, manifest: Manifest, *, allow_partial: bool) -> Manifest:
    """The manifest if it is the whole corpus; with ``allow_partial`` also a part, with a note.

    Raises ManifestError saying what was found and what was expected, per label.
    """
    problems = tuple(_differences(spec.published, manifest))
    if not problems:
        return manifest
    summary = f"this is not the complete corpus {spec.name!r} (counts: {spec.source})"
    if allow_partial:
        return manifest.with_notes(f"{summary}: {'; '.join(problems)}")
    raise ManifestError(
        f"{summary}; is the download complete? --allow-partial reads what is there", problems
    )


def _differences(published: Published, manifest: Manifest) -> Iterator[str]:
    found = Counter(canonical_label(u.label) for u in manifest.utterances if u.label)
    counts = [
        ("utterances", len(manifest), published.utterances),
        ("speakers", len(manifest.speakers), published.speakers),
        *((f"label {label}", found[label], n) for label, n in published.labels.items()),
    ]
    for what, got, expected in counts:
        if expected is not None and got != expected:
            yield f"{what}: found {got}, expected {expected}"
