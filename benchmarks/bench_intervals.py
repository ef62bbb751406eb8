"""How often intervals hold the truth, tests cry wolf, and the best row loses its star.

    python benchmarks/bench_intervals.py

Made-up corpora whose true UAR is known: each speaker is better or worse than others, by himself and
in each class (normal on log odds), and a new corpus is drawn each time. The sizes are those of
EMO-DB (10 speakers, or the first 3, 5, 8 of them, or three times the ten) and URDU (29 speakers,
most with one emotion). Coverage of 95 % intervals stands beside that of plain percentiles and of
expanded ones (Hesterberg 2015), the baselines of the same run; tests are at 5 %.
"""

import argparse
import datetime
import json
import platform
import sys
from pathlib import Path

import numpy as np
from scipy import special

from ser_features import intervals
from ser_features.resampling import Outcomes, clusters_of, point, resampled
from ser_features.significance import compare, holm

EMODB = np.array([
    [14, 12, 13, 10, 11, 12, 12, 16, 13, 14], [7, 11, 4, 4, 8, 2, 10, 8, 6, 11],
    [11, 10, 9, 4, 9, 4, 9, 7, 11, 5], [7, 9, 4, 3, 7, 4, 5, 10, 4, 9],
]).T  # fmt: skip
URDU = np.array(
    [
        [12, 0, 0, 2, 2, 4, 4, 14, 6, 2, 0, 0, 2, 2, 2] + [0] * 9 + [2, 0, 8, 10, 28],
        [0] * 11 + [22, 0, 0, 0, 28] + [0] * 8 + [2, 48, 0, 0, 0],
        [0, 2, 4] + [0] * 16 + [6, 38, 40, 2, 4, 0, 0, 0, 4, 0],
        [0] * 10 + [4, 0, 0, 0, 0, 0, 10, 4, 2] + [0] * 5 + [8, 0, 72, 0, 0],
    ]
).T
"""Utterances [speaker, class] of the two corpora: angry, happy, neutral, sad."""
CORPORA = {
    "emodb, 3 speakers": EMODB[:3], "emodb, 5 speakers": EMODB[:5], "emodb, 8 speakers": EMODB[:8],
    "emodb": EMODB, "emodb, 30 speakers": np.tile(EMODB, (3, 1)), "urdu": URDU,
}  # fmt: skip
SKILLS = {
    "50 %": ((-0.5, 0.0, 0.3, 0.3), 0.35, 0.6),
    "70 %": ((0.6, 0.8, 1.2, 1.2), 0.35, 0.6),
    "95 %": ((3.1, 3.3, 3.7, 3.9), 0.7, 0.9),
}
"""About what UAR: log odds of the classes, their deviation over speakers, and within one."""
NUM_RESAMPLES = 1000


def systems(counts, skills, seed):
    """Outcomes of systems of these skills on one corpus; half of what speakers are is shared."""
    rng, size = np.random.default_rng(seed), counts.shape
    truth = np.concatenate([np.repeat(np.arange(size[1]), each) for each in counts])
    speaker = np.repeat(np.arange(size[0]), counts.sum(axis=1))
    fold = speaker if (counts > 0).all() else speaker * 0
    shared = effects(rng, size)
    for odds, own, within in skills:
        drawn = effects(rng, size)
        speakers, classes = ((a + b) / np.sqrt(2) for a, b in zip(shared, drawn, strict=True))
        chance = special.expit(odds + own * speakers + within * classes)
        right = rng.random(len(truth)) < chance[speaker, truth]
        wrong = (truth + rng.integers(1, size[1], len(truth))) % size[1]
        yield Outcomes(truth, fold, speaker, np.where(right, truth, wrong)[None], size[1])


def effects(rng, size):
    """Of a speaker [S, 1] and of a speaker in a class [S, C]."""
    return rng.standard_normal((size[0], 1)), rng.standard_normal(size)


def true_uar(skill):
    """Over all speakers there could be."""
    odds, own, within = skill
    nodes, weights = np.polynomial.hermite_e.hermegauss(99)
    rights = special.expit(np.asarray(odds)[:, None] + np.hypot(own, within) * nodes)
    return float((rights @ weights).mean() / weights.sum())


