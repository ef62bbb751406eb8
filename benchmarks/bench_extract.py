"""How fast one device extracts: s3prl and plain transformers beside ours, on the same audio.

    SERFEAT_S3PRL=.venv/s3prl python benchmarks/bench_extract.py --num 32
    python benchmarks/bench_extract.py --device cuda --upstream hubert-large@random:0 --copies 40
    python benchmarks/bench_extract.py --device cuda --frames --copies 40
    python benchmarks/bench_extract.py --quick     # tiny encoder, made-up audio, nothing written

Every contestant decodes the same files in the same round; rounds alternate between them, and a
ratio is taken within its round. s3prl gives every layer of HuBERT base (random weights: the same
arithmetic) in batches of 4 in corpus order; transformers gives every layer one utterance at a time,
and in the batches that we use; ours is the whole extraction, with pooling and the store. Also
measured: the ceiling of matrix products on this machine and what part of it we reach, and with
``--frames`` the slower of device-to-host copy and raw file writing. Writes
benchmarks/results/extract-UPSTREAM-DEVICE[-frames]-DATE.json.
"""

import argparse
import contextlib
import datetime
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from bench_heads import RESULTS, machine, spread
from bench_plan import in_shards

from ser_features.extract.pipeline import Options, extract
from ser_features.extract.plan import batches
from ser_features.manifest import Manifest
from ser_features.records import Utterance
from ser_features.upstreams import onednn
from ser_features.upstreams.catalog import CATALOG
from ser_features.upstreams.families import FAMILIES
from ser_features.upstreams.load import load_upstream
from ser_features.upstreams.weights import build_config, random_model

