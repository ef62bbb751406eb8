"""How long a million utterances take to read, plan, list and open.

    python benchmarks/bench_million.py            # a million; writes benchmarks/results
    python benchmarks/bench_million.py --files    # each a file of its own; no commits, no reading
    python benchmarks/bench_million.py --quick    # 20 000, nothing written

No audio is encoded: the manifest is a CSV file whose rows are cuts of recordings that are there
(``--files``: a million empty files, just made below TMPDIR), lengths are drawn, and the commit
records are written as an extraction writes them. ``plan`` is start-up (to the last import, not to
the end of that process), packing, looking at every file and writing. The code of an encoder, which
is loaded with its weights, is measured beside it. ``peak_memory_bytes`` is this process's, to the
written plan, reading included.
"""

import argparse
import contextlib
import datetime
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO
from unittest import mock

import numpy as np
from msgspec import structs

from ser_features.corpora.files import read_manifest
from ser_features.extract.plan import PlanItem, plan_shards
from ser_features.extract.survey import planned_sources
from ser_features.fingerprint import fingerprint
from ser_features.manifest import Manifest
from ser_features.records import FeatureSetSpec, Shard, Source
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


def write_manifest(folder: Path, count: int, *, files: bool) -> Path:
    """One CSV row an utterance; the files are there, a thousand in a folder."""
    path = folder / "million.csv"
    with path.open("w", encoding="utf-8") as file:
        (write_files if files else write_cuts)(folder, count, file)
    os.sync()  # else the plan's own flush would wait for the journal of a million new files
    return path


def write_files(folder: Path, count: int, file: TextIO) -> None:
    file.write("id,path,label,speaker\n")
    for i in range(count):
        if i % RECORDINGS == 0:
            (folder / f"s{i // RECORDINGS:04d}").mkdir()
        name = f"s{i // RECORDINGS:04d}/u{i:07d}.wav"
        os.mknod(folder / name)
        file.write(f"u{i:07d},{name},angry,s{i // RECORDINGS:04d}\n")


def write_cuts(folder: Path, count: int, file: TextIO) -> None:
    """Cuts of ``RECORDINGS`` files."""
    audio = folder / "audio"
    audio.mkdir()
    for i in range(RECORDINGS):
        (audio / f"{i:04d}.wav").touch()
    file.write("id,path,label,speaker,start,end\n")
    file.writelines(
        f"u{i:07d},audio/{i % RECORDINGS:04d}.wav,angry,s{i % 5000},{i // RECORDINGS}.0,"
        f"{i // RECORDINGS + 4}.0\n"
        for i in range(count)
    )


def plan(items: list[PlanItem], manifest: Manifest, store: Path, found: dict[str, float]) -> None:
    """What an extraction does between the headers and the first forward pass."""
    shards = timed(
        "pack", found, lambda: plan_shards(items, rows=SPEC.rows, capacity=SPEC.capacity)
    )
    sources = timed("stat", found, lambda: planned_sources(manifest.by_id, items))
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


# The code of HuBERT is what transformers loads with any model of speech; no weights are.
START = """
import ser_features_cli.main
from ser_features.files import uncollected
with uncollected():
    import ser_features.extract.pipeline
print(flush=True)
with uncollected():
    import transformers.models.hubert.modeling_hubert
print(flush=True)
"""


def start_up(found: dict[str, float]) -> None:
    """A new process until it has what ``serfeat extract`` imports: torch and transformers too.

    Then until it has the code of an encoder, which is loaded with its weights.
    """
    env = {**os.environ, "PYTHONPATH": PATHS}
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", START], env=env, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for name in ("start_up", "encoder_code"):
            assert child.stdout.readline()
            found[name] = round(time.perf_counter() - started, 3)
    found["encoder_code"] = round(found["encoder_code"] - found["start_up"], 3)
    assert child.returncode == 0


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


def measure(count: int, folder: Path, *, files: bool) -> tuple[dict[str, float], int]:
    found: dict[str, float] = {}
    start_up(found)
    path, store = write_manifest(folder, count, files=files), folder / "store"
    manifest = timed("read_manifest", found, lambda: read_manifest(path))
    lengths = np.random.default_rng(0).lognormal(np.log(64_000), 0.6, count).astype(int).tolist()
    items = [
        PlanItem(u.id, n, n // 320 + 1) for u, n in zip(manifest.utterances, lengths, strict=True)
    ]
    plan(items, manifest, store, found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found["plan"] = round(sum(found[k] for k in ("start_up", "pack", "stat", "write_plan")), 3)
    timed("list_planned", found, lambda: ls(store))
    if not files:
        extracted(store, count, found)
    return found, peak


def extracted(store: Path, count: int, found: dict[str, float]) -> None:
    """Listing and opening, as after the extraction."""
    with mock.patch.object(os, "fsync"):
        timed("commit_records", found, lambda: commit_all(store))
    found["commit_ms_a_shard"] = round(1000 * found["commit_records"] / (count / SPEC.rows), 3)
    timed("list", found, lambda: ls(store))
    (info,) = list_feature_sets(store)
    assert info.planned_utterances == count
    assert info.complete
    resume(store, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--files", action="store_true", help="a file of its own for each")
    args = parser.parse_args()
    quick, files = args.quick, args.files
    count = 20_000 if quick else 1_000_000
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        found, peak = measure(count, Path(folder), files=files)
    text = json.dumps(
        {
            "command": "python benchmarks/bench_million.py"
            + " --files" * files
            + " --quick" * quick,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "load_1min": round(load, 2),
            "python": platform.python_version(),
            "utterances": count,
            "peak_memory_bytes": peak,
            "seconds": found,
        },
        indent=1,
    )
    print(text)
    if not quick:
        today = datetime.datetime.now(datetime.UTC).date()
        (RESULTS / f"million{'-files' * files}-{today}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
