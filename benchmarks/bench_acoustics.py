"""How far the blind estimators are from a truth that they were not fitted on.

    python benchmarks/bench_acoustics.py --data ../shared/data

SNR: white noise, and recordings of noise, added at a given ratio of mean powers to whole recordings
of EMO-DB and URDU. T60 and C50: the four speakers of EMO-DB that are not in the fit, dry, in other
rooms of the fitted kind (image sources), and in tails of Gaussian noise that decay exponentially
(Polack's model), 20 to 50 dB SNR; and in the measured responses, whatever their length.
"""

import argparse
import datetime
import json
import platform
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr
from fit_reverberation import heard, measured, simulate, truth

from ser_features.acoustics.reverberation import RATE, c50, t60
from ser_features.acoustics.snr import wada_snr

RATIOS = (0, 5, 10, 20, 30)
BOUNDS = ((0.1, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.5))
EACH = 4
"""Recordings in every room."""
SILENT = 1e-10
"""Mean power of a part of a noise recording that holds none."""


def read(file):
    """The first channel at 16 kHz."""
    samples, rate = soundfile.read(file, always_2d=True)
    return soxr.resample(samples[:, 0], rate, RATE)


def errors(found):
    """Mean error, bias and the error that one in ten exceeds."""
    found = np.asarray(found)
    spread = (np.abs(found).mean(), found.mean(), np.quantile(np.abs(found), 0.9))
    mean, bias, most = (round(float(each), 3) for each in spread)
    return {"count": len(found), "mean_error": mean, "bias": bias, "90 %": most}


def ratios(speech, noises, rng):
    """Errors of the SNR in dB by the ratio asked for; ``noises`` None is white noise."""
    return {str(snr): errors([wada_snr(mixed(one, noises, snr, rng)) - snr for one in speech])
            for snr in RATIOS}  # fmt: skip


def mixed(dry, noises, snr, rng):
    noise = rng.standard_normal(len(dry))
    while noises is not None:  # a part that can be heard
        noise = np.resize(noises[rng.integers(len(noises))], len(dry))
        if (noise**2).mean() > SILENT:
            break
    level = np.sqrt((dry**2).mean() / (noise**2).mean()) * 10 ** (-snr / 20)
    return (dry + noise * level).astype(np.float32)


def tail(rng):
    """A direct sound and Gaussian noise that decays by 60 dB in 0.15 to 1.2 s."""
    seconds = float(np.exp(rng.uniform(*np.log((0.15, 1.2)))))
    time = np.arange(int(1.5 * seconds * RATE)) / RATE
    response = 0.12 * rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    response[0] = 1.0
    return response


def rooms(responses, speech, rng):
    """Errors of T60 (s) and C50 (dB), by the true T60."""
    rows = []
    for response in responses:
        true = truth(response)
        for i in rng.choice(len(speech), EACH, replace=False):
            wet = heard(speech[i], response, rng.uniform(20, 50), rng)
            rows.append((true[0], t60(wet, RATE) - true[0], c50(wet, RATE) - true[1]))
    rows = np.array(rows)
    parts = {f"{low} to {high} s": rows[(rows[:, 0] >= low) & (rows[:, 0] < high)]
             for low, high in BOUNDS}  # fmt: skip
    return {name: {"t60": errors(part[:, 1]), "c50": errors(part[:, 2])}
            for name, part in parts.items() if len(part)}  # fmt: skip


def readings(response, speech, rng):
    """What one response is, and what is read: median, least and most."""
    true = truth(response)
    found = [t60(heard(one, response, 50.0, rng), RATE) for one in speech]
    return {"t60": round(float(true[0]), 2), "c50": round(float(true[1]), 1),
            "read": [round(float(f(found)), 2) for f in (np.median, np.min, np.max)]}  # fmt: skip


def measure(data, step, count):
    """Everything, on every ``step``-th recording and so many rooms of each kind."""
    rng = np.random.default_rng(0)
    files = {name: sorted((data / name).rglob("*.wav")) for name in ("emodb", "urdu", "noise")}
    files["noise"] += sorted((data / "noise").rglob("*.ogg"))
    noises = [one for one in map(read, files["noise"]) if one.any()]
    speech = {name: [read(file) for file in files[name][::step]] for name in ("emodb", "urdu")}
    speakers = sorted({file.name[:2] for file in files["emodb"]})[6:]
    dry = [read(f) for f in files["emodb"] if f.name[:2] in speakers][::step]
    kinds = {"image sources": simulate, "noise tails": tail}
    return {
        "snr": {f"{name}, {kind}": ratios(speech[name], which, rng)
                for name in speech for kind, which in (("white", None), ("real", noises))},
        "rooms": {kind: rooms([make(rng) for _ in range(count)], dry, rng)
                  for kind, make in kinds.items()},
        "measured": {name: readings(response, dry[:15], rng)
                     for name, response in measured(data / "rir").items()},
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="with emodb, urdu, noise and rir")
    parser.add_argument("--quick", action="store_true", help="a few, printed, not written")
    asked = parser.parse_args()
    if asked.quick:
        print(json.dumps(measure(asked.data, 60, 2)))
        return
    text = {"command": " ".join(["python", *sys.argv]), "python": platform.python_version(),
            "machine": platform.machine(), **measure(asked.data, 9, 60)}  # fmt: skip
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    path = Path(__file__).with_name("results") / f"acoustics-{day}.json"
    path.write_text(json.dumps(text, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
