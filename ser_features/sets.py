"""The feature sets that a bench needs of one upstream: clean, copies, test conditions, added."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ser_features.errors import RejectsError, UsageError
from ser_features.extract.pipeline import Options, Report, extract, extract_sets
from ser_features.extract.progress import Progress
from ser_features.extract.remarks import remarks
from ser_features.manifest import Manifest
from ser_features.mixture import Mixture
from ser_features.runs import CLEAN
from ser_features.store.place import Place
from ser_features.store.reader import open_feature_set


@dataclass(frozen=True, slots=True)
class Sets:
    """What was extracted of one upstream; ``added`` is one report a further corpus."""

    clean: Report
    copies: tuple[Report, ...]
    conditions: tuple[Report, ...]
    added: tuple[Report, ...]

    @property
    def own(self) -> tuple[Report, ...]:
        """Everything over the bench's own corpus."""
        return (self.clean, *self.copies, *self.conditions)

    @property
    def tested(self) -> tuple[str, ...]:
        """The names of the test conditions."""
        return tuple(report.spec.augmentation for report in self.conditions)

    @property
    def sentences(self) -> Iterator[str]:
        """What a user should read about the extractions."""
        return (line for report in (*self.own, *self.added) for line in remarks(report))

    def open(self, store: Place, added: Sequence[Manifest]) -> Mixture:
        """The sets to read; ``added`` are the further corpora, without what was rejected."""
        known = {report.spec.augmentation: report for report in (*self.conditions, *self.copies)}
        opened = {name: open_feature_set(store, each.spec) for name, each in known.items()}
        named = [report.spec.augmentation for report in self.copies]
        return Mixture(
            open_feature_set(store, self.clean.spec),
            copies={name: opened[name] for name in named},
            conditions={name: opened[name] for name in self.tested if name != CLEAN},
            added=tuple(
                (manifest, open_feature_set(store, report.spec))
                for manifest, report in zip(added, self.added, strict=True)
            ),
        )


def make_sets(
    manifest: Manifest,
    request: str,
    added: Sequence[Manifest],
    store: Place,
    how: Options,
    augment: Sequence[str],
    copies: int,
    conditions: Sequence[str],
    progress: Progress,
) -> Sets:
    """Extract what is missing of one upstream, for training and testing.

    ``augment`` (each ``copies`` times) and ``conditions`` are augmentations as users write them;
    ``clean`` among the conditions comes first.
    Raises as ``extract`` does, and UsageError where two different sets would share a name.
    """
    training = replace(how, augment=(CLEAN, *augment), copies=copies)
    clean, *copied = extract_sets(manifest, request, store, training, progress)
    noisy = dict.fromkeys(one for one in conditions if one.strip() != CLEAN)
    tested = [] if len(noisy) == len(conditions) else [clean]
    if noisy:
        testing = replace(how, augment=tuple(noisy), copies=1)
        tested += extract_sets(manifest, request, store, testing, progress)
    others = tuple(extract(one, request, store, how, progress) for one in added)
    keys: dict[str, str] = {}
    for report in (clean, *copied, *tested):
        name, key = report.spec.augmentation, report.spec.key
        if keys.setdefault(name, key) != key:
            raise UsageError(f"two different augmentations are called {name!r}: use one folder")
    return Sets(clean, tuple(copied), tuple(tested), others)


def without_rejects(manifest: Manifest, reports: Sequence[Report], *, allow: bool) -> Manifest:
    """What every one of the extractions could use.

    Raises RejectsError where utterances were rejected and ``allow`` is off, or nothing is left.
    """
    rejected = {reject.id for report in reports for reject in report.rejects}
    if rejected and not allow:
        where = ", ".join(dict.fromkeys(str(r.reject_report) for r in reports if r.rejects))
        raise RejectsError(
            f"{manifest.corpus}: {len(rejected)} of {len(manifest)} utterances were rejected; "
            f"see {where}, mend the files, or pass --allow-rejects"
        )
    if len(rejected) == len(manifest):
        raise RejectsError(
            f"{manifest.corpus}: all {len(manifest)} utterances were rejected; nothing is left to "
            "train on"
        )
    return manifest.without(rejected) if rejected else manifest
