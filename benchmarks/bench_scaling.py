"""Whether cost grows linearly: time an hour and peak memory for 1, 10 and 100 hours of audio.

    python benchmarks/bench_scaling.py                     # 1 and 10 hours
    python benchmarks/bench_scaling.py --hours 1 10 100
    python benchmarks/bench_scaling.py --quick

The audio is made up: half an hour of noise in 30 files, of which a manifest takes segments of 2 to
8 seconds, again and again under new ids. The encoder is a tiny HuBERT, so that everything around an
encoder shows: survey, plan, decoding, pooling, commit records, the store. Every size is a process
of its own, measured from its start to its end. Writes benchmarks/results/scaling-cpu-DATE.json.
"""

import argparse
import datetime
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RATE, NUM_FILES, FILE_SECONDS = 16_000, 30, 60
CONFIG = {
    "model_type": "hubert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 32, "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}  # fmt: skip


def make_audio(folder: Path) -> None:
    import soundfile

    rng = np.random.default_rng(0)
    for i in range(NUM_FILES):
        noise = 0.1 * rng.standard_normal(FILE_SECONDS * RATE, dtype=np.float32)
        soundfile.write(folder / f"{i:02}.wav", noise, RATE, "PCM_16")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "preprocessor_config.json").write_text("{}")


def utterances(folder: Path, hours: float) -> list:
    """Segments until they add up to ``hours``; no two of a file at the same place."""
    from ser_features.records import Utterance

    rng, total, found = np.random.default_rng(1), 0.0, []
    while total < hours * 3600:
        length = float(rng.uniform(2, 8))
        start = float(rng.uniform(0, FILE_SECONDS - length))
        path = folder / f"{int(rng.integers(NUM_FILES)):02}.wav"
        found.append(Utterance(f"u{len(found):07}", str(path), start=start, end=start + length))
        total += length
    return found


def child(folder: Path, hours: float) -> None:
    """One extraction; prints what it took."""
    from ser_features.extract.pipeline import Options, extract
    from ser_features.manifest import Manifest

    manifest = Manifest("made-up", tuple(utterances(folder, hours)))
    with tempfile.TemporaryDirectory(dir=folder) as store:
        request = f"tiny@random:0={folder}"
        report = extract(manifest, request, Path(store), Options(workers=2))
    print(json.dumps({"utterances": report.num_new, "audio_seconds": report.audio_seconds}))


def one(folder: Path, hours: float) -> dict[str, float]:
    """Start one process and account for it: wall time, CPU time, peak of resident memory."""
    command = [sys.executable, __file__, "--child", str(folder), "--hours", str(hours)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{shlex.join(command)} failed")
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = json.loads(printed.splitlines()[-1])
    real_hours = found["audio_seconds"] / 3600
    return {
        "hours": round(real_hours, 3),
        "utterances": found["utterances"],
        "seconds": round(seconds, 2),
        "seconds_per_hour": round(seconds / real_hours, 2),
        "cpu_seconds_per_hour": round(cpu / real_hours, 2),
        "peak_memory_mb": round(usage.ru_maxrss / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds of audio, nothing written")
    parser.add_argument("--hours", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.hours[0])
        return
    from bench_heads import RESULTS, machine

    before = machine("cpu")
    with tempfile.TemporaryDirectory() as name:
        make_audio(Path(name))
        sizes = [0.005, 0.02] if args.quick else args.hours
        found = [one(Path(name), hours) for hours in sizes]
    first, last = found[0], found[-1]
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "machine": before,
        "sizes": found,
        "time_per_hour_last_over_first": last["seconds_per_hour"] / first["seconds_per_hour"],
        "memory_last_minus_first_mb": round(last["peak_memory_mb"] - first["peak_memory_mb"], 1),
        "memory_bytes_per_added_utterance": round(
            1e6 * (last["peak_memory_mb"] - first["peak_memory_mb"])
            / max(1, last["utterances"] - first["utterances"])
        ),
    }  # fmt: skip
    text = json.dumps(result, indent=1)
    print(text)
    if not args.quick:
        RESULTS.mkdir(exist_ok=True)
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        (RESULTS / f"scaling-cpu-{day}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
