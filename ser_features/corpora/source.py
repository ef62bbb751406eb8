"""Where a manifest comes from, as plain data: enough to read it again."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ser_features.corpora.emobox import emobox_folds, read_emobox
from ser_features.corpora.files import read_manifest
from ser_features.corpora.superb import superb_folds
from ser_features.corpora.table import read_corpus
from ser_features.errors import UsageError
from ser_features.manifest import Manifest
from ser_features.records import Json


@dataclass(frozen=True, slots=True)
class ManifestSource:
    """A corpus by name (``kind`` "corpus") or a manifest file or folder (``kind`` "manifest").

    A manifest folder is laid out as ``label/file``, or is EmoBox's metadata of one corpus (with
    ``fold_1`` …), whose recordings lie under ``root``. ``name`` is the corpus's, or what to call a
    manifest (None: its file's stem). ``emobox`` is a clone of EmoBox's metadata,
    ``superb_metadata`` s3prl's folder of IEMOCAP folds.
    """

    kind: str
    name: str | None
    path: str
    root: str | None = None
    emobox: str | None = None
    superb_metadata: str | None = None
    allow_partial: bool = False

    def read(self) -> Manifest:
        """The manifest, with the published folds that the named folders hold."""
        manifest = self._read()
        if self.emobox is not None:
            metadata = _metadata(Path(self.emobox), manifest.corpus)
            folds = emobox_folds(metadata, manifest, allow_partial=self.allow_partial)
            manifest = manifest.with_folds("emobox", folds)
        if self.superb_metadata is not None:
            folds = superb_folds(manifest, Path(self.superb_metadata))
            manifest = manifest.with_folds("superb", folds)
        return manifest

    def _read(self) -> Manifest:
        if self.kind == "corpus":
            return read_corpus(self.name or "", Path(self.path), allow_partial=self.allow_partial)
        path = Path(self.path)
        root = None if self.root is None else Path(self.root)
        if any(path.glob("fold_*")):
            manifest = read_emobox(path, root or path)
            return manifest if self.name is None else replace(manifest, corpus=self.name)
        return read_manifest(path, root=root, corpus=self.name)

    def to_json(self) -> dict[str, Json]:
        """As a record keeps it; paths are absolute, so that it can be read from anywhere."""
        return asdict(self)


def source_from_json(value: Json) -> ManifestSource:
    """What ``to_json`` gave. Raises UsageError where it is not that."""
    try:
        return ManifestSource(**value)
    except TypeError:
        raise UsageError("the record does not say where its corpus was read from") from None


def _metadata(emobox: Path, corpus: str) -> Path:
    """The corpus's folder in a clone of EmoBox, or that folder itself."""
    for folder in (emobox / corpus, emobox / "data" / corpus):
        if folder.is_dir():
            return folder
    return emobox
