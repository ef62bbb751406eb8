"""Made-up predictions of systems whose skill is known."""

import numpy as np

from ser_features.resampling import Outcomes


def outcomes(rng, skill, *, per_label=6, num_labels=4, num_folds=None, num_seeds=1):
    """A right answer with probability ``skill[speaker]``; every speaker says every label."""
    num_speakers = len(skill)
    truth = np.tile(np.repeat(np.arange(num_labels), per_label), num_speakers)
    speaker = np.repeat(np.arange(num_speakers), num_labels * per_label)
    right = rng.random((num_seeds, len(truth))) < np.asarray(skill)[speaker]
    wrong = (truth + rng.integers(1, num_labels, (num_seeds, len(truth)))) % num_labels
    fold = speaker % (num_folds or num_speakers)
    return Outcomes(truth, fold, speaker, np.where(right, truth, wrong), num_labels)
