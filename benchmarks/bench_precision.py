"""What bfloat16 and float16 change: every layer's deviation from float32, and the leaderboard.

    python benchmarks/bench_precision.py      # whisper-tiny.en (real weights) on EMO-DB
    python benchmarks/bench_precision.py --upstream hubert-base=/models/hubert-base --device cuda
    python benchmarks/bench_precision.py --quick

Deviation: relative RMS of a layer over all frames of ``--num`` recordings. Leaderboard: the whole
corpus is extracted in each of ``--precisions``, the same heads are trained leave-one-speaker-out,
and each score stands beside the 95 % confidence interval that the leaderboard gives float32; also
how many predictions differ. Writes benchmarks/results/precision-UPSTREAM-DEVICE-DATE.json.
"""

import argparse
import datetime
import json
import shlex
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import soundfile
from bench_extract import RATE, TINY
from bench_heads import RESULTS, machine

from ser_features.audio import load
from ser_features.bench import BenchOptions, bench
from ser_features.corpora.emodb import read_emodb
from ser_features.extract.pipeline import Options
from ser_features.extract.precision import layer_deviation
from ser_features.leaderboard import build_rows
from ser_features.manifest import Manifest
from ser_features.records import RunRecord, Utterance
from ser_features.upstreams.load import load_upstream

SHARED = Path(__file__).parents[2] / "shared"
WHISPER = f"whisper-tiny.en={SHARED / 'weights' / 'whisper-tiny.en-encoder'}"
PRECISIONS = ("bfloat16", "float16")


def made_up(folder: Path) -> Manifest:
    """Three speakers, two emotions, four takes of noise each."""
    rng, utterances = np.random.default_rng(0), []
    for speaker, label, take in product("abc", ("calm", "loud"), range(4)):
        path = folder / f"{speaker}-{label}-{take}.wav"
        noise = rng.standard_normal(6000 + 500 * take) * (0.02 if label == "calm" else 0.2)
        soundfile.write(path, noise.clip(-1, 1), RATE, "PCM_16")
        utterances.append(Utterance(path.stem, str(path), label=label, speaker=speaker))
    return Manifest("made-up", tuple(utterances))


def deviations(
    manifest: Manifest, request: str, device: str, num: int
) -> dict[str, dict[str, object]]:
    step = max(1, len(manifest.utterances) // num)
    chosen = manifest.utterances[::step][:num]
    exact = load_upstream(request, device=device)
    waves = [load(utterance, exact.info.sample_rate).samples for utterance in chosen]
    found = {}
    for name in PRECISIONS:
        lower = load_upstream(request, device=device, precision=name)
        layers = layer_deviation(lower, exact, waves)
        found[name] = {"utterances": len(waves), "per_layer": [round(v, 6) for v in layers]}
    return found


def scores(
    manifest: Manifest, request: str, folder: Path, args: argparse.Namespace
) -> dict[str, object]:
    records = {
        name: bench(
            manifest,
            [request],
            folder / "store",
            folder / "results" / name,
            BenchOptions(
                heads=tuple(args.heads), extraction=Options(device=args.device, precision=name)
            ),
        )
        for name in ("float32", *args.precisions)
    }
    found: dict[str, object] = {}
    for head in args.heads:
        base = next(one for one in records["float32"] if one.head == head)
        (row,) = build_rows([base])
        entry = found[head] = {"float32": {"uar": row.uar, "ci95": row.uar_ci}}
        for name in args.precisions:
            record = next(one for one in records[name] if one.head == head)
            (other,) = build_rows([record])
            entry[name] = {
                "uar": other.uar,
                "difference": other.uar - row.uar,
                "inside_float32_ci95": row.uar_ci[0] <= other.uar <= row.uar_ci[1],
                "predictions_that_differ": differing(base, record),
                "predictions": sum(len(score.predictions) for score in base.scores),
            }
    return found


def differing(one: RunRecord, other: RunRecord) -> int:
    pairs = zip(one.scores, other.scores, strict=True)
    return sum(a != b for x, y in pairs for a, b in zip(x.predictions, y.predictions, strict=True))


def measure(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    request, before = args.upstream, machine(args.device)
    if args.quick:
        (folder / "config.json").write_text(json.dumps(TINY))
        (folder / "preprocessor_config.json").write_text("{}")
        manifest, request = made_up(folder), f"tiny@random:0={folder}"
    else:
        manifest = read_emodb(args.corpus)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "machine": before,
        "upstream": request.split("=")[0],
        "corpus": {"name": manifest.corpus, "utterances": len(manifest.utterances)},
        "deviation_from_float32": deviations(manifest, request, args.device, args.num),
        "leaderboard": scores(manifest, request, folder, args),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny encoder, nothing written")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--upstream", default=WHISPER)
    parser.add_argument("--corpus", type=Path, default=SHARED / "data" / "emodb")
    parser.add_argument("--num", type=int, default=16, help="recordings for the deviation")
    parser.add_argument("--heads", nargs="+", default=["linear"])
    parser.add_argument(
        "--precisions", nargs="+", default=["bfloat16"], help="those of the leaderboard"
    )
    args = parser.parse_args()
    args.num = 4 if args.quick else args.num
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args, Path(folder))
    text = json.dumps(result, indent=1)
    print(text)
    if not args.quick:
        RESULTS.mkdir(exist_ok=True)
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        kind = f"{result['upstream']}-{args.device}".replace("/", "-")
        (RESULTS / f"precision-{kind}-{day}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
