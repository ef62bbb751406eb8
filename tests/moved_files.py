"""A small corpus to move and touch, and an ear that counts what is decoded for it."""

import os
from pathlib import Path

import pytest

from fake_upstream import manifest_of
from ser_features.extract import survey
from ser_features.manifest import Manifest
from ser_features.records import Utterance
from ser_features.store.schema import Location, locate, name_of

LENGTHS = (900, 700, 500, 1200)


class Ear:
    """Counts what the survey decodes; what is extracted is decoded elsewhere."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._load, self.heard = survey.load, list[str]()
        patch.setattr(survey, "load", self.load)

    def load(self, utterance: Utterance, rate: int) -> object:
        self.heard.append(utterance.id)
        return self._load(utterance, rate)

    def take(self) -> list[str]:
        heard, self.heard = sorted(self.heard), []
        return heard


def in_folder(folder: Path, count: int = len(LENGTHS)) -> Manifest:
    return manifest_of([folder / f"u{i}.wav" for i in range(count)])


def touch(manifest: Manifest, *keys: str, time: int = 5) -> None:
    for key in keys or manifest.by_id:
        os.utime(manifest.by_id[key].path, ns=(time, time))


def location_of(store: Path, report: object) -> Location:
    return locate(store, name_of(report.spec))
