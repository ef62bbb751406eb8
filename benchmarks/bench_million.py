"""How long a million utterances take to read, plan, list and open.

    python benchmarks/bench_million.py            # a million; writes benchmarks/results
    python benchmarks/bench_million.py --quick    # 20 000, nothing written

No audio is encoded: the manifest is a CSV file whose rows are cuts of recordings that are there,
lengths are drawn, and the commit records are written as an extraction writes them. ``plan`` is
start-up, packing, looking at every file and writing; ``stat_a_file_each`` is that look for a tenth
as many files, one an utterance, just made.
"""

import argparse
import contextlib
import datetime
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from msgspec import structs

from ser_features.corpora.files import read_manifest
from ser_features.extract.plan import PlanItem, plan_shards
from ser_features.extract.survey import planned_sources
from ser_features.fingerprint import fingerprint
from ser_features.manifest import Manifest
from ser_features.records import FeatureSetSpec, Shard, Source, Utterance
from ser_features.store.catalog import list_feature_sets
from ser_features.store.forms import Commit
from ser_features.store.layout import shard_objects
from ser_features.store.objects import ObjectSum
from ser_features.store.reader import open_feature_set
from ser_features.store.writer import StoreWriter
from ser_features_cli import main as command

RESULTS = Path(__file__).parent / "results"
PATHS = os.pathsep.join(str(RESULTS.parents[1] / name) for name in ("", "cli"))
RECORDINGS = 1000
SPEC = FeatureSetSpec(
    "million", "hubert-base", "clean", fingerprint("million"), 13, 768, "none", 64, 65536
)


def timed(name: str, found: dict[str, float], work: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    result = work()
    found[name] = round(time.perf_counter() - started, 3)
    return result


def write_manifest(folder: Path, count: int) -> Path:
    """One CSV row an utterance; ``RECORDINGS`` files that are there."""
    audio = folder / "audio"
    audio.mkdir()
    for i in range(RECORDINGS):
        (audio / f"{i:04d}.wav").touch()
    path = folder / "million.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("id,path,label,speaker,start,end\n")
        file.writelines(
            f"u{i:07d},audio/{i % RECORDINGS:04d}.wav,angry,s{i % 5000},{i // RECORDINGS}.0,"
            f"{i // RECORDINGS + 4}.0\n"
            for i in range(count)
        )
    return path


def plan(items: list[PlanItem], manifest: Manifest, store: Path, found: dict[str, float]) -> None:
    """What an extraction does between the headers and the first forward pass."""
    shards = timed(
        "pack", found, lambda: plan_shards(items, rows=SPEC.rows, capacity=SPEC.capacity)
    )
    ids = (key for shard in shards for key in shard.ids)
    sources = timed("stat", found, lambda: planned_sources(manifest.by_id, dict.fromkeys(ids, "")))
    with StoreWriter(store, SPEC) as writer:
        timed("write_plan", found, lambda: writer.add_plan(shards, sources))


def commit_all(store: Path) -> None:
    """The records of every shard, as after the extraction."""
    with StoreWriter(store, SPEC) as writer:
        sources = writer.planned_sources()
        for shard in writer.pending:
            writer._check_pending(shard)
            writer._commit(_record(shard, sources))


def _record(shard: Shard, sources: dict[str, Source]) -> Commit:
    made = tuple(structs.replace(sources[key], audio_sha256="ab" * 32) for key in shard.ids)
    total = ObjectSum("cd" * 32, 2_555_904)
    return Commit(shard, made, dict.fromkeys(shard_objects(SPEC, shard), total))


def start_up() -> None:
    """What a new process imports before it extracts: torch and transformers too."""
    code = "import ser_features_cli.main, ser_features.extract.pipeline"
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": PATHS}, check=True
    )


def stat_files(folder: Path, count: int, found: dict[str, float]) -> None:
    """The same look where every utterance is a file of its own."""
    folder.mkdir()
    utterances = {f"u{i}": Utterance(f"u{i}", folder / f"{i:07d}.wav") for i in range(count)}
    for one in utterances.values():
        os.mknod(one.path)
    draws = dict.fromkeys(utterances, "")
    timed("stat_a_file_each", found, lambda: planned_sources(utterances, draws))


def ls(store: Path) -> None:
    """``serfeat store ls`` in this process."""
    with (
        mock.patch.object(sys, "argv", ["serfeat", "store", "ls", str(store)]),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.suppress(SystemExit),
    ):
        command.run()


def resume(store: Path, found: dict[str, float]) -> None:
    """Opening the whole set again, to read and to write."""
    one = timed("open", found, lambda: open_feature_set(store, SPEC))
    timed("summary", found, lambda: (len(one.ids), int(one.num_frames.sum()), one.num_bytes))

    def write() -> None:
        with StoreWriter(store, SPEC) as writer:
            assert writer.sources == one.sources
            assert not writer.pending

    timed("open_to_write", found, write)


def measure(count: int, folder: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    path, store = write_manifest(folder, count), folder / "store"
    manifest = timed("read_manifest", found, lambda: read_manifest(path))
    lengths = np.random.default_rng(0).lognormal(np.log(64_000), 0.6, count).astype(int).tolist()
    items = [
        PlanItem(u.id, n, n // 320 + 1) for u, n in zip(manifest.utterances, lengths, strict=True)
    ]
    plan(items, manifest, store, found)
    timed("start_up", found, start_up)
    found["plan"] = round(sum(found[k] for k in ("start_up", "pack", "stat", "write_plan")), 3)
    stat_files(folder / "files", count // 10, found)
    timed("list_planned", found, lambda: ls(store))
    with mock.patch.object(os, "fsync"):
        timed("commit_records", found, lambda: commit_all(store))
    found["commit_ms_a_shard"] = round(1000 * found["commit_records"] / (count / SPEC.rows), 3)
    timed("list", found, lambda: ls(store))
    (info,) = list_feature_sets(store)
    assert info.planned_utterances == count
    assert info.complete
    resume(store, found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    count = 20_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        found = measure(count, Path(folder))
    text = json.dumps(
        {
            "command": "python benchmarks/bench_million.py" + " --quick" * quick,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "utterances": count,
            "seconds": found,
        },
        indent=1,
    )
    print(text)
    if not quick:
        today = datetime.datetime.now(datetime.UTC).date()
        (RESULTS / f"million-{today}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
