"""Mend a damaged store: extract again exactly the shards that hold damaged objects."""

from collections.abc import Sequence
from pathlib import Path

from ser_features.errors import StoreError
from ser_features.extract.pipeline import Options, extract
from ser_features.extract.progress import Progress
from ser_features.manifest import Manifest
from ser_features.records import FeatureSetSpec, Source, Utterance
