"""Our store beside raw numpy files, memory maps, tensorstore, zarr-python, zarrs and h5py.

    python benchmarks/bench_store.py            # about 230 MB of frames in a temporary folder
    python benchmarks/bench_store.py --quick    # the same code, small and fast, nothing written

The same utterances [frames, 13, 768] float16 everywhere; the Zarr libraries and h5py cut them into
our chunks (256 frames of a layer), and the Zarr ones compare the same crc32c. Every round does
every format once, so what disturbs the machine disturbs all. Warm: the files are in the page
cache; cold: they were dropped from it (posix_fadvise) just before. Writes end with fsync for ours,
the raw file and the memory map; the libraries do what they do. Writes
benchmarks/results/store-DATE.json.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from store_formats import FORMATS, NEEDS, Data, Format, Setting, make_data

RESULTS = Path(__file__).parent / "results"


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def use(pieces: Iterator[np.ndarray]) -> int:
    """Have each piece and let it go; returns the bytes seen."""
    return sum(piece.nbytes for piece in pieces)


def drop(folder: Path) -> None:
    """Take a format's files out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def check(one: Format, data: Data) -> None:
    """All formats give the same values, or their times mean nothing."""
    assert np.array_equal(one.utterance(3), data.frames[one.span(3)])
    assert np.array_equal(np.concatenate(list(one.whole())), data.frames)
    assert np.array_equal(np.concatenate(list(one.layer(1))), data.frames[:, 1])


def measure_round(one: Format, picks: list[int], layer: int, cold: bool) -> dict[str, float]:
    work: dict[str, Callable[[], object]] = {
        "sequential": lambda: use(one.whole()),
        "utterance": lambda: [one.utterance(i) for i in picks],
        "one_layer": lambda: use(one.layer(layer)),
    }
    found = {}
    for name, run in work.items():
        if cold:
            one.forget()
            drop(one.folder)
            one.open()
        else:
            run()  # it is the cache that is warm, not the disk
        found[name] = seconds(run)
    found["utterance"] /= len(picks)
    return found


def spread(values: list[float]) -> dict[str, float]:
    kinds = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return {kind: float(f"{value:.4g}") for kind, value in kinds.items()}


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, object]:
    names = []
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    packages = {name: installed(name) for name in ("numpy", *NEEDS.values())}
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **packages,
    }


def measure(setting: Setting, folder: Path) -> dict[str, object]:
    data = make_data(setting)
    before, rng = machine(), np.random.default_rng(1)
    skipped = {kind.name: "not installed" for kind in FORMATS
               if kind.name in NEEDS and installed(NEEDS[kind.name]) is None}  # fmt: skip
    formats = [kind(folder, data) for kind in FORMATS if kind.name not in skipped]
    times: dict[str, dict[str, list[float]]] = {one.name: {} for one in formats}
    for one in formats:
        times[one.name]["write"] = [seconds(one.write)]
        one.open()
        check(one, data)
    for cold in (False, True):
        for number in range(setting.rounds):
            picks = [int(i) for i in rng.integers(0, len(data.ids), setting.picks)]
            for one in formats:
                found = measure_round(one, picks, number % setting.layers, cold)
                for name, value in found.items():
                    times[one.name].setdefault(f"{name}_{_heat(cold)}", []).append(value)
    return report(setting, data, times, before, skipped)


def _heat(cold: bool) -> str:
    return "cold" if cold else "warm"


def report(
    setting: Setting, data: Data, times: dict, before: dict, skipped: dict
) -> dict[str, object]:
    ours = times["serfeat"]
    ratios = {
        other: {name: spread([theirs / own for theirs, own in zip(values, ours[name], strict=True)])
                for name, values in found.items()}
        for other, found in times.items() if other != "serfeat"
    }  # fmt: skip
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["benchmarks/bench_store.py", *sys.argv[1:]]),
        "machine": before,
        "setting": {k: getattr(setting, k) for k in setting.__dataclass_fields__},
        "megabytes": round(data.frames.nbytes / 1e6, 1),
        "mean_utterance_megabytes": round(data.frames.nbytes / 1e6 / len(data.ids), 2),
        "skipped": skipped,
        "seconds": {
            name: {k: spread(v) for k, v in found.items()} for name, found in times.items()
        },
        # over 1: ours is faster
        "ratio_theirs_over_ours": ratios,
        "targets": {
            "sequential_share_of_raw": ratios["raw"]["sequential_warm"],
            "utterance_times_memory_map": spread(
                [o / m for o, m in zip(ours["utterance_warm"], times["raw"]["utterance_warm"],
                                       strict=True)]
            ),
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a second or two, nothing written")
    parser.add_argument("--folder", type=Path, help="where the files go (a temporary folder)")
    args = parser.parse_args()
    setting = Setting()
    if args.quick:
        setting = Setting(utterances=12, layers=3, dim=64, longest=300, rounds=2, picks=3)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        text = json.dumps(measure(setting, Path(folder)), indent=1)
    print(text)
    if not args.quick:
        RESULTS.mkdir(exist_ok=True)
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        (RESULTS / f"store-{day}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
