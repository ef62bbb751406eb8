"""Make the tiny store and run record of the current format, once, to be read for ever.

    PYTHONPATH=. python tests/history/make.py 0.1.0

Every released version gets a folder of its own here. A folder that is there is never written again:
what it holds is what that version really wrote.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from ser_features.fingerprint import fingerprint
from ser_features.records import FeatureSetSpec, FoldScore, RunRecord, Shard, Source
from ser_features.results import run_key, save_record
from ser_features.store.outputs import ShardOutputs
from ser_features.store.writer import StoreWriter

HERE = Path(__file__).resolve().parent
COUNTS = {"long one": 11, "b": 4, "ü": 3, "lost": 2, "d": 1}
MOVED = ("b", "ü")
KINDS = ("mean", "std", "mean_layernorm")
LAYERS, DIM = 2, 3


def pooled(kind: str, row: int) -> np.ndarray:
    """[L, D], another value in every place, exact in every float."""
    start = 100 * KINDS.index(kind) + 10 * row
    return np.arange(start, start + LAYERS * DIM, dtype=np.float32).reshape(LAYERS, DIM)


def frames(row: int, count: int) -> np.ndarray:
    """[T, L, D], another value in every place, exact in every float."""
    start = 1000 + 100 * row
    values = np.arange(start, start + count * LAYERS * DIM, dtype=np.float32)
    return values.reshape(count, LAYERS, DIM)


def write_set(store: Path, kind: str) -> None:
    """Two generations, three shards, one utterance rejected ("lost")."""
    key = fingerprint(["history", kind])
    rows, capacity = (2, 8) if kind != "none" else (2, 16)
    spec = FeatureSetSpec(
        "made-up", "tiny@random:1", "clean", key, LAYERS, DIM, kind, rows, capacity,
        {"request": "tiny@random:1", "identity": {"precision": "float32"}},
    )  # fmt: skip
    first = [Shard(0, ("long one",), (11,), 0), Shard(1, ("b", "ü"), (4, 3), 16)]
    with StoreWriter(store, spec) as writer:
        writer.add_plan(first, [source(key, "") for shard in first for key in shard.ids])
        more = [Shard(2, ("lost", "d"), (2, 1), 32)]
        writer.add_plan(more, [source(key, "") for shard in more for key in shard.ids])
        for shard in writer.pending:
            writer.write(shard, outputs(shard, kind))
        writer.remember([moved(key) for key in MOVED])
        (writer._location.lock).unlink()


def source(key: str, digest: str) -> Source:
    start, end = (0.5, 1.5) if key == "b" else (None, None)
    return Source(key, f"/audio/{key}.wav", 1000 + len(key), 10**18, digest, start, end)


def moved(key: str) -> Source:
    """Where an utterance was found again, later."""
    return replace(source(key, sha256(key.encode()).hexdigest()), path=f"/moved/{key}.wav")


def outputs(shard: Shard, kind: str) -> ShardOutputs:
    here = [key for key in shard.ids if key != "lost"]
    rows = [list(COUNTS).index(key) for key in here]
    stacks = [np.stack([pooled(each, row) for row in rows]) for each in KINDS]
    kept = None
    if kind != "none":
        parts = [frames(row, COUNTS[key]) for row, key in zip(rows, here, strict=True)]
        kept = np.concatenate(parts).astype(kind)
    sources = tuple(source(key, sha256(key.encode()).hexdigest()) for key in here)
    return ShardOutputs(sources, *stacks, kept)


def expected_set(kind: str) -> dict[str, object]:
    ids = [key for key in COUNTS if key != "lost"]
    rows = {key: list(COUNTS).index(key) for key in ids}
    found: dict[str, object] = {"ids": ids, "num_frames": [COUNTS[key] for key in ids]}
    found["audio_sha256"] = [sha256(key.encode()).hexdigest() for key in ids]
    found["moved"] = [[key, f"/moved/{key}.wav"] for key in MOVED]
    found["paths"] = [f"/audio/{key}.wav" for key in ids]
    found |= {each: [pooled(each, rows[key]).tolist() for key in ids] for each in KINDS}
    if kind != "none":
        found["frames"] = {key: frames(rows[key], COUNTS[key]).tolist() for key in ids}
    return found


def record() -> RunRecord:
    """Two folds, two seeds; one seed of the second fold is still to be run."""
    truth = {"a1": 0, "a2": 1, "b1": 0, "b2": 1}
    config = {"features": "00" * 32, "protocol": "loso", "row": "superb", "lr": [1e-3, 0.1]}
    sides = {"a": ("a1", "a2"), "b": ("b1", "b2")}
    pairs = [(fold, seed) for fold in sides for seed in (0, 1)]
    scores = [
        FoldScore(
            fold, seed, sides[fold], (0, seed), 2, 1, 30, 0.75, {"lr": 1e-3},
            ({"lr": 1e-3, "dev_score": 0.75}, {"lr": 0.1, "dev_score": 0.5}),
            ((10, 0.5), (30, 0.75)), (0.25, 0.75), 1.5,
        )
        for fold, seed in pairs[:3]
    ]  # fmt: skip
    return RunRecord(
        run_key(config), "made-up", "tiny@random:1", "clean", "superb", "loso", ("angry", "sad"),
        truth, {"a1": "a", "a2": "a", "b1": "b", "b2": None}, tuple(pairs), tuple(scores), config,
        {"device": "cpu", "inputs": {}}, 1, ("a note",), {"speakers": "apart"},
        {"gigabytes": 0.001},
    )  # fmt: skip


def expected_record(made: RunRecord) -> dict[str, object]:
    return {
        "key": made.key,
        "labels": made.labels,
        "truth": made.truth,
        "speakers": made.speakers,
        "expected": made.expected,
        "config": made.config,
        "predictions": [[s.fold, s.seed, s.test_ids, s.predictions] for s in made.scores],
        "dev_curves": [s.dev_curve for s in made.scores],
        "num_rejects": made.num_rejects,
        "notes": made.notes,
        "audit": made.audit,
    }


def main(version: str) -> None:
    folder = HERE / version
    if folder.exists():
        sys.exit(f"{folder} is there: what a version wrote is never written again")
    for kind in ("none", "float16", "float32"):
        write_set(folder / "store", kind)
    made = record()
    save_record(folder / "results", made)
    sets = {kind: expected_set(kind) for kind in ("none", "float16", "float32")}
    expected = {"store": sets, "record": expected_record(made)}
    text = json.dumps(expected, ensure_ascii=False, indent=1)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
