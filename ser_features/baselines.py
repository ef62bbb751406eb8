"""Baselines that do not listen: what a leaderboard row must beat to mean anything."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from ser_features.fingerprint import fingerprint
from ser_features.records import Fold, FoldScore, Json, RunRecord
from ser_features.registry import Table

HEAD = "baseline"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of each utterance without its audio: label index, speaker, seconds."""

    labels: tuple[str, ...]
    truth: Mapping[str, int]
    speakers: Mapping[str, str | None]
    durations: Mapping[str, float]


Baseline = Callable[[Facts, Sequence[str], Sequence[str]], list[int]]
"""Facts, training ids, test ids -> predicted label indices, parallel to the test ids."""


def majority(facts: Facts, train: Sequence[str], test: Sequence[str]) -> list[int]:
    """The most frequent training label for everything: a UAR of one over the labels."""
    return [_most_frequent(facts.truth[name] for name in train)] * len(test)


def speaker_majority(facts: Facts, train: Sequence[str], test: Sequence[str]) -> list[int]:
    """Each test speaker's most frequent training label; the overall one where unseen.

    It can only beat ``majority`` where test speakers are in training: it shows what knowing the
    speaker is worth (95 % UAR on URDU's official fold).
    """
    of_speaker = defaultdict(list)
    for name in train:
        of_speaker[facts.speakers.get(name)].append(facts.truth[name])
    of_speaker.pop(None, None)
    known = {speaker: _most_frequent(truth) for speaker, truth in of_speaker.items()}
    otherwise = _most_frequent(facts.truth[name] for name in train)
    return [known.get(facts.speakers.get(name), otherwise) for name in test]


def duration(facts: Facts, train: Sequence[str], test: Sequence[str]) -> list[int]:
    """A small decision tree on nothing but the utterance's length in seconds."""
    tree = DecisionTreeClassifier(
        max_depth=3, min_samples_leaf=5, class_weight="balanced", random_state=0
    )
    seconds = [np.array([[facts.durations[n]] for n in ids]) for ids in (train, test)]
    tree.fit(seconds[0], [facts.truth[name] for name in train])
    return [int(label) for label in tree.predict(seconds[1])]


BASELINES: Table[Baseline] = Table(
    "baseline",
    [("majority", majority), ("speaker-majority", speaker_majority), ("duration", duration)],
)


def baseline_scores(name: str, folds: Sequence[Fold], facts: Facts) -> tuple[FoldScore, ...]:
    """A baseline's predictions on every fold (seed 0).

    They choose nothing on dev, so dev counts as training: ``num_dev`` and ``dev_score`` are 0.
    Raises KeyError where an utterance of a fold has no truth or, for ``duration``, no duration.
    """
    predict = BASELINES[name]
    scores = []
    for fold in folds:
        train = (*fold.train, *fold.dev)
        scores.append(
            FoldScore(
                fold=fold.name,
                seed=0,
                test_ids=fold.test,
                predictions=tuple(predict(facts, train, fold.test)),
                num_train=len(train),
                num_dev=0,
                best_step=0,
                dev_score=0.0,
                setting={"baseline": name},
            )
        )
    return tuple(scores)


def baseline_records(
    corpus: str,
    protocol: str,
    folds: Sequence[Fold],
    facts: Facts,
    *,
    config: Mapping[str, Json] | None = None,
    provenance: Mapping[str, Json] | None = None,
    audit: Mapping[str, Json] | None = None,
    notes: tuple[str, ...] = (),
    num_rejects: int = 0,
) -> list[RunRecord]:
    """One complete record for each baseline: ``upstream`` is its name, ``head`` is "baseline".

    ``config`` is what the caller needs to run it again; the data itself enters the key too.
    """
    test = {name: facts.truth[name] for fold in folds for name in fold.test}
    content = _content(folds, facts)
    records = []
    for name in BASELINES:
        own = {"kind": HEAD, "baseline": name, "corpus": corpus, "protocol": protocol}
        whole = {**(config or {}), **own, "labels": list(facts.labels), "data": content}
        records.append(
            RunRecord(
                key=fingerprint(whole),
                corpus=corpus,
                upstream=name,
                augmentation="none",
                head=HEAD,
                protocol=protocol,
                labels=facts.labels,
                truth=test,
                speakers={each: facts.speakers.get(each) for each in test},
                expected=tuple((fold.name, 0) for fold in folds),
                scores=baseline_scores(name, folds, facts),
                config=whole,
                provenance=dict(provenance or {}),
                num_rejects=num_rejects,
                notes=notes,
                audit=dict(audit or {}),
            )
        )
    return records


def under(record: RunRecord, condition: str) -> RunRecord:
    """The same baseline as a record of another test condition."""
    if condition == record.condition:
        return record
    config = {**record.config, "condition": condition}
    return replace(record, key=fingerprint(config), condition=condition, config=config)


def _content(folds: Sequence[Fold], facts: Facts) -> str:
    """A hash of all that the predictions follow from."""
    divided = [[fold.name, fold.train, fold.dev, fold.test] for fold in folds]
    used = sorted({name for fold in folds for name in (*fold.train, *fold.dev, *fold.test)})
    tables = [facts.truth, facts.speakers, facts.durations]
    return fingerprint([divided, [[name, *(table.get(name) for table in tables)] for name in used]])


def _most_frequent(labels: Iterable[int]) -> int:
    """The most frequent; of several, the first in label order."""
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))
