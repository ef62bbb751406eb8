"""How much of what a GPU computes is padding, and how much audio each batch holds. No model runs.

    python benchmarks/bench_plan.py
    python benchmarks/bench_plan.py --corpora emodb=/data/emodb/wav lognormal:5531 --rows 32

A corpus is a folder of WAV files, or ``lognormal:N``: N lengths of median 3.7 s and sigma 0.6,
between 0.6 and 30 s. Beside the plan's batches: each shard as one batch, where no corpus reaches
the budget of a GPU. Writes benchmarks/results/plan-DATE.json.
"""

import argparse
import datetime
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
from bench_heads import RESULTS, machine

from ser_features.extract.plan import batches
from ser_features.extract.shards import CUDA_BATCH
from ser_features.extract.spec import FRAMES_ROWS, POOLED_ROWS

SHARED = Path(__file__).parents[2] / "shared" / "data"
RATE = 16_000
T = TypeVar("T")


def in_shards(longest_first: list[T], rows: int = POOLED_ROWS) -> Iterator[list[T]]:
    """The shards of a pooled feature set (their capacity in frames is never reached here)."""
    for start in range(0, len(longest_first), rows):
        yield longest_first[start : start + rows]


def lengths(corpus: str) -> list[int]:
    """Samples at 16 kHz of every utterance, longest first."""
    name, _, folder = corpus.partition("=")
    if folder:
        found = [soundfile.info(path) for path in sorted(Path(folder).rglob("*.wav"))]
        samples = [round(one.frames * RATE / one.samplerate) for one in found]
    else:
        rng = np.random.default_rng(0)
        seconds = rng.lognormal(1.3, 0.6, int(name.partition(":")[2])).clip(0.6, 30.0)
        samples = [int(one * RATE) for one in seconds]
    return sorted(samples, reverse=True)


def padded(shard: Sequence[int], cuts: Sequence[slice]) -> int:
    return sum((cut.stop - cut.start) * shard[cut.start] for cut in cuts)


def measure(corpus: str, rows: int) -> dict[str, float]:
    samples, budget = lengths(corpus), int(CUDA_BATCH * RATE)
    shards = list(in_shards(samples, rows))
    cuts = [batches(shard, budget) for shard in shards]
    total, count = sum(samples), sum(map(len, cuts))
    size = sum(padded(shard, cut) for shard, cut in zip(shards, cuts, strict=True))
    whole = sum(len(shard) * shard[0] for shard in shards)
    return {
        "utterances": len(samples),
        "seconds": round(total / RATE, 1),
        "rows": rows,
        "batches": count,
        "padding": round(size / total - 1, 5),
        "padding_of_one_batch_a_shard": round(whole / total - 1, 5),
        "seconds_a_batch": round(total / RATE / count, 1),
        "utterances_a_batch": round(len(samples) / count, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    real = [f"emodb={SHARED / 'emodb' / 'wav'}", f"urdu={SHARED / 'urdu'}"]
    parser.add_argument(
        "--corpora", nargs="+", default=[*real, "lognormal:5531", "lognormal:20000"]
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[POOLED_ROWS, FRAMES_ROWS])
    parser.add_argument("--quick", action="store_true", help="one made-up corpus, nothing written")
    args = parser.parse_args()
    corpora = ["lognormal:300"] if args.quick else args.corpora
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine("cpu"),
        "corpora": {
            name.partition("=")[0]: [measure(name, rows) for rows in args.rows] for name in corpora
        },
    }
    text = json.dumps(result, indent=1)
    print(text)
    if not args.quick:
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        (RESULTS / f"plan-{day}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