EMODB = Path(__file__).parents[2] / "shared" / "data" / "emodb" / "wav"
RATE = 16_000
TINY = {
    "model_type": "hubert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "conv_dim": [32] * 7, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
Contestant = Callable[[], float]


def recordings(folder: Path, audio: Path, num: int) -> list[Path]:
    """``num`` files spread over a corpus, in its order; made-up ones where there is no corpus."""
    found = sorted(audio.glob("*.wav"))
    if len(found) >= num:
        return [found[i * len(found) // num] for i in range(num)]
    rng = np.random.default_rng(0)
    paths = []
    for i, seconds in enumerate(np.clip(rng.lognormal(0.95, 0.4, num), 1.2, 9.0)):
        paths.append(folder / f"made-up-{i:04}.wav")
        noise = 0.1 * rng.standard_normal(int(seconds * RATE))
        soundfile.write(paths[-1], noise.astype(np.float32), RATE, "PCM_16")
    return paths


def flops(config: object, samples: int) -> float:
    """Multiplications and additions of one utterance's forward pass, attention included."""
    frames, channels, total = samples, 1, 0.0
    shape = (config.conv_dim, config.conv_kernel, config.conv_stride)
    for dim, kernel, stride in zip(*shape, strict=True):
        frames = (frames - kernel) // stride + 1
        total += 2.0 * frames * dim * channels * kernel
        channels = dim
    d, inner = config.hidden_size, config.intermediate_size
    group = d // config.num_conv_pos_embedding_groups
    total += 2.0 * frames * d * (channels + group * config.num_conv_pos_embeddings)
    layer = frames * (4 * d * d + 2 * d * inner) + 2 * frames * frames * d
    return total + 2.0 * layer * config.num_hidden_layers


def ceiling(device: str, dtype: torch.dtype, size: int) -> float:
    """FLOP/s of a square matrix product on random data, the best of a few."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(6):
        wait(device)
        started = time.perf_counter()
        if device == "cpu" and onednn.usable(dtype):  # the faster of torch's two libraries
            onednn.product(a, b, None)
        else:
            torch.nn.functional.linear(a, b)
        wait(device)
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times[1:])


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def transformers_pass(model: object, paths: list[Path], device: str, budget: float) -> float:
    """Every layer by plain transformers; one by one where ``budget`` (padded seconds) is 0."""
    started = time.perf_counter()
    waves = [soundfile.read(path, dtype="float32")[0] for path in paths]
    if budget:
        waves.sort(key=len, reverse=True)
        groups = [
            shard[cut]
            for shard in in_shards(waves)
            for cut in batches([len(wave) for wave in shard], int(budget * RATE))
        ]
    else:
        groups = [[wave] for wave in waves]
    for group in groups:
        ends = torch.tensor([len(wave) for wave in group])
        padded = [torch.from_numpy((w - w.mean()) / np.sqrt(w.var() + 1e-7)) for w in group]
        x = torch.nn.utils.rnn.pad_sequence(padded, batch_first=True).to(device)
        mask = (torch.arange(x.shape[1]) < ends[:, None]).to(device) if budget else None
        with torch.no_grad():
            model(x, attention_mask=mask, output_hidden_states=True)
    wait(device)
    return time.perf_counter() - started


def our_pass(request: str, paths: list[Path], **options: object) -> float:
    """One extraction into a new store: decode, encode, pool, write. Loading is not counted."""
    names = [(f"{path.stem}-{i}", path) for i, path in enumerate(paths)]
    manifest = Manifest("bench", tuple(Utterance(name, str(path)) for name, path in names))
    with tempfile.TemporaryDirectory() as store:
        report = extract(manifest, request, Path(store), Options(**options))
    assert report.num_new == len(paths)
    return report.seconds


@contextlib.contextmanager
def s3prl(paths: list[Path], device: str) -> Iterator[Contestant]:
    """s3prl in a process of its own: its stand-ins for torchaudio would break transformers."""
    command = [sys.executable, str(Path(__file__).with_name("s3prl_forward.py"))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        task = {"paths": [str(path) for path in paths], "device": device, "batch": 4}
        print(json.dumps(task), file=worker.stdin, flush=True)

        def once() -> float:
            print("go", file=worker.stdin, flush=True)
            return float(worker.stdout.readline())

        yield once
        worker.stdin.close()


def write_speed(folder: Path, num_bytes: int = 2**30) -> float:
    """Bytes/s of writing random float16 to one file, flushed to the disk."""
    block = np.random.default_rng(0).standard_normal(2**22, dtype=np.float32).astype(np.float16)
    started = time.perf_counter()
    with (folder / "raw").open("wb") as file:
        for _ in range(num_bytes // block.nbytes):
            file.write(block.data)
        file.flush()
        os.fsync(file.fileno())
    return num_bytes / (time.perf_counter() - started)


def copy_speed(device: str, num_bytes: int = 2**30) -> float | None:
    """Bytes/s from the device into pinned memory; None on a CPU."""
    if device == "cpu":
        return None
    source = torch.empty(num_bytes, dtype=torch.uint8, device=device).random_(256)
    target = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)
    target.copy_(source)
    wait(device)
    started = time.perf_counter()
    target.copy_(source)
    return num_bytes / (time.perf_counter() - started)


def contestants(
    stack: contextlib.ExitStack, args: argparse.Namespace, request: str, paths: list[Path]
) -> dict[str, Contestant]:
    found: dict[str, Contestant] = {}
    config = model_config(request, args.quick)
    if "SERFEAT_S3PRL" in os.environ and request == "hubert-base@random:0":
        found["s3prl"] = stack.enter_context(s3prl(paths, args.device))
    if not args.no_transformers:
        model = random_model(FAMILIES[config.model_type], config, 0).eval().to(args.device)
        budget = 30.0 if args.device == "cpu" else 300.0
        found["transformers one by one"] = lambda: transformers_pass(model, paths, args.device, 0)
        found["transformers in batches"] = lambda: transformers_pass(
            model, paths, args.device, budget
        )
    for precision in args.precisions:
        found[f"ours {precision}"] = lambda precision=precision: our_pass(
            request, paths, device=args.device, precision=precision, frames=args.frames
        )
    return found


def model_config(request: str, quick: bool) -> object:
    if quick:
        return build_config(FAMILIES["hubert"], TINY, "the tiny encoder")
    entry = CATALOG[request.split("@", maxsplit=1)[0]]
    return build_config(FAMILIES[entry.family], entry.config, entry.name)


def measure(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    request = args.upstream
    if args.quick:
        (folder / "config.json").write_text(json.dumps(TINY))
        (folder / "preprocessor_config.json").write_text("{}")
        request = f"tiny@random:0={folder}"
    paths = recordings(folder, args.audio, args.num) * args.copies
    lengths = [soundfile.info(path).frames for path in paths]
    before, audio = machine(args.device), sum(lengths) / RATE
    times: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        field = contestants(stack, args, request, paths)
        for turn in range(args.repeats + 1):  # the first round warms up
            for name, work in field.items():
                took = work()
                times.setdefault(name, []).extend([took] if turn else [])
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "machine": before,
        "upstream": request if not args.quick else "a tiny HuBERT",
        "audio": {"files": len(paths), "seconds": round(audio, 1)},
        "times_real_time": {k: spread([audio / one for one in v]) for k, v in times.items()},
        "seconds": {name: spread(values) for name, values in times.items()},
        "ratio_over": ratios(times),
    }
    work = sum(flops(model_config(request, args.quick), n) for n in lengths)
    result["matrix_products"] = matrix_products(args, times, work)
    if args.frames:
        result["frames"] = frames_part(args, request, times, lengths, folder)
    return result


def ratios(times: dict[str, list[float]]) -> dict[str, dict[str, dict[str, float]]]:
    """How many times as fast each of ours is as each of the others, round by round."""
    return {
        other: {
            ours: spread([a / b for a, b in zip(times[other], times[ours], strict=True)])
            for ours in times
            if ours.startswith("ours")
        }
        for other in times
        if not other.startswith("ours")
    }


def matrix_products(
    args: argparse.Namespace, times: dict[str, list[float]], work: float
) -> dict[str, object]:
    size = 256 if args.quick else (8192 if args.device != "cpu" else 2048)
    found: dict[str, object] = {"gflop": round(work / 1e9, 1)}
    for precision in args.precisions:
        top = ceiling(args.device, getattr(torch, precision), size)
        reached = [work / one for one in times[f"ours {precision}"]]
        found[precision] = {
            "ceiling_gflops": round(top / 1e9, 1),
            "reached_gflops": spread([one / 1e9 for one in reached]),
            "fraction": round(statistics.median(reached) / top, 4),
        }
    return found


def frames_part(
    args: argparse.Namespace,
    request: str,
    times: dict[str, list[float]],
    lengths: list[int],
    folder: Path,
) -> dict[str, object]:
    """What part of the slower of copying out and raw writing the stored frames reach."""
    upstream = load_upstream(request)
    frames = sum(upstream.num_frames(n) for n in lengths)
    num_bytes = frames * upstream.info.num_layers * upstream.info.dim * 2
    copy, write = copy_speed(args.device), write_speed(folder, 2**24 if args.quick else 2**30)
    slower = write if copy is None else min(copy, write)
    reached = {
        name: spread([num_bytes / one / slower for one in values])
        for name, values in times.items()
        if name.startswith("ours")
    }
    return {
        "bytes": num_bytes,
        "copy_bytes_per_s": copy,
        "write_bytes_per_s": write,
        "fraction_of_the_slower": reached,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny encoder, nothing written")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--upstream", default="hubert-base@random:0")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--audio", type=Path, default=EMODB)
    parser.add_argument("--num", type=int, default=32, help="recordings")
    parser.add_argument("--copies", type=int, default=1, help="of each, as other utterances")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--frames", action="store_true", help="store every frame as float16 too")
    parser.add_argument("--no-transformers", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.audio, args.num, args.repeats = Path("/nowhere"), 6, 2
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args, Path(folder))
    text = json.dumps(result, indent=1)
    print(text)
    if not args.quick:
        RESULTS.mkdir(exist_ok=True)
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        kind = args.upstream.split("@")[0] + f"-{args.device}" + ("-frames" if args.frames else "")
        (RESULTS / f"extract-{kind}-{day}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