def estimator(counts):
    """As ``estimator_of`` has it."""
    return "folds" if (counts > 0).all() else "pooled"


def coverage(counts, skill, trials):
    """Share of intervals that hold the truth, and their width: ours, and percentiles."""
    truth, how = true_uar(skill), estimator(counts)
    held, width = {}, {}
    for trial in range(trials):
        (one,) = systems(counts, [skill], trial)
        for name, (low, high) in ends(one, how, trial).items():
            held.setdefault(name, []).append(low <= truth <= high)
            width.setdefault(name, []).append(high - low)
    return {"true_uar": round(truth, 4), **{
        name: {"held": share(held[name]), "width": round(float(np.mean(width[name])), 3)}
        for name in held}}  # fmt: skip


def ends(one, how, seed):
    """The interval by three methods, from the same draws."""
    found = intervals.interval(one, "uar", how, num_resamples=NUM_RESAMPLES, seed=seed)
    cluster, sizes, _ = clusters_of(one)
    weights = np.random.default_rng(seed).multinomial(
        len(sizes), np.ones(len(sizes)) / len(sizes), size=NUM_RESAMPLES)  # fmt: skip
    values = resampled(one, cluster, weights.astype(float), "uar", how)
    return {
        "ours": (found.low, found.high),
        "plain percentiles": tuple(np.quantile(values, (0.025, 0.975))),
        "expanded percentiles": intervals._percentiles(values, len(sizes), 0.95),
    }


def differences(counts, first, second, trials):
    """How often the test says that two systems differ, and their interval holds the truth."""
    truth, how = true_uar(first) - true_uar(second), estimator(counts)
    found, held = [], []
    for trial in range(trials):
        one, other = systems(counts, [first, second], trial)
        found.append(compare(one, other, how, num_resamples=999, seed=trial).p <= 0.05)
        span = intervals.difference_interval(
            one, other, "uar", how, num_resamples=NUM_RESAMPLES, seed=trial)  # fmt: skip
        held.append(span.low <= truth <= span.high)
    return {"true_difference": round(truth, 4), "called_different": share(found),
            "interval_held": share(held)}  # fmt: skip


def stars(counts, skill, number, trials):
    """Of equal systems: how often one, named beforehand, has no star; how often any has none."""
    how, one_out, any_out = estimator(counts), [], []
    for trial in range(trials):
        rows = list(systems(counts, [skill] * number, trial))
        best = max(range(number), key=lambda i: point(rows[i], "uar", how))
        others = [i for i in range(number) if i != best]
        p = holm([compare(rows[best], rows[i], how, num_resamples=999).p for i in others])
        out = {i for i, each in zip(others, p, strict=True) if each <= 0.05}
        one_out.append(0 in out)
        any_out.append(bool(out))
    return {"one_lost_its_star": share(one_out), "any_lost_its_star": share(any_out)}


def share(found):
    """The share of what is true, and its standard error."""
    mean = float(np.mean(found))
    return [round(mean, 4), round(float(np.sqrt(mean * (1 - mean) / len(found))), 4)]


def measure(trials, corpora, numbers):
    """Everything, by corpus."""
    same, apart = (SKILLS["70 %"],) * 2, (SKILLS["95 %"], SKILLS["70 %"])
    return {
        name: {
            "coverage": {about: coverage(counts, s, trials) for about, s in SKILLS.items()},
            "equal systems": differences(counts, *same, trials),
            "systems apart": differences(counts, *apart, trials),
            "stars": {str(n): stars(counts, same[0], n, max(1, trials // 4)) for n in numbers},
        }
        for name, counts in corpora.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="made-up corpora of each kind")
    parser.add_argument("--quick", action="store_true", help="one corpus, printed, not written")
    asked = parser.parse_args()
    if asked.quick:
        print(json.dumps(measure(40, {"emodb": EMODB}, (3,))))
        return
    text = {
        "command": " ".join(["python", *sys.argv]),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "trials": asked.trials,
        "shares": "[share, its standard error]",
        "corpora": measure(asked.trials, CORPORA, (3, 10)),
    }
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    path = Path(__file__).with_name("results") / f"intervals-{day}.json"
    path.write_text(json.dumps(text, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
