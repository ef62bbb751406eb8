"""What the trainer of frame heads refuses, its recipes, and a corpus larger than memory."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from frame_factory import COUNT, QUICK, accuracy, make_folds, make_labels, make_view
from ser_features.errors import TrainError
from ser_features.train.frame_recipes import FRAME_RECIPES, rate_factor
from ser_features.train.frames import run_frames


def test_divergence_names_the_rate() -> None:
    labels = make_labels()
    with pytest.raises(TrainError, match=r"diverged at learning rate 1e\+30.*use a lower one"):
        run_frames(make_view(labels), labels, make_folds(1), [0], replace(QUICK, lrs=(1e30,)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0, found 0"),
        ({"batch": -1}, "batch must be above 0"),
        ({"lrs": ()}, "lrs must be distinct"),
        ({"lrs": (1e-3, 1e-3)}, "lrs must be distinct"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more"),
        ({"head": "lstm"}, "head must be one of mlp, attentive, statistics, found 'lstm'"),
        ({"schedule": "cosine"}, "schedule must be one of constant, emobox"),
        ({"select": "test"}, "select must be one of dev, last, found 'test'"),
        ({"select_metric": "f1"}, "select_metric must be one of wa, uar"),
    ],
)
def test_a_senseless_config_is_refused(change: dict, message: str) -> None:
    labels = make_labels()
    with pytest.raises(TrainError, match=message):
        run_frames(make_view(labels), labels, make_folds(1), [0], replace(QUICK, **change))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(COUNT, np.int64), "every utterance has the same label"),
        (np.zeros(3, np.int64), r"labels must be int64 \[240\]"),
        (np.full(COUNT, -1), r"labels must be int64 \[240\] and not negative"),
        (np.zeros(COUNT, np.int32), "found int32"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(labels: np.ndarray, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        run_frames(make_view(make_labels()), labels, make_folds(1), [0], QUICK)


def test_recipes_are_the_ones_read() -> None:
    paper, emobox = FRAME_RECIPES["data2vec-ser"].validate(), FRAME_RECIPES["emobox"].validate()
    assert (paper.hidden, paper.lrs, paper.weight_decay) == (128, (1e-3,), 2e-3)
    assert (paper.batch, paper.epochs, paper.schedule) == (128, 50, "constant")
    assert (emobox.hidden, emobox.lrs, emobox.weight_decay) == (128, (1e-4,), 0.0)
    assert (emobox.batch, emobox.epochs, emobox.normalize) == (32, 100, True)


def test_emoboxs_schedule() -> None:
    rates = [rate_factor("emobox", epoch, 100) for epoch in range(1, 101)]
    assert rates[:4] == [1.0, 0.0, 0.1, 0.2]
    assert rates[11] == max(rates[1:]) == 1.0
    assert rates[-1] == pytest.approx(2 / 90)
    assert all(rate_factor("constant", epoch, 100) == 1 for epoch in range(1, 101))


def test_emoboxs_recipe_learns() -> None:
    labels = make_labels()
    config = replace(FRAME_RECIPES["emobox"], epochs=30, lrs=(1e-2,))
    assert accuracy(run_frames(make_view(labels), labels, make_folds(), [0], config), labels) > 0.85


def test_a_corpus_larger_than_memory_trains(tmp_path: Path, record_property) -> None:
    """250 MiB of frames in a store, 500 as float32, 220 to train in: held, it cannot."""
    script = Path(__file__).with_name("larger_than_memory.py")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    sys.stdout.write(done.stdout)  # the peak: pytest -s
    record_property("memory", done.stdout)
    assert done.returncode == 0, done.stderr
    assert "streamed: trained" in done.stdout
    assert "peak resident" in done.stdout
    assert "held: out of memory" in done.stdout
