"""Synthetic run records whose accuracy, folds, seeds and speakers are chosen by the test."""

from dataclasses import replace

import numpy as np

from ser_features.records import FoldScore, RunRecord
from ser_features.results import run_key

LABELS = ("angry", "happy", "neutral", "sad")


def make_record(
    upstream="whisper-base",
    accuracy=0.8,
    *,
    corpus="emodb",
    augmentation="none",
    head="superb",
    protocol="loso",
    labels=LABELS,
    num_speakers=10,
    per_label=6,
    num_folds=None,
    seeds=(0,),
    num_layers=7,
    layer=None,
    draw=0,
    known_speakers=True,
    **fields,
):
    """One complete record: ``num_speakers`` × labels × ``per_label`` utterances, a fold a speaker.

    ``accuracy`` is the chance of a right prediction; ``draw`` seeds the predictions.
    """
    num_folds = num_folds or num_speakers
    truth, speakers, tests = _corpus(num_speakers, len(labels), per_label, num_folds)
    config = {"upstream": upstream, "head": head, "corpus": corpus, "layer": layer}
    config |= {"protocol": protocol, "labels": list(labels), "augmentation": augmentation}
    config |= {"seeds": list(seeds)}
    rng = np.random.default_rng([draw, num_speakers, per_label])
    scores = [
        _score(rng, fold, seed, ids, truth, accuracy, len(labels), num_layers, layer)
        for fold, ids in tests.items()
        for seed in seeds
    ]
    record = RunRecord(
        key=run_key(config),
        corpus=corpus,
        upstream=upstream,
        augmentation=augmentation,
        head=head,
        protocol=protocol,
        labels=tuple(labels),
        truth=truth,
        speakers=speakers if known_speakers else dict.fromkeys(speakers),
        expected=tuple((score.fold, score.seed) for score in scores),
        scores=tuple(scores),
        config=config,
        provenance={"device": "cpu", "versions": {"torch": "2"}},
        cost={"extract_seconds": 12.5, "gigabytes": 0.2},
    )
    return replace(record, **fields)


def _corpus(num_speakers, num_labels, per_label, num_folds):
    truth, speakers, tests = {}, {}, {}
    for s in range(num_speakers):
        for label in range(num_labels):
            for i in range(per_label):
                name = f"s{s:02d}-{label}-{i}"
                truth[name], speakers[name] = label, f"speaker{s:02d}"
                tests.setdefault(f"fold{s % num_folds:02d}", []).append(name)
    return truth, speakers, tests


def _score(rng, fold, seed, ids, truth, accuracy, num_labels, num_layers, layer):
    true = np.array([truth[name] for name in ids])
    wrong = (true + rng.integers(1, num_labels, len(true))) % num_labels
    predicted = np.where(rng.random(len(true)) < accuracy, true, wrong)
    weights = rng.dirichlet(np.ones(num_layers)) if num_layers else []
    setting = {"lr": 1e-4} if layer is None else {"lr": 1e-4, "layer": layer}
    return FoldScore(
        fold=fold,
        seed=seed,
        test_ids=tuple(ids),
        predictions=tuple(int(p) for p in predicted),
        num_train=100,
        num_dev=20,
        best_step=50,
        dev_score=accuracy,
        setting=setting,
        grid=({"lr": 1e-4, "dev_score": accuracy},),
        dev_curve=((50, accuracy),),
        layer_weights=tuple(float(w) for w in weights),
        seconds=1.5,
    )
