"""What simulated rooms decay like, and what they cost: short and long T60, small and large rooms.

    python benchmarks/bench_rooms.py --emodb ../shared/data/emodb

For each kind of room and each T60 asked for: the T60 of the response (Schroeder, -5 to -25 dB), the
T60 that ``ser_features.acoustics`` hears in speech in that room, seconds and largest memory. The
baseline, in the same run: the images of every order, where these are few enough.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ser_features.acoustics.reverberation import RATE, t60
from ser_features.augment import room
from ser_features.augment.rir import in_room

ROOMS = {"default": (4.6, 3.75, 2.7), "small": (1.5, 1.5, 1.5), "hall": (30.0, 30.0, 10.0)}
ASKED = (0.3, 0.6, 0.9, 1.2, 2.0)
MOST_BASELINE = 150


def draws(size, asked, count):
    """Random places for a speaker and a microphone."""
    rng = np.random.RandomState(0)
    for _ in range(count):
        places = {name: [float(rng.uniform(room.WALL, one - room.WALL)) for one in size]
                  for name in ("speaker", "microphone")}  # fmt: skip
        yield {"t60": asked, "size": list(size), **places}


def reverberation(echo):
    """T60 in seconds, from a decay from -5 to -25 dB."""
    decay = np.cumsum(echo[::-1] ** 2)[::-1]
    level = 10 * np.log10(decay / decay[0] + 1e-12)
    early, late = (int(np.argmax(level < edge)) for edge in (-5, -25))
    return 3 * (late - early) / RATE


def cell(size, asked, count, speech):
    """The figures of one room and T60, in a process of its own so that its memory is its own."""
    found = {"echo": [], "heard": [], "seconds": [], "every": []}
    for drawn in draws(size, asked, count):
        started = time.perf_counter()
        echo = room.response(drawn, RATE)
        found["seconds"].append(time.perf_counter() - started)
        found["echo"].append(reverberation(echo))
        found["heard"].append(t60(in_room(speech, echo, RATE), RATE))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    order = room.order_of(asked, size)
    if room.MOST_ORDER < order <= MOST_BASELINE:
        limit, room.MOST_ORDER = room.MOST_ORDER, order
        found["every"] = [reverberation(room.response(one, RATE)) for one in draws(size, asked, 1)]
        room.MOST_ORDER = limit
    spread = {name: [round(float(x), 3) for x in (np.median(v), min(v), max(v))]
              for name, v in found.items() if v}  # fmt: skip
    return {"order": order, "tail_from": round(room.complete_until(size), 3), "MB": round(memory),
            "median_least_most": spread}  # fmt: skip


def speech_of(folder):
    """Ten seconds of one speaker at 16 kHz."""
    parts = [soundfile.read(path, dtype="float32") for path in sorted(folder.rglob("03a*.wav"))[:5]]
    joined = np.concatenate([soxr.resample(samples, rate, RATE) for samples, rate in parts])
    return joined[: 10 * RATE]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emodb", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="two short cells; nothing is written")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        name, asked, count = options.cell
        print(json.dumps(cell(ROOMS[name], float(asked), int(count), speech_of(options.emodb))))
        return
    wanted = [(n, a, 1) for n in ("default",) for a in (0.3,)] if options.quick else [
        (n, a, 5) for n in ROOMS for a in ASKED]  # fmt: skip
    rows = []
    for name, asked, count in wanted:
        command = [sys.executable, __file__, "--emodb", options.emodb, "--cell", name]
        command += [str(asked), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:  # a hall of 0.3 s: no wall absorbs that much
            rows.append({"room": name, "t60": asked, "error": done.stderr.splitlines()[-1][:200]})
        else:
            rows.append({"room": name, "t60": asked, **json.loads(done.stdout)})
        print(json.dumps(rows[-1]), flush=True)
    if options.quick:
        return
    found = {"command": " ".join(["python", *sys.argv]), "python": platform.python_version(),
             "machine": f"{platform.machine()}, {os.cpu_count()} cores", "rooms": ROOMS,
             "most_order": room.MOST_ORDER, "rows": rows}  # fmt: skip
    today = datetime.datetime.now(datetime.UTC).date()
    path = Path(__file__).parent / "results" / f"rooms-{today}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
