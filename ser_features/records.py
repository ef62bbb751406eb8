"""Frozen records that cross module borders. They hold data and know nothing else.

Dataclasses; those of which there are a million are msgspec's structs, made ten times as quickly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

Json: TypeAlias = Any
"""A value that ``json.dumps`` takes: dict, list, str, int, float, bool or None."""


class Utterance(msgspec.Struct, frozen=True, gc=False):
    """One labelled stretch of audio; ``start`` and ``end`` are seconds, None is the file's own.

    ``file`` is the text of its path, also where a ``Path`` is given: that would take five times as
    much memory.
    """

    id: str
    file: str
    label: str | None = None
    speaker: str | None = None
    session: str | None = None
    split: str | None = None
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        if type(self.file) is not str:
            msgspec.structs.force_setattr(self, "file", str(self.file))

    @property
    def path(self) -> Path:
        """Where the audio lies; relative to the working directory unless it is absolute."""
        return Path(self.file)


@dataclass(frozen=True, slots=True)
class Rejection:
    """An utterance that cannot be used: ``reason`` is a short code, ``detail`` a sentence."""

    id: str
    path: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something a user should know about an utterance that is kept, such as clipping."""

    id: str
    path: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Fold:
    """One train/dev/test division by utterance id; ``dev`` may be empty before dev selection.

    ``copies`` are rows that may stand in for the train rows that they are copies of, where
    training replaces a share of its samples.
    """

    name: str
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    copies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamInfo:
    """What a loaded upstream is.

    ``hop`` and ``receptive_field`` are samples at ``sample_rate``; ``receptive_field`` is the
    shortest waveform that gives one frame. ``identity`` enters the feature-set key (file hashes,
    preprocessing, precision); ``provenance`` is recorded beside it (source, revision, versions).
    """

    name: str
    family: str
    num_layers: int
    dim: int
    sample_rate: int
    hop: int
    receptive_field: int
    num_parameters: int
    max_seconds: float | None
    identity: Mapping[str, Json]
    provenance: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Shard:
    """The unit of batching, writing, resuming and checksumming: whole utterances, longest first.

    Utterance ``i`` is row ``index * rows + i`` of the pooled arrays (``rows`` is a constant of the
    feature set), and its frames start at ``first_frame + sum(num_frames[:i])`` of the frames array.
    """

    index: int
    ids: tuple[str, ...]
    num_frames: tuple[int, ...]
    first_frame: int


class Source(msgspec.Struct, frozen=True, gc=False):
    """What one stored utterance was made from; enough to find changed files and to extract again.

    ``size`` is bytes and ``mtime_ns`` nanoseconds of the file; ``start`` and ``end`` seconds.
    ``draw`` is the canonical JSON of what was drawn to augment it, ``""`` where it is clean.
    ``partner`` says where the other recording lay that it was joined with, and what audio that was;
    it has no draw. Not set where there is none, or where an older serfeat did not record it: what
    is not set takes no room in JSON.
    """

    id: str
    path: str
    size: int
    mtime_ns: int
    audio_sha256: str
    start: float | None = None
    end: float | None = None
    draw: str = ""
    partner: "Source | msgspec.UnsetType" = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class FeatureSetSpec:
    """Names and shape of a feature set. ``key`` (sha256 hex) alone says what its content is.

    ``frames`` is ``none``, ``float16`` or ``float32``; ``rows`` the pooled rows of a shard and
    ``capacity`` the frames of one object of the frames array.
    """

    corpus: str
    upstream: str
    augmentation: str
    key: str
    num_layers: int
    dim: int
    frames: str
    rows: int
    capacity: int
    provenance: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoldScore:
    """One trained head on one fold with one seed: what it predicted and how it was chosen.

    ``test_ids`` and ``predictions`` (label indices) are parallel; ``dev_curve`` holds
    ``(step, score)`` of the chosen run, ``grid`` every tried setting with its best dev score.
    ``schedule`` says what the training side was from which step (or epoch) on, and at what share of
    the learning rate. ``domain_curve`` holds ``(step, balanced accuracy)`` of the domain classifier
    of adversarial training. ``late`` holds ``(step, predictions)``, parallel to ``test_ids``, of
    the evaluations in the last fifth of training; no score that is selected comes from it.
    """

    fold: str
    seed: int
    test_ids: tuple[str, ...]
    predictions: tuple[int, ...]
    num_train: int
    num_dev: int
    best_step: int
    dev_score: float
    setting: Mapping[str, Json]
    grid: tuple[Mapping[str, Json], ...] = ()
    dev_curve: tuple[tuple[int, float], ...] = ()
    layer_weights: tuple[float, ...] = ()
    seconds: float = 0.0
    schedule: tuple[Mapping[str, Json], ...] = ()
    domain_curve: tuple[tuple[int, float], ...] = ()
    late: tuple[tuple[int, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything one leaderboard row is made from: what ran, on what, and every fold's outcome.

    ``labels`` gives the class order; ``truth`` and ``speakers`` map utterance ids (of all test
    sides) to their label index and speaker. ``expected`` lists the ``(fold, seed)`` pairs of a
    complete run. ``config`` holds all that is needed to run it again. ``augmentation`` is what was
    done to the training side, ``condition`` to the test side; ``strategy`` is how other data
    entered training. ``test_ids`` are utterances, whatever the condition.
    """

    key: str
    corpus: str
    upstream: str
    augmentation: str
    head: str
    protocol: str
    labels: tuple[str, ...]
    truth: Mapping[str, int]
    speakers: Mapping[str, str | None]
    expected: tuple[tuple[str, int], ...]
    scores: tuple[FoldScore, ...]
    config: Mapping[str, Json]
    provenance: Mapping[str, Json]
    num_rejects: int = 0
    notes: tuple[str, ...] = ()
    audit: Mapping[str, Json] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    condition: str = "clean"
    strategy: str = ""
