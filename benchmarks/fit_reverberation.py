"""Fit the blind T60 and C50 estimators on simulated rooms, and say how well they do on others.

Dry speech of six EMO-DB speakers is convolved with simulated shoebox rooms (pyroomacoustics, image
sources; T60 measured on each response by Schroeder's method) and noise of 0 to 50 dB SNR is
added. The check uses other rooms, the other four speakers, more noise, shorter pieces, and the
measured responses of a folder.

    python benchmarks/fit_reverberation.py --emodb ../shared/data/emodb --rir ../shared/data/rir \
        --write ser_features/acoustics/reverberation.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyroomacoustics
import soundfile
import soxr
from scipy.signal import fftconvolve

from ser_features.acoustics.reverberation import RATE, expand, features

RIDGE = 30.0
LIMITS = ((3.0, 3.0, 2.4), (10.0, 8.0, 4.0))  # metres
T60_RANGE = (0.15, 1.2)
MAX_ORDER = 110


def truth(response):
    """T60 (seconds, from a decay of 30 dB) and C50 (dB) of a room response."""
    start = int(np.argmax(np.abs(response)))
    early, late = response[start : start + RATE // 20], response[start + RATE // 20 :]
    clarity = 10 * np.log10((early**2).sum() / ((late**2).sum() + 1e-20))
    return pyroomacoustics.experimental.measure_rt60(response, fs=RATE, decay_db=30), clarity


def simulate(rng):
    """A random room response [n] at 16 kHz from a source at least 0.3 m away."""
    while True:
        size = rng.uniform(*LIMITS)
        wanted = float(np.exp(rng.uniform(*np.log(T60_RANGE))))
        try:
            absorption, order = pyroomacoustics.inverse_sabine(wanted, size)
        except ValueError:  # no wall absorbs that much
            continue
        source, microphone = rng.uniform(0.4, size - 0.4, (2, 3))
        if order <= MAX_ORDER and np.linalg.norm(source - microphone) > 0.3:
            break
    material = pyroomacoustics.Material(absorption)
    room = pyroomacoustics.ShoeBox(size, fs=RATE, materials=material, max_order=order)
    room.add_source(source)
    room.add_microphone(microphone)
    room.compute_rir()
    return np.asarray(room.rir[0][0])


def heard(dry, response, snr, rng, seconds=None):
    """The dry speech in that room, with Gaussian noise, at most ``seconds`` long."""
    wet = fftconvolve(dry, response)[: len(dry)]
    noise = rng.standard_normal(len(wet)) * np.sqrt((wet**2).mean() * 10 ** (-snr / 10))
    wet = wet + noise
    return (wet / np.abs(wet).max()).astype(np.float32)[: int(RATE * (seconds or 1e4))]


def make(rng, responses, files, each, snr=(0.0, 50.0), seconds=None):
    """Features [N, F] and truth [N, 2] (log T60, C50) of ``each`` files in every room."""
    found, wanted = [], []
    for response in responses:
        t60, c50 = truth(response)
        for file in rng.choice(files, each, replace=False):
            wet = heard(soundfile.read(file)[0], response, rng.uniform(*snr), rng, seconds)
            found.append(features(wet, RATE))
            wanted.append((np.log(t60), c50))
    return expand(np.array(found)), np.array(wanted)


def fit(found, wanted):
    """Ridge regression on standardised features."""
    mean, scale = found.mean(axis=0), found.std(axis=0)
    x, y = (found - mean) / scale, wanted - wanted.mean(axis=0)
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
    centre = wanted.mean(axis=0)
    model = {"mean": mean, "scale": scale, "t60": weights[:, 0], "c50": weights[:, 1]}
    return {**model, "t60_mean": centre[0], "c50_mean": centre[1]}


def check(model, found, wanted):
    """Errors: of T60 in seconds, of C50 in dB, and the correlations."""
    x = (found - model["mean"]) / model["scale"]
    t60, c50 = (x @ model[n] + model[f"{n}_mean"] for n in ("t60", "c50"))
    error = np.exp(t60) - np.exp(wanted[:, 0])
    return {
        "t60_mean_error_s": round(float(np.abs(error).mean()), 3),
        "t60_bias_s": round(float(error.mean()), 3),
        "t60_correlation": correlation(t60, wanted[:, 0]),
        "c50_mean_error_db": round(float(np.abs(c50 - wanted[:, 1]).mean()), 2),
        "c50_bias_db": round(float((c50 - wanted[:, 1]).mean()), 2),
        "c50_correlation": correlation(c50, wanted[:, 1]),
    }


def correlation(found, wanted):
    """Pearson's; None where the truth is one value."""
    return round(float(np.corrcoef(found, wanted)[0, 1]), 3) if np.ptp(wanted) else None


def measured(folder):
    """The measured responses of a folder by name, at 16 kHz, first channel."""
    found = {}
    for file in sorted(folder.glob("*.wav")):
        samples, rate = soundfile.read(file, always_2d=True)
        found[file.stem] = soxr.resample(samples[:, 0], rate, RATE)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emodb", type=Path, required=True)
    parser.add_argument("--rir", type=Path, help="a folder of measured responses to check with")
    parser.add_argument("--rooms", type=int, default=480)
    parser.add_argument("--write", type=Path, help="where the fitted numbers go")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    files = sorted(args.emodb.rglob("*.wav"))
    speakers = sorted({file.name[:2] for file in files})
    ours = [file for file in files if file.name[:2] in speakers[:6]]
    theirs = [file for file in files if file.name[:2] not in speakers[:6]]
    rooms = [simulate(rng) for _ in range(args.rooms)]
    cut = 3 * args.rooms // 4
    model = fit(*make(rng, rooms[:cut], ours, 6))
    checks = {
        "other rooms and speakers, 20 to 50 dB SNR": make(
            rng, rooms[cut:], theirs, 6, (20.0, 50.0)
        ),
        "the same at 10 dB SNR": make(rng, rooms[cut:], theirs, 6, (10.0, 10.0)),
        "the same at 5 dB SNR": make(rng, rooms[cut:], theirs, 6, (5.0, 5.0)),
        "the same, pieces of 1 s": make(rng, rooms[cut:], theirs, 6, (20.0, 50.0), 1.0),
    }
    if args.rir:
        for name, response in measured(args.rir).items():
            checks[f"{name}: T60 {truth(response)[0]:.2f} s, C50 {truth(response)[1]:.1f} dB"] = (
                make(rng, [response], theirs, 20, (20.0, 50.0))
            )
    data = checks["other rooms and speakers, 20 to 50 dB SNR"]
    for low, high in ((0.1, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.5)):
        inside = (data[1][:, 0] >= np.log(low)) & (data[1][:, 0] < np.log(high))
        checks[f"the same, T60 {low} to {high} s"] = (data[0][inside], data[1][inside])
    errors = {name: check(model, *data) for name, data in checks.items() if len(data[1]) > 5}
    print(json.dumps(errors, indent=1))
    if args.write:
        numbers = {name: np.round(value, 6).tolist() for name, value in model.items()}
        about = {"rooms": args.rooms, "seed": 0, "speech": "EMO-DB", "errors": errors}
        args.write.write_text(json.dumps({**numbers, "fit": about}, indent=1) + "\n")


if __name__ == "__main__":
    main()
